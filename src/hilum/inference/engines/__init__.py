"""What runs a network: `engine` says what an engine is, and each library that computes has a file of its own."""
