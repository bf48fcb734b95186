"""Compiles the data plane of the IPCPs: that of every process, and the threads that move packets between flows."""

import importlib.util
from pathlib import Path

CDEF = """
    #define PUNT_COMPONENTS ...
    #define RELAY_DOMAINS ...

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
    int relay_protect(struct relay *relay, uint32_t fd, uint32_t cipher, const uint8_t *key, bool check);
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
    int relay_punt(struct relay *relay, uint32_t fd, struct punt *punt, uint32_t component, bool once);
    void relay_events(struct relay *relay, struct punt *punt, uint32_t component);
    void punt_counters(struct punt *punt, uint32_t component, uint64_t *passed, uint64_t *dropped);

    /* dt */
    #define CUBES ...
    #define FIB_FDS ...
    #define FIB_LISTS ...
    enum fib_function { FIB_SIMPLE, FIB_ALTERNATE, FIB_MULTIPATH };
    struct fib { uint32_t longest; ...; };
    struct fib *fib_create(enum fib_function function, uint32_t count, const uint32_t *addresses, const uint32_t *list,
                           uint32_t lists, const uint32_t *lengths, const uint32_t *fds);
    void fib_destroy(struct fib *fib);
    struct dt_counters {
        uint64_t received, forwarded, delivered, punted, sent, malformed, expired, no_route, no_room, unknown;
    };
    struct dt_flow_counters {
        uint64_t received, sent, dropped, no_route, marked, updates, limit, slot, level;
    };
    struct dt *dt_create(struct relay *relay, struct punt *punt, uint32_t address, uint32_t max_ttl, bool congestion);
    void dt_renumber(struct dt *dt, uint32_t address);
    void dt_destroy(struct dt *dt);
    int dt_lower(struct dt *dt, uint32_t fd);
    int dt_upper(struct dt *dt, uint32_t fd, uint64_t eid, uint32_t cube);
    int dt_peer(struct dt *dt, uint32_t fd, uint64_t eid, uint32_t address);
    int dt_down(struct dt *dt, uint32_t fd, bool down);
    int dt_table(struct dt *dt, uint32_t cube, struct fib *fib);
    int dt_send(struct dt *dt, uint32_t address, uint32_t cube, uint64_t eid, const void *payload, uint32_t length);
    int dt_congestion(struct dt *dt, uint32_t fd, uint32_t level);
    void dt_read(struct dt *dt, uint32_t cube, struct dt_counters *counters);
    int dt_flow_read(struct dt *dt, uint32_t fd, struct dt_flow_counters *counters);
    uint64_t dt_keepalives(struct dt *dt);

    /* broadcast */
    #define BROADCAST_MOST ...
    struct broadcast_counters { uint64_t received, keepalives, too_large, sent, dropped; };
    struct broadcast *broadcast_create(struct relay *relay);
    void broadcast_destroy(struct broadcast *broadcast);
    int broadcast_add(struct broadcast *broadcast, uint32_t fd);
    void broadcast_read(struct broadcast *broadcast, struct broadcast_counters *counters);

    /* congestion, for tests */
    struct congestion {
        uint32_t exponent;
        uint64_t slot, limit, increment, octets;
        uint32_t packets, silence;
        uint16_t level;
        bool avoiding;
        uint16_t seen;
        uint32_t marked;
    };
    int64_t congestion_send(struct congestion *c, uint32_t length, int64_t now);
    void congestion_update(struct congestion *c, uint16_t level);
    bool congestion_receive(struct congestion *c, uint8_t mark);

    /* paths */
    struct path_sample {
        uint32_t path, silent;
        int64_t now, marked, arrived;
        uint64_t sent_packets, sent_octets, arrived_packets, arrived_octets;
        uint32_t busy, held;
    };
    struct path_counters {
        uint64_t sent_packets, sent_octets, arrived_packets, arrived_octets;
        uint64_t marks, reports, answered, refused_report, absurd_report, refused_mark, waits;
    };
    struct path_state {
        uint32_t id, flows;
        uint8_t peer[...];
        uint32_t measured, waiting;
        uint64_t rate, window;
        struct path_counters counters;
    };
    struct paths;
    int64_t paths_measure(struct paths *paths, const uint8_t *peer, uint32_t length);
    void paths_rate(struct paths *paths, uint64_t rate);
    int paths_set(struct paths *paths, uint32_t id, uint64_t rate, uint64_t window, int64_t spacing, int64_t now);
    int paths_read(struct paths *paths, uint32_t n, struct path_state *state);

    /* eth, and the nic below it */
    struct nic;
    enum eth_framing { ETH_DIX, ETH_LLC };
    struct eth;
    struct eth_counters {
        uint64_t received;
        uint64_t delivered;
        uint64_t management;
        uint64_t path;
        uint64_t sent;
        uint64_t full;
        uint64_t dropped[...];
    };
    struct eth *eth_create(struct relay *relay, struct punt *punt, uint32_t component, enum eth_framing framing,
                           uint16_t ethertype, struct nic *nic);
    void eth_destroy(struct eth *eth);
    int eth_device(struct eth *eth, const uint8_t *mac, uint32_t max_packet);
    int eth_open(struct eth *eth, uint32_t fd, uint32_t endpoint, const uint8_t *peer);
    int eth_leave(struct eth *eth, uint32_t fd);
    int eth_connect(struct eth *eth, uint32_t fd, uint32_t peer_endpoint, const uint8_t *peer);
    struct paths *eth_paths(struct eth *eth);
    void eth_count(struct eth *eth, struct eth_counters *counters);
    struct nic *nic_packet(int receiver, const int *senders);
    int nic_packet_filter(int fd, enum eth_framing framing, uint32_t index, const uint8_t *mac);

    /* udp */
    #define UDP_EIDS ...
    #define UDP_MESSAGE ...
    struct udp_address { uint8_t ip[16]; uint32_t scope; uint16_t port; uint16_t version; };
    struct udp_counters {
        uint64_t received;
        uint64_t received_octets;
        uint64_t sent;
        uint64_t sent_octets;
        uint64_t management;
        uint64_t management_lost;
        uint64_t management_long;
        uint64_t path;
        uint64_t short_header;
        uint64_t unknown;
        uint64_t stranger;
        uint64_t too_long;
        uint64_t no_room;
        uint64_t send_too_long;
        uint64_t message_size;
        uint64_t unreachable;
        uint64_t refused;
        uint64_t failed;
        uint64_t full;
    };
    struct udp_flow_counters {
        uint64_t received;
        uint64_t received_octets;
        uint64_t sent;
        uint64_t sent_octets;
        uint64_t dropped;
    };
    struct udp *udp_create(struct relay *relay, int socket, uint32_t max_packet, bool offload, struct punt *punt,
                           uint32_t component);
    void udp_destroy(struct udp *udp);
    struct mmsghdr { ...; };
    typedef int udp_sender(int socket, struct mmsghdr *messages, unsigned int count, int flags);
    void udp_send_with(struct udp *udp, udp_sender *sender);
    int udp_open(struct udp *udp, uint32_t eid, uint32_t fd, const struct udp_address *peer);
    int udp_leave(struct udp *udp, uint32_t eid);
    int udp_connect(struct udp *udp, uint32_t eid, uint32_t peer_eid);
    struct paths *udp_paths(struct udp *udp);
    void udp_read(struct udp *udp, struct udp_counters *counters);
    int udp_flow_read(struct udp *udp, uint32_t eid, struct udp_flow_counters *counters);
"""

INCLUDES = """
    #include "relay.h"
    #include "punt.h"
    #include "dt.h"
    #include "paths.h"
    #include "eth.h"
    #include "nic_packet.h"
    #include "broadcast.h"
    #include "udp.h"
"""

# Loaded by path: at build time the package is not installed yet.
_path = Path(__file__).resolve().parents[2] / "ouroboros" / "dataplane" / "build.py"
_spec = importlib.util.spec_from_file_location("ouroboros_dataplane_build", _path)
assert _spec is not None and _spec.loader is not None
base = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(base)

SOURCES = tuple(
    f"ipcpd/dataplane/src/{name}.c"
    for name in (
        "port",
        "relay",
        "round",
        "thread",
        "roles",
        "punt",
        "fib",
        "congestion",
        "dt",
        "path",
        "paths",
        "eth",
        "nic_packet",
        "broadcast",
        "udp",
        "udp_send",
    )
)

ffi = base.extension("ipcpd.dataplane._ipcp", cdef=CDEF, includes=INCLUDES, sources=SOURCES)
