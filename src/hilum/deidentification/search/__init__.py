"""The second pass: it searches the output for what the first one removed, by code of its own."""
