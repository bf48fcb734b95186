"""Why no IRMd was found: none is there, or this process cannot look."""

from __future__ import annotations

import errno
import os

import pytest

from ouroboros.errors import IrmdError
from ouroboros.rpc import locate


@pytest.mark.parametrize(
    ("number", "text", "start"),
    [
        (errno.ENOENT, "no IRMd answers on", True),
        (errno.ECONNREFUSED, "no IRMd answers on", True),
        (errno.EACCES, "Permission denied", False),
        (errno.EMFILE, "ulimit -n", False),
        (errno.ENOBUFS, os.strerror(errno.ENOBUFS), False),
    ],
)
def test_only_an_absent_irmd_is_to_be_started(
    number: int, text: str, start: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    def refuse(path: str) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setenv("OUROBOROS_RUNDIR", str(tmp_path))
    monkeypatch.setattr(locate, "_connect", refuse)
    with pytest.raises(IrmdError, match=text) as caught:
        locate.open_socket()
    assert ("start one" in str(caught.value)) == start
