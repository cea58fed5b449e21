"""Models for use where torch is not: writing an exported folder (`export`), and reading one (`exported`, without torch)."""
