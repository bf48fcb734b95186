#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "udp_flow.h"

#define RECEIVE_OCTETS 65536u
#define RECEIVE_CALLS 8u    /* of one turn, at most */
#define RECEIVE_PACKETS 256u /* packets of one turn */

/* ---- addresses ---- */

socklen_t udp_to_socket_address(const struct udp_address *address, union socket_address *to)
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

/* The address as the control plane wrote it. */
static void path_message_of(struct udp *udp, const union socket_address *from, const uint8_t *message, uint32_t length)
{
        struct udp_address address;

        from_socket_address(from, &address);
        if (paths_message(udp->paths, (const uint8_t *)&address, sizeof address, message, length))
                udp->counters.path++;
        else
                udp->counters.unknown++;
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
        if (eid == UDP_PATH) {
                path_message_of(udp, from, data + UDP_HEADER, length - UDP_HEADER);
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
        if (flow->path.path != NULL) /* it carried the packet, whatever the reader does */
                path_arrived(flow->path.path, length);
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

/* Octets of each datagram in a coalesced message: all of it, unless the kernel reports a segment size. */
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
        for (uint32_t call = 0; call < RECEIVE_CALLS && total < RECEIVE_PACKETS; call++) {
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

static void let_go(struct udp *udp)
{
        relay_let_go(udp->relay);
        paths_free(udp->paths);
        punt_destroy(udp->punt);
        free(udp->buffer);
        free(udp);
}

struct udp *udp_create(struct relay *relay, int socket, uint32_t max_packet, bool offload, struct punt *punt,
                       uint32_t component)
{
        struct paths_type type = {UDP_OVERHEAD_4, udp_send_flow, udp_emit};
        struct udp *udp = calloc(1, sizeof *udp);
        int on = 1, domain = AF_INET, error = -ENOMEM;
        socklen_t size = sizeof domain;

        if (udp == NULL)
                return NULL;
        udp->buffer = malloc((size_t)RECEIVE_MESSAGES * RECEIVE_OCTETS);
        if (udp->buffer == NULL) {
                free(udp);
                return NULL;
        }
        udp->source = (struct source){.fd = socket, .serve = serve_socket};
        udp->relay = relay_hold(relay);
        udp->punt = punt_hold(punt);
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
        if (getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_INET6)
                type.overhead = UDP_OVERHEAD_6;
        udp->paths = paths_create(relay, punt, component + 1, &type, udp);
        if (udp->paths != NULL) {
                relay_lock(relay);
                error = relay_add_source(relay, &udp->source);
                relay_unlock(relay);
        }
        if (error < 0) {
                let_go(udp);
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
        paths_leave(flow->udp->paths, &flow->path);
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
        let_go(udp);
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
        flow->to_length = udp_to_socket_address(peer, &flow->to);
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
                relay_role(udp->relay, port, udp_serve_port, flow);
                port->on_removal = forget;
        }
        relay_unlock(udp->relay);
        if (error < 0)
                free(flow);
        return error;
}

int udp_leave(struct udp *udp, uint32_t eid)
{
        int error = -EBADF;

        relay_lock(udp->relay);
        if (eid < UDP_EIDS && udp->flow[eid] != NULL && udp->flow[eid]->header == 0) {
                relay_role(udp->relay, udp->flow[eid]->port, NULL, NULL);
                error = 0;
        }
        relay_unlock(udp->relay);
        return error;
}

int udp_connect(struct udp *udp, uint32_t eid, uint32_t peer_eid)
{
        struct udp_flow *flow;
        struct udp_address peer;
        int error = -EBADF;

        if (eid >= UDP_EIDS || peer_eid == 0 || peer_eid >= UDP_EIDS)
                return -EINVAL;
        relay_lock(udp->relay);
        flow = udp->flow[eid];
        if (flow != NULL) {
                from_socket_address(&flow->to, &peer);
                error = paths_join(udp->paths, (const uint8_t *)&peer, sizeof peer, &flow->path, flow->port);
        }
        if (error == 0) {
                flow->header = htonl(peer_eid);
                flow->port->paused = 0;
        }
        relay_unlock(udp->relay);
        return error;
}

struct paths *udp_paths(struct udp *udp)
{
        return udp->paths;
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
