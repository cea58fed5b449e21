"""Engines that run a network: the interface in `engine`, and a file for each library."""
