#define _GNU_SOURCE
#include "frcp_io.h"

#include <stdlib.h>
#include <string.h>

#include "flow_tell.h"
#include "map.h"
#include "scratch.h"

#define ROUNDS 16   /* tries of one call before the caller has its turn, whatever the peer does */
#define BATCH 64u   /* packets taken from the ring at once */
#define CALM 10u    /* visits on which nothing went on, before the end asks to be told */

/* ---- to the ring ---- */

static void publish(struct frcp_end *end)
{
        if (end->ahead == 0)
                return;
        flow_publish(end->flow, end->ahead);
        end->ahead = 0;
}

static uint32_t room_in(struct frcp_end *end)
{
        struct flow *flow = end->flow;
        uint32_t room = budget_room(&flow->budget, &flow->tx, flow->pool);

        if (room > end->ahead && !budget_spent(&flow->budget))
                return room - end->ahead;
        publish(end);
        return budget_look(&flow->budget, &flow->tx, flow->pool);
}

static bool emit(void *arg, const uint8_t *header, uint32_t header_length, const uint8_t *data, uint32_t length)
{
        struct frcp_end *end = arg;
        struct flow *flow = end->flow;

        if (room_in(end) == 0 || flow_put(flow, end->ahead, header, header_length, data, length) < 0)
                return false;
        end->ahead++;
        return true;
}

/* ---- from the ring ---- */

/* What a packet holds: in memory of this thread when it was encrypted. False: it is not for us; the seal has counted it. */
static bool passes(struct frcp_end *end, uint8_t **packet, uint32_t *length)
{
        struct seal *seal = end->flow->seal;
        uint8_t *out = *packet;
        ssize_t n;

        if (seal == NULL || *length == 0)
                return true;
        if (seal->cipher != NULL && (out = scratch_of_thread(SCRATCH_OPEN, *length)) == NULL)
                return false;
        n = seal_open(seal, *packet, *length, out);
        if (n < 0) {
                flow_refuse_packet(end->flow);
                return false;
        }
        *packet = out;
        *length = (uint32_t)n;
        return true;
}

/* Where a reader wants his packets. */
struct reader {
        uint8_t *at;
        uint32_t size; /* octets left */
        uint32_t *lengths;
        uint32_t count, max;
};

static void hand_over(struct reader *reader, const struct frcp_piece *piece)
{
        memcpy(reader->at, piece->data, piece->length);
        reader->at += piece->length;
        reader->size -= piece->length;
        reader->lengths[reader->count++] = piece->length;
}

/* What has been kept, as far as it fits. */
static void read_kept(struct frcp_end *end, struct reader *reader, int64_t now)
{
        struct frcp_piece piece;

        while (reader->count < reader->max && frcp_front(&end->frcp, &piece) && piece.length <= reader->size) {
                hand_over(reader, &piece);
                frcp_pop(&end->frcp, now);
        }
}

/* Take at most so many packets from the ring; the reader, if there is one, gets what is his. */
static uint32_t take_in(struct frcp_end *end, uint32_t most, struct reader *reader, int64_t now)
{
        struct flow *flow = end->flow;
        uint32_t ready = ring_ready(&flow->rx), i;

        for (i = 0; i < ready && i < most; i++) {
                uint64_t slot = ring_peek(&flow->rx, i);
                uint8_t *packet = pool_packet(flow->pool, slot);
                uint32_t length = SLOT_LENGTH(slot);
                struct frcp_piece piece;
                bool fits = reader != NULL && reader->count < reader->max && length <= reader->size;

                if (reader != NULL && reader->count > 0 && !fits)
                        break; /* the next read is for it */
                if (i + SOON < ready)
                        flow_prefetch(flow, i + SOON);
                if (packet == NULL) {
                        flow_refuse(flow);
                        continue;
                }
                if (passes(end, &packet, &length) &&
                    frcp_receive(&end->frcp, packet, length, now, fits ? &piece : NULL))
                        hand_over(reader, &piece);
                pool_free(flow->pool, SLOT_BLOCK(slot), flow->rx.owner);
                if (reader != NULL)
                        read_kept(end, reader, now);
        }
        if (i > 0)
                flow_consume(flow, i);
        if (ready == 0 && flow->rx.broken)
                flow_break(flow);
        return i;
}

/* Do what is due, and let the peer see it. */
static void settle(struct frcp_end *end, int64_t now)
{
        frcp_run(&end->frcp, now);
        publish(end);
        if (end->frcp.down != 0 && !end->given_up) {
                bool peer = end->frcp.down == -EFLOWPEER;

                end->given_up = end->news = true;
                flow_give_up(end->flow, peer ? END_PEER : END_DOWN | GONE_UNANSWERED, peer ? EVENT_PEER : EVENT_DOWN);
        }
}

/* Something goes on: the thread has to look after it from now on. */
void frcp_io_leave(struct frcp_end *end, int64_t now)
{
        bool ask;

        settle(end, now);
        ask = end->visit != NULL &&
              (!atomic_exchange_explicit(&end->visited, true, memory_order_relaxed) || end->news);
        frcp_io_unlock(end->flow);
        if (ask)
                end->visit(end->visitor, end->flow);
}

static bool packets_came(const struct flow *flow)
{
        return !flow->rx.broken && atomic_load_explicit(&flow->rx.shm->head, memory_order_seq_cst) != flow->rx.at;
}

/* For those who wait: also that nothing will ever come. */
static bool something_came(const void *arg)
{
        const struct flow *flow = arg;

        return packets_came(flow) || flow_state(flow);
}

/* ---- writing ---- */

/* Acknowledgements, a window, or room in a ring that was full. */
static bool worth_another_try(const void *arg)
{
        const struct flow *flow = arg;

        return something_came(flow) || (flow->frcp->frcp.stall_at != NEVER &&
                                        atomic_load_explicit(&flow->tx.shm->tail, memory_order_relaxed) != flow->tx.other);
}

static ssize_t write_some(struct frcp_end *end, const uint8_t *packet, const uint32_t *lengths, uint32_t each,
                          uint32_t count, int64_t now)
{
        uint32_t done;
        ssize_t result = 0;

        for (done = 0; done < count; done++) {
                uint32_t length = lengths != NULL ? lengths[done] : each;

                result = frcp_write(&end->frcp, packet, length, now);
                if (result < 0)
                        break;
                packet += length;
        }
        return done > 0 ? (ssize_t)done : result;
}

ssize_t frcp_io_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each,
                       uint32_t count)
{
        struct frcp_end *end = flow->frcp;
        ssize_t result;

        for (int round = 0;; round++) {
                int64_t now;

                frcp_io_lock(flow);
                result = flow_may_write(flow);
                if (result != 0) {
                        frcp_io_unlock(flow);
                        return result;
                }
                now = wait_now();
                take_in(end, BATCH, NULL, now);
                result = write_some(end, buffer, lengths, each, count, now);
                atomic_fetch_add(&flow->sleepers, 1);
                frcp_io_leave(end, now);
                if (result != -EAGAIN) {
                        atomic_fetch_sub(&flow->sleepers, 1);
                        return result;
                }
                if (atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_WNOBLOCK) {
                        atomic_fetch_sub(&flow->sleepers, 1);
                        return -EAGAIN;
                }
                if (round >= ROUNDS || !wait_poll(&flow->tx_poller, worth_another_try, flow))
                        result = -EMUSTSLEEP;
                atomic_fetch_sub(&flow->sleepers, 1);
                if (result == -EMUSTSLEEP)
                        return result;
        }
}

/* ---- reading ---- */

/* Packets for the reader; else why there are none: -ENOBUFS, -EAGAIN, or why there never will be. */
static ssize_t read_some(struct frcp_end *end, struct burst *burst, struct reader *reader, int64_t now)
{
        struct flow *flow = end->flow;
        int gone = flow_error(flow);
        struct frcp_piece piece;

        read_kept(end, reader, now);
        for (uint32_t taken = 1; taken > 0 && reader->count == 0 && end->frcp.recvq.messages == 0;)
                taken = take_in(end, BATCH, reader, now);
        if (reader->count > 0)
                return reader->count;
        if (frcp_front(&end->frcp, &piece)) {
                burst->lengths[0] = piece.length;
                return -ENOBUFS;
        }
        if (end->frcp.heard) {
                end->told = true;
                return -EFLOWDOWN;
        }
        if (end->frcp.down != 0)
                return end->frcp.down;
        return gone != 0 ? gone : -EAGAIN;
}

/* Packets; or that there are no more, until it was read. */
static bool to_be_read(const struct frcp_end *end)
{
        return flow_in_hand(end->flow) || end->frcp.recvq.messages > 0 ||
               (end->frcp.heard && !end->told);
}

/* Nothing for a reader who polls a descriptor: clear it, ask for the event, look once more. */
static void rearm(struct frcp_end *end)
{
        struct flow *flow = end->flow;
        int eventfd = flow_clear_eventfd(flow);

        if (eventfd < 0)
                return;
        if (something_came(flow) || to_be_read(end) || end->frcp.down != 0)
                wait_ring_eventfd(eventfd);
}

ssize_t frcp_io_take(struct flow *flow, struct burst *burst, uint32_t max, uint32_t room, bool ahead)
{
        struct frcp_end *end = flow->frcp;
        ssize_t n;

        for (int round = 0;; round++) {
                /* What a read takes ahead is bounded, the packet at the front is not. */
                struct reader reader = {burst->buffer, burst->size, burst->lengths, 0, 1};
                int64_t now;
                bool may;

                frcp_io_lock(flow);
                n = flow_may_read(flow);
                if (n != 0) {
                        frcp_io_unlock(flow);
                        return n;
                }
                now = wait_now();
                may = flow_may_take_ahead(flow);
                n = read_some(end, burst, &reader, now);
                if (n <= 0 && n != -ENOBUFS && flow_in_hand(flow))
                        n = -EINHAND;
                if (n > 0 && max > 1 && (may || !ahead) && room > burst->lengths[0]) {
                        reader.max = max;
                        reader.size = (room < burst->size ? room : burst->size) - burst->lengths[0];
                        read_kept(end, &reader, now);
                        take_in(end, max - reader.count, &reader, now);
                        n = reader.count;
                }
                if (n > 1 && ahead)
                        flow_taken_ahead(flow);
                if (n == -EAGAIN)
                        rearm(end);
                atomic_fetch_add(&flow->sleepers, 1);
                frcp_io_leave(end, now);
                if (n != -EAGAIN || atomic_load_explicit(&flow->flags, memory_order_relaxed) & FLOW_RNOBLOCK) {
                        atomic_fetch_sub(&flow->sleepers, 1);
                        return n;
                }
                if (round >= ROUNDS || !wait_poll(&flow->rx_poller, something_came, flow))
                        n = -EMUSTSLEEP;
                atomic_fetch_sub(&flow->sleepers, 1);
                if (n == -EMUSTSLEEP)
                        return n;
        }
}

/* ---- waiting, and the thread ---- */

bool frcp_io_ready(struct flow *flow, bool writing)
{
        struct frcp *frcp = &flow->frcp->frcp;

        if (frcp->down != 0)
                return true;
        if (flow->frcp->closing)
                return false;
        return writing ? frcp_writable(frcp, 1) : frcp->recvq.messages > 0 || frcp->heard;
}

bool frcp_io_ask_room(struct flow *flow)
{
        struct frcp_end *end = flow->frcp;
        bool room = true;

        frcp_io_lock(flow);
        if (!flow->rx_closed && flow_error(flow) == 0 && end->frcp.down == 0 && end->frcp.heard != FRCP_LEFT) {
                ring_ask(&flow->rx.shm->cons_wait, WAIT_EVENT);
                ring_ask(&flow->tx.shm->prod_wait, WAIT_EVENT);
                /* What has come is seen by the write that follows: it may open the window. */
                room = something_came(flow) || (frcp_writable(&end->frcp, 1) && room_in(end) > 0);
        }
        frcp_io_unlock(flow);
        return room;
}

int frcp_io_sleep(struct flow *flow, bool writing, int64_t deadline)
{
        _Atomic uint32_t *word = &flow->rx.shm->cons_wait;
        uint32_t value = 0;
        int64_t due = NEVER;
        int result;

        atomic_fetch_add(&flow->sleepers, 1);
        frcp_io_lock(flow);
        if (!flow->rx_closed) {
                due = frcp_deadline(&flow->frcp->frcp);
                value = ring_ask(word, WAIT_FUTEX);
                if (something_came(flow) || frcp_io_ready(flow, writing) || (!writing && !flow->frcp->closing && flow_in_hand(flow))) {
                        value = 0;
                        flow_withdraw(flow, word);
                }
        }
        frcp_io_unlock(flow);
        if (value == 0) {
                atomic_fetch_sub(&flow->sleepers, 1);
                return 0;
        }
        result = wait_sleep(word, value, due != NEVER && (deadline < 0 || due < deadline) ? due : deadline);
        atomic_fetch_sub(&flow->sleepers, 1);
        return result == -ETIMEDOUT && (deadline < 0 || due < deadline) ? 0 : result;
}

void frcp_io_queues(struct flow *flow, uint64_t *rx, uint64_t *tx)
{
        struct frcp_end *end = flow->frcp;
        int64_t now = wait_now();

        frcp_io_lock(flow);
        if (flow->rx_closed) {
                frcp_io_unlock(flow);
                return;
        }
        take_in(end, BATCH, NULL, now);
        *rx = end->frcp.recvq.messages;
        *tx = end->frcp.sendq.count;
        if (!end->frcp.config.retransmit) {
                ring_room_now(&flow->tx);
                *tx += flow->tx.at - flow->tx.other;
        }
        frcp_io_leave(end, now);
}

/* The peer has left, once. Of a direct flow the IRMd says so. */
static uint32_t departed(struct frcp_end *end)
{
        if (end->announced || end->frcp.heard != FRCP_LEFT || end->frcp.config.mpl_ms <= FRCP_DIRECT_MS)
                return 0;
        end->announced = true;
        return EVENT_DEALLOC;
}

uint32_t frcp_io_examine(struct flow *flow, bool *again)
{
        struct frcp_end *end = flow->frcp;
        uint32_t events = 0;
        int64_t now = wait_now();

        *again = false;
        frcp_io_lock(flow);
        if (!flow->rx_closed) {
                take_in(end, BATCH, NULL, now);
                settle(end, now);
                events = flow_take_events(flow);
                events |= departed(end);
                if (to_be_read(end)) {
                        events |= EVENT_PKT;
                        *again = true;
                } else {
                        ring_ask(&flow->rx.shm->cons_wait, WAIT_EVENT);
                        *again = packets_came(flow);
                }
        }
        frcp_io_unlock(flow);
        return events;
}

int64_t frcp_io_visit(struct flow *flow, int64_t now, bool *woken)
{
        struct frcp_end *end = flow->frcp;
        int64_t next = NEVER;

        *woken = false;
        frcp_io_lock(flow);
        if (flow->rx_closed) {
                frcp_io_unlock(flow);
                return NEVER;
        }
        if (flow->rx.at == end->seen && packets_came(flow))
                *woken = take_in(end, RING_SLOTS, NULL, now) > 0;
        end->calm = flow->rx.at == end->seen && !packets_came(flow) ? end->calm + 1 : 0;
        end->seen = flow->rx.at;
        settle(end, now);
        *woken = *woken || end->news;
        end->news = false;
        next = frcp_deadline(&end->frcp);
        if (end->calm < CALM && next > now + FRCP_IO_VISIT) {
                next = now + FRCP_IO_VISIT;
        } else if (end->calm >= CALM) {
                ring_ask(&flow->rx.shm->cons_wait, WAIT_EVENT);
                if (packets_came(flow))
                        next = now + FRCP_IO_VISIT;
        }
        /* Those who call from now on see it, or have been seen: both hold the lock. */
        atomic_store_explicit(&end->visited, next <= now + FRCP_IO_VISIT, memory_order_relaxed);
        frcp_io_unlock(flow);
        return next;
}

/* ---- life ---- */

int frcp_io_begin(struct flow *flow, const struct frcp_config *config)
{
        struct frcp_end *end = calloc(1, sizeof *end);
        struct frcp_config own = *config;
        int error;

        if (end == NULL)
                return -ENOMEM;
        end->flow = flow;
        own.max_packet = (uint32_t)flow->max_packet;
        error = frcp_init(&end->frcp, &own, emit, end, wait_now());
        if (error != 0) {
                free(end);
                return error;
        }
        flow->frcp = end;
        flow->max_packet = frcp_max_packet(&end->frcp);
        return 0;
}

/* An end that is closing receives nothing any more for its user, but what the machine has to see. */
int frcp_io_close(struct flow *flow)
{
        struct frcp_end *end = flow->frcp;
        int64_t now = wait_now();
        int result = 0;

        if (end == NULL || flow->generation != map_generation)
                return 0;
        frcp_io_lock(flow);
        end->closing = true;
        if (!flow->rx_closed && flow_error(flow) == 0) {
                take_in(end, RING_SLOTS, NULL, now);
                settle(end, now);
                frcp_close(&end->frcp, now);
                publish(end);
                result = frcp_lingers(&end->frcp) ? -EMUSTSLEEP : (int)frcp_quiet_time(&end->frcp, now);
        }
        frcp_io_unlock(flow);
        return result;
}

void frcp_io_end(struct flow *flow)
{
        if (flow->frcp == NULL)
                return;
        frcp_fini(&flow->frcp->frcp);
        free(flow->frcp);
        flow->frcp = NULL;
}
