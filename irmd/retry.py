"""Repeats failed enrolments and connections, after growing pauses.

Pure but for the pause, which the caller provides. A pause has jitter, so that systems that failed together (after a power
cut, for example) do not try again together. A failure that time does not mend is not repeated.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ouroboros.backoff import Backoff
from ouroboros.errors import EIPCPSTATE, EIPCPTYPE
from ouroboros.rpc.service import Refusal

FIRST = 0.5  # s
MAX_PAUSE = 30.0

FATAL = frozenset(
    {
        errno.EACCES,
        errno.ECANCELED,
        errno.EEXIST,
        errno.EINVAL,
        errno.ENAMETOOLONG,
        errno.ENOTSUP,
        errno.EPERM,
        errno.EPROTO,
        errno.ESHUTDOWN,
        EIPCPSTATE,
        EIPCPTYPE,
    }
)
"""Refusals that another attempt cannot change: the request is wrong, or the layer is another."""

Result = TypeVar("Result")


@dataclass(slots=True, frozen=True)
class Failure:
    """One failed attempt, and the pause after it."""

    attempt: int
    pause: float
    refused: Refusal


def pause(attempt: int, share: float) -> float:
    """Seconds to wait after this attempt, the first being 1: half of it fixed, `share` (0 to 1) of the other half."""
    return Backoff(FIRST, MAX_PAUSE).with_jitter(attempt - 1, share)


async def retry_with_backoff(
    operation: Callable[[], Awaitable[Result]],
    times: int | None,
    *,
    sleep: Callable[[float], Awaitable[None]],
    failed: Callable[[Failure], None],
    share: Callable[[], float] = random.random,
) -> Result:
    """Do `operation`; when it is Refusal try again, at most `times` times (0: without limit; None: not at all).

    Raises the last Refusal, and the exceptions of `sleep`.
    """
    attempt = 1
    while True:
        try:
            return await operation()
        except Refusal as refused:
            if times is None or (times and attempt > times) or refused.errno in FATAL:
                raise
            failure = Failure(attempt, pause(attempt, share()), refused)
        failed(failure)
        await sleep(failure.pause)
        attempt += 1
