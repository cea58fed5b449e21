"""The two tasks, each in one file, and the choice between them."""
