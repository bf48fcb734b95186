"""Fixtures for tests of unicast IPCPs: a network in Python, and a flow allocator."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from ipcpd.unicast.fa import FlowAllocator
from tests.unit.ipcpd.unicast.allocator import ME
from tests.unit.ipcpd.unicast.network import Network, make_network


@pytest.fixture
def fa() -> FlowAllocator:
    return FlowAllocator(address=ME, layer="unicast", random=Random(1))


@pytest.fixture
def network() -> Iterator[Network]:
    with make_network() as made:
        yield made
