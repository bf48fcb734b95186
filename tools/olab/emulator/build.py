"""Compiles the link emulator of olab: the fate of frames, lines, ports, and the loop that moves frames between them."""

import importlib.util
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

CDEF = """
    /* fate */
    #define FATE_COPIES ...
    struct impairment { uint64_t loss, duplicate, reorder, corrupt; int64_t delay, jitter; uint64_t rate; uint32_t limit; };
    struct copy_fate { int64_t delay; uint64_t spot; bool corrupt, overtakes; };
    struct fate { uint32_t copies; struct copy_fate copy[...]; };
    void fate_of(const struct impairment *impairment, uint64_t seed, uint32_t direction, uint64_t n, struct fate *fate);

    /* line */
    #define LINE_LIMIT ...
    #define NEVER ...
    struct line_counters {
        uint64_t received, received_octets, lost, duplicated, reordered, corrupted, full, sent, sent_octets, refused, held;
    };
    struct slot { uint32_t length; uint8_t frame[]; ...; };
    struct line;
    struct line *line_create(uint32_t room);
    void line_destroy(struct line *line);
    int line_set(struct line *line, const struct impairment *impairment, uint64_t seed, uint32_t direction);
    int line_offer(struct line *line, const void *frame, uint32_t length, int64_t arrival);
    struct slot *line_take(struct line *line, int64_t now);
    void line_done(struct line *line, struct slot *slot, bool sent);
    int64_t line_deadline(const struct line *line);
    void line_count(const struct line *line, struct line_counters *counters);

    /* emulator */
    struct port_counters { uint64_t overrun, oversize, unfinished; };
    struct emulator;
    struct emulator *emulator_create(int one, int other, uint32_t mtu);
    void emulator_destroy(struct emulator *emulator);
    struct line *emulator_line(struct emulator *emulator, uint32_t from);
    void emulator_count(struct emulator *emulator, uint32_t from, struct port_counters *counters);
    int emulator_run(struct emulator *emulator, int control);
"""

# Loaded by path: at build time the package is not installed yet.
_path = Path(__file__).resolve().parents[3] / "ouroboros" / "dataplane" / "build.py"
_spec = importlib.util.spec_from_file_location("ouroboros_dataplane_build", _path)
assert _spec is not None and _spec.loader is not None
builder = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(builder)

ffi = FFI()
ffi.cdef(CDEF)
ffi.set_source(
    "ouroboros_tools.olab.emulator._emulator",
    '#include "emulator.h"' + builder.marked(HERE),
    sources=[f"tools/olab/emulator/src/{name}.c" for name in ("fate", "line", "port", "emulator")],
    depends=[str(path) for path in sorted((HERE / "src").glob("*.h"))],
    include_dirs=[str(HERE / "src")],
    extra_compile_args=["-std=gnu11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra"],
)
