"""The programs in examples/: each does what its first lines promise."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import CHECKOUT, Program, System

EXAMPLES = CHECKOUT / "examples"
CHAT = [sys.executable, str(EXAMPLES / "chat.py")]


def example(system: System, name: str, *args: str) -> Program:
    return system.python((EXAMPLES / f"{name}.py").read_text(), *args)


@pytest.fixture
def serve(system: System) -> Callable[..., Program]:
    """Start an example as the server of a name."""

    def start(name: str, of: str, *args: str) -> Program:
        program = example(system, name, *args)
        system.irm(f"bind process {program.pid} name {of}")
        return program

    return start


def test_a_file_arrives_whole(system: System, serve: Callable[..., Program], tmp_path: Path) -> None:
    folder = tmp_path / "received"
    folder.mkdir()
    server = serve("send_file", "files", "--receive", str(folder))
    (tmp_path / "letter").write_bytes(bytes(range(256)) * 2000 + b"end")
    (tmp_path / "empty").write_bytes(b"")
    for name in ("letter", "empty"):
        client = example(system, "send_file", str(tmp_path / name))
        client.expect("^complete$")
        assert client.wait() == 0
        server.expect(f"^{name}: ")
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


def test_remote_procedures(system: System, serve: Callable[..., Program]) -> None:
    serve("rpc", "calculator", "--listen")
    client = example(system, "rpc", "add", "1", "2.5")
    client.expect(r"^3\.5$")
    assert client.wait() == 0
    client = example(system, "rpc", "divide", "1", "0")
    client.expect("RuntimeError: KeyError")
    assert client.wait() == 1


def test_a_server_with_asyncio(system: System, serve: Callable[..., Program]) -> None:
    serve("aio_server", "loud")
    for _ in range(3):
        assert "HELLO" in system.run("oecho", "-n", "loud", "-m", "hello").stdout


def test_frames_at_a_rate(system: System, serve: Callable[..., Program]) -> None:
    server = serve("video", "cinema", "--listen")
    assert example(system, "video", "20").wait() == 0
    server.expect("^20 frames of 20, 100 ms at most")


def test_a_chat(system: System) -> None:
    system.irm("ipcp bootstrap type broadcast name b layer room")
    with (
        Program([*CHAT, "room", "Ada"], env=system.env, stdin=subprocess.PIPE) as ada,
        Program([*CHAT, "room", "Bob"], env=system.env, stdin=subprocess.PIPE) as bob,
    ):
        for program in (ada, bob):
            program.expect("^joined$")
        for speaker, listener, text in ((ada, bob, "Ada: hello"), (bob, ada, "Bob: hello yourself")):
            assert speaker.process.stdin is not None
            speaker.process.stdin.write(text.partition(": ")[2] + "\n")
            speaker.process.stdin.flush()
            listener.expect(f"^{text}$")
        for program in (ada, bob):
            assert program.process.stdin is not None
            program.process.stdin.close()
            assert program.wait() == 0
