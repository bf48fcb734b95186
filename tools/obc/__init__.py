"""obc: say something to a broadcast layer, or hear what others say (paper 5.10, Listings 15-17; spec cli-api 3.3)."""

from .main import main

__all__ = ["main"]
