"""UDP ports for systems of tests, on addresses of the loopback device."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def free_port(*addresses: str) -> int:
    """A UDP port that is free on all of them: several copies of these tests may run concurrently."""
    while True:
        with ExitStack() as stack:
            number = 0
            try:
                for address in addresses:
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                    sock.bind((address, number))
                    number = sock.getsockname()[1]
            except OSError:
                continue
            return number
