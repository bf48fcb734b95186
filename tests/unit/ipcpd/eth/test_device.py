"""A device that is renamed, vanishes and comes back is followed; without sockets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ipcpd.eth import device
from ipcpd.eth.device import Device, DeviceState

MAC = bytes(6)


def state(index: int) -> DeviceState:
    return DeviceState(index, MAC, 1500, ethernet=True, up=True, running=True)


class World:
    """The devices of a machine: index by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices = {"eth0": 3}
        monkeypatch.setattr(
            device, "state_of", lambda name: state(self.devices[name]) if name in self.devices else None
        )
        monkeypatch.setattr(device, "socket", SimpleNamespace(if_indextoname=self.name_of))
        self.bound: list[str] = []
        self.device = Device.__new__(Device)
        self.device.name = self.device._configured = "eth0"
        self.device._index, self.device.state = 3, state(3)
        monkeypatch.setattr(Device, "_bind", lambda of: self.bound.append(of.name))

    def name_of(self, index: int) -> str:
        for name, one in self.devices.items():
            if one == index:
                return name
        raise OSError("no such device")

    def look(self, **devices: int) -> tuple[str, int]:
        self.devices = devices
        found = self.device.look()
        assert found.running == bool(found.index)
        return self.device.name, found.index


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_renamed_device_is_the_same(world: World) -> None:
    assert world.look(lan7=3) == ("lan7", 3)
    assert world.look(lan7=3, eth0=9) == ("lan7", 3), "another that took the old name is another"
    assert world.look(eth0=3) == ("eth0", 3)
    assert world.bound == [], "the sockets are bound to the index"


def test_a_device_that_comes_back_is_found_by_its_name(world: World) -> None:
    assert world.look() == ("eth0", 0)
    assert world.look(eth0=4) == ("eth0", 4) and world.bound == ["eth0"]
    assert world.look(lan7=4) == ("lan7", 4)
    assert world.look() == ("eth0", 0)
    assert world.look(lan7=5) == ("eth0", 0), "it was only ever asked for as eth0"
    assert world.look(eth0=6) == ("eth0", 6)
