"""No file of the product is longer than a reader can survey (CONTRIBUTING.md, "Rules of the house")."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MOST_LINES = 800
GENERATED = ("_pb2.py", "_pb2.pyi", "_dataplane.c", "_ipcp.c", "_emulator.c")


def test_no_file_is_too_long() -> None:
    lengths = {
        path.relative_to(CHECKOUT): len(path.read_text().splitlines())
        for folder in ("ouroboros", "irmd", "ipcpd", "tools")
        for path in (CHECKOUT / folder).rglob("*")
        if path.suffix in (".py", ".c", ".h") and not path.name.endswith(GENERATED)
    }
    assert len(lengths) > 200
    assert not {path: lines for path, lines in lengths.items() if lines > MOST_LINES}
