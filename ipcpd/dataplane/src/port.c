#include "port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct port *port_create(struct pool *pool, struct segment *segment, struct events *own, struct events *peer,
                         const struct flow_spec *spec)
{
        struct port *port = calloc(1, sizeof *port);
        size_t largest = pool_largest(pool);

        if (port == NULL)
                return NULL;
        port->shm = &segment->shm->flow[spec->index];
        port->end = &port->shm->end[spec->side];
        port->pool = pool_hold(pool);
        port->segment = segment_hold(segment);
        port->own = events_hold(own);
        port->peer = events_hold(peer);
        port->fd = spec->fd;
        port->peer_fd = spec->peer_fd;
        port->max_packet = (uint32_t)largest;
        if (spec->max_packet > 0 && spec->max_packet < largest)
                port->max_packet = (uint32_t)spec->max_packet;
        ring_attach(&port->tx, port->shm, spec->side, spec->serial, true);
        ring_attach(&port->rx, port->shm, 1 - spec->side, spec->serial, false);
        return port;
}

int port_protect(struct port *port, uint32_t cipher, const uint8_t *key, bool check)
{
        int error = seal_create(&port->seal, port->max_packet, cipher, key, check);

        if (port->seal != NULL)
                port->max_packet -= port->seal->overhead;
        return error;
}

void port_destroy(struct port *port)
{
        if (port == NULL)
                return;
        seal_destroy(port->seal);
        events_unmap(port->peer);
        events_unmap(port->own);
        segment_unmap(port->segment);
        pool_unmap(port->pool);
        free(port);
}

static void count(_Atomic uint64_t *counter)
{
        atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void unsettled(struct port *port)
{
        if (port->unsettled || port->unsettled_list == NULL)
                return;
        port->unsettled = true;
        port->next_unsettled = *port->unsettled_list;
        *port->unsettled_list = port;
}

/* ---- taking ---- */

#define AHEAD 8u

static void prefetch(const struct port *port, uint32_t at)
{
        uint64_t slot = ring_peek(&port->rx, at);

        if (SLOT_BLOCK(slot) < port->pool->blocks) {
                __builtin_prefetch(&port->pool->owner[SLOT_BLOCK(slot)], 1);
                __builtin_prefetch(pool_packet(port->pool, slot), 1);
        }
}

/* Open a packet in place. An honest writer leaves no offset beyond the range of a slot. */
static bool open_packet(struct port *port, struct packet *packet)
{
        struct seal *seal = port->seal;
        ssize_t n;

        if (packet->length == 0)
                return true;
        if (packet->offset + seal->front > UINT16_MAX)
                return false;
        n = seal_open(seal, packet->data, packet->length, packet->data + seal->front);
        if (n < 0)
                return false;
        packet->data += seal->front;
        packet->offset += seal->front;
        packet->length = (uint32_t)n;
        return true;
}

bool port_take(struct port *port, struct packet *packet)
{
        uint32_t ready = ring_ready(&port->rx);

        while (port->taken < ready) {
                uint64_t slot = ring_peek(&port->rx, port->taken);

                if (port->taken + AHEAD < ready)
                        prefetch(port, port->taken + AHEAD);
                unsettled(port);
                port->taken++;
                packet->data = pool_packet(port->pool, slot);
                if (packet->data == NULL) {
                        count(&port->end->refused);
                        continue;
                }
                packet->block = SLOT_BLOCK(slot);
                packet->offset = SLOT_OFFSET(slot);
                packet->length = SLOT_LENGTH(slot);
                port->octets += packet->length;
                if (port->seal != NULL && !open_packet(port, packet)) {
                        count(&port->end->refused);
                        port_free(port, packet);
                        continue;
                }
                return true;
        }
        return false;
}

void port_untake(struct port *port)
{
        port->octets -= SLOT_LENGTH(ring_peek(&port->rx, --port->taken));
}

void port_free(struct port *from, const struct packet *packet)
{
        if (!pool_free(from->pool, packet->block, from->rx.owner))
                count(&from->end->refused);
}

void port_drop(struct port *from, const struct packet *packet)
{
        count(&from->end->dropped);
        port_free(from, packet);
}

/* ---- putting ---- */

void port_refuse(struct port *to)
{
        count(&to->end->dropped);
}

uint32_t port_room(struct port *port)
{
        uint32_t room = budget_space(&port->budget, &port->tx, port->pool);

        return room > port->put ? room - port->put : 0;
}

uint32_t port_queued_now(struct port *port)
{
        budget_space_now(&port->budget, &port->tx, port->pool);
        return port_queued(port);
}

static void put(struct port *to, const struct packet *packet)
{
        unsettled(to);
        ring_put(&to->tx, to->put, SLOT(packet->block, packet->offset, packet->length));
        budget_charge(&to->budget, &to->tx, to->put, to->pool, pool_class_of(to->pool, packet->block));
        to->put++;
}

static uint8_t *reserve(struct port *to, uint32_t length, struct packet *packet)
{
        int64_t block = -1;
        uint32_t front = to->seal != NULL ? to->seal->front : 0;

        if (length <= to->max_packet && port_room(to) > 0)
                block = pool_alloc(to->pool, to->seal != NULL ? length + to->seal->overhead : length);
        if (block < 0)
                return NULL;
        *packet = (struct packet){
                .data = pool_block(to->pool, pool_class_of(to->pool, (uint32_t)block), (uint32_t)block) + HEADROOM + front,
                .length = length,
                .offset = HEADROOM + front,
                .block = (uint32_t)block,
        };
        return packet->data;
}

uint8_t *port_reserve(struct port *to, uint32_t length, struct packet *packet)
{
        uint8_t *data = reserve(to, length, packet);

        if (data == NULL)
                count(&to->end->dropped);
        return data;
}

/* Protect a packet where it lies; there is room before and behind it. */
static bool close_packet(struct port *to, struct packet *packet)
{
        struct seal *seal = to->seal;
        ssize_t n = seal_packet(seal, NULL, 0, packet->data, packet->length, packet->data - seal->front);

        if (n < 0) {
                count(&to->end->dropped);
                return false;
        }
        if (n > 0) {
                packet->data -= seal->front;
                packet->offset -= seal->front;
                packet->length = (uint32_t)n;
        }
        return true;
}

static bool has_room(const struct port *to, const struct packet *packet)
{
        uint32_t behind = to->seal->overhead - to->seal->front;

        return packet->offset >= to->seal->front && packet->offset + packet->length + behind <=
                                                            to->pool->classes[pool_class_of(to->pool, packet->block)].stride;
}

void port_put(struct port *to, struct packet *packet)
{
        if (to->seal != NULL && !close_packet(to, packet)) {
                port_cancel(to, packet);
                return;
        }
        pool_give(to->pool, packet->block, to->tx.owner);
        CRASH(18);
        put(to, packet);
}

void port_cancel(struct port *to, const struct packet *packet)
{
        pool_free(to->pool, packet->block, to->pool->self);
}

bool port_copy(struct port *to, const void *data, uint32_t length)
{
        struct packet packet;

        if (port_reserve(to, length, &packet) == NULL)
                return false;
        memcpy(packet.data, data, length);
        port_put(to, &packet);
        return true;
}

/* Between domains, or for want of room around it: the packet is copied, and the block given back to the pool it came from. */
static bool copy_across(struct port *from, const struct packet *packet, struct port *to)
{
        bool done = port_copy(to, packet->data, packet->length);

        port_free(from, packet);
        return done;
}

bool port_pass(struct port *from, struct packet *packet, struct port *to)
{
        if (from->pool != to->pool || (to->seal != NULL && !has_room(to, packet)))
                return copy_across(from, packet, to);
        if (packet->length > to->max_packet || port_room(to) == 0) {
                count(&to->end->dropped);
                port_free(from, packet);
                return false;
        }
        if (to->seal != NULL && !close_packet(to, packet)) {
                port_free(from, packet);
                return false;
        }
        if (!pool_transfer(from->pool, packet->block, from->rx.owner, to->tx.owner)) {
                count(&from->end->refused);
                return false;
        }
        CRASH(14);
        put(to, packet);
        return true;
}

bool port_carry(struct port *from, struct packet *packet, struct port *to)
{
        struct packet copy;

        if (from->pool == to->pool || packet->length > to->max_packet) {
                port_pass(from, packet, to);
                return true;
        }
        if (reserve(to, packet->length, &copy) == NULL)
                return false;
        memcpy(copy.data, packet->data, packet->length);
        port_put(to, &copy);
        port_free(from, packet);
        return true;
}

/* ---- what a turn ends with ---- */

static void tell(struct port *port, _Atomic uint32_t *word, uint32_t wanted)
{
        if (wanted & WAIT_FUTEX)
                wait_wake(word);
        if (wanted & WAIT_EVENT && port->peer != NULL)
                events_raise(port->peer, port->peer_fd);
}

#define WINDOW 1000000 /* ns: longer than a process that reads in bursts sleeps in between */

#define DRAIN 16000000 /* ns: a device without room is tried again once a millisecond */
#define FIT_TIME 5000000
#define FIT_LEAST 8u

/*
 * A reader that is slow, as one in front of a slow link is, makes a queue that is short in packets long in time, and
 * every later packet waits for all of it. A queue of more than a few milliseconds does not speed up the reader.
 */
static void watch_reader(struct port *port, uint32_t queued, int64_t now)
{
        int64_t elapsed = now - port->drain_window;
        uint64_t fit = 2ull * port_fit(port);

        if (queued < port->drain_least)
                port->drain_least = queued;
        if (elapsed < DRAIN)
                return;
        if (port->drain_least > 0) /* it was never idle: nothing was put since the last look */
                fit = (port->tx.other - port->drained) * FIT_TIME / (uint64_t)elapsed;
        port->fit = fit < FIT_LEAST ? FIT_LEAST : fit > RING_SLOTS ? RING_SLOTS : (uint32_t)fit;
        port->drain_least = queued;
        port->drained = port->tx.other;
        port->drain_window = now;
}

/*
 * Readers and writers here move packets by the hundred, so a queue may be long for an instant where nothing is
 * congested. The standing part of the queue counts.
 */
static void watch_queue(struct port *port, int64_t now)
{
        uint32_t queued;

        budget_space_now(&port->budget, &port->tx, port->pool);
        queued = (uint32_t)(port->tx.at - port->tx.other);
        watch_reader(port, queued, now);
        if (queued < port->least)
                port->least = queued;
        if (now - port->window < WINDOW)
                return;
        port->standing = now - port->window < 2 * WINDOW ? port->least : 0; /* silence is no queue */
        port->least = queued;
        port->window = now;
}

void port_settle(struct port *port, int64_t now)
{
        uint32_t wanted;

        if (port->put > 0) {
                watch_queue(port, now);
                port->sent += port->put;
                port->sent_at = now;
                wanted = ring_publish(&port->tx, port->put);
                port->put = 0;
                if (wanted)
                        tell(port, &port->tx.shm->cons_wait, wanted);
        }
        if (port->taken > 0) {
                port->packets += port->taken;
                port->received_at = now;
                wanted = ring_consume(&port->rx, port->taken);
                port->taken = 0;
                if (wanted)
                        tell(port, &port->rx.shm->prod_wait, wanted);
        }
}

bool port_may_go_on(struct port *port)
{
        struct port *on = port->waits_for;

        if (on == NULL)
                return true;
        if (budget_space_now(&on->budget, &on->tx, on->pool) <= on->put || port_queued(on) >= port->level)
                return false;
        port->waits_for = NULL;
        return true;
}

void port_drain(struct port *port)
{
        uint32_t ready = ring_ready(&port->rx);

        for (uint32_t i = 0; i < ready; i++) {
                uint64_t slot = ring_peek(&port->rx, i);

                if (pool_packet(port->pool, slot) != NULL)
                        pool_free(port->pool, SLOT_BLOCK(slot), port->rx.owner);
        }
        if (ready > 0)
                ring_consume(&port->rx, ready);
}
