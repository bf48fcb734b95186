"""obc: say something to a broadcast layer, or hear what others say (paper 5.10, Listings 15-17; docs/reference/obc.md)."""

from .main import main

__all__ = ["main"]
