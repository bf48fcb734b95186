"""Compiles the data plane of the IPCPs: that of every process, and the threads that move packets between flows."""

import importlib.util
from pathlib import Path

CDEF = """
    #define PUNT_COMPONENTS ...

    /* relay */
    struct relay { ...; };
    struct port_stats {
        uint64_t packets;
        uint64_t octets;
        uint64_t dropped;
        uint64_t refused;
        uint64_t queued;
        uint64_t sent;
        int64_t received_at;
        int64_t sent_at;
    };
    struct relay *relay_create(void);
    void relay_destroy(struct relay *relay);
    int relay_start(struct relay *relay);
    int relay_add_region(struct relay *relay, struct events *region);
    void relay_remove_region(struct relay *relay, struct events *region);
    int relay_add(struct relay *relay, struct pool *pool, struct segment *segment, struct events *own,
                  struct events *peer, const struct flow_spec *spec);
    int relay_pair(struct relay *relay, uint32_t a, uint32_t b);
    int relay_cube(struct relay *relay, uint32_t fd, uint32_t cube);
    int relay_remove(struct relay *relay, uint32_t fd);
    uint32_t relay_step(struct relay *relay, int64_t now);
    int relay_send(struct relay *relay, uint32_t fd, const void *packet, uint32_t length);
    int relay_stats(struct relay *relay, uint32_t fd, struct port_stats *stats);

    /* punt */
    struct punt { int eventfd; ...; };
    struct punt *punt_create(uint32_t size);
    void punt_destroy(struct punt *punt);
    int punt_quota(struct punt *punt, uint32_t component, uint32_t octets);
    bool punt_push(struct punt *punt, uint32_t component, uint32_t fd, const void *packet, uint32_t length);
    int64_t punt_pop(struct punt *punt, void *packet, uint32_t size, uint32_t *component, uint32_t *fd);
    int relay_punt(struct relay *relay, uint32_t fd, struct punt *punt, uint32_t component);
    void relay_events(struct relay *relay, struct punt *punt, uint32_t component);
    void punt_counters(struct punt *punt, uint32_t component, uint64_t *passed, uint64_t *dropped);
"""

INCLUDES = """
    #include "relay.h"
    #include "punt.h"
"""

# Loaded by path: at build time the package is not installed yet.
_path = Path(__file__).resolve().parents[2] / "ouroboros" / "dataplane" / "build.py"
_spec = importlib.util.spec_from_file_location("ouroboros_dataplane_build", _path)
assert _spec is not None and _spec.loader is not None
base = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(base)

SOURCES = ("ipcpd/dataplane/src/port.c", "ipcpd/dataplane/src/relay.c", "ipcpd/dataplane/src/punt.c")

ffi = base.extension("ipcpd.dataplane._ipcp", cdef=CDEF, includes=INCLUDES, sources=SOURCES)
