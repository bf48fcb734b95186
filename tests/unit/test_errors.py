"""Errors: the tree, the numbers, and the exceptions that `error()` makes of a number."""

from __future__ import annotations

import errno
import pickle

import pytest

from ouroboros import errors
from ouroboros.errors import (
    EFLOWDOWN,
    EFLOWPEER,
    EIRMD,
    ENAME,
    ENOTALLOC,
    BindError,
    FlowDownException,
    FlowException,
    FlowNotAllocatedException,
    FlowPeerException,
    FlowTimeout,
    IpcpCreateError,
    IrmdError,
    IrmError,
    OuroborosError,
    error,
    strerror,
)

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, OuroborosError)
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class(cls: type[OuroborosError]) -> None:
    for made in (cls(), cls("a reason"), cls(errno.EIO, "a reason")):
        assert isinstance(made, OSError)
        assert made.errno
        assert str(made) == made.strerror != ""
        again = pickle.loads(pickle.dumps(made))
        assert (type(again), again.errno, str(again)) == (cls, made.errno, str(made))
    assert str(cls("a reason")) == "a reason"


@pytest.mark.parametrize(
    ("number", "cls", "builtin"),
    [
        (errno.ETIMEDOUT, FlowTimeout, TimeoutError),
        (-errno.ETIMEDOUT, FlowTimeout, TimeoutError),
        (errno.EINVAL, FlowException, ValueError),
        (errno.ENOMEM, FlowException, MemoryError),
        (errno.EPERM, FlowException, PermissionError),
        (errno.EAGAIN, FlowException, BlockingIOError),
        (errno.EINTR, FlowException, InterruptedError),
        (errno.ECONNRESET, FlowException, ConnectionResetError),
        (errno.EBADF, FlowNotAllocatedException, OSError),
        (ENOTALLOC, FlowNotAllocatedException, OSError),
        (EFLOWDOWN, FlowDownException, OSError),
        (EFLOWPEER, FlowPeerException, FlowDownException),
        (EIRMD, IrmdError, ConnectionError),
        (errno.EMSGSIZE, FlowException, OSError),
    ],
)
def test_from_a_number(number: int, cls: type[OSError], builtin: type[Exception]) -> None:
    made = error(number)
    assert isinstance(made, cls) and isinstance(made, builtin)
    assert made.errno == abs(number)
    assert str(made) == strerror(abs(number))
    assert str(error(number, "because")) == "because"


def test_management_errors_keep_their_class() -> None:
    assert type(error(errno.ETIMEDOUT, default=IpcpCreateError)) is IpcpCreateError
    assert type(error(ENAME, default=BindError)) is BindError
    assert isinstance(error(EIRMD, default=BindError), IrmError)


def test_texts_of_private_numbers() -> None:
    for number in range(1000, 1010):
        assert "Unknown error" not in strerror(number)
    assert strerror(errno.ENOENT) == "No such file or directory"
