"""The key `interval` of commands that look again and again."""

from __future__ import annotations

from .words import Arguments, Key

INTERVAL = Key("interval", "seconds")
_DEFAULT = 1.0
_LEAST, _MOST = 0.1, 86400.0


def interval(arguments: Arguments) -> float:
    """Seconds between two looks. Raises ValueError."""
    word = arguments.one("interval")
    try:
        seconds = _DEFAULT if word is None else float(word)
    except ValueError:
        seconds = -1
    if not _LEAST <= seconds <= _MOST:
        raise ValueError(f'"interval {word}" must be seconds, from {_LEAST:g} to {_MOST:g}.')
    return seconds
