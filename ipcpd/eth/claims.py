"""Claims: blocks of endpoints, divided among the IPCPs on one device (see `endpoints`).

Runs in the ethernet IPCPs. All processes that can use a device are in its network namespace, whatever their user or
run directory, and so are the names of abstract UNIX sockets: a block belongs to the process that has bound its name. The kernel
releases the name when that process ends, also when it is killed. Nothing is ever sent to these sockets.
"""

from __future__ import annotations

import socket


class Claims:
    """The claims of one IPCP on a device; `protocol` is the ethertype, or the number that stands for LLC."""

    def __init__(self, device: str, protocol: int) -> None:
        self._prefix = f"\0ouroboros/eth/{device}/{protocol:04x}/"
        self._sockets: list[socket.socket] = []

    def __call__(self, block: int) -> bool:
        """Claim a block. False: another IPCP has it."""
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(self._prefix + str(block))
        except OSError:
            claim.close()
            return False
        self._sockets.append(claim)
        return True

    def close(self) -> None:
        """Release all blocks."""
        for claim in self._sockets:
            claim.close()
        self._sockets.clear()
