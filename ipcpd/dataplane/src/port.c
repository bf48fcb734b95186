#include "port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct port *port_create(struct pool *pool, struct segment *segment, struct events *own, struct events *peer,
                         const struct flow_spec *spec)
{
        struct port *port = aligned_alloc(CACHE_LINE, sizeof *port);

        if (port == NULL)
                return NULL;
        *port = (struct port){.own = events_hold(own)};
        end_attach(&port->end, pool, segment, peer, spec);
        return port;
}

void port_destroy(struct port *port)
{
        if (port == NULL)
                return;
        events_unmap(port->own);
        end_detach(&port->end);
        free(port);
}

void port_refuse(struct port *to)
{
        atomic_fetch_add_explicit(&to->end.own->dropped, 1, memory_order_relaxed);
}

static void mark_uncommitted(struct port *port)
{
        if (port->uncommitted || port->uncommitted_list == NULL)
                return;
        port->uncommitted = true;
        port->next_uncommitted = *port->uncommitted_list;
        *port->uncommitted_list = port;
}

/* ---- taking ---- */

#define PREFETCH_DISTANCE 8u /* packets */

/* Unlike a reader (end_prefetch), a port writes the owner word, and of the packet at most the header. */
static void prefetch(const struct port *port, uint32_t at)
{
        const struct pool *pool = port->end.pool;
        uint64_t slot = ring_peek(&port->end.rx, at);

        if (SLOT_BLOCK(slot) < pool->blocks) {
                __builtin_prefetch(&pool->owner[SLOT_BLOCK(slot)], 1);
                __builtin_prefetch(pool_packet(pool, slot), 1);
        }
}

/* Open a packet in place. An honest writer leaves no offset beyond the range of a slot. */
static bool open_in_place(struct port *port, struct packet *packet)
{
        uint32_t front = port->end.seal->front;
        ssize_t n = -1;

        if (packet->length == 0)
                return true;
        if (packet->offset + front <= UINT16_MAX)
                n = end_open(&port->end, packet->data, packet->length, packet->data + front);
        else
                end_refuse(&port->end);
        if (n < 0)
                return false;
        packet->data += front;
        packet->offset += front;
        packet->length = (uint32_t)n;
        return true;
}

bool port_take(struct port *port, struct packet *packet)
{
        uint32_t ready = ring_ready(&port->end.rx);

        while (port->taken < ready) {
                uint64_t slot = ring_peek(&port->end.rx, port->taken);

                if (port->taken + PREFETCH_DISTANCE < ready)
                        prefetch(port, port->taken + PREFETCH_DISTANCE);
                mark_uncommitted(port);
                port->taken++;
                packet->data = pool_packet(port->end.pool, slot);
                if (packet->data == NULL) {
                        end_refuse(&port->end);
                        continue;
                }
                packet->block = SLOT_BLOCK(slot);
                packet->offset = SLOT_OFFSET(slot);
                packet->length = SLOT_LENGTH(slot);
                port->octets += packet->length;
                if (port->end.seal != NULL && !open_in_place(port, packet)) {
                        port_free(port, packet);
                        continue;
                }
                return true;
        }
        return false;
}

void port_unget(struct port *port)
{
        port->octets -= SLOT_LENGTH(ring_peek(&port->end.rx, --port->taken));
}

void port_free(struct port *from, const struct packet *packet)
{
        if (!pool_free(from->end.pool, packet->block, from->end.rx.owner))
                end_refuse(&from->end);
}

void port_drop(struct port *from, const struct packet *packet)
{
        port_refuse(from);
        port_free(from, packet);
}

/* ---- putting ---- */

uint32_t port_space(struct port *port)
{
        uint32_t space = end_space(&port->end);

        return space > port->unpublished ? space - port->unpublished : 0;
}

uint32_t port_queued_now(struct port *port)
{
        end_space_now(&port->end);
        return port_queued(port);
}

static void enqueue(struct port *to, const struct packet *packet)
{
        const struct pool *pool = to->end.pool;

        mark_uncommitted(to);
        end_enqueue_block(&to->end, pool, to->unpublished, SLOT(packet->block, packet->offset, packet->length),
                          pool_class_of(pool, packet->block));
        to->unpublished++;
}

static uint8_t *reserve(struct port *to, uint32_t length, struct packet *packet)
{
        int64_t block = -1;
        uint32_t front = to->end.seal != NULL ? to->end.seal->front : 0;

        if (length <= to->end.max_packet && port_space(to) > 0)
                block = end_alloc(&to->end, length);
        if (block < 0)
                return NULL;
        *packet = (struct packet){
                .data = pool_block(to->end.pool, pool_class_of(to->end.pool, (uint32_t)block), (uint32_t)block) + HEADROOM + front,
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
                port_refuse(to);
        return data;
}

/* Protect a packet where it lies; there is space before and behind it. */
static bool seal_in_place(struct port *to, struct packet *packet)
{
        struct seal *seal = to->end.seal;
        ssize_t n = seal_packet(seal, NULL, 0, packet->data, packet->length, packet->data - seal->front);

        if (n < 0) {
                port_refuse(to);
                return false;
        }
        if (n > 0) {
                packet->data -= seal->front;
                packet->offset -= seal->front;
                packet->length = (uint32_t)n;
        }
        return true;
}

static bool has_space(const struct port *to, const struct packet *packet)
{
        uint32_t behind = to->end.seal->overhead - to->end.seal->front;

        return packet->offset >= to->end.seal->front && packet->offset + packet->length + behind <=
                                                            to->end.pool->classes[pool_class_of(to->end.pool, packet->block)].stride;
}

void port_enqueue(struct port *to, struct packet *packet)
{
        if (to->end.seal != NULL && !seal_in_place(to, packet)) {
                port_cancel(to, packet);
                return;
        }
        pool_give(to->end.pool, packet->block, to->end.tx.owner);
        CRASH(18);
        enqueue(to, packet);
}

void port_cancel(struct port *to, const struct packet *packet)
{
        pool_free(to->end.pool, packet->block, to->end.pool->self);
}

bool port_copy(struct port *to, const void *data, uint32_t length)
{
        struct packet packet;

        if (port_reserve(to, length, &packet) == NULL)
                return false;
        memcpy(packet.data, data, length);
        port_enqueue(to, &packet);
        return true;
}

/* Between domains, or for want of space around it: the packet is copied, and the block given back to the pool it came from. */
static bool copy_across(struct port *from, const struct packet *packet, struct port *to)
{
        bool done = port_copy(to, packet->data, packet->length);

        port_free(from, packet);
        return done;
}

bool port_forward(struct port *from, struct packet *packet, struct port *to)
{
        if (from->end.pool != to->end.pool || (to->end.seal != NULL && !has_space(to, packet)))
                return copy_across(from, packet, to);
        if (packet->length > to->end.max_packet || port_space(to) == 0) {
                port_refuse(to);
                port_free(from, packet);
                return false;
        }
        if (to->end.seal != NULL && !seal_in_place(to, packet)) {
                port_free(from, packet);
                return false;
        }
        if (!pool_transfer(from->end.pool, packet->block, from->end.rx.owner, to->end.tx.owner)) {
                end_refuse(&from->end);
                return false;
        }
        CRASH(14);
        enqueue(to, packet);
        return true;
}

bool port_try_forward(struct port *from, struct packet *packet, struct port *to)
{
        struct packet copy;

        if (from->end.pool == to->end.pool || packet->length > to->end.max_packet) {
                port_forward(from, packet, to);
                return true;
        }
        if (reserve(to, packet->length, &copy) == NULL)
                return false;
        memcpy(copy.data, packet->data, packet->length);
        port_enqueue(to, &copy);
        port_free(from, packet);
        return true;
}

/* ---- what a turn ends with ---- */

#define WINDOW 1000000 /* ns: longer than a process that reads in bursts sleeps in between */

#define DRAIN 16000000 /* ns: a device without space is tried again once a millisecond */
#define TARGET_TIME 5000000
#define TARGET_DEPTH_MIN 8u

/*
 * A reader that is slow, as one in front of a slow link is, makes a queue that is short in packets long in time, and
 * every later packet waits for all of it. A queue of more than a few milliseconds does not speed up the reader.
 */
static void watch_reader(struct port *port, uint32_t queued, int64_t now)
{
        int64_t elapsed = now - port->drain_window;
        uint64_t depth = 2ull * port_target_depth(port);

        if (queued < port->drain_min_depth)
                port->drain_min_depth = queued;
        if (elapsed < DRAIN)
                return;
        if (port->drain_min_depth > 0) /* it was never idle: nothing was put since the last look */
                depth = (port->end.tx.other - port->drained) * TARGET_TIME / (uint64_t)elapsed;
        port->target_depth = depth < TARGET_DEPTH_MIN ? TARGET_DEPTH_MIN : depth > RING_SLOTS ? RING_SLOTS : (uint32_t)depth;
        port->drain_min_depth = queued;
        port->drained = port->end.tx.other;
        port->drain_window = now;
}

/*
 * Readers and writers here move packets by the hundred, so a queue may be long for an instant where nothing is
 * congested. The standing part of the queue counts.
 */
static void watch_queue(struct port *port, int64_t now)
{
        uint32_t queued;

        end_space_now(&port->end);
        queued = (uint32_t)(port->end.tx.at - port->end.tx.other);
        watch_reader(port, queued, now);
        if (queued < port->min_depth)
                port->min_depth = queued;
        if (now - port->window < WINDOW)
                return;
        port->standing_queue = now - port->window < 2 * WINDOW ? port->min_depth : 0; /* silence is no queue */
        port->min_depth = queued;
        port->window = now;
}

void port_commit(struct port *port, int64_t now)
{
        if (port->unpublished > 0) {
                watch_queue(port, now);
                port->sent += port->unpublished;
                port->sent_at = now;
                end_publish(&port->end, port->unpublished);
                port->unpublished = 0;
        }
        if (port->taken > 0) {
                port->packets += port->taken;
                port->received_at = now;
                end_consume(&port->end, port->taken);
                port->taken = 0;
        }
}

bool port_may_resume(struct port *port)
{
        struct port *on = port->waits_for;

        if (on == NULL)
                return true;
        if (end_space_now(&on->end) <= on->unpublished || port_queued(on) >= port->level)
                return false;
        port->waits_for = NULL;
        return true;
}
