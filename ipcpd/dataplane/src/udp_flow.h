/* udp_flow: shared by the files of udp: a flow over UDP, and the socket that all flows share. */
#ifndef OUROBOROS_UDP_FLOW_H
#define OUROBOROS_UDP_FLOW_H

#include <sys/socket.h>

#include "udp.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

#define RECEIVE_MESSAGES 8u

union socket_address {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
};

struct udp_flow {
        struct path_flow path; /* first: a flow of a path is its flow here */
        struct udp *udp;
        struct port *port;
        uint32_t eid;
        uint32_t header; /* the peer's endpoint id, as it is sent; 0: not known yet */
        union socket_address to;
        socklen_t to_length;
        uint32_t run_limit; /* octets of a datagram that can be part of a run */
        int64_t limited;    /* when that was learnt, ns */
        struct udp_flow_counters counters;
};

/* The datagrams that one turn of a port hands to the kernel. */
struct batch {
        uint32_t packets;
        uint32_t messages;
        struct packet packet[PORT_BATCH];
        uint32_t taken[PORT_BATCH]; /* by the port, with this packet */
        uint32_t first[PORT_BATCH]; /* packet of each message */
        struct iovec iov[2 * PORT_BATCH];
        struct mmsghdr message[PORT_BATCH];
        _Alignas(struct cmsghdr) uint8_t control[PORT_BATCH][CMSG_SPACE(sizeof(uint16_t))];
};

struct udp {
        struct source source; /* first: a source is its udp */
        struct relay *relay;
        struct punt *punt;
        uint32_t component;
        uint32_t max_packet;
        bool offload;
        udp_sender *send;
        int64_t full_until; /* ns: the socket had no space; until then no flow tries it again */
        struct paths *paths;
        struct udp_flow *flow[UDP_EIDS];
        struct udp_counters counters;
        struct batch batch;
        struct mmsghdr message[RECEIVE_MESSAGES];
        struct iovec iov[RECEIVE_MESSAGES];
        union socket_address from[RECEIVE_MESSAGES];
        _Alignas(struct cmsghdr) uint8_t control[RECEIVE_MESSAGES][CMSG_SPACE(sizeof(int))];
        uint8_t *buffer;
};

/* The role of a port with a flow: gather what its process wrote, and send it. */
void udp_serve_port(struct relay *relay, struct port *port, int64_t now);

/* For the path of a flow (path.h). */
uint32_t udp_send_flow(struct path_flow *flow, uint32_t most, int64_t now);
bool udp_emit(void *udp, const uint8_t *peer, const uint8_t *message, uint32_t length);

socklen_t udp_to_socket_address(const struct udp_address *address, union socket_address *to);

#endif
