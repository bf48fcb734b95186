/*
 * udp: flows over UDP datagrams (paper 5.5, spec/udp 1): the socket of a UDP IPCP, served by the relay's thread.
 *
 * A datagram is the endpoint id of its receiver, four octets, and the packet. Endpoint id 0 is management, which goes
 * to the control plane with the address that it came from. A flow takes packets from its peer's socket address only.
 *
 * Datagrams are gathered from two parts: the endpoint id, the same for all packets of a port, lies in private memory, so that no
 * process can change it under way, and packets are sent from the blocks they lie in. Runs of packets of one size go
 * to the kernel as one message (UDP_SEGMENT) where it can do that, and all runs of a turn with one system call. What
 * arrives may have been put together in the same way (UDP_GRO). A packet that its flow has no space for is dropped:
 * the socket belongs to all flows, and none waits for another. A socket that is full makes those who send wait.
 */
#ifndef OUROBOROS_UDP_H
#define OUROBOROS_UDP_H

#include <netinet/in.h>

#include "paths.h"

#define UDP_EIDS 4096u    /* endpoint ids are below: a prototype's table ends there (spec/udp 2) */
#define UDP_PATH 1u       /* the endpoint id of messages of a path (spec/path) */
#define UDP_OVERHEAD_4 32u /* octets of a datagram besides the packet: endpoint id, UDP, IP */
#define UDP_OVERHEAD_6 52u
#define UDP_HEADER 4u     /* octets of the endpoint id */
#define UDP_MESSAGE 2048u /* octets of a management datagram, at most */

/* A socket address, as the control plane writes and reads it; numbers in this machine's order. */
struct udp_address {
        uint8_t ip[16]; /* IPv4: the first four octets */
        uint32_t scope; /* interface of a link-local IPv6 address */
        uint16_t port;
        uint16_t version; /* 4 or 6 */
};

struct udp_counters {
        uint64_t received; /* packets handed to flows, and their octets */
        uint64_t received_octets;
        uint64_t sent;
        uint64_t sent_octets;
        uint64_t management;      /* datagrams handed to the control plane */
        uint64_t management_lost; /* those that its quota had no space for */
        uint64_t management_long;
        uint64_t path;         /* marks and reports of paths */
        uint64_t short_header; /* fewer than four octets */
        uint64_t unknown;      /* no flow has the endpoint id */
        uint64_t stranger;     /* not from the address of the flow's peer */
        uint64_t too_long;     /* larger than a packet of this layer can be */
        uint64_t no_room;      /* the flow's reader is too slow, or its pool is empty */
        uint64_t send_too_long;
        uint64_t message_size; /* EMSGSIZE: larger than the path takes */
        uint64_t unreachable;  /* no route, host or network is down */
        uint64_t refused;      /* EPERM, EACCES: a firewall of this system */
        uint64_t failed;       /* any other error of the socket */
        uint64_t full;         /* times that the socket was full */
};

struct udp_flow_counters {
        uint64_t received;
        uint64_t received_octets;
        uint64_t sent;
        uint64_t sent_octets;
        uint64_t dropped; /* in either direction */
};

struct udp;

/* Samples of paths go to the component behind `component`. `socket` is bound, and stays the caller's. `offload`: use UDP_SEGMENT and UDP_GRO if the kernel has them. */
struct udp *udp_create(struct relay *relay, int socket, uint32_t max_packet, bool offload, struct punt *punt,
                       uint32_t component);
void udp_destroy(struct udp *udp);

/* Use this instead of sendmmsg(2): tests play a kernel that is full, or that cannot do something. */
struct mmsghdr;
typedef int udp_sender(int socket, struct mmsghdr *messages, unsigned int count, int flags);
void udp_send_with(struct udp *udp, udp_sender *sender);

/*
 * The port of the flow end `fd` gets what `peer` sends to `eid`; again with another peer: the first did not answer.
 * -EINVAL, -EADDRINUSE, -EBADF, -ENOMEM.
 */
int udp_open(struct udp *udp, uint32_t eid, uint32_t fd, const struct udp_address *peer);

/* Packets that the port's process writes go to this endpoint of the peer. The flow ends with its port (relay_remove). */
int udp_leave(struct udp *udp, uint32_t eid); /* no other end is known: the port has no endpoint then */
int udp_connect(struct udp *udp, uint32_t eid, uint32_t peer_eid);

struct paths *udp_paths(struct udp *udp); /* they end with it */
void udp_read(struct udp *udp, struct udp_counters *counters);
int udp_flow_read(struct udp *udp, uint32_t eid, struct udp_flow_counters *counters);

#endif
