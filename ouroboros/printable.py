"""Text that another party chose, on its way to a terminal or a log.

A library module of daemons and tools; pure.
"""

from __future__ import annotations


def printable(value: object) -> str:
    """The text of a value, in which each character that moves the cursor, ends the line or changes direction is escaped."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "replace").decode()
        for character in text
    )
