"""A Client, and the IRMd at the other end of its connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ouroboros.rpc.client import Client
from tests.unit.rpc.irmd import Irmd, make


@pytest.fixture
def pair() -> Iterator[tuple[Client, Irmd]]:
    client, irmd, _ = make()
    yield client, irmd
    client.close()
    irmd.sock.close()
