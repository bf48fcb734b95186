"""The places of labs, and the distinction between a lab that has ended and one that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ouroboros_tools.olab.description import Description, SystemSpec
from ouroboros_tools.olab.lab import Lab, clear_stale, find
from ouroboros_tools.olab.place import Holder, Owner, Place, PlaceError, folder, only, places
from ouroboros_tools.olab.reading import to_table

ONE = Description(name="one", systems=(SystemSpec(name="a"),))


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLAB_DIR", str(tmp_path / "labs"))
    return tmp_path / "labs"


def ended_process() -> Holder:
    """Who was a process of ours, and is one no more."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = Holder.of(process.pid)
    process.communicate()
    return holder


def leave(name: str, holder: Holder) -> Place:
    place = Place(folder() / name)
    place.make()
    place.write(holder, to_table(ONE))
    return place


def test_folder_of_the_variable(labs: Path) -> None:
    assert folder() == labs


def test_folder_of_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLAB_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert folder() == Path("/run/user/1000/olab")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("LOGNAME", "ada")
    assert folder() == Path("/tmp/olab-ada")


def test_holder_is_known_by_when_it_was_started() -> None:
    me = Holder.of(os.getpid())
    assert me.alive()
    assert not Holder(me.pid, me.started + 1).alive()
    assert not ended_process().alive()


def test_lab_is_private_and_made_once(labs: Path) -> None:
    place = leave("one", Holder.of(os.getpid()))
    assert place.path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(PlaceError, match="`olab down one` removes it"):
        place.make()
    place.remove()
    assert not labs.exists()


def test_only_labs_are_listed(labs: Path) -> None:
    leave("one", Holder.of(os.getpid()))
    (labs / "something-else").mkdir()
    assert [place.name for place in places()] == ["one"]


def test_what_a_dead_holder_left_is_removed(labs: Path) -> None:
    place = leave("one", ended_process())
    with pytest.raises(PlaceError, match="has ended"):
        Lab.attach(place)
    clear_stale(place)
    assert not place.path.exists()


def test_what_was_never_held_is_removed(labs: Path) -> None:
    place = Place(folder() / "one")
    place.make()
    clear_stale(place)
    assert not place.path.exists()


def test_a_lab_that_runs_is_left_alone(labs: Path) -> None:
    place = leave("one", Holder.of(os.getpid()))
    clear_stale(place)
    assert place.path.exists()
    assert Lab.attach(place).description.systems == ONE.systems


def test_a_folder_of_somebody_else_is_left_alone(labs: Path) -> None:
    (labs / "one").mkdir(parents=True)
    clear_stale(Place(labs / "one"))
    assert (labs / "one").exists()


def test_damaged_state_is_said(labs: Path) -> None:
    place = leave("one", Holder.of(os.getpid()))
    (place.path / "lab.json").write_text("{")
    with pytest.raises(PlaceError, match="damaged"):
        place.read()


def test_the_only_lab_is_meant_or_one_is_named(labs: Path) -> None:
    with pytest.raises(PlaceError, match="there is no lab in"):
        find(None)
    leave("one", Holder.of(os.getpid()))
    assert find(None).place.name == "one"
    leave("two", Holder.of(os.getpid()))
    with pytest.raises(PlaceError, match="one, two"):
        find(None)
    assert find("two").place.name == "two"
    with pytest.raises(PlaceError, match='there is no lab "three"'):
        find("three")


def test_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path / ("x" * 100))
    with pytest.raises(PlaceError, match="OLAB_DIR"):
        place.check_length(["a"])


def test_a_command_that_changes_names_the_lab_of_another_session(
    labs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert only(places(), "name one") is None
    mine = leave("mine", ended_process())
    assert only(places(), "name one") == mine
    monkeypatch.setattr(Owner, "me", classmethod(lambda cls: Owner(os.geteuid(), 1, 77)))
    with pytest.raises(
        PlaceError, match=r"this session has made no lab; name one to change .*: mine \(by .* in session"
    ):
        only(places(), "name one")
    other = leave("other", ended_process())
    assert only(places(), "name one") == other
    (mine.path / "lab.json").write_text("{")
    assert mine.owner() is None and only(places(), "name one") == other
    leave("third", ended_process())
    with pytest.raises(PlaceError, match="several labs; name one: other, third"):
        only(places(), "name one")


def test_another_user_in_a_session_of_that_number_is_another_owner(
    labs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = leave("mine", ended_process())
    me = Owner.me()
    for other in (Owner(me.uid + 1, me.session, me.started), Owner(me.uid, me.session, me.started + 1)):
        monkeypatch.setattr(Owner, "me", classmethod(lambda cls, other=other: other))
        with pytest.raises(PlaceError):
            only([place], "name one")
