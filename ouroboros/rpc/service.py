"""A service on RPC: refusals of requests, the replies to work that has ended, and pages of long tables (spec/rpc).

A library module of the daemons: the IRMd serves applications, tools and IPCPs with it, an IPCP the IRMd. Runs on their loops.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..ipcp_options import OptionError
from .messages_pb2 import Envelope

PAGE = 48 * 1024
"""Octets of rows in one message; the requester asks for the rest with the offset in `next`."""

_ROW_OVERHEAD = 8  # octets around a row in a message

Entry = TypeVar("Entry")
Row = TypeVar("Row")


class Refusal(Exception):
    """A request is refused. `errno` is one of errno or of docs/reference/api.md; `text` names the object, the reason and, where there
    is one, the command that corrects it."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.errno = number
        self.text = text


def refused(error: BaseException, service: str, defect: Callable[[], None]) -> tuple[int, str]:
    """The errno and the text of the refusal of a request whose work raised `error`. Any other error than a refusal is a defect of
    this software: `defect` is called, to log it."""
    if isinstance(error, Refusal):
        return error.errno, error.text
    if isinstance(error, OptionError):
        return errno.EINVAL, str(error)
    if isinstance(error, asyncio.CancelledError):
        return errno.EINTR, "given up"
    defect()
    return errno.EIO, f"{service} failed on this request: {type(error).__name__}"


def result_of(work: asyncio.Future[Envelope | None], service: str, defect: Callable[[], None]) -> Envelope:
    """The reply to a request whose work has ended: its result, or the refusal."""
    try:
        return work.result() or Envelope()
    except (Exception, asyncio.CancelledError) as error:
        number, text = refused(error, service, defect)
        return Envelope(error=number, text=text)


def page(
    entries: Sequence[Entry], offset: int, row: Callable[[Entry], Row], size: Callable[[Row], int]
) -> tuple[list[Row], int]:
    """Rows from `offset` on that fit a message, and the offset of the next page (0: there is none)."""
    rows: list[Row] = []
    octets = 0
    for at in range(offset, len(entries)):
        made = row(entries[at])
        octets += size(made) + _ROW_OVERHEAD
        if octets > PAGE and rows:
            return rows, at
        rows.append(made)
    return rows, 0
