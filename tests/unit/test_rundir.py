"""The rule of the run directory (docs/design/overview.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ouroboros import rundir


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An ordinary user without any of the variables."""
    monkeypatch.delenv("OUROBOROS_RUNDIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    return monkeypatch


def test_root(user: pytest.MonkeyPatch) -> None:
    user.setattr(os, "geteuid", lambda: 0)
    user.setenv("XDG_RUNTIME_DIR", "/run/user/0")
    assert rundir.default_rundir() == "/run/ouroboros"
    assert rundir.rundir_candidates() == ["/run/ouroboros"]


def test_user_with_a_runtime_directory(user: pytest.MonkeyPatch) -> None:
    user.setenv("XDG_RUNTIME_DIR", "/run/user/12345")
    assert rundir.rundir_candidates() == ["/run/user/12345/ouroboros", "/run/ouroboros"]


def test_user_without(user: pytest.MonkeyPatch) -> None:
    for value in (None, "", "relative"):
        if value is not None:
            user.setenv("XDG_RUNTIME_DIR", value)
        assert rundir.rundir_candidates() == ["/tmp/ouroboros-12345", "/run/ouroboros"]


def test_the_variable_names_one_and_no_other(user: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user.setenv("OUROBOROS_RUNDIR", "/x/../y")
    assert rundir.default_rundir() == "/y"
    assert rundir.rundir_candidates() == ["/y"]
    user.chdir(tmp_path)
    user.setenv("OUROBOROS_RUNDIR", "here")
    assert rundir.rundir_candidates() == [str(tmp_path / "here")]


def test_a_strangers_folder_under_tmp_is_not_used(user: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert rundir.usable("/run/ouroboros")
    assert rundir.usable("/tmp/ouroboros-no-such-folder")
    assert not rundir.usable("/tmp/.")  # root's
    user.setenv("OUROBOROS_RUNDIR", "/tmp/.")
    assert rundir.usable("/tmp/.")
