#define _GNU_SOURCE
#include "udp.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

#define RUN_PACKETS 64u   /* of one message, as many as every kernel takes */
#define RUN_OCTETS 65000u /* likewise */
#define WAIT_FULL 100000  /* ns until a full socket is tried again */
#define WAIT_REPLY 1000000
#define FORGET_LIMIT 60000000000 /* ns until larger runs are tried again: a route may have changed */
#define RECEIVE_MESSAGES 8u
#define RECEIVE_OCTETS 65536u
#define RECEIVE_CALLS 8u      /* of one turn, at most */
#define RECEIVE_ENOUGH 256u   /* packets of one turn */

union socket_address {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
};

struct udp_flow {
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

/* What is on its way to the kernel in one turn of a port. */
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
        struct udp_flow *flow[UDP_EIDS];
        struct udp_counters counters;
        struct batch batch;
        struct mmsghdr message[RECEIVE_MESSAGES];
        struct iovec iov[RECEIVE_MESSAGES];
        union socket_address from[RECEIVE_MESSAGES];
        _Alignas(struct cmsghdr) uint8_t control[RECEIVE_MESSAGES][CMSG_SPACE(sizeof(int))];
        uint8_t *buffer;
};

/* ---- addresses ---- */

static socklen_t to_socket_address(const struct udp_address *address, union socket_address *to)
{
        memset(to, 0, sizeof *to);
        if (address->version == 4) {
                to->in4.sin_family = AF_INET;
                to->in4.sin_port = htons(address->port);
                memcpy(&to->in4.sin_addr, address->ip, sizeof to->in4.sin_addr);
                return sizeof to->in4;
        }
        to->in6.sin6_family = AF_INET6;
        to->in6.sin6_port = htons(address->port);
        to->in6.sin6_scope_id = address->scope;
        memcpy(&to->in6.sin6_addr, address->ip, sizeof to->in6.sin6_addr);
        return sizeof to->in6;
}

static void from_socket_address(const union socket_address *from, struct udp_address *address)
{
        memset(address, 0, sizeof *address);
        if (from->any.sa_family == AF_INET) {
                address->version = 4;
                address->port = ntohs(from->in4.sin_port);
                memcpy(address->ip, &from->in4.sin_addr, sizeof from->in4.sin_addr);
                return;
        }
        address->version = 6;
        address->port = ntohs(from->in6.sin6_port);
        address->scope = from->in6.sin6_scope_id;
        memcpy(address->ip, &from->in6.sin6_addr, sizeof from->in6.sin6_addr);
}

static bool is_from(const union socket_address *from, const union socket_address *peer)
{
        if (from->any.sa_family != peer->any.sa_family)
                return false;
        if (from->any.sa_family == AF_INET)
                return from->in4.sin_port == peer->in4.sin_port &&
                       from->in4.sin_addr.s_addr == peer->in4.sin_addr.s_addr;
        return from->in6.sin6_port == peer->in6.sin6_port && from->in6.sin6_scope_id == peer->in6.sin6_scope_id &&
               memcmp(&from->in6.sin6_addr, &peer->in6.sin6_addr, sizeof from->in6.sin6_addr) == 0;
}

/* ---- sending ---- */

/* Give the packets from `packet` on back to the port: they wait for another turn. */
static void put_back(struct port *port, const struct batch *batch, uint32_t packet)
{
        while (port->taken >= batch->taken[packet])
                port_untake(port);
}

/* Packets of the next message, which starts with packet `at`: of one size but for the last, which may be smaller. */
static uint32_t run_length(const struct udp_flow *flow, const struct batch *batch, uint32_t at)
{
        uint32_t size = batch->packet[at].length;
        uint32_t octets = size + UDP_HEADER, n = 1;

        if (!flow->udp->offload || octets > flow->run_limit)
                return 1;
        while (at + n < batch->packets && n < RUN_PACKETS && batch->packet[at + n].length <= size &&
               octets + batch->packet[at + n].length + UDP_HEADER <= RUN_OCTETS) {
                octets += batch->packet[at + n].length + UDP_HEADER;
                n++;
                if (batch->packet[at + n - 1].length < size)
                        break;
        }
        return n;
}

static void add_message(struct udp_flow *flow, struct batch *batch, uint32_t at, uint32_t packets)
{
        uint32_t m = batch->messages++;
        uint16_t size = (uint16_t)(batch->packet[at].length + UDP_HEADER);
        struct msghdr *header = &batch->message[m].msg_hdr;

        batch->first[m] = at;
        *header = (struct msghdr){
                .msg_name = &flow->to,
                .msg_namelen = flow->to_length,
                .msg_iov = &batch->iov[2 * at],
                .msg_iovlen = 2 * packets,
        };
        for (uint32_t i = at; i < at + packets; i++) {
                batch->iov[2 * i] = (struct iovec){&flow->header, UDP_HEADER};
                batch->iov[2 * i + 1] = (struct iovec){batch->packet[i].data, batch->packet[i].length};
        }
        if (packets > 1) {
                struct cmsghdr *control = (struct cmsghdr *)batch->control[m];

                header->msg_control = control;
                header->msg_controllen = sizeof batch->control[m];
                control->cmsg_level = SOL_UDP;
                control->cmsg_type = UDP_SEGMENT;
                control->cmsg_len = CMSG_LEN(sizeof size);
                memcpy(CMSG_DATA(control), &size, sizeof size);
        }
}

/* Make messages of the packets from `at` on. */
static void compose(struct udp_flow *flow, struct batch *batch, uint32_t at)
{
        batch->messages = 0;
        while (at < batch->packets) {
                uint32_t n = run_length(flow, batch, at);

                add_message(flow, batch, at, n);
                at += n;
        }
}

static void sent(struct udp_flow *flow, struct port *port, struct batch *batch, uint32_t from, uint32_t to)
{
        for (uint32_t i = from; i < to; i++) {
                flow->counters.sent++;
                flow->counters.sent_octets += batch->packet[i].length;
                port_free(port, &batch->packet[i]);
        }
}

static void count_error(struct udp_counters *counters, int error)
{
        switch (error) {
        case EMSGSIZE:
                counters->message_size++;
                break;
        case ENETUNREACH:
        case EHOSTUNREACH:
        case ENETDOWN:
        case EHOSTDOWN:
        case ECONNREFUSED:
                counters->unreachable++;
                break;
        case EPERM:
        case EACCES:
                counters->refused++;
                break;
        default:
                counters->failed++;
        }
}

/* Whether a run that was refused can go as single datagrams: the path, or a device, does not take runs of this size. */
static bool runs_end_here(struct udp_flow *flow, const struct batch *batch, uint32_t m, int error, int64_t now)
{
        if (batch->message[m].msg_hdr.msg_controllen == 0 || (error != EMSGSIZE && error != EINVAL && error != EIO))
                return false;
        flow->run_limit = error == EIO ? 0 : batch->packet[batch->first[m]].length + UDP_HEADER - 1;
        flow->limited = now;
        return true;
}

/* Send what is composed. Returns the packet from which on nothing was sent: all but the last ones, or all. */
static uint32_t flush(struct udp_flow *flow, struct port *port, struct batch *batch, int64_t now)
{
        struct udp *udp = flow->udp;
        uint32_t at = 0; /* message */

        while (at < batch->messages) {
                uint32_t first = batch->first[at], end;
                int n = udp->send(udp->source.fd, batch->message + at, batch->messages - at, MSG_DONTWAIT);

                if (n > 0) {
                        at += (uint32_t)n;
                        end = at < batch->messages ? batch->first[at] : batch->packets;
                        sent(flow, port, batch, first, end);
                        continue;
                }
                if (errno == EINTR)
                        continue;
                if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
                        return first;
                if (runs_end_here(flow, batch, at, errno, now)) {
                        compose(flow, batch, first);
                        at = 0;
                        continue;
                }
                count_error(&udp->counters, errno);
                end = at + 1 < batch->messages ? batch->first[at + 1] : batch->packets;
                for (uint32_t i = first; i < end; i++) {
                        flow->counters.dropped++;
                        port_drop(port, &batch->packet[i]);
                }
                at++;
        }
        return batch->packets;
}

static void serve_port(struct relay *relay, struct port *port, int64_t now)
{
        struct udp_flow *flow = port->role;
        struct udp *udp = flow->udp;
        struct batch *batch = &udp->batch;
        uint32_t done;

        (void)relay;
        if (flow->header == 0) {
                port_pause(port, now + WAIT_REPLY);
                return;
        }
        if (flow->limited != 0 && now - flow->limited > FORGET_LIMIT) {
                flow->run_limit = UINT32_MAX;
                flow->limited = 0;
        }
        for (batch->packets = 0; batch->packets < PORT_BATCH;) {
                struct packet *packet = &batch->packet[batch->packets];

                if (!port_take(port, packet))
                        break;
                if (packet->length > udp->max_packet) {
                        udp->counters.send_too_long++;
                        flow->counters.dropped++;
                        port_drop(port, packet);
                        continue;
                }
                batch->taken[batch->packets++] = port->taken;
        }
        if (batch->packets == 0)
                return;
        compose(flow, batch, 0);
        done = flush(flow, port, batch, now);
        if (done < batch->packets) {
                udp->counters.full++;
                put_back(port, batch, done);
                port_pause(port, now + WAIT_FULL);
        }
}

/* ---- receiving ---- */

static void management(struct udp *udp, const union socket_address *from, const uint8_t *data, uint32_t length)
{
        uint8_t record[sizeof(struct udp_address) + UDP_MESSAGE];
        struct udp_address address;

        if (length > UDP_MESSAGE) {
                udp->counters.management_long++;
                return;
        }
        from_socket_address(from, &address);
        memcpy(record, &address, sizeof address);
        memcpy(record + sizeof address, data, length);
        if (punt_push(udp->punt, udp->component, 0, record, (uint32_t)sizeof address + length))
                udp->counters.management++;
        else
                udp->counters.management_lost++;
}

static void deliver(struct udp *udp, const union socket_address *from, const uint8_t *data, uint32_t length)
{
        struct udp_flow *flow;
        struct port *port;
        uint32_t eid;

        if (length < UDP_HEADER) {
                udp->counters.short_header++;
                return;
        }
        memcpy(&eid, data, sizeof eid);
        eid = ntohl(eid);
        if (eid == 0) {
                management(udp, from, data, length);
                return;
        }
        flow = eid < UDP_EIDS ? udp->flow[eid] : NULL;
        if (flow == NULL) {
                udp->counters.unknown++;
                return;
        }
        if (!is_from(from, &flow->to)) {
                udp->counters.stranger++;
                return;
        }
        length -= UDP_HEADER;
        if (length > udp->max_packet) {
                udp->counters.too_long++;
                flow->counters.dropped++;
                return;
        }
        port = flow->port;
        if (port_copy(port, data + UDP_HEADER, length)) {
                flow->counters.received++;
                flow->counters.received_octets += length;
        } else {
                udp->counters.no_room++;
                flow->counters.dropped++;
        }
}

/* Octets of each datagram that a message was put together from: all of it, unless the kernel says otherwise. */
static uint32_t datagram_size(const struct mmsghdr *message)
{
        struct msghdr header = message->msg_hdr;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c != NULL; c = CMSG_NXTHDR(&header, c))
                if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
                        int size;

                        memcpy(&size, CMSG_DATA(c), sizeof size);
                        if (size > 0)
                                return (uint32_t)size;
                }
        return message->msg_len;
}

static uint32_t take_apart(struct udp *udp, uint32_t m)
{
        const struct mmsghdr *message = &udp->message[m];
        const uint8_t *data = udp->iov[m].iov_base;
        uint32_t size = datagram_size(message), n = 0;

        if (message->msg_len == 0) {
                udp->counters.short_header++;
                return 1;
        }
        for (uint32_t at = 0; at < message->msg_len; at += size, n++)
                deliver(udp, &udp->from[m], data + at, size < message->msg_len - at ? size : message->msg_len - at);
        return n;
}

static uint32_t serve_socket(struct relay *relay, struct source *source, int64_t now)
{
        struct udp *udp = (struct udp *)source;
        uint32_t total = 0;

        (void)relay, (void)now;
        for (uint32_t call = 0; call < RECEIVE_CALLS && total < RECEIVE_ENOUGH; call++) {
                int n;

                for (uint32_t m = 0; m < RECEIVE_MESSAGES; m++) {
                        udp->message[m].msg_hdr.msg_namelen = sizeof udp->from[m];
                        udp->message[m].msg_hdr.msg_controllen = udp->offload ? sizeof udp->control[m] : 0;
                }
                n = recvmmsg(source->fd, udp->message, RECEIVE_MESSAGES, MSG_DONTWAIT, NULL);
                for (int m = 0; m < n; m++)
                        total += take_apart(udp, (uint32_t)m);
                if (n < (int)RECEIVE_MESSAGES)
                        break;
        }
        return total;
}

/* ---- control ---- */

static int send_many(int socket, struct mmsghdr *messages, unsigned int count, int flags)
{
        return sendmmsg(socket, messages, count, flags);
}

void udp_send_with(struct udp *udp, udp_sender *sender)
{
        relay_lock(udp->relay);
        udp->send = sender;
        relay_unlock(udp->relay);
}

struct udp *udp_create(struct relay *relay, int socket, uint32_t max_packet, bool offload, struct punt *punt,
                       uint32_t component)
{
        struct udp *udp = calloc(1, sizeof *udp);
        int on = 1, error;

        if (udp == NULL)
                return NULL;
        udp->buffer = malloc((size_t)RECEIVE_MESSAGES * RECEIVE_OCTETS);
        if (udp->buffer == NULL) {
                free(udp);
                return NULL;
        }
        udp->source = (struct source){.fd = socket, .serve = serve_socket};
        udp->relay = relay;
        udp->punt = punt;
        udp->component = component;
        udp->max_packet = max_packet;
        udp->send = send_many;
        udp->offload = offload && setsockopt(socket, SOL_UDP, UDP_GRO, &on, sizeof on) == 0;
        for (uint32_t m = 0; m < RECEIVE_MESSAGES; m++) {
                udp->iov[m] = (struct iovec){udp->buffer + (size_t)m * RECEIVE_OCTETS, RECEIVE_OCTETS};
                udp->message[m].msg_hdr = (struct msghdr){
                        .msg_name = &udp->from[m],
                        .msg_iov = &udp->iov[m],
                        .msg_iovlen = 1,
                        .msg_control = udp->control[m],
                };
        }
        relay_lock(relay);
        error = relay_add_source(relay, &udp->source);
        relay_unlock(relay);
        if (error < 0) {
                free(udp->buffer);
                free(udp);
                return NULL;
        }
        return udp;
}

/* The counters of a flow are part of the layer's. */
static void add(struct udp_counters *sum, const struct udp_flow_counters *flow)
{
        sum->received += flow->received;
        sum->received_octets += flow->received_octets;
        sum->sent += flow->sent;
        sum->sent_octets += flow->sent_octets;
}

static void forget(struct port *port)
{
        struct udp_flow *flow = port->role;

        add(&flow->udp->counters, &flow->counters);
        flow->udp->flow[flow->eid] = NULL;
        free(flow);
}

void udp_destroy(struct udp *udp)
{
        relay_lock(udp->relay);
        relay_remove_source(udp->relay, &udp->source);
        for (uint32_t eid = 0; eid < UDP_EIDS; eid++)
                if (udp->flow[eid] != NULL)
                        relay_role(udp->relay, udp->flow[eid]->port, NULL, NULL);
        relay_unlock(udp->relay);
        free(udp->buffer);
        free(udp);
}

int udp_open(struct udp *udp, uint32_t eid, uint32_t fd, const struct udp_address *peer)
{
        struct udp_flow *flow;
        struct port *port;
        int error = 0;

        if (eid == 0 || eid >= UDP_EIDS || (peer->version != 4 && peer->version != 6))
                return -EINVAL;
        flow = calloc(1, sizeof *flow);
        if (flow == NULL)
                return -ENOMEM;
        *flow = (struct udp_flow){.udp = udp, .eid = eid, .run_limit = UINT32_MAX};
        flow->to_length = to_socket_address(peer, &flow->to);
        relay_lock(udp->relay);
        port = relay_port(udp->relay, fd);
        if (port == NULL)
                error = -EBADF;
        else if (udp->flow[eid] != NULL ? udp->flow[eid]->port != port : port->serve != NULL)
                error = -EADDRINUSE;
        if (error == 0) {
                if (udp->flow[eid] != NULL)
                        relay_role(udp->relay, port, NULL, NULL); /* forgets it */
                flow->port = port;
                udp->flow[eid] = flow;
                relay_role(udp->relay, port, serve_port, flow);
                port->gone = forget;
        }
        relay_unlock(udp->relay);
        if (error < 0)
                free(flow);
        return error;
}

int udp_connect(struct udp *udp, uint32_t eid, uint32_t peer_eid)
{
        struct udp_flow *flow;

        if (eid >= UDP_EIDS || peer_eid == 0 || peer_eid >= UDP_EIDS)
                return -EINVAL;
        relay_lock(udp->relay);
        flow = udp->flow[eid];
        if (flow != NULL) {
                flow->header = htonl(peer_eid);
                flow->port->paused = 0;
        }
        relay_unlock(udp->relay);
        return flow != NULL ? 0 : -EBADF;
}

void udp_read(struct udp *udp, struct udp_counters *counters)
{
        relay_lock(udp->relay);
        *counters = udp->counters;
        for (uint32_t eid = 0; eid < UDP_EIDS; eid++)
                if (udp->flow[eid] != NULL)
                        add(counters, &udp->flow[eid]->counters);
        relay_unlock(udp->relay);
}

int udp_flow_read(struct udp *udp, uint32_t eid, struct udp_flow_counters *counters)
{
        int error = -EBADF;

        relay_lock(udp->relay);
        if (eid < UDP_EIDS && udp->flow[eid] != NULL) {
                *counters = udp->flow[eid]->counters;
                error = 0;
        }
        relay_unlock(udp->relay);
        return error;
}
