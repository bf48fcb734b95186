#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "udp_flow.h"

#define RUN_PACKETS 64u   /* of one message, as many as every kernel takes */
#define RUN_OCTETS 65000u /* likewise */
#define WAIT_FULL 100000  /* ns until a full socket is tried again */
#define WAIT_REPLY 1000000
#define FORGET_LIMIT 60000000000 /* ns until larger runs are tried again: a route may have changed */

/* Give the packets from `packet` on back to the port: they wait for another turn. */
static void put_back(struct port *port, const struct batch *batch, uint32_t packet)
{
        while (port->taken >= batch->taken[packet])
                port_unget(port);
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
                flow->path.path->counters.sent_packets++;
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

/* Octets of packets as a path counts them. */
static uint32_t octets_of(const struct udp_flow *flow, const struct batch *batch, uint32_t packets)
{
        uint32_t octets = 0;

        for (uint32_t i = 0; i < packets; i++)
                octets += batch->packet[i].length + flow->path.path->overhead;
        return octets;
}

/* Take what waits, up to a batch and `most` octets. */
static void gather(struct udp_flow *flow, struct port *port, struct batch *batch, uint32_t most)
{
        struct udp *udp = flow->udp;
        uint32_t octets = 0;

        for (batch->packets = 0; batch->packets < PORT_BATCH && octets < most;) {
                struct packet *packet = &batch->packet[batch->packets];

                if (!port_take(port, packet))
                        break;
                if (packet->length > udp->max_packet) {
                        udp->counters.send_too_long++;
                        flow->counters.dropped++;
                        port_drop(port, packet);
                        continue;
                }
                octets += packet->length + flow->path.path->overhead;
                batch->taken[batch->packets++] = port->taken;
        }
}

uint32_t udp_send_flow(struct path_flow *on, uint32_t most, int64_t now)
{
        struct udp_flow *flow = (struct udp_flow *)on;
        struct port *port = flow->port;
        struct udp *udp = flow->udp;
        struct batch *batch = &udp->batch;
        uint32_t done;

        if (udp->full_until > now) {
                port_pause(port, udp->full_until);
                on->path->full = true;
                return 0;
        }
        if (flow->limited != 0 && now - flow->limited > FORGET_LIMIT) {
                flow->run_limit = UINT32_MAX;
                flow->limited = 0;
        }
        gather(flow, port, batch, most);
        if (batch->packets == 0)
                return 0;
        compose(flow, batch, 0);
        done = flush(flow, port, batch, now);
        if (done < batch->packets) {
                udp->counters.full++;
                put_back(port, batch, done);
                udp->full_until = now + WAIT_FULL;
                port_pause(port, udp->full_until);
                on->path->full = true;
        }
        return octets_of(flow, batch, done);
}

void udp_serve_port(struct relay *relay, struct port *port, int64_t now)
{
        struct udp_flow *flow = port->role;

        (void)relay;
        if (flow->header == 0)
                port_pause(port, now + WAIT_REPLY);
        else
                path_serve(&flow->path, now);
}

bool udp_emit(void *owner, const uint8_t *peer, const uint8_t *message, uint32_t length)
{
        struct udp *udp = owner;
        uint32_t header = htonl(UDP_PATH);
        struct iovec parts[2] = {{&header, UDP_HEADER}, {(void *)(uintptr_t)message, length}};
        union socket_address to;
        struct udp_address address;
        struct mmsghdr out;

        memcpy(&address, peer, sizeof address);
        out.msg_hdr = (struct msghdr){.msg_name = &to, .msg_iov = parts, .msg_iovlen = 2};
        out.msg_hdr.msg_namelen = udp_to_socket_address(&address, &to);
        return udp->send(udp->source.fd, &out, 1, MSG_DONTWAIT) == 1;
}
