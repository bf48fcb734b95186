"""The hosts file of a UDP layer: the lines that count, and that a change is noticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipcpd.udp.hosts import VARIABLE, HostsFile, default_path, parse

OPING = "7862c6fec5ecaef4aa2e3934725e23b3"


def test_the_key_is_that_of_the_specification() -> None:
    assert hashlib.md5(b"oping").hexdigest() == OPING


def test_lines() -> None:
    found = parse(
        f"""
        # 10.9.9.9 {OPING}
        127.0.0.1 localhost
        10.9.0.2\t{OPING.upper()} oping.example   # in capitals
        10.9.0.3 other {OPING}
        10.9.0.2 {OPING}
        fe80::1%eth0 {OPING}
        2001:db8::1 {OPING}
        0.0.0.0 {OPING}
        255.255.255.255 {OPING}
        224.0.0.1 {OPING}
        :: {OPING}
        not-an-address {OPING}
        {OPING}
        10.9.0.4 {OPING}0 {OPING[1:]}
        """
    )
    v4 = [bytes([10, 9, 0, 2]), bytes([10, 9, 0, 3])]
    v6 = [b"\xfe\x80" + bytes(13) + b"\1", b"\x20\x01\x0d\xb8" + bytes(11) + b"\1"]
    assert found == {OPING: v4 + v6}


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    parse(text)
    parse(text.replace(" ", f" {OPING} "))


def test_a_change_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    hosts = HostsFile(path)
    assert hosts.addresses(OPING, 4) == ()
    path.write_text(f"10.0.0.1 {OPING}\n2001:db8::1 {OPING}\n")
    assert hosts.addresses(OPING, 4) == (bytes([10, 0, 0, 1]),)
    assert len(hosts.addresses(OPING, 16)) == 1
    path.write_text(f"10.0.0.2 {OPING} \n10.0.0.3 {OPING}\n")
    assert hosts.addresses(OPING, 4) == (bytes([10, 0, 0, 2]), bytes([10, 0, 0, 3]))
    # In place and of the same size: the time says it.
    path.write_text(f"10.0.0.4 {OPING} \n10.0.0.5 {OPING}\n")
    os.utime(path, ns=(1, 1))
    assert hosts.addresses(OPING, 4) == (bytes([10, 0, 0, 4]), bytes([10, 0, 0, 5]))
    path.unlink()
    assert hosts.addresses(OPING, 4) == ()
    path.write_bytes(b"\xff\xfe 10.0.0.1 \n10.0.0.6 " + OPING.encode() + b"\n")
    assert hosts.addresses(OPING, 4) == (bytes([10, 0, 0, 6]),)


def test_which_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert default_path() == Path("/etc/hosts")
    monkeypatch.setenv(VARIABLE, "/tmp/other")
    assert default_path() == Path("/tmp/other")
