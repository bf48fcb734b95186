"""Compiles the data plane: C that runs without the GIL and never calls back into Python (docs/design/overview.md).

The declarations here repeat the headers in `src/` for cffi; the compiler checks that they agree.
"""

import hashlib
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
SOURCES = [
    "map",
    "wait",
    "pool",
    "events",
    "segment",
    "end",
    "flow",
    "flow_raw",
    "process",
    "fset",
    "irm",
]
MACHINES = [
    "wheel",
    "crc32",
    "rtt",
    "sendq",
    "recvq",
    "frcp",
    "frcp_sender",
    "frcp_receiver",
    "frcp_timers",
    "frcp_io",
]
PROTECTION = ["cipher", "hkdf", "scratch", "seal"]

CDEF = """
    #define LAYOUT_VERSION ...
    #define POOL_CLASSES 4
    #define HEADROOM ...
    #define TAILROOM ...
    #define RING_SLOTS ...
    #define POOL_LOOKS ...
    #define POOL_TAKEN ...
    #define EVENT_BITS ...
    #define FD_BASE ...
    #define EMUSTSLEEP ...
    #define EREADAHEAD ...
    #define FLOW_READAHEAD ...
    #define READAHEAD_PACKETS ...
    #define END_DOWN ...
    #define END_PEER ...
    #define DOWN_IRMD ...
    #define DOWN_PEER_CORRUPT ...
    #define DOWN_UNACKNOWLEDGED ...
    #define END_DECLARED ...
    #define END_LINK ...

    /* map */
    extern unsigned map_generation;
    int map_survive(void);
    uint64_t map_lost(void);

    /* wait */
    int64_t wait_now(void);

    /* pool */
    struct pool_class {
        uint32_t stride;
        uint32_t blocks;
        uint32_t first;
        uint32_t reserve;
        ...;
    };
    struct pool {
        uint32_t blocks;
        size_t size;
        struct pool_class classes[POOL_CLASSES];
        uint64_t refused;
        ...;
    };
    size_t pool_plan(struct pool_class classes[POOL_CLASSES]);
    int pool_create(const char *name, const struct pool_class classes[POOL_CLASSES], bool prefault);
    struct pool *pool_map(int fd, uint64_t token, bool reserve);
    void pool_unmap(struct pool *pool);
    int64_t pool_alloc(struct pool *pool, size_t length);
    bool pool_free(struct pool *pool, uint32_t block, uint64_t owner);
    size_t pool_largest(const struct pool *pool);
    bool pool_transfer(struct pool *pool, uint32_t block, uint64_t from, uint64_t to);
    uint64_t pool_failures(const struct pool *pool);
    void pool_owners(const struct pool *pool, uint64_t *out);
    uint64_t owner_process(uint64_t token);
    uint64_t owner_ring(uint64_t serial, uint32_t ring);

    /* events */
    struct events { int doorbell; ...; };
    int events_create(const char *name);
    struct events *events_map(int fd, int doorbell);
    void events_unmap(struct events *events);
    void events_raise(struct events *events, uint32_t fd);
    void events_drain_doorbell(struct events *events);
    void events_wake(struct events *events);

    /* segment */
    struct segment { uint32_t flows; ...; };
    int segment_create(const char *name, uint32_t flows);
    struct segment *segment_map(int fd);
    void segment_unmap(struct segment *segment);

    /* flow */
    struct flow_spec {
        uint32_t fd;
        uint32_t index;
        uint32_t side;
        uint32_t peer_fd;
        uint64_t serial;
        uint64_t max_packet;
    };
    struct seal;
    struct frcp_end { uint32_t idle_polls; ...; };
    struct end { uint32_t max_packet; struct seal *seal; ...; };
    struct flow { struct end end; uint64_t max_packet; uint32_t readahead_pending; uintptr_t readahead_owner;
                  struct frcp_end *frcp; ...; };
    struct flow *flow_attach(struct pool *pool, struct segment *segment, struct events *peer /* or NULL */,
                             const struct flow_spec *spec);
    /* never NULL */ struct flow *flow_none(void);
    int flow_protect(struct flow *flow, uint32_t cipher, const uint8_t *key /* or NULL */, bool check);
    void flow_detach(struct flow *flow);
    void flow_destroy(struct flow *flow);
    ssize_t flow_write(struct flow *flow, const void *buffer, size_t length);
    ssize_t flow_writev(struct flow *flow, const void *buffer, const uint32_t *lengths /* or NULL */, uint32_t each,
                        uint32_t count);
    struct burst {
        uint8_t *buffer;
        uint32_t *lengths;
        uint32_t size;
        uint32_t each;
    };
    ssize_t flow_readv(struct flow *flow, struct burst *burst, uint32_t max);
    ssize_t flow_read(struct flow *flow, struct burst *burst);
    ssize_t flow_read_into(struct flow *flow, void *buffer, size_t size);
    int flow_sleep(struct flow *flow, bool writing, int64_t deadline);
    bool flow_is_down(struct flow *flow);
    void flow_declare(struct flow *flow, bool down);
    bool flow_notify_writable(struct flow *flow);
    uint32_t flow_down_cause(struct flow *flow);
    void flow_keep_alive(struct flow *flow, uint32_t timeout_ms);
    int64_t flow_on_timer(struct flow *flow, int64_t now, bool *found);
    void flow_queues(struct flow *flow, uint64_t *rx, uint64_t *tx);
    int flow_get_flags(struct flow *flow);
    int flow_set_flags(struct flow *flow, uint32_t flags);

    /* process */
    struct process { int control; ...; };
    struct process *process_create(struct events *events);
    void process_stop(struct process *process);
    int process_watch(struct process *process, int rpc);
    bool process_is_orphan(const struct process *process);
    void process_add(struct process *process, struct flow *flow);
    void process_remove(struct process *process, struct flow *flow);
    int process_poll_flow(struct process *process, struct flow *flow, int eventfd);
    int process_poll_writable(struct process *process, struct flow *flow, int eventfd);
    void process_unpoll(struct process *process, struct flow *flow);

    /* fset */
    struct fset { ...; };
    struct fevent { uint32_t fd; uint32_t type; };
    struct fset *fset_create(struct process *process);
    /* never NULL */ struct fset *fset_none(void);
    void fset_close(struct fset *set);
    void fset_destroy(struct fset *set);
    int fset_add(struct fset *set, uint32_t fd);
    void fset_remove(struct fset *set, uint32_t fd);
    int fset_set_eventfd(struct fset *set, int eventfd);
    int fset_take(struct fset *set, struct fevent out[], int max, bool poll);
    int fset_sleep(struct fset *set, int64_t deadline);

    /* irm */
    struct sweep;
    void irm_flow_reset(struct segment *segment, uint32_t index);
    void irm_end_signal(struct segment *segment, uint32_t index, uint32_t side, uint32_t set, uint32_t clear,
                        uint32_t events, struct events *region /* or NULL */, uint32_t fd);
    uint64_t irm_queued(const struct segment *segment, uint32_t index, uint32_t ring);
    uint64_t irm_written(const struct segment *segment, uint32_t index, uint32_t ring);
    uint64_t irm_dropped(const struct segment *segment, uint32_t index, uint32_t side);
    uint64_t irm_refused(const struct segment *segment, uint32_t index, uint32_t side);
    uint32_t irm_flow_drain(struct segment *segment, uint32_t index, uint64_t serial, struct pool *pool);
    struct sweep *irm_sweep_create(struct pool *pool);
    int irm_sweep_owner(struct sweep *sweep, uint64_t owner);
    int irm_sweep_ring(struct sweep *sweep, const struct segment *segment, uint32_t index, uint32_t ring,
                       uint64_t serial);
    int irm_sweep_live(struct sweep *sweep, const uint64_t *serials, size_t count);
    uint32_t irm_sweep_run(struct sweep *sweep);
"""

CDEF_MACHINES = """
    #define NEVER ...
    #define RECVQ_OCTETS ...
    #define SENDQ_OCTETS ...
    #define SENDQ_PLACES ...
    #define FRCP_RETRANSMIT ...
    #define FRCP_FLOW_CONTROL ...
    #define FRCP_LINGER ...
    #define FRCP_FRAGMENT ...
    #define FRCP_REASSEMBLE ...

    /* wheel */
    struct wheel_timer { int64_t due; ...; };
    struct wheel { ...; };
    void wheel_init(struct wheel *wheel, int64_t now);
    void wheel_set(struct wheel *wheel, struct wheel_timer *timer, int64_t due);
    void wheel_cancel(struct wheel *wheel, struct wheel_timer *timer);
    bool wheel_is_set(const struct wheel_timer *timer);
    int64_t wheel_deadline(const struct wheel *wheel);
    struct wheel_timer *wheel_expire(struct wheel *wheel, int64_t now);

    /* crc32 */
    uint32_t crc32_of(uint32_t crc, const void *data, size_t length);
    uint32_t crc32_tables(uint32_t crc, const void *data, size_t length);

    /* cipher */
    #define CIPHER_PERIOD ...
    struct cipher;
    struct cipher *cipher_create(uint32_t id, const uint8_t *key, uint32_t period);
    void cipher_destroy(struct cipher *cipher);
    uint32_t cipher_overhead(const struct cipher *cipher);
    uint32_t cipher_front(const struct cipher *cipher);
    ssize_t cipher_seal(struct cipher *cipher, const void *header, uint32_t header_length, const void *data,
                         uint32_t length, uint8_t *out);
    ssize_t cipher_seal_with(struct cipher *cipher, const uint8_t *iv, const void *header, uint32_t header_length,
                              const void *data, uint32_t length, uint8_t *out);
    ssize_t cipher_open(struct cipher *cipher, const uint8_t *packet, uint32_t length, uint8_t *out);
    uint32_t cipher_epoch(struct cipher *cipher);

    /* hkdf */
    int hkdf_sha256(const uint8_t *key, size_t key_length, const uint8_t *salt, size_t salt_length,
                    const uint8_t *info, size_t info_length, uint8_t *out, size_t length);

    /* seal */
    struct seal { bool check; uint32_t front; uint32_t overhead; uint64_t forged; uint64_t spoilt; uint64_t runt; ...; };
    int seal_init(struct seal *seal, uint32_t cipher, const uint8_t *key, bool check);
    void seal_fini(struct seal *seal);
    ssize_t seal_packet(struct seal *seal, const void *header, uint32_t header_length, const void *data,
                       uint32_t length, uint8_t *out);
    ssize_t seal_open(struct seal *seal, const uint8_t *packet, uint32_t length, uint8_t *out);

    /* rtt */
    struct rtt { int64_t srtt; int64_t dev; int64_t rto; bool probing; uint32_t probe; ...; };
    void rtt_init(struct rtt *rtt);
    void rtt_sample(struct rtt *rtt, int64_t sample);

    /* sendq, recvq: read-out */
    struct sendq { uint32_t count; uint32_t octets; uint32_t size; uint32_t mask; ...; };
    struct recvq { uint32_t early; uint32_t octets; uint32_t unread; uint32_t messages; uint64_t spoilt; ...; };

    /* frcp */
    struct frcp_config {
        uint32_t mpl_ms;
        uint32_t timeout_ms;
        uint32_t max_packet;
        uint32_t max_message;
        uint32_t window;
        uint32_t octets;
        uint32_t first;
        bool retransmit;
        bool fragments;
        bool selective;
        bool lossless;
        bool direct;
        bool fin;
    };
    struct frcp_counters {
        uint64_t sent;
        uint64_t resent;
        uint64_t control;
        uint64_t received;
        uint64_t delivered;
        uint64_t duplicate;
        uint64_t early;
        uint64_t refused;
        uint64_t malformed;
        uint64_t skipped;
    };
    struct frcp_sender {
        uint32_t una;
        uint32_t nxt;
        uint32_t lim;
        bool confirmed;
        struct sendq sendq;
        struct rtt rtt;
        ...;
    };
    struct inflight { bool limited; ...; };
    struct frcp_receiver {
        bool run;
        uint32_t want;
        uint32_t edge;
        struct recvq recvq;
        ...;
    };
    struct frcp_timers { int64_t linger; ...; };
    struct frcp {
        struct frcp_config config;
        uint32_t flags;
        int down;
        int fin_sent;
        int fin_received;
        struct frcp_sender tx;
        struct inflight inflight;
        struct frcp_timers at;
        struct frcp_receiver rx;
        struct frcp_counters counters;
        ...;
    };
    struct frcp_piece { const uint8_t *data; uint32_t length; };
    typedef bool frcp_send(void *arg, const uint8_t *header, uint32_t header_length, const uint8_t *data,
                           uint32_t length);
    int frcp_init(struct frcp *frcp, const struct frcp_config *config, frcp_send *send, void *arg /* or NULL */, int64_t now);
    void frcp_fini(struct frcp *frcp);
    ssize_t frcp_write(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now);
    bool frcp_writable(const struct frcp *frcp, uint32_t length);
    uint32_t frcp_max_packet(const struct frcp *frcp);
    int frcp_send_fin(struct frcp *frcp, bool leaving, int64_t now);
    bool frcp_receive(struct frcp *frcp, const uint8_t *packet, uint32_t length, int64_t now,
                      struct frcp_piece *direct /* or NULL */);
    bool frcp_front(const struct frcp *frcp, struct frcp_piece *piece);
    void frcp_pop(struct frcp *frcp, int64_t now);
    void frcp_run(struct frcp *frcp, int64_t now);
    int64_t frcp_deadline(const struct frcp *frcp);
    void frcp_set_flags(struct frcp *frcp, uint32_t flags);
    void frcp_close(struct frcp *frcp, int64_t now);
    bool frcp_lingers(const struct frcp *frcp);
    uint32_t frcp_sender_inactivity(uint32_t mpl_ms);
    uint32_t frcp_quiet_time(const struct frcp *frcp, int64_t now);

    /* frcp_io */
    int frcp_io_begin(struct flow *flow, const struct frcp_config *config);
    int frcp_io_close(struct flow *flow);
    int frcp_io_linger(struct flow *flow, int64_t deadline);
    struct frcp_unacked {
        uint64_t octets;
        uint32_t una;
    };
    struct frcp_unacked frcp_io_unacked(struct flow *flow);
    int frcp_io_send_fin(struct flow *flow);
    bool frcp_io_fin_received(struct flow *flow);
    int frcp_io_look(struct flow *flow, struct frcp *frcp);
    int frcp_io_flags(struct flow *flow);
    int frcp_io_set_flags(struct flow *flow, uint32_t flags);
    int64_t frcp_io_poll(struct flow *flow, int64_t now, bool *woken);
"""

INCLUDES = """
    #include "process.h"
    #include "irm.h"
    #include "map.h"
    #include "crc32.h"
    #include "cipher.h"
    #include "hkdf.h"
    #include "seal.h"
    #include "frcp_io.h"
    #include "wheel.h"
"""

COMPILE_ARGS = ["-std=gnu11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra"]


def sources_mark(*folders: Path) -> str:
    """A text that names the C and the declarations in these folders. A compiled module contains it: tests notice an outdated one."""
    files = [path for folder in folders for path in (folder / "build.py", *sorted(folder.glob("src/*.[ch]")))]
    return f"sources {hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()}"


def marked(*folders: Path) -> str:
    """The same as C."""
    return f'\n    static const char sources_mark[] __attribute__((used)) = "{sources_mark(*folders)}";\n'


def extension(
    module: str,
    *,
    root: str = "",
    cdef: str = "",
    includes: str = "",
    sources: tuple[str, ...] = (),
    compile_args: tuple[str, ...] = (),
) -> FFI:
    """The cffi builder of a module that contains the data plane and, for IPCPs, more.

    `root` is prefixed to the sources, which setuptools wants relative to setup.py. Tests build the same with crash
    points (`src/crash.h`).
    """
    checkout = HERE.parent.parent
    folders = dict.fromkeys([HERE, *((checkout / source).parent.parent for source in sources)])
    ffi = FFI()
    ffi.cdef(CDEF + CDEF_MACHINES + cdef)
    ffi.set_source(
        module,
        INCLUDES + includes + marked(*folders),
        sources=[f"{root}ouroboros/dataplane/src/{name}.c" for name in SOURCES + MACHINES + PROTECTION]
        + [root + source for source in sources],
        depends=[str(path) for path in sorted((HERE / "src").glob("*.h"))],
        include_dirs=[str(folder / "src") for folder in folders],
        extra_compile_args=[*COMPILE_ARGS, *compile_args],
        libraries=["pthread", "crypto"],
    )
    return ffi


ffi = extension("ouroboros.dataplane._dataplane")
