/*
 * flow: one end of a flow in one process (paper 2.7): attaching, state, reading, writing, sleeping.
 * Reading and writing never sleep: when polling finds nothing, a blocking call returns -EMUSTSLEEP; its caller in
 * Python, which handles signals, then calls flow_sleep. Threads may share an end. Negative results are -errno, or a
 * number of errors.h.
 */
#ifndef OUROBOROS_FLOW_H
#define OUROBOROS_FLOW_H

#include "end.h"
#include "keepalive.h"
#include "map.h"

/* Flags of fccntl (docs/reference/api.md). */
#define FLOW_RDONLY 00u
#define FLOW_WRONLY 01u
#define FLOW_RDWR 02u
#define FLOW_ACCMODE 03u
#define FLOW_RNOBLOCK 01000u
#define FLOW_WNOBLOCK 02000u
#define FLOW_WNOPART 020000u /* always set: a write is one packet */

struct frcp_end;
struct flow_ops;

struct flow {
        struct end end;
        const struct flow_ops *ops; /* how its packets pass: raw, or with FRCP */
        _Atomic uint64_t max_packet; /* octets of a packet of the user; fccntl changes it with fragmentation */
        unsigned generation;
        struct frcp_end *frcp; /* NULL: a flow without FRCP */
        _Atomic uint32_t flags;
        _Atomic uint32_t let_go;               /* LET_GO_* */
        _Atomic uint32_t sleepers;             /* threads that read the rings without a lock: polling or asleep */
        _Atomic int eventfd;                   /* for poll(2), signalled with packets; -1: not polled */
        _Atomic int writable_eventfd;          /* for poll(2), signalled with space after flow_notify_writable */
        struct wheel_timer timer;              /* the next poll of the process's thread; protected by its lock */
        struct keepalive alive;                /* on a flow without FRCP */
        uint64_t last_rx_index, last_tx_index; /* the ring indices at the last poll */

        _Alignas(CACHE_LINE) struct spinlock tx_lock;
        bool tx_closed;
        struct poller tx_poller;

        _Alignas(CACHE_LINE) struct spinlock rx_lock;
        bool rx_closed;
        struct poller rx_poller;
        uint64_t opened_at; /* ring index, plus one, of the packet that was opened before a read: */
        uint8_t *opened;    /* its plaintext */
        uint32_t opened_length;
        uint32_t opened_size;
        _Atomic uint32_t readahead_pending; /* not 0: the library holds packets read ahead, or the rest of one */
        /* the thread that carries packets from the ring to the library, see flow_begin_readahead; 0: none */
        _Atomic uintptr_t readahead_owner;
};

/* The end is detached when the handle is freed. NULL: the spec is out of range, or no memory. */
struct flow *flow_attach(struct pool *pool, struct segment *segment, struct events *peer,
                         const struct flow_spec *spec);

/*
 * The handle of an object without a flow, in place of NULL: every function accepts it and fails with -ENOTALLOC or
 * does nothing, as with a handle that another thread has just detached.
 */
struct flow *flow_none(void);

/*
 * 0; -ENOTALLOC: it is flow_none; -EBADF: a flow of the parent of this forked process, which has not inherited its
 * memory.
 */
static inline int flow_check(const struct flow *flow)
{
        if (flow->generation == map_generation)
                return 0;
        return flow->generation == 0 ? -ENOTALLOC : -EBADF;
}

/* end_protect, before the first read or write, and before FRCP. */
int flow_protect(struct flow *flow, uint32_t cipher, const uint8_t *key, bool check);

/*
 * A handle has two parties: its user closes it, and the interpreter drops it with the last reference. The second one
 * frees it, usually the interpreter; but Python's collector finalises objects in a reference cycle in any order, and
 * may drop a handle before it is closed. A forked child frees no handle: a thread of the parent may have been
 * changing the objects behind it.
 */
enum { LET_GO_CLOSED = 1, LET_GO_DROPPED = 2 };

/* Whether the other party has let go before: then the caller frees the handle. */
static inline bool handle_let_go(_Atomic uint32_t *parties, uint32_t party)
{
        return (atomic_fetch_or(parties, party) | party) == (LET_GO_CLOSED | LET_GO_DROPPED);
}

/*
 * Leave the flow once: wakes this process's sleepers, frees the packets queued for it. The handle stays valid until
 * it is dropped.
 */
void flow_detach(struct flow *flow);

/* Drop the handle. */
void flow_destroy(struct flow *flow);

/* Octets written (all of them), 0 for an empty packet. */
ssize_t flow_write(struct flow *flow, const void *buffer, size_t length);

/*
 * Write `count` packets that lie one behind the other in `buffer`, with their lengths in `lengths`, or of `each`
 * octets when it is NULL. Returns the number written, at least one, or an error.
 */
ssize_t flow_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each, uint32_t count);

/* Buffer for packets, one behind the other. */
struct burst {
        uint8_t *buffer;
        uint32_t *lengths; /* at least READAHEAD_PACKETS, or the `max` of flow_readv */
        uint32_t size;     /* of buffer */
        uint32_t each;     /* length of every packet, 0 when they differ */
};

/* Bounds of flow_read's readahead: one call costs more than one packet. */
#define READAHEAD_PACKETS 32u
#define READAHEAD_OCTETS 16384u
#define FLOW_READAHEAD (1l << 30)

/*
 * Read whole packets. -EREADAHEAD: the ring is empty, but the library has packets read ahead, or a thread is bringing
 * them. -ENOBUFS: the first packet is longer than the buffer; lengths[0] is its length.
 * - flow_readv: up to `max`; returns their number.
 * - flow_read: the next packet; returns its length, or FLOW_READAHEAD | number when it has read several. Then
 *   readahead_owner is set until the library has all but the first. One thread at a time reads ahead.
 * - flow_read_into: the next packet alone; returns its length.
 */
ssize_t flow_readv(struct flow *flow, struct burst *burst, uint32_t max);
ssize_t flow_read(struct flow *flow, struct burst *burst);
ssize_t flow_read_into(struct flow *flow, void *buffer, size_t size);

/* Sleep until there may be a packet to read (space to write), until the deadline (-1: none), or until a signal. */
int flow_sleep(struct flow *flow, bool writing, int64_t deadline);

/*
 * EVENT_* bits to deliver now: the latched ones, which this clears, and EVENT_PKT while packets wait. Without packets
 * the next one will set the end's bit in the event region. *again: examine again even if the bit is not set.
 */
uint32_t flow_examine(struct flow *flow, bool *again);
#define FLOW_NEEDS_POLL (1u << 31) /* among these bits: the thread should poll the flow from now on */

/* Wake all sleepers: the cause is not in the ring. */
void flow_withdraw_all(struct flow *flow);

/* The flags or an error; 0 or an error. */
int flow_get_flags(struct flow *flow);
int flow_set_flags(struct flow *flow, uint32_t flags);

/* Declare the flow down, or up again, for both ends (fccntl). */
void flow_declare(struct flow *flow, bool down);

/* END_* and DOWN_*: why the flow is down; 0: it is not. Takes the lock itself. */
uint32_t flow_down_cause(struct flow *flow);

static inline bool flow_is_down(struct flow *flow)
{
        return flow_down_cause(flow) != 0;
}

/*
 * Keep-alives (keepalive.h) on a flow without FRCP, from now on. The process's thread calls flow_on_timer; nothing
 * happens per packet: flow_on_timer compares the ring indices with those of its last call. *found: an event was
 * raised. Returns the time of the next call; NEVER.
 */
void flow_keep_alive(struct flow *flow, uint32_t timeout_ms);
int64_t flow_on_timer(struct flow *flow, int64_t now, bool *found);

/* Stop using the eventfds of poll(2). */
void flow_unpoll(struct flow *flow);

/* The IRMd has exited: this end is down; wakes its sleepers. */
void flow_orphan(struct flow *flow);

/*
 * Clear the eventfd of process_poll_writable and ask for one event with the next space; true when there is space
 * already.
 */
bool flow_notify_writable(struct flow *flow);

/* Packets to read at this end, and packets not yet consumed by the peer. */
void flow_queues(struct flow *flow, uint64_t *rx, uint64_t *tx);

#endif
