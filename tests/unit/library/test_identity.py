"""The identity of an IPCP: kept over a restart, accepted only when complete, one holder at a time, and bounded."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroboros import identity as module
from ouroboros.identity import FOLDER, Identity, IdentityFile

WHO = Identity(0xBF51DA27, bytes(range(32)))


def kept(folder: Path) -> Path:
    (path,) = (folder / FOLDER).glob("*.json")
    return path


def test_it_is_there_for_the_next_life(tmp_path: Path) -> None:
    first = IdentityFile("a", str(tmp_path))
    assert first.open("layer") and first.read() is None
    first.write(WHO)
    first.close()
    second = IdentityFile("a", str(tmp_path))
    assert second.latest() == WHO  # the layer need not be known
    assert second.open("layer") and second.read() == WHO
    assert kept(tmp_path).stat().st_mode & 0o777 == 0o600
    assert not list((tmp_path / FOLDER).glob("*.new"))


def test_each_name_layer_and_system_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = IdentityFile("a", str(tmp_path))
    one.open("layer")
    one.write(WHO)
    for name, layer, rundir in (("b", "layer", ""), ("a", "other", ""), ("a", "layer", "/tmp/another")):
        if rundir:
            monkeypatch.setenv("OUROBOROS_RUNDIR", rundir)
        other = IdentityFile(name, str(tmp_path))
        assert other.open(layer) and other.read() is None
        assert (other.latest() == WHO) is (name == "a" and not rundir)
        other.close()


def test_two_that_live_never_have_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two = (IdentityFile("a", str(tmp_path)) for _ in range(2))
    assert one.open("layer")
    one.write(WHO)
    assert not two.open("layer") and two.read() is None
    two.write(Identity(7))
    assert len(caplog.records) == 1 and "another one of this name lives" in caplog.text
    assert one.read() == WHO
    one.close()
    assert two.open("layer") and two.read() == WHO


@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.dictionaries(st.sampled_from(["version", "name", "address", "node"]), inner) | st.lists(inner),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_nonsense_is_no_identity(content: bytes) -> None:
    try:
        found = module._decode(content, "a")
    except ValueError:
        return
    assert 0 < found.address < 1 << 32 and len(found.node) <= module.MAX_NODE


def test_nonsense_is_ignored_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = IdentityFile("a", str(tmp_path))
    file.open("layer")
    file.write(WHO)
    path = kept(tmp_path)
    for content in (
        b"",
        b"{",
        b"\xff" * 100,
        b"[]",
        b"x" * 100_000,
        path.read_bytes().replace(b'"a"', b'"b"'),
    ):
        path.write_bytes(content)
        caplog.clear()
        assert file.read() is None
        assert len(caplog.records) == 1
    path.unlink()
    os.symlink("/etc/passwd", path)
    assert file.read() is None


def test_what_was_destroyed_does_not_come_back(tmp_path: Path) -> None:
    file = IdentityFile("a", str(tmp_path))
    for layer in ("layer", "other"):
        file.open(layer)
        file.write(WHO)
    file.close()
    IdentityFile("a", str(tmp_path)).delete("layer")
    assert file.open("layer") and file.read() is None
    assert file.open("other") and file.read() == WHO
    IdentityFile("a").delete("layer")


def test_without_a_folder_nothing_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not IdentityFile("a").open("layer")
    (tmp_path / "file").write_text("")
    file = IdentityFile("a", str(tmp_path / "file"))
    assert not file.open("layer") and len(caplog.records) == 1
    file.write(WHO)
    assert file.read() is None and file.latest() is None


def test_the_oldest_are_dropped_but_none_of_those_that_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 3)
    living = IdentityFile("living", str(tmp_path))
    living.open("layer")
    living.write(WHO)
    os.utime(kept(tmp_path), (1, 1))
    for number in range(8):
        file = IdentityFile(f"n{number}", str(tmp_path))
        file.open("layer")
        file.write(WHO)
        file.close()
    assert living.read() == WHO
    assert len(list((tmp_path / FOLDER).iterdir())) <= 2 * 4
