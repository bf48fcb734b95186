"""Helpers for programs of the system tests: both ends of a flow in one process, and checks on them.

A scenario is a function of a test module; `scenario(system, function)` runs it in a process of its own, with the names of this module,
against a real IRMd. It does not import pytest, so that a program starts in a tenth of a second.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import select
import selectors
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from errno import EAGAIN, EBADF, ECANCELED, EMSGSIZE, ENOMEM, EPERM, ETIMEDOUT
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ouroboros import aio, irm
from ouroboros.dev import (
    Fccntl,
    Flow,
    FlowProperties,
    fccntl,
    flow_accept,
    flow_alloc,
    flow_dealloc,
    flow_read,
    flow_write,
)
from ouroboros.errors import (
    EFLOWDOWN,
    EIRMD,
    ENAME,
    ENOTALLOC,
    FlowDeallocWarning,
    FlowDownException,
    FlowEventError,
    FlowEventTimeout,
    FlowException,
    FlowLingerTimeout,
    FlowNotAllocatedException,
    FlowPermissionException,
    FlowTimeout,
    FlowWouldBlock,
    IrmdError,
)
from ouroboros.event import FEventQueue, FEventType, FlowSet
from ouroboros.qos import QOS_DATA, QOS_RAW, QOS_VOICE, QoSSpec

if TYPE_CHECKING:
    from tests.system.conftest import Program, System

CHECKOUT = Path(__file__).resolve().parents[2]

_bound: set[str] = set()


def bind(name: str = "end") -> str:
    """Bind this process to a name, once."""
    if name not in _bound:
        irm.bind_process(os.getpid(), name)
        _bound.add(name)
    return name


def layers() -> Iterator[str | None]:
    """Directly, and over the local layer, where this process is registered."""
    yield None
    ipcp = next(one.pid for one in irm.list_ipcps() if one.layer == "local")
    bind()
    irm.reg_name("end", ipcp)
    try:
        yield "local"
    finally:
        irm.unreg_name("end", ipcp)


def allocated(flow: Flow) -> Flow:
    """Wait until an asynchronous allocation is over; its event is taken out."""
    with FlowSet([flow]) as flows:
        events = list(flows.wait(FEventQueue()))
    assert events[0] == (flow, FEventType.FlowAlloc), events
    assert flow.allocated, flow.error
    return flow


def ends(name: str = "end", qos: QoSSpec | None = None, *, layer: str | None = None) -> tuple[Flow, Flow]:
    """Both ends of a new flow, in this process: the requester's, and the acceptor's."""
    bind(name)
    server = Flow()
    server.accept(0)
    client = flow_alloc(name, qos, layer=layer)
    return client, allocated(server)


@contextmanager
def raises(kind: type[BaseException], errno: int | None = None, text: str = "") -> Iterator[Any]:
    """pytest.raises, as far as it is needed."""
    caught: list[BaseException] = []
    try:
        yield caught
    except kind as exc:
        assert errno is None or getattr(exc, "errno", None) == errno, repr(exc)
        assert text in str(exc), repr(exc)
        caught.append(exc)
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


def readable(fd: int, timeout: float | None = None) -> bool:
    """Whether poll(2) reports it; by default waits for it."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def start(
    system: System,
    function: Callable[..., object],
    *args: str,
    stdin: int = subprocess.DEVNULL,
    preamble: str = "",
    also: Sequence[Callable[..., object]] = (),
) -> Program:
    """Run a function of a test module as a program of its own; `also` are others that it calls.

    A coroutine function runs in an event loop, in debug mode.
    """
    from tests.system.conftest import Program

    call = f"{function.__name__}(*sys.argv[1:])"
    source = "".join(
        (
            f"import sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n",
            "import faulthandler\nfaulthandler.enable()\n",
            "from tests.system.ends import *\n",
            preamble,
            *(textwrap.dedent(inspect.getsource(one)) for one in (*also, function)),
            f"asyncio.run({call}, debug=True)\n" if inspect.iscoroutinefunction(function) else f"{call}\n",
            "print('the scenario is over', flush=True)\n",
        )
    )
    script = system.base / f"{function.__name__}{len(system.programs)}.py"
    script.write_text(source)
    program = Program([*system.prefix, sys.executable, str(script), *args], env=system.env, stdin=stdin)
    system.programs.append(program)
    return program


def scenario(
    system: System,
    function: Callable[..., object],
    *args: str,
    preamble: str = "",
    also: Sequence[Callable[..., object]] = (),
) -> str:
    """Run a function as a program, to its end; then nothing of it may be left. Returns what it printed."""
    program = start(system, function, *args, preamble=preamble, also=also)
    try:
        code = program.wait()
    except AssertionError:
        code = program.stop(signal.SIGABRT)  # it prints where it hangs
    assert code == 0, f"{function.__name__} ended with {code}\n{program.output}\nirmd:\n{system.irmd.output}"
    assert "the scenario is over" in program.output
    conserved(system)
    return program.output


def conserved(system: System) -> None:
    """No flow and no block is left."""
    assert system.json("flow list") == {"flows": []}
    for pool in system.json("pool show")["pools"]:
        for one in pool["classes"]:
            assert one["free"] == one["total"], pool


__all__ = [
    "Callable",
    "Iterator",
    "Any",
    "EAGAIN",
    "EBADF",
    "ECANCELED",
    "EFLOWDOWN",
    "EIRMD",
    "EMSGSIZE",
    "ENAME",
    "ENOMEM",
    "ENOTALLOC",
    "EPERM",
    "ETIMEDOUT",
    "FEventQueue",
    "FEventType",
    "Fccntl",
    "Flow",
    "FlowDeallocWarning",
    "FlowDownException",
    "FlowEventError",
    "FlowEventTimeout",
    "FlowException",
    "FlowLingerTimeout",
    "FlowNotAllocatedException",
    "FlowPermissionException",
    "FlowProperties",
    "FlowSet",
    "FlowTimeout",
    "FlowWouldBlock",
    "IrmdError",
    "QOS_DATA",
    "QOS_RAW",
    "QOS_VOICE",
    "QoSSpec",
    "aio",
    "allocated",
    "asyncio",
    "bind",
    "ends",
    "fccntl",
    "flow_accept",
    "flow_alloc",
    "flow_dealloc",
    "flow_read",
    "flow_write",
    "irm",
    "os",
    "raises",
    "readable",
    "select",
    "selectors",
    "signal",
    "sys",
    "threading",
    "time",
]
