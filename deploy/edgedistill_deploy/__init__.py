"""The device side of EdgeDistill: bundles, sessions, parity and latency. numpy and Pillow only."""

__version__ = "0.1.0"
