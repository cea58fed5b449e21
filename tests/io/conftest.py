"""Images and a fresh list of remarks for each test."""

from io_support import oblique, say_everything_anew, volume

__all__ = ["oblique", "say_everything_anew", "volume"]
