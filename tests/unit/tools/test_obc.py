"""obc over a fake flow."""

import json
from types import ModuleType

import pytest
from ouroboros_tools import obc
from ouroboros_tools.obc.main import decode, encode

from ouroboros.errors import EIPCP, FlowException
from tests.unit.tools.fakes import pair


def join(fake_dev: ModuleType) -> tuple[object, list[str]]:
    near, far = pair()
    names: list[str] = []

    def flow_join(name: str, **_: object) -> object:
        names.append(name)
        return near

    fake_dev.flow_join = flow_join  # type: ignore[attr-defined]
    return far, names


def test_a_writer_says_it_once_and_prints_nothing(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    far, names = join(fake_dev)
    assert obc.main(["-n", "bcast", "-m", "hello all"]) == 0
    assert names == ["bcast"] and far.read() == b"hello all\0"  # type: ignore[attr-defined]
    assert capsys.readouterr() == ("", "")
    far, _ = join(fake_dev)
    assert obc.main(["-n", "bcast"]) == 0
    assert far.read() == b"Ouroboros multicast rocks!\0"  # type: ignore[attr-defined]


def test_a_writer_says_it_as_often_as_asked(fake_dev: ModuleType) -> None:
    far, _ = join(fake_dev)
    assert obc.main(["-n", "bcast", "-m", "x", "-c", "5", "-i", "1ms"]) == 0
    assert [far.read() for _ in range(5)] == [b"x\0"] * 5  # type: ignore[attr-defined]


def test_a_reader_prints_what_the_paper_shows(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    far, _ = join(fake_dev)
    far.write(b"Hello multiple worlds\0")  # type: ignore[attr-defined]
    assert obc.main(["-l", "-n", "broadcast", "-c", "1"]) == 0
    assert capsys.readouterr().out == "Starting a reader.\nNew flow.\nMessage is Hello multiple worlds.\n"


def test_json(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    far, _ = join(fake_dev)
    far.write(b"one\0")  # type: ignore[attr-defined]
    far.write("h\u00e9 \x1b[2J".encode())  # type: ignore[attr-defined]
    assert obc.main(["-l", "-n", "b", "-c", "2", "--json"]) == 0
    out = capsys.readouterr().out
    one, two = [json.loads(line) for line in out.splitlines()]
    assert (one["number"], one["length"], one["message"]) == (1, 4, "one")
    assert (two["number"], two["message"]) == (2, "h\u00e9 \x1b[2J") and "\x1b" not in out
    assert two["time"] >= one["time"] > 1.7e9


def test_quiet(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    far, _ = join(fake_dev)
    far.write(b"x\0")  # type: ignore[attr-defined]
    assert obc.main(["-l", "-n", "b", "-c", "1", "-q"]) == 0
    assert capsys.readouterr().out == "Message is x.\n"


def test_a_reader_that_hears_nothing(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    far, _ = join(fake_dev)
    far.write(b"x\0")  # type: ignore[attr-defined]
    assert obc.main(["-l", "-n", "b", "-t", "10ms"]) == 1
    assert capsys.readouterr().err == 'obc: no message arrived from "b" for 0.01 s (1 messages so far)\n'


def test_a_layer_that_goes_away(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    far, _ = join(fake_dev)
    far.dealloc()  # type: ignore[attr-defined]
    assert obc.main(["-l", "-n", "b"]) == 1
    assert capsys.readouterr().err.startswith('obc: the flow to "b" ended: ')


def test_a_layer_that_is_not_there(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FlowException(EIPCP, 'no IPCP of this system is a member of a layer "b"')

    fake_dev.flow_join = refuse  # type: ignore[attr-defined]
    for arguments in (["-n", "b"], ["-l", "-n", "b"]):
        assert obc.main(arguments) == 1
        error = capsys.readouterr().err
        assert error == 'obc: Failed to join broadcast. no IPCP of this system is a member of a layer "b"\n'


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert obc.main([]) == 2
    assert capsys.readouterr().err.startswith("Please specify a name.\n")
    for arguments in (["-n", "b", "-c", "0"], ["-n", "b", "-i", "soon"], ["-n", "b", "--nonsense"]):
        assert obc.main(arguments) == 2
    assert obc.main(["-n", "b", "-m", "x" * 1399]) == 1
    assert "1399 bytes; a broadcast layer carries 1398" in capsys.readouterr().err


def test_messages_travel_with_a_nul() -> None:
    assert encode("hi") == b"hi\0" and len(encode("x" * 1398)) == 1399
    assert encode("\udcff") == b"\xff\0", "what a terminal typed need not be UTF-8"
    assert decode(b"hi\0rest") == "hi" and decode(b"") == ""
    assert decode("h\u00e9\x1b[2J".encode()) == "h\u00e9\ufffd[2J"
