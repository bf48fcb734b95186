"""oecho over a fake flow."""

from types import ModuleType

import pytest
from ouroboros_tools import oecho

from ouroboros.errors import ENAME, FlowException
from tests.unit.tools.fakes import in_thread, pair


def test_echo(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    near, far = pair()
    names = []

    def flow_alloc(name: str, *_: object, **__: object) -> object:
        names.append(name)
        return near

    fake_dev.flow_alloc = flow_alloc  # type: ignore[attr-defined]
    thread = in_thread(oecho.serve_flow, far)
    assert oecho.main([]) == 0
    thread.join()
    assert names == ["oecho"]
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == [
        "Message from client is Client says hi!.",
        "New flow.",
        "Server replied with Client says hi!",
    ]


def test_the_message_travels_with_a_nul() -> None:
    assert oecho.encode("hi") == b"hi\0"
    assert oecho.decode(b"hi\0rest") == "hi"
    assert oecho.decode("h\u00e9\x1b[2J".encode()) == "h\u00e9\ufffd[2J"


def test_a_long_message_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert oecho.main(["-m", "x" * 256]) == 1
    assert "256 bytes, the server takes 255" in capsys.readouterr().err


def test_an_unknown_name_is_one_line(fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FlowException(ENAME, 'name "oecho" is not known')

    fake_dev.flow_alloc = refuse  # type: ignore[attr-defined]
    assert oecho.main([]) == 1
    assert capsys.readouterr().err == 'oecho: Failed to allocate flow: -1007. name "oecho" is not known\n'


def test_a_server_that_goes_away_is_one_line(
    fake_dev: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = pair()
    far.dealloc()
    fake_dev.flow_alloc = lambda *_, **__: near  # type: ignore[attr-defined]
    assert oecho.main([]) == 1
    assert capsys.readouterr().err.startswith('oecho: the flow to "oecho" ended before the reply: ')
