"""The port of a UDP IPCP: obtained, or refused with the reason and its remedy."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing

import pytest

from ipcpd.udp import port
from ipcpd.udp.address import Address, is_link_local, is_of_one_machine


def refusal(ip: str, number: int) -> port.PortError:
    with pytest.raises(port.PortError) as caught:
        port.take(ip, number)
    return caught.value


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_taken_once(ip: str) -> None:
    sock, _ = port.take(ip, 0)
    with closing(sock):
        number = sock.getsockname()[1]
        error = refusal(ip, number)
        assert error.errno == errno.EADDRINUSE
        assert (
            str(number) in str(error) and f"(pid {os.getpid()})" in str(error) and "port PORT" in str(error)
        )
        other, _ = port.take("127.0.0.2", number)
        other.close()
    port.take(ip, number)[0].close()


def test_somebody_has_it_on_all_addresses() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as everywhere:
        everywhere.bind(("", 0))
        error = refusal("127.0.0.1", everywhere.getsockname()[1])
    assert error.errno == errno.EADDRINUSE and f"(pid {os.getpid()})" in str(error)


def test_not_an_address_of_this_system() -> None:
    for ip in ("203.0.113.7", "2001:db8::7"):
        error = refusal(ip, 3435)
        assert error.errno == errno.EADDRNOTAVAIL
        assert ip in str(error) and "ip address add" in str(error)


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"])
def test_not_the_address_of_an_interface(ip: str) -> None:
    error = refusal(ip, 3435)
    assert error.errno == errno.EINVAL and ip in str(error)


def test_a_link_local_address_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "_scopes", lambda ip: [2, 5])
    monkeypatch.setattr(port.socket, "if_nametoindex", {"eth0": 2, "eth1": 5, "eth2": 6}.__getitem__)
    monkeypatch.setattr(port.socket.socket, "bind", lambda self, address: None)

    def taken(ip: str) -> Address:
        sock, address = port.take(ip, 3435)
        sock.close()
        return address

    assert [taken(f"fe80::1%{device}").scope for device in ("eth0", "eth1")] == [2, 5]
    assert refusal("fe80::1", 3435).errno == errno.EINVAL and "fe80::1%DEVICE" in str(
        refusal("fe80::1", 3435)
    )
    error = refusal("fe80::1%eth2", 3435)
    assert error.errno == errno.EADDRNOTAVAIL and "device eth2 has no address fe80::1" in str(error)
    monkeypatch.undo()
    assert refusal("fe80::1%nowhere9", 3435).errno == errno.ENODEV
    monkeypatch.setattr(port, "_scopes", lambda ip: [2, 5])
    assert port._checked("fe80::1%5", 3435).scope == 5


def test_a_port_that_needs_a_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(port.socket.socket, "bind", refuse)
    error = refusal("127.0.0.1", 53)
    assert error.errno == errno.EACCES and "CAP_NET_BIND_SERVICE" in str(error)


def test_socket_addresses() -> None:
    v4, v6 = Address.of("10.0.0.1", 3435), Address.of("fe80::1", 3435, 7)
    for address in (v4, v6):
        assert Address.unpack(address.packed) == address
    assert (str(v4), str(v6)) == ("10.0.0.1:3435", "[fe80::1%7]:3435")
    assert v4.sockaddr == ("10.0.0.1", 3435) and v6.sockaddr == ("fe80::1", 3435, 0, 7)
    assert is_link_local(v6.ip) and not is_link_local(v4.ip)
    assert not is_link_local(Address.of("169.254.0.1", 1).ip)
    assert is_of_one_machine(v4.ip) and not is_of_one_machine(bytes(16))
    with pytest.raises(ValueError):
        Address.of("localhost", 1)
