"""The kernel's log over a whole run of pytest: faults of this project's processes make the run fail, in whichever test they occur.

This needs the right to read `/dev/kmsg`; the header of the run shows whether it is there. The kernel identifies a process only by its pid and
its name. So while another run reads the same log on this machine, faults are shown, but belong to neither.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re

PATH = "/dev/kmsg"
_OURS = re.compile(r"irmd|ipcpd|irm|oping|oecho|obc|ocbr|operf|ocap|olab|python|pytest|emulator")
_FAULT = re.compile(
    r"(?:traps: )?(?P<comm>\S[^\[;]*)\[(?P<pid>\d+)\]:? (?:segfault at|general protection|trap |bad frame|unhandled )"
    r"|Killed process (?P<oom>\d+) \((?P<victim>[^)]*)\)"
)
_OBJECT = re.compile(r" in (_dataplane|_ipcp|_emulator)\S*\[")
_RECORD = 8192  # octets; longer ones do not exist


class KernelLog:
    """The kernel's log since this object was made. Raises OSError where it may not be read."""

    def __init__(self, path: str = PATH) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)
        self.alone = self._claim()
        """Whether no other run has been seen on this machine."""

    def _claim(self) -> bool:
        """Share the log with other runs; whether there was none."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def faults(self) -> list[str]:
        """The lines about this project's processes since the last call."""
        self.alone = self._claim() and self.alone
        return [line for line in self._lines() if is_fault(line)]

    def _lines(self) -> list[str]:
        lines = []
        while True:
            try:
                record = os.read(self._fd, _RECORD)
            except BlockingIOError:
                return lines
            except OSError as error:
                if (
                    error.errno == errno.EPIPE
                ):  # records were overwritten before they were read; go on with the oldest
                    continue
                raise
            if not record:
                return lines
            lines.append(record.partition(b";")[2].partition(b"\n")[0].decode(errors="replace"))

    def close(self) -> None:
        os.close(self._fd)


def is_fault(line: str) -> bool:
    """Whether a line of the kernel's log reports the death of a process of this project."""
    match = _FAULT.search(line)
    if match is None:
        return False
    return bool(_OURS.match(match["comm"] or match["victim"]) or _OBJECT.search(line))
