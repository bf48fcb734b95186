"""obc: send messages into a broadcast layer, or print received ones (paper 5.10, Listings 15-17; docs/reference/obc.md)."""

from .main import main

__all__ = ["main"]
