"""The holder of a lab reports a failure always as a text."""

from __future__ import annotations

import errno

import pytest
from ouroboros_tools.olab.holder import _explained
from pyroute2.netlink.exceptions import NetlinkError


@pytest.mark.parametrize(
    ("error", "number", "text"),
    [
        (
            NetlinkError(errno.EPERM, "Operation not permitted"),
            errno.EPERM,
            "Operation not permitted (a lab needs CAP_NET",
        ),
        (NetlinkError(errno.ENODEV), errno.ENODEV, "No such device"),
        (OSError(errno.EBUSY, "busy"), errno.EBUSY, "busy"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/sbin/x"), errno.ENOENT, "/sbin/x: No such file"),
        (OSError("a sentence"), 0, "a sentence"),
        (KeyError("system"), 0, "KeyError: 'system'"),
    ],
)
def test_each_failure_is_a_text(error: Exception, number: int, text: str) -> None:
    found = _explained(error)
    assert found[0] == number and found[1].startswith(text)
