"""Models for use where torch is not: writing and reading an exported folder."""
