"""Compiled: the C of the floors as Python modules.

Compiled on first use into .build/bench, under a name that changes with the source and the interpreter.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Any

CACHE = Path(__file__).resolve().parents[3] / ".build" / "bench"


def build(source: Path, interface: str) -> Any:
    """The module of a C file that has these functions; compiles it when there is none for this source and interpreter."""
    text = source.read_text(encoding="utf-8")
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    digest = hashlib.sha256((text + interface + sys.version).encode()).hexdigest()[:12]
    name = f"{source.stem}_{digest}"
    target = CACHE / f"{name}{suffix}"
    if not target.exists():
        _compile(name, source, interface, target)
    spec = importlib.util.spec_from_file_location(name, target)
    if spec is None or spec.loader is None:
        raise ImportError(f"{target} is not a Python extension: remove it, it is made again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _compile(name: str, source: Path, interface: str, target: Path) -> None:
    from cffi import FFI

    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # both peers, or two runs, may come here at once
        if target.exists():
            return
        ffi = FFI()
        ffi.cdef(interface)
        ffi.set_source(
            name,
            "#include <stdint.h>" + interface,
            sources=[str(source)],
            extra_compile_args=["-O2", "-std=gnu11"],
        )
        ffi.compile(tmpdir=str(CACHE), target=target.name)
