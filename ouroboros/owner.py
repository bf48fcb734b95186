"""Owners of a descriptor or of a handle of C: an object is the only one of its kind, so there are no copies.

A library module of every process. A copy would close a descriptor that the original still uses, and a number that by then belongs to another file.
"""

from __future__ import annotations

from typing import NoReturn, SupportsIndex


class Owner:
    """Cannot be copied or pickled."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: it is the only owner of its descriptors; "
            "share the object itself"
        )
