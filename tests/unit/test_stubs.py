"""The types of the compiled modules (`scripts/stubs`): they equal the declarations, and refuse arguments that would crash the C."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _script() -> ModuleType:
    loader = SourceFileLoader("stubs_script", str(ROOT / "scripts" / "stubs"))
    spec = importlib.util.spec_from_loader("stubs_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


SCRIPT = _script()


@pytest.mark.parametrize(
    "path,text", (SCRIPT.headers() | SCRIPT.stubs()).items(), ids=lambda one: getattr(one, "stem", "")
)
def test_the_generated_files_are_up_to_date(path: Path, text: str) -> None:
    assert path.read_text() == text, "make them with scripts/stubs"


@pytest.mark.parametrize("path,text", SCRIPT.stubs().items(), ids=lambda one: getattr(one, "stem", ""))
def test_every_name_is_there(path: Path, text: str) -> None:
    """What the compiled module has, and nothing else."""
    package = {
        "ouroboros": "ouroboros.dataplane",
        "ipcpd": "ipcpd.dataplane",
        "tools": "ouroboros_tools.olab.emulator",
    }
    module = importlib.import_module(f"{package[path.relative_to(ROOT).parts[0]]}.{path.stem}")
    _, _, lib = text.partition("class Lib:\n")
    named = {
        line.strip().removeprefix("def ").split("(")[0].split(":")[0]
        for line in lib.split("\nffi: ")[0].splitlines()
    }
    assert {one for one in named if one} == set(dir(module.lib))


def test_what_a_declaration_says() -> None:
    text = SCRIPT.Stub(
        """
        #define MOST ...
        enum kind { ONE, TWO = 7 };
        struct inner { uint32_t a, b; const char *name; uint64_t many[...]; };
        struct outer { struct inner one; struct inner *other; bool on; ...; };
        /* of the thing */
        struct outer *outer_create(const void *data, size_t length, struct inner *first /* or NULL */);
        /* never NULL */ struct outer *outer_none(void);
        void outer_read(struct outer *outer, uint64_t *from, struct inner out[], enum kind kind);
        """
    ).text("m")
    for line in (
        "class struct_inner(Pointer):\n    a: int\n    b: int\n    name: Array[bytes] | Null\n    many: Array[int]",
        "    one: struct_inner\n    other: struct_inner | Null\n    on: bool",
        "    def outer_create(self, data: bytes | Array[Any], length: int, first: struct_inner | Null, /)"
        " -> struct_outer | Null: ...",
        "    def outer_none(self) -> struct_outer: ...",
        "    def outer_read(self, outer: struct_outer, from_: Array[int], out: Array[struct_inner], kind: int, /) -> None: ...",
        "    MOST: int\n    ONE: int\n    TWO: int",
        'cdecl: Literal["struct outer *"], init: Any = ...) -> struct_outer',
    ):
        assert line in text, text


WRONG = """
from ouroboros.dataplane._dataplane import ffi, lib
from ipcpd.dataplane._ipcp import lib as ipcp
flow, fset = lib.flow_none(), lib.fset_none()
lib.flow_is_down(ffi.NULL)
lib.flow_is_down(3)
lib.flow_is_down(fset)
lib.flow_is_down(None)
lib.flow_write(flow, "text", 4)
lib.flow_write(flow, b"octets")
ipcp.flow_is_down(flow)
lib.fset_close(lib.fset_create(ffi.NULL))
made = lib.pool_map(3, 0, False)
lib.pool_largest(made)
"""

RIGHT = """
from ouroboros.dataplane._dataplane import ffi, lib
flow = lib.flow_none()
lib.flow_write(flow, b"octets", 6)
lib.flow_writev(flow, b"octets", ffi.NULL, 6, 1)
made = lib.pool_map(3, 0, False)
if not made:
    raise OSError(ffi.errno)
lib.pool_largest(made)
"""


def test_wrong_arguments_are_errors_of_types(tmp_path: Path) -> None:
    """One error for each wrong line, none for a right one."""
    for name, text in (("wrong", WRONG), ("right", RIGHT)):
        (tmp_path / f"{name}.py").write_text(text)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(ROOT / ".mypy_cache"), "--follow-imports=silent",
         str(tmp_path / "wrong.py"), str(tmp_path / "right.py")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    lines = WRONG.splitlines()
    errors = {
        line.split(":")[1] for line in result.stdout.splitlines() if "wrong.py" in line and "error" in line
    }
    assert errors == {str(at + 1) for at, line in enumerate(lines) if line.startswith(("lib.", "ipcp."))}, (
        result.stdout
    )
    assert "right.py" not in result.stdout
