"""Notifies systemd of the state of the daemon (`Type=notify`); without systemd it does nothing."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Send `state`, e.g. `READY=1`, to the service manager that started this process, if one did."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or path[0] not in "/@":
        return
    address = "\0" + path[1:] if path[0] == "@" else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.send(state.encode())
    except OSError:
        return  # the service manager does not listen; the daemon works without it
