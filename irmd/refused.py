"""The IRMd's answer to a request that it cannot carry out: an errno and a line for people."""

from __future__ import annotations

from ouroboros.rpc.service import Refusal as Refused

__all__ = ["Refused"]
