"""The version of EdgeDistill."""

__version__ = "0.1.0"
