"""The IRMd's answer to a request that it cannot carry out: an errno and a line for people."""

from __future__ import annotations


class Refused(Exception):
    """A request was refused. `errno` is one of errno or of docs/reference/api.md; `text` names the object,
    the reason and, where there is one, the command that mends it."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno
        self.text = text
