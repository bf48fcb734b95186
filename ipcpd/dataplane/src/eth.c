#include "eth.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define DIX_HEADER 18u
#define LLC_HEADER 17u
#define LLC_COUNTED 3u /* octets of the header that its length field counts */
#define LLC_MOST 1500u
#define LLC_MANAGEMENT 1u
#define LLC_PATH 0u
#define DIX_PATH 1u
#define LLC_FIRST 2u
#define LLC_LAST 63u
#define HEADER_MOST DIX_HEADER

#define ROUNDS 2u         /* bursts that are received at one look */
#define PAUSE_LEAST 50000 /* ns until a full device is tried again */
#define PAUSE_MOST 1000000

struct eth_flow {
        struct path_flow path; /* first: a flow of a path is its flow here */
        struct eth *eth;
        struct port *port;
        uint32_t endpoint;
        uint32_t peer_endpoint; /* 0: not known yet */
        uint8_t peer[ETH_ALEN];
        uint8_t header[HEADER_MOST];
};

struct eth {
        struct source source;
        struct relay *relay;
        struct punt *punt;
        uint32_t component;
        enum eth_framing framing;
        uint16_t ethertype;
        uint32_t header; /* octets */
        uint8_t mac[ETH_ALEN];
        uint32_t max_packet;
        struct nic *nic;
        int64_t pause[CUBES];
        int64_t full_until[CUBES]; /* the device had no space: until then no flow tries it again */
        struct eth_counters counters;
        struct paths *paths;
        struct eth_flow *flows[ETH_ENDPOINTS];

        /* the burst that is being sent */
        struct packet packets[NIC_BURST];
        uint32_t marks[NIC_BURST]; /* the port's counter before the packet */
        uint8_t headers[NIC_BURST][HEADER_MOST];
};

static const uint8_t broadcast_mac[ETH_ALEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static void put16(uint8_t *at, uint32_t value)
{
        at[0] = (uint8_t)(value >> 8);
        at[1] = (uint8_t)value;
}

static uint32_t get16(const uint8_t *at)
{
        return (uint32_t)at[0] << 8 | at[1];
}

/* SAPs stand in reverse bit order, in this header only. */
static uint8_t reversed(uint32_t sap)
{
        uint32_t out = 0;

        for (uint32_t bit = 0; bit < 8; bit++)
                out |= (sap >> bit & 1u) << (7 - bit);
        return (uint8_t)out;
}

/* ---- sending ---- */

static void write_template(struct eth_flow *flow)
{
        const struct eth *eth = flow->eth;
        uint8_t *header = flow->header;

        memcpy(header, flow->peer, ETH_ALEN);
        memcpy(header + 6, eth->mac, ETH_ALEN);
        if (eth->framing == ETH_DIX) {
                put16(header + 12, eth->ethertype);
                put16(header + 14, flow->peer_endpoint);
        } else {
                header[14] = reversed(flow->peer_endpoint);
                header[15] = reversed(flow->endpoint);
                header[16] = LLC_INFORMATION;
        }
}

static void prepare(struct eth *eth, const struct eth_flow *flow, uint32_t i)
{
        const struct packet *packet = &eth->packets[i];

        memcpy(eth->headers[i], flow->header, HEADER_MOST);
        if (eth->framing == ETH_DIX)
                put16(eth->headers[i] + 16, packet->length);
        else
                put16(eth->headers[i] + 12, packet->length + LLC_COUNTED);
        eth->nic->tx[i][1] = (struct iovec){packet->data, packet->length};
}

/* Take what fits into a batch, and up to `most` octets of frames. A packet that is too large is dropped when it is the first. */
static uint32_t gather(struct eth *eth, const struct eth_flow *flow, struct port *port, uint32_t most)
{
        uint32_t n = 0, octets = 0;

        while (n < NIC_BURST && octets < most) {
                eth->marks[n] = port->taken;
                if (!port_take(port, &eth->packets[n]))
                        break;
                if (eth->packets[n].length > eth->max_packet) {
                        if (n > 0) { /* those before it may have to wait, and nothing can be kept behind them */
                                port_unget(port);
                                break;
                        }
                        eth->counters.dropped[ETH_DROP_OVERSIZE]++;
                        port_drop(port, &eth->packets[n]);
                        continue;
                }
                octets += eth->packets[n].length + eth->header;
                prepare(eth, flow, n++);
        }
        return n;
}

/* Packets from `first` on stay in the flow for later. */
static void keep(struct eth *eth, struct port *port, uint32_t first, uint32_t n)
{
        for (uint32_t i = first; i < n; i++)
                port->octets -= eth->packets[i].length;
        port->taken = eth->marks[first];
}

/* The device did not take the packet `i`. True: it has no space now, and the rest waits. */
static bool refused(struct eth *eth, struct port *port, uint32_t i, int error)
{
        switch (error) {
        case -EAGAIN:
                return true;
        case -EMSGSIZE:
                eth->counters.dropped[ETH_DROP_OVERSIZE]++;
                break;
        default:
                eth->counters.dropped[ETH_DROP_DEVICE]++;
        }
        port_drop(port, &eth->packets[i]);
        return false;
}

static void wait_for_device(struct eth *eth, struct port *port, int64_t now)
{
        int64_t *pause = &eth->pause[port->cube];

        *pause = *pause == 0 ? PAUSE_LEAST : *pause < PAUSE_MOST / 2 ? *pause * 2 : PAUSE_MOST;
        eth->counters.full++;
        eth->full_until[port->cube] = now + *pause;
        port_pause(port, now + *pause);
}

/* Returns the octets of frames that were sent. Sets `full` of the path when the rest waits for the device. */
static uint32_t send_batch(struct eth *eth, struct eth_flow *flow, uint32_t n, int64_t now)
{
        struct path *path = flow->path.path;
        struct port *port = flow->port;
        uint32_t done = 0, octets = 0;

        while (done < n) {
                int sent = nic_send(eth->nic, port->cube, done, n - done);

                if (sent < 0) {
                        if (!refused(eth, port, done, sent)) {
                                done++;
                                continue;
                        }
                        keep(eth, port, done, n);
                        wait_for_device(eth, port, now);
                        path->full = true;
                        break;
                }
                eth->pause[port->cube] = 0;
                eth->counters.sent += (uint32_t)sent;
                path->counters.sent_packets += (uint32_t)sent;
                for (uint32_t end = done + (uint32_t)sent; done < end; done++) {
                        octets += eth->packets[done].length + eth->header;
                        port_free(port, &eth->packets[done]);
                }
        }
        return octets;
}

static uint32_t send_flow(struct path_flow *on, uint32_t most, int64_t now)
{
        struct eth_flow *flow = (struct eth_flow *)on;
        struct eth *eth = flow->eth;
        struct port *port = flow->port;
        uint32_t octets = 0, n;

        if (eth->full_until[port->cube] > now) {
                port_pause(port, eth->full_until[port->cube]);
                on->path->full = true;
                return 0;
        }
        for (uint32_t total = 0; total < PORT_BATCH && octets < most && !on->path->full; total += n) {
                n = gather(eth, flow, port, most - octets);
                if (n == 0)
                        break;
                octets += send_batch(eth, flow, n, now);
        }
        return octets;
}

static void serve_flow(struct relay *relay, struct port *port, int64_t now)
{
        struct eth_flow *flow = port->role;

        (void)relay;
        path_serve(&flow->path, now);
}

/* A mark or a report. No burst is being sent. */
static bool emit(void *owner, const uint8_t *peer, const uint8_t *message, uint32_t length)
{
        struct eth *eth = owner;
        uint8_t *header = eth->headers[0];

        memcpy(header, peer, ETH_ALEN);
        memcpy(header + 6, eth->mac, ETH_ALEN);
        if (eth->framing == ETH_DIX) {
                put16(header + 12, eth->ethertype);
                put16(header + 14, DIX_PATH);
                put16(header + 16, length);
        } else {
                put16(header + 12, length + LLC_COUNTED);
                header[14] = header[15] = reversed(LLC_PATH);
                header[16] = LLC_INFORMATION;
        }
        eth->nic->tx[0][1] = (struct iovec){(void *)(uintptr_t)message, length};
        return nic_send(eth->nic, CUBES - 1, 0, 1) == 1;
}

/* ---- receiving ---- */

static void drop(struct eth *eth, enum eth_drop reason)
{
        eth->counters.dropped[reason]++;
}

static void deliver(struct eth *eth, const struct eth_flow *flow, const uint8_t *frame, uint32_t length)
{
        if (memcmp(frame, broadcast_mac, ETH_ALEN) == 0) {
                drop(eth, ETH_DROP_FOREIGN);
                return;
        }
        if (memcmp(frame + 6, flow->peer, ETH_ALEN) != 0) {
                drop(eth, ETH_DROP_SOURCE);
                return;
        }
        if (flow->path.path != NULL) /* it carried the packet, whatever the reader does */
                path_arrived(flow->path.path, length);
        if (port_copy(flow->port, frame + eth->header, length))
                eth->counters.delivered++;
        else
                drop(eth, ETH_DROP_FULL);
}

/* The frame without its padding. */
static void manage(struct eth *eth, const uint8_t *frame, uint32_t length)
{
        if (punt_push(eth->punt, eth->component, 0, frame, eth->header + length))
                eth->counters.management++;
        else
                drop(eth, ETH_DROP_MANAGEMENT);
}

/* A mark or a report. */
static void about_path(struct eth *eth, const uint8_t *frame, uint32_t length)
{
        if (memcmp(frame, broadcast_mac, ETH_ALEN) == 0)
                drop(eth, ETH_DROP_FOREIGN);
        else if (!paths_message(eth->paths, frame + 6, ETH_ALEN, frame + eth->header, length))
                drop(eth, ETH_DROP_ENDPOINT);
        else
                eth->counters.path++;
}

static void receive_dix(struct eth *eth, const uint8_t *frame, uint32_t size)
{
        uint32_t endpoint = get16(frame + 14), length = get16(frame + 16);

        if (get16(frame + 12) != eth->ethertype)
                drop(eth, ETH_DROP_SHORT);
        else if (length > size - DIX_HEADER)
                drop(eth, ETH_DROP_LENGTH);
        else if (endpoint == 0)
                manage(eth, frame, length);
        else if (endpoint == DIX_PATH)
                about_path(eth, frame, length);
        else if (endpoint >= ETH_ENDPOINTS || eth->flows[endpoint] == NULL)
                drop(eth, ETH_DROP_ENDPOINT);
        else
                deliver(eth, eth->flows[endpoint], frame, length);
}

static void receive_llc(struct eth *eth, const uint8_t *frame, uint32_t size)
{
        uint32_t length = get16(frame + 12), dsap = reversed(frame[14]), ssap = reversed(frame[15]);
        const struct eth_flow *flow;

        if (frame[16] != LLC_INFORMATION || length > LLC_MOST) {
                drop(eth, ETH_DROP_SHORT);
                return;
        }
        if (length < LLC_COUNTED || length - LLC_COUNTED > size - LLC_HEADER) {
                drop(eth, ETH_DROP_LENGTH);
                return;
        }
        length -= LLC_COUNTED;
        flow = eth->flows[dsap];
        if (dsap == LLC_MANAGEMENT && ssap == LLC_MANAGEMENT)
                manage(eth, frame, length);
        else if (dsap == LLC_PATH && ssap == LLC_PATH)
                about_path(eth, frame, length);
        else if (flow == NULL)
                drop(eth, ETH_DROP_ENDPOINT);
        else if (ssap < LLC_FIRST || (flow->peer_endpoint != 0 && ssap != flow->peer_endpoint))
                drop(eth, ETH_DROP_SOURCE);
        else
                deliver(eth, flow, frame, length);
}

static void receive(struct eth *eth, const uint8_t *frame, uint32_t size, bool cut)
{
        eth->counters.received++;
        if (size < eth->header)
                drop(eth, ETH_DROP_SHORT);
        else if (cut)
                drop(eth, ETH_DROP_LENGTH);
        else if (memcmp(frame, eth->mac, ETH_ALEN) != 0 && memcmp(frame, broadcast_mac, ETH_ALEN) != 0)
                drop(eth, ETH_DROP_FOREIGN);
        else if (frame[6] & 1)
                drop(eth, ETH_DROP_SOURCE); /* a group cannot have sent it */
        else if (eth->framing == ETH_DIX)
                receive_dix(eth, frame, size);
        else
                receive_llc(eth, frame, size);
}

static uint32_t serve_nic(struct relay *relay, struct source *source, int64_t now)
{
        struct eth *eth = (struct eth *)((char *)source - offsetof(struct eth, source));
        uint32_t total = 0;

        (void)relay, (void)now;
        for (uint32_t round = 0; round < ROUNDS; round++) {
                uint32_t n = nic_receive(eth->nic);

                for (uint32_t i = 0; i < n; i++) {
                        const struct nic_frame *frame = &eth->nic->rx[i];

                        receive(eth, frame->data, frame->length, frame->truncated);
                }
                total += n;
                if (n < eth->nic->burst)
                        break;
        }
        return total;
}

/* ---- control ---- */

static void let_go(struct eth *eth)
{
        relay_let_go(eth->relay);
        paths_free(eth->paths);
        punt_destroy(eth->punt);
        nic_destroy(eth->nic);
        free(eth);
}

struct eth *eth_create(struct relay *relay, struct punt *punt, uint32_t component, enum eth_framing framing,
                       uint16_t ethertype, struct nic *nic)
{
        const struct paths_type type = {framing == ETH_DIX ? DIX_HEADER : LLC_HEADER, send_flow, emit};
        struct eth *eth = calloc(1, sizeof *eth);
        int error = -ENOMEM;

        if (eth == NULL) {
                nic_destroy(nic);
                return NULL;
        }
        eth->nic = nic;
        eth->source = (struct source){.fd = nic->fd, .serve = serve_nic};
        eth->relay = relay_hold(relay);
        eth->punt = punt_hold(punt);
        eth->component = component;
        eth->framing = framing;
        eth->ethertype = ethertype;
        eth->header = framing == ETH_DIX ? DIX_HEADER : LLC_HEADER;
        for (uint32_t i = 0; i < NIC_BURST; i++)
                nic->tx[i][0] = (struct iovec){eth->headers[i], eth->header};
        eth->paths = paths_create(relay, punt, component + 1, &type, eth);
        if (eth->paths != NULL) {
                relay_lock(relay);
                error = relay_add_source(relay, &eth->source);
                relay_unlock(relay);
        }
        if (error == 0)
                return eth;
        let_go(eth);
        errno = -error;
        return NULL;
}

void eth_destroy(struct eth *eth)
{
        relay_lock(eth->relay);
        relay_remove_source(eth->relay, &eth->source);
        for (uint32_t i = 0; i < ETH_ENDPOINTS; i++)
                if (eth->flows[i] != NULL)
                        relay_role(eth->relay, eth->flows[i]->port, NULL, NULL);
        relay_unlock(eth->relay);
        let_go(eth);
}

int eth_device(struct eth *eth, const uint8_t mac[ETH_ALEN], uint32_t max_packet)
{
        int error;

        relay_lock(eth->relay);
        error = nic_set_frame_size(eth->nic, max_packet + eth->header);
        if (error < 0) {
                relay_unlock(eth->relay);
                return error;
        }
        memcpy(eth->mac, mac, ETH_ALEN);
        eth->max_packet = max_packet;
        for (uint32_t i = 0; i < ETH_ENDPOINTS; i++)
                if (eth->flows[i] != NULL)
                        write_template(eth->flows[i]);
        relay_unlock(eth->relay);
        return 0;
}

static void forget_flow(struct port *port)
{
        struct eth_flow *flow = port->role;

        flow->eth->flows[flow->endpoint] = NULL;
        paths_leave(flow->eth->paths, &flow->path);
        free(flow);
}

static bool legal(const struct eth *eth, uint32_t endpoint)
{
        if (eth->framing == ETH_DIX)
                return endpoint > 0 && endpoint < ETH_ENDPOINTS;
        return endpoint >= LLC_FIRST && endpoint <= LLC_LAST;
}

int eth_open(struct eth *eth, uint32_t fd, uint32_t endpoint, const uint8_t peer[ETH_ALEN])
{
        struct eth_flow *flow;
        struct port *port;
        int error = 0;

        if (!legal(eth, endpoint))
                return -EINVAL;
        flow = calloc(1, sizeof *flow);
        if (flow == NULL)
                return -ENOMEM;
        flow->eth = eth;
        flow->endpoint = endpoint;
        memcpy(flow->peer, peer, ETH_ALEN);
        relay_lock(eth->relay);
        port = relay_port(eth->relay, fd);
        if (port == NULL) {
                error = -EBADF;
        } else if (eth->flows[endpoint] != NULL && eth->flows[endpoint]->port == port && port->serve == NULL) {
                memcpy(eth->flows[endpoint]->peer, peer, ETH_ALEN); /* another machine is asked now */
                relay_unlock(eth->relay);
                free(flow);
                return 0;
        } else if (eth->flows[endpoint] != NULL || port->role != NULL) {
                error = -EADDRINUSE;
        } else {
                flow->port = port;
                eth->flows[endpoint] = flow;
                relay_role(eth->relay, port, NULL, flow);
                port->on_removal = forget_flow;
        }
        relay_unlock(eth->relay);
        if (error < 0)
                free(flow);
        return error;
}

int eth_leave(struct eth *eth, uint32_t fd)
{
        struct port *port;
        int error = -EBADF;

        relay_lock(eth->relay);
        port = relay_port(eth->relay, fd);
        if (port != NULL && port->role != NULL && port->on_removal == forget_flow && port->serve == NULL) {
                relay_role(eth->relay, port, NULL, NULL);
                error = 0;
        }
        relay_unlock(eth->relay);
        return error;
}

int eth_connect(struct eth *eth, uint32_t fd, uint32_t peer_endpoint, const uint8_t peer[ETH_ALEN])
{
        struct eth_flow *flow;
        struct port *port;
        int error = 0;

        if (!legal(eth, peer_endpoint))
                return -EINVAL;
        relay_lock(eth->relay);
        port = relay_port(eth->relay, fd);
        if (port == NULL || port->role == NULL || port->on_removal != forget_flow) {
                error = -EBADF;
        } else if ((error = paths_join(eth->paths, peer, ETH_ALEN, &((struct eth_flow *)port->role)->path, port)) == 0) {
                flow = port->role;
                flow->peer_endpoint = peer_endpoint;
                memcpy(flow->peer, peer, ETH_ALEN);
                write_template(flow);
                port->on_removal = NULL; /* it stays what it is */
                relay_role(eth->relay, port, serve_flow, flow);
                port->on_removal = forget_flow;
        }
        relay_unlock(eth->relay);
        return error;
}

struct paths *eth_paths(struct eth *eth)
{
        return eth->paths;
}

void eth_count(struct eth *eth, struct eth_counters *counters)
{
        relay_lock(eth->relay);
        *counters = eth->counters;
        relay_unlock(eth->relay);
}
