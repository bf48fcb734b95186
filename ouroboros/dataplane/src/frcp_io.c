#define _GNU_SOURCE
#include "frcp_io.h"

#include <stdlib.h>
#include <string.h>

#include "flow_ops.h"
#include "map.h"
#include "scratch.h"

#define IDLE_POLLS 10u /* polls without activity, after which the end asks for an event */
#define AGAIN (-EINPROGRESS) /* no result yet: the call tries again */
#define FRCP_BATCH 64u /* packets taken from the ring together at most */

static void lock_both(struct flow *flow)
{
        spinlock_acquire(&flow->rx_lock);
        spinlock_acquire(&flow->tx_lock);
}

static void unlock_both(struct flow *flow)
{
        spinlock_release(&flow->tx_lock);
        spinlock_release(&flow->rx_lock);
}

/* The buffer of a reader. */
struct frcp_reader {
        uint8_t *at;
        uint32_t size; /* octets of space left */
        uint32_t *lengths;
        uint32_t count, max;
};

/* Whether a read would return packets, or the end of the stream that no read has reported yet. */
static bool is_readable(const struct frcp_end *end)
{
        return flow_readahead(end->flow) || end->frcp.rx.recvq.messages > 0 || (end->frcp.fin_received && !end->eof_read);
}

/* ---- to the ring ---- */

static void publish(struct frcp_end *end)
{
        if (end->unpublished == 0)
                return;
        flow_publish(end->flow, end->unpublished);
        end->unpublished = 0;
}

/* Free slots of the ring; when there are none left, publishes first and looks again. */
static uint32_t space_below(struct frcp_end *end)
{
        struct flow *flow = end->flow;
        uint32_t space = end_space(&flow->end);

        if (space > end->unpublished && !budget_spent(&flow->end.budget))
                return space - end->unpublished;
        publish(end);
        return end_space_now(&flow->end);
}

static bool emit(void *arg, const uint8_t *header, uint32_t header_length, const uint8_t *data, uint32_t length)
{
        struct frcp_end *end = arg;
        struct flow *flow = end->flow;

        if (space_below(end) == 0 || end_enqueue(&flow->end, end->unpublished, header, header_length, data, length) < 0)
                return false;
        end->unpublished++;
        return true;
}

/* ---- from the ring ---- */

/*
 * The plaintext of a packet, in memory of this thread if it was encrypted. False: the seal has refused and counted
 * the packet.
 */
static bool unprotect(struct frcp_end *end, uint8_t **packet, uint32_t *length)
{
        struct seal *seal = end->flow->end.seal;
        uint8_t *out = *packet;
        ssize_t n;

        if (seal == NULL || *length == 0)
                return true;
        if (seal->cipher != NULL && (out = scratch_of_thread(SCRATCH_OPEN, *length)) == NULL)
                return false;
        n = end_open(&end->flow->end, *packet, *length, out);
        if (n < 0)
                return false;
        *packet = out;
        *length = (uint32_t)n;
        return true;
}

static void deliver(struct frcp_reader *reader, const struct frcp_piece *piece)
{
        memcpy(reader->at, piece->data, piece->length);
        reader->at += piece->length;
        reader->size -= piece->length;
        reader->lengths[reader->count++] = piece->length;
}

/* Copy packets from the receive queue to the reader, as far as they fit. */
static void read_queue(struct frcp_end *end, struct frcp_reader *reader, int64_t now)
{
        struct frcp_piece piece;

        while (reader->count < reader->max && frcp_front(&end->frcp, &piece) && piece.length <= reader->size) {
                deliver(reader, &piece);
                frcp_pop(&end->frcp, now);
        }
}

/*
 * Take at most `most` packets from the ring; returns their number. Packets in order go to `reader`, if there is one,
 * while they fit.
 */
static uint32_t take_packets(struct frcp_end *end, uint32_t most, struct frcp_reader *reader, int64_t now)
{
        struct flow *flow = end->flow;
        uint32_t ready = ring_ready(&flow->end.rx), i;

        for (i = 0; i < ready && i < most; i++) {
                uint64_t slot = ring_peek(&flow->end.rx, i);
                uint8_t *packet = pool_packet(flow->end.pool, slot);
                uint32_t length = SLOT_LENGTH(slot);
                struct frcp_piece piece;
                bool fits = reader != NULL && reader->count < reader->max && length <= reader->size;

                if (reader != NULL && reader->count > 0 && !fits)
                        break; /* left for the next read */
                if (i + PREFETCH_DISTANCE < ready)
                        end_prefetch(&flow->end, i + PREFETCH_DISTANCE);
                if (packet == NULL) {
                        flow_refuse(flow);
                        continue;
                }
                if (unprotect(end, &packet, &length) &&
                    frcp_receive(&end->frcp, packet, length, now, fits ? &piece : NULL) && fits)
                        deliver(reader, &piece);
                pool_free(flow->end.pool, SLOT_BLOCK(slot), flow->end.rx.owner);
                if (reader != NULL)
                        read_queue(end, reader, now);
        }
        if (i > 0)
                end_consume(&flow->end, i);
        return i;
}

/* Do everything that is due, and publish. */
static void run_machine(struct frcp_end *end, int64_t now)
{
        struct flow *flow = end->flow;

        frcp_run(&end->frcp, now);
        publish(end);
        if ((flow->end.rx.peer_corrupt || flow->end.tx.peer_corrupt) &&
            atomic_load_explicit(&flow->end.local_state, memory_order_relaxed) == 0) {
                flow_mark_corrupt(flow);
                end->state_changed = true;
        }
        if (end->frcp.down != 0 && !end->down_raised) {
                bool peer = end->frcp.down == -EFLOWPEER;

                end->down_raised = end->state_changed = true;
                flow_give_up(flow, peer ? END_PEER : END_DOWN | DOWN_UNACKNOWLEDGED, peer ? EVENT_PEER : EVENT_DOWN);
        }
}

/* The last step of a user's call: run_machine, ask the thread to poll the end, release the locks. */
static void leave(struct frcp_end *end, int64_t now)
{
        bool request;

        run_machine(end, now);
        request = end->request_poll != NULL &&
              (!atomic_exchange_explicit(&end->poll_requested, true, memory_order_relaxed) || end->state_changed);
        unlock_both(end->flow);
        if (request)
                end->request_poll(end->request_arg, end->flow);
}

static bool is_blocking(const struct flow *flow, uint32_t flag)
{
        return !(atomic_load_explicit(&flow->flags, memory_order_relaxed) & flag);
}

/* ---- writing ---- */

/* New packets, which may acknowledge or open the window, or space in a ring that was full. */
static bool may_write_now(const void *arg)
{
        const struct flow_snapshot *snapshot = arg;

        return flow_rx_advanced(snapshot) ||
               (snapshot->full &&
                atomic_load_explicit(&snapshot->flow->end.tx.shm->tail, memory_order_relaxed) != snapshot->tx);
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

static ssize_t io_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each,
                         uint32_t count)
{
        struct frcp_end *end = flow->frcp;
        ssize_t result;

        for (int attempt = 0;; attempt++) {
                struct flow_snapshot snapshot = {.flow = flow};
                int64_t now;

                lock_both(flow);
                result = end->closing ? -ENOTALLOC : flow_may_write(flow);
                if (result != 0) {
                        unlock_both(flow);
                        return result;
                }
                now = wait_now();
                take_packets(end, FRCP_BATCH, NULL, now);
                result = write_some(end, buffer, lengths, each, count, now);
                snapshot.full = result == -EAGAIN && space_below(end) == 0;
                snapshot.rx = flow->end.rx.at;
                snapshot.tx = flow->end.tx.other;
                atomic_fetch_add(&flow->sleepers, 1);
                leave(end, now);
                if (result == -EAGAIN && is_blocking(flow, FLOW_WNOBLOCK))
                        result = attempt < MAX_ATTEMPTS && wait_poll(&flow->tx_poller, may_write_now, &snapshot) ?
                                         AGAIN :
                                         -EMUSTSLEEP;
                atomic_fetch_sub(&flow->sleepers, 1);
                if (result != AGAIN)
                        return result;
        }
}

/* ---- reading ---- */

/* Packets for the reader; else the reason: -ENOBUFS, -EAGAIN, or why the flow is down. */
static ssize_t read_some(struct frcp_end *end, struct burst *burst, struct frcp_reader *reader, int64_t now)
{
        struct flow *flow = end->flow;
        int error = end_error(&flow->end);
        struct frcp_piece piece;

        read_queue(end, reader, now);
        /* At most RING_SLOTS packets: a peer that sends unreadable packets forever must not keep the caller in C. */
        for (uint32_t all = 0, taken = 1; taken > 0 && all < RING_SLOTS; all += taken) {
                if (reader->count > 0 || end->frcp.rx.recvq.messages > 0)
                        break;
                taken = take_packets(end, FRCP_BATCH, reader, now);
        }
        if (reader->count > 0)
                return reader->count;
        if (frcp_front(&end->frcp, &piece)) {
                burst->lengths[0] = piece.length;
                return -ENOBUFS;
        }
        if (end->frcp.fin_received) {
                end->eof_read = true;
                return -EFLOWDOWN;
        }
        if (end->frcp.down != 0)
                return end->frcp.down;
        return error != 0 ? error : -EAGAIN;
}

/* The reader found nothing and the end is polled through an eventfd: clear it, ask for an event, look again. */
static void rearm(struct frcp_end *end)
{
        struct flow *flow = end->flow;
        int eventfd = flow_clear_eventfd(flow);

        if (eventfd < 0)
                return;
        if (flow_rx_pending_or_down(flow) || is_readable(end) || end->frcp.down != 0)
                wait_signal_eventfd(eventfd);
}

static ssize_t io_readv(struct flow *flow, struct burst *burst, uint32_t max, uint32_t limit, bool readahead)
{
        struct frcp_end *end = flow->frcp;
        ssize_t n;

        for (int attempt = 0;; attempt++) {
                /* Readahead is bounded, the packet at the front is not. */
                struct frcp_reader reader = {burst->buffer, burst->size, burst->lengths, 0, 1};
                struct flow_snapshot snapshot = {.flow = flow};
                int64_t now;
                bool may_readahead;

                lock_both(flow);
                n = end->closing ? -ENOTALLOC : flow_may_read(flow);
                if (n != 0) {
                        unlock_both(flow);
                        return n;
                }
                now = wait_now();
                may_readahead = flow_may_readahead(flow);
                n = read_some(end, burst, &reader, now);
                if (n <= 0 && n != -ENOBUFS && flow_readahead(flow))
                        n = -EREADAHEAD;
                if (n > 0 && max > 1 && (may_readahead || !readahead) && limit > burst->lengths[0]) {
                        reader.max = max;
                        reader.size = (limit < burst->size ? limit : burst->size) - burst->lengths[0];
                        read_queue(end, &reader, now);
                        take_packets(end, max - reader.count, &reader, now);
                        n = reader.count;
                }
                if (n > 1 && readahead)
                        flow_begin_readahead(flow);
                if (n == -EAGAIN)
                        rearm(end);
                snapshot.rx = flow->end.rx.at;
                atomic_fetch_add(&flow->sleepers, 1);
                leave(end, now);
                if (n == -EAGAIN && is_blocking(flow, FLOW_RNOBLOCK))
                        n = attempt < MAX_ATTEMPTS && wait_poll(&flow->rx_poller, flow_rx_advanced, &snapshot) ?
                                    AGAIN :
                                    -EMUSTSLEEP;
                atomic_fetch_sub(&flow->sleepers, 1);
                if (n != AGAIN)
                        return n;
        }
}

/* ---- waiting, and the thread ---- */

static bool io_ready(struct flow *flow, bool writing)
{
        struct frcp *frcp = &flow->frcp->frcp;

        if (frcp->down != 0 || flow->frcp->closing)
                return true;
        return writing ? frcp_writable(frcp, 1) : frcp->rx.recvq.messages > 0 || frcp->fin_received;
}

static bool io_notify_writable(struct flow *flow)
{
        struct frcp_end *end = flow->frcp;
        bool writable = true;

        lock_both(flow);
        if (!flow->rx_closed && end_error(&flow->end) == 0 && end->frcp.down == 0 && end->frcp.fin_received != FRCP_CLOSED) {
                wait_clear_eventfd(atomic_load(&flow->writable_eventfd));
                ring_ask(&flow->end.rx.shm->cons_wait, WAIT_EVENT);
                ring_ask(&flow->end.tx.shm->prod_wait, WAIT_EVENT);
                /* The following write processes pending packets: one may open the window. */
                writable = flow_rx_pending_or_down(flow) || (frcp_writable(&end->frcp, 1) && space_below(end) > 0);
        }
        unlock_both(flow);
        return writable;
}

/*
 * Whether a thread about to sleep would find its cause already: a packet (which may open the window) or, with a full
 * ring, space.
 */
static bool need_not_sleep(struct flow *flow, bool writing, bool full)
{
        if (full)
                return end_state(&flow->end) || flow->end.tx.peer_corrupt || flow->frcp->closing ||
                       space_below(flow->frcp) > 0;
        return flow_rx_pending_or_down(flow) || io_ready(flow, writing) || (!writing && flow_readahead(flow));
}

/* A lingering end waits neither for packets to read nor for space. */
static uint32_t io_ask(struct flow *flow, enum flow_cause cause, _Atomic uint32_t **word, int64_t *due)
{
        bool writing = cause == FLOW_WRITING;
        uint32_t value = 0;

        lock_both(flow);
        if (!flow->rx_closed) {
                bool full = writing && space_below(flow->frcp) == 0;

                *word = full ? &flow->end.tx.shm->prod_wait : &flow->end.rx.shm->cons_wait;
                *due = frcp_deadline(&flow->frcp->frcp);
                value = ring_ask(*word, WAIT_FUTEX);
                if (cause == FLOW_LINGERING ? flow_rx_pending_or_down(flow) || flow->frcp->frcp.down != 0 :
                                              need_not_sleep(flow, writing, full)) {
                        value = 0;
                        flow_withdraw(flow, *word);
                }
        }
        unlock_both(flow);
        return value;
}

int frcp_io_linger(struct flow *flow, int64_t deadline)
{
        if (flow->frcp == NULL || flow->generation != map_generation)
                return 0;
        return flow_await(flow, FLOW_LINGERING, deadline);
}

static void io_queues(struct flow *flow, uint64_t *rx, uint64_t *tx)
{
        struct frcp_end *end = flow->frcp;
        int64_t now = wait_now();

        lock_both(flow);
        if (flow->rx_closed) {
                unlock_both(flow);
                return;
        }
        take_packets(end, FRCP_BATCH, NULL, now);
        *rx = end->frcp.rx.recvq.messages;
        *tx = end->frcp.tx.sendq.count;
        if (!end->frcp.config.retransmit) {
                ring_space_now(&flow->end.tx);
                *tx += flow->end.tx.at - flow->end.tx.other;
        }
        leave(end, now);
}

/* ---- polls of the process's thread (paper 2.17) ---- */

/* EVENT_DEALLOC, once, when the peer has left. On a direct flow the IRMd raises it. */
static uint32_t peer_closed(struct frcp_end *end)
{
        if (end->dealloc_raised || end->frcp.fin_received != FRCP_CLOSED || end->frcp.config.direct)
                return 0;
        end->dealloc_raised = true;
        return EVENT_DEALLOC;
}

static uint32_t io_examine(struct flow *flow, bool *again)
{
        struct frcp_end *end = flow->frcp;
        uint32_t events = 0, taken;
        int64_t now = wait_now();

        *again = false;
        lock_both(flow);
        if (!flow->rx_closed) {
                taken = take_packets(end, FRCP_BATCH, NULL, now);
                run_machine(end, now);
                events = end_take_events(&flow->end);
                /* The user may not read soon: the thread acknowledges the packets. */
                if (taken > 0 && !atomic_exchange_explicit(&end->poll_requested, true, memory_order_relaxed))
                        events |= FLOW_NEEDS_POLL;
                events |= peer_closed(end);
                if (is_readable(end)) {
                        events |= EVENT_PKT;
                        *again = true;
                } else {
                        ring_ask(&flow->end.rx.shm->cons_wait, WAIT_EVENT);
                        *again = end_rx_pending(&flow->end);
                }
        }
        unlock_both(flow);
        return events;
}

int64_t frcp_io_poll(struct flow *flow, int64_t now, bool *woken)
{
        struct frcp_end *end = flow->frcp;
        int64_t next = NEVER;

        *woken = false;
        lock_both(flow);
        if (flow->rx_closed) {
                unlock_both(flow);
                return NEVER;
        }
        if (flow->end.rx.at == end->rx_at_poll && end_rx_pending(&flow->end))
                *woken = take_packets(end, RING_SLOTS, NULL, now) > 0;
        end->idle_polls = flow->end.rx.at == end->rx_at_poll && !end_rx_pending(&flow->end) ? end->idle_polls + 1 : 0;
        end->rx_at_poll = flow->end.rx.at;
        run_machine(end, now);
        *woken = *woken || end->state_changed;
        end->state_changed = false;
        next = frcp_deadline(&end->frcp);
        if (end->idle_polls < IDLE_POLLS && next > now + FRCP_IO_POLL_INTERVAL) {
                next = now + FRCP_IO_POLL_INTERVAL;
        } else if (end->idle_polls >= IDLE_POLLS) {
                ring_ask(&flow->end.rx.shm->cons_wait, WAIT_EVENT);
                if (end_rx_pending(&flow->end))
                        next = now + FRCP_IO_POLL_INTERVAL;
        }
        /* A later call of the user sees this store, and an earlier one has been seen here: both hold the lock. */
        atomic_store_explicit(&end->poll_requested, next <= now + FRCP_IO_POLL_INTERVAL, memory_order_relaxed);
        unlock_both(flow);
        return next;
}

static int64_t io_start_timer(struct flow *flow, void (*request)(void *arg, struct flow *flow), void *arg)
{
        flow->frcp->request_arg = arg;
        flow->frcp->request_poll = request;
        return wait_now() + FRCP_IO_POLL_INTERVAL;
}

static void io_fini(struct flow *flow)
{
        frcp_fini(&flow->frcp->frcp);
        free(flow->frcp);
        flow->frcp = NULL;
}

static const struct flow_ops frcp_ops = {
        .polled = true,
        .writev = io_writev,
        .readv = io_readv,
        .ask = io_ask,
        .notify_writable = io_notify_writable,
        .examine = io_examine,
        .queues = io_queues,
        .start_timer = io_start_timer,
        .on_timer = frcp_io_poll,
        .fini = io_fini,
};

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
        flow->ops = &frcp_ops;
        flow->max_packet = frcp_max_packet(&end->frcp);
        return 0;
}

/* ---- control and end (docs/reference/api.md) ---- */

/* The end, locked. NULL: it has no FRCP, belongs to another process, or was detached; *error is the reason. */
static struct frcp_end *enter(struct flow *flow, int *error)
{
        *error = flow_check(flow);
        if (*error == 0 && flow->frcp == NULL)
                *error = -EPERM;
        if (*error != 0)
                return NULL;
        lock_both(flow);
        if (!flow->rx_closed)
                return flow->frcp;
        unlock_both(flow);
        *error = -ENOTALLOC;
        return NULL;
}

int frcp_io_send_fin(struct flow *flow)
{
        int error;
        struct frcp_end *end = enter(flow, &error);
        int64_t now = wait_now();

        if (end == NULL)
                return error == -EPERM ? -ENOTSUP : error;
        error = flow_may_write(flow);
        if (error == 0)
                error = frcp_send_fin(&end->frcp, false, now);
        leave(end, now);
        return error;
}

bool frcp_io_fin_received(struct flow *flow)
{
        int error;
        struct frcp_end *end = enter(flow, &error);
        bool received;

        if (end == NULL)
                return false;
        received = end->frcp.fin_received != FRCP_OPEN;
        unlock_both(flow);
        return received;
}

int frcp_io_look(struct flow *flow, struct frcp *frcp)
{
        int error;
        struct frcp_end *end = enter(flow, &error);

        if (end == NULL)
                return error;
        *frcp = end->frcp;
        unlock_both(flow);
        return 0;
}

struct frcp_unacked frcp_io_unacked(struct flow *flow)
{
        int error;
        struct frcp_end *end = enter(flow, &error);
        struct frcp_unacked unacked = {0};

        if (end == NULL)
                return unacked;
        unacked.octets = frcp_unacknowledged(&end->frcp);
        unacked.una = end->frcp.tx.una;
        unlock_both(flow);
        return unacked;
}

int frcp_io_flags(struct flow *flow)
{
        int result;
        struct frcp_end *end = enter(flow, &result);

        if (end == NULL)
                return result;
        result = (int)end->frcp.flags;
        unlock_both(flow);
        return result;
}

int frcp_io_set_flags(struct flow *flow, uint32_t flags)
{
        int error;
        struct frcp_end *end = enter(flow, &error);

        if (end == NULL)
                return error;
        frcp_set_flags(&end->frcp, flags);
        flow->max_packet = frcp_max_packet(&end->frcp);
        leave(end, wait_now());
        flow_withdraw_all(flow); /* the window may not limit writers any more, and fragments may be readable */
        return 0;
}

/* A closing end drops received data; the machine still processes acknowledgements. */
int frcp_io_close(struct flow *flow)
{
        struct frcp_end *end = flow->frcp;
        int64_t now = wait_now();
        bool lingers = false, first;
        int result = 0;

        if (end == NULL || flow_check(flow) != 0)
                return 0;
        lock_both(flow);
        first = !end->closing;
        end->closing = true;
        if (!flow->rx_closed && !flow->end.rx.peer_corrupt)
                /* the ring may hold the last acknowledgement of a peer that has left */
                take_packets(end, RING_SLOTS, NULL, now);
        if (!flow->rx_closed && end_error(&flow->end) == 0) {
                run_machine(end, now);
                frcp_close(&end->frcp, now);
                publish(end);
                lingers = frcp_lingers(&end->frcp);
        }
        /* A flow that is down has a quiet time, too: its packets may still be on their way. */
        if (!flow->rx_closed)
                result = lingers ? -EMUSTSLEEP : (int)frcp_quiet_time(&end->frcp, now);
        unlock_both(flow);
        if (first)
                flow_withdraw_all(flow); /* wakes threads that sleep in a read or a write */
        return result;
}
