/*
 * flow: one end of a flow in one process (paper 2.7): attaching, state, reading, writing, sleeping.
 *
 * Reading and writing never sleep: where a blocking call finds nothing after polling, it returns -EMUSTSLEEP, and
 * the caller, which has signals to handle, comes back with flow_sleep. Threads may share an end.
 * Negative results are -errno, or a number of errors.h.
 */
#ifndef OUROBOROS_FLOW_H
#define OUROBOROS_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "budget.h"
#include "errors.h"
#include "events.h"
#include "keepalive.h"
#include "map.h"
#include "pool.h"
#include "ring.h"
#include "seal.h"
#include "segment.h"
#include "wait.h"

/* Flags of fccntl (docs/reference/api.md). */
#define FLOW_RDONLY 00u
#define FLOW_WRONLY 01u
#define FLOW_RDWR 02u
#define FLOW_ACCMODE 03u
#define FLOW_DOWN 04u
#define FLOW_RNOBLOCK 01000u
#define FLOW_WNOBLOCK 02000u
#define FLOW_RNOPART 010000u
#define FLOW_WNOPART 020000u

/* What the IRMd tells a process about its end; trusted. */
struct flow_spec {
        uint32_t fd;
        uint32_t index;
        uint32_t side;
        uint32_t peer_fd;
        uint64_t serial;
        uint64_t max_packet;
};

struct frcp_end;

/* What this process alone knows of the state of its end, beside END_*: why it is down. */
#define DOWN_IRMD 256u         /* the IRMd has gone */
#define DOWN_PEER_CORRUPT 512u     /* the peer wrote into the ring what makes no sense */
#define DOWN_UNACKNOWLEDGED 1024u  /* the peer has not acknowledged for too long */

struct flow {
        struct pool *pool;
        struct segment *segment;
        struct flow_shm *shm;
        struct end_shm *end;
        struct events *peer; /* the peer's region, may be NULL */
        uint32_t fd;
        uint32_t side;
        uint32_t peer_fd;
        _Atomic uint64_t max_packet; /* fragmentation switched by fccntl changes it */
        unsigned generation;
        struct seal *seal;     /* what protects every packet; NULL: nothing does */
        struct frcp_end *frcp; /* NULL: packets go as they are */
        _Atomic uint32_t flags;
        _Atomic uint32_t local_state;     /* END_*, DOWN_*: what this process knows by itself */
        _Atomic uint32_t let_go;   /* LET_GO_* */
        _Atomic uint32_t sleepers; /* threads that look at the rings without a lock: polling or asleep */
        _Atomic int eventfd;       /* for poll(2): packets; -1: none asked for */
        _Atomic int writable_eventfd;  /* for poll(2): room to write after flow_notify_writable */
        struct wheel_timer timer;  /* the next visit of the process's thread; its lock */
        struct keepalive alive;    /* of a flow without FRCP */
        uint64_t last_rx_index, last_tx_index;     /* the indices of the rings at the last visit */

        _Alignas(CACHE_LINE) struct spinlock tx_lock;
        bool tx_closed;
        struct ring tx;
        struct poller tx_poller;
        struct budget budget;

        _Alignas(CACHE_LINE) struct spinlock rx_lock;
        bool rx_closed;
        struct ring rx;
        struct poller rx_poller;
        uint64_t opened_at; /* where in the ring, plus one, a packet has been opened before it is read: */
        uint8_t *opened;    /* what it holds, in memory of this end */
        uint32_t opened_length;
        uint32_t opened_size;
        _Atomic uint32_t readahead_pending; /* not 0: the library has packets that a read took ahead, or left in part */
        _Atomic uintptr_t readahead_owner; /* the thread that carries such packets there from the ring, see flow_begin_readahead; 0: none */
};

/* It holds what it uses (map.h) until the handle is freed. NULL: the spec is out of range, or no memory. */
struct flow *flow_attach(struct pool *pool, struct segment *segment, struct events *peer,
                         const struct flow_spec *spec);

/*
 * The handle of an object that has no flow. Callers have this in place of NULL: every function takes it, and fails with
 * -ENOTALLOC or does nothing, as with a handle that another thread has detached a moment ago.
 */
struct flow *flow_none(void);

/* 0; -ENOTALLOC: it is flow_none; -EBADF: a flow of the process that forked this one, which has not inherited its memory. */
static inline int flow_check(const struct flow *flow)
{
        if (flow->generation == map_generation)
                return 0;
        return flow->generation == 0 ? -ENOTALLOC : -EBADF;
}

/*
 * Protect its packets from now on, before anybody reads or writes: `cipher` of spec/oap 2 and its key (0 and NULL:
 * none), and a check. A packet may be the less long. 0, -EINVAL: no such cipher, -EMSGSIZE: packets are too short, -ENOMEM.
 */
int flow_protect(struct flow *flow, uint32_t cipher, const uint8_t *key, bool check);

/*
 * A handle has two parties: who uses it closes it, and the interpreter drops it when nobody refers to it any more. The
 * second of them frees it. Usually that is the one who drops; but Python's collector finalises objects that refer
 * to each other in any order, and then what is closed has been dropped before. A forked child frees neither: a thread that
 * the child does not have may have been changing what the handle refers to.
 */
enum { LET_GO_CLOSED = 1, LET_GO_DROPPED = 2 };

/* Whether the other party has let go before: then it is free(3)'s. */
static inline bool handle_let_go(_Atomic uint32_t *parties, uint32_t party)
{
        return (atomic_fetch_or(parties, party) | party) == (LET_GO_CLOSED | LET_GO_DROPPED);
}

/* Leave the flow: wakes this process's sleepers, gives back what was queued for it. Once; the handle stays valid until it
 * is dropped. */
void flow_detach(struct flow *flow);

/* Drop the handle. */
void flow_destroy(struct flow *flow);

/* Octets written (all of them), 0 for an empty packet. */
ssize_t flow_write(struct flow *flow, const void *buffer, size_t length);

/*
 * `count` packets, one behind the other in `buffer`: lengths in `lengths`, or all of `each` octets when it is NULL.
 * Returns how many were written, at least one, else an error.
 */
ssize_t flow_writev(struct flow *flow, const void *buffer, const uint32_t *lengths, uint32_t each, uint32_t count);

/* Where packets go, one behind the other. */
struct burst {
        uint8_t *buffer;
        uint32_t *lengths; /* room for as many as are asked for, at least READAHEAD_PACKETS */
        uint32_t size;     /* of buffer */
        uint32_t each;     /* length of every packet, 0 when they differ */
};

/* What flow_read takes at most when several packets wait: a call costs more than a packet. */
#define READAHEAD_PACKETS 32u
#define READAHEAD_OCTETS 16384u
#define FLOW_READAHEAD (1l << 30)

/*
 * Read whole packets. -EREADAHEAD: nothing is in the ring, but the library has, or a thread brings it, what was taken ahead. -ENOBUFS: the first is longer than the buffer, lengths[0] says how long it is.
 * flow_readv: up to `max`; returns how many.
 * flow_read: the next packet, returns its length; or, when more are waiting, some of them: FLOW_READAHEAD | how many, and
 *   flow->hand says that the library has all but one of them in hand. One thread at a time takes ahead.
 * flow_read_into: the next packet alone, returns its length.
 */
ssize_t flow_readv(struct flow *flow, struct burst *burst, uint32_t max);
ssize_t flow_read(struct flow *flow, struct burst *burst);
ssize_t flow_read_into(struct flow *flow, void *buffer, size_t size);

/* Sleep until there may be something to read (room to write), the deadline (-1: none), or a signal. */
int flow_sleep(struct flow *flow, bool writing, int64_t deadline);

/*
 * EVENT_* bits to deliver now: the latched ones, which this clears, and PKT while packets wait. With none waiting
 * the next packet will set the end's bit in the event region. *again: look again even if no bit is set.
 */
uint32_t flow_examine(struct flow *flow, bool *again);
#define FLOW_NEEDS_POLL (1u << 31) /* among these bits: the thread should look after the flow from now on */

/* For those who hold a lock of an attached end. */
uint32_t flow_take_events(struct flow *flow);
uint32_t flow_state(const struct flow *flow);
int flow_error(const struct flow *flow); /* 0, -EFLOWDOWN or -EFLOWPEER */

/* 0, -ENOTALLOC, -EPERM, and for writing why the flow is down. */
int flow_may_write(const struct flow *flow);
int flow_may_read(const struct flow *flow);

/*
 * Packets that were taken ahead are on their way to the library until it has set `ahead` and cleared `hand`, in this order.
 * A thread that comes again has lost what it carried (an exception of a signal handler).
 */
bool flow_may_readahead(struct flow *flow);
void flow_begin_readahead(struct flow *flow);

static inline bool flow_readahead(const struct flow *flow)
{
        return atomic_load_explicit(&flow->readahead_owner, memory_order_relaxed) != 0 ||
               atomic_load_explicit(&flow->readahead_pending, memory_order_relaxed) != 0;
}

/*
 * Put one packet, header | data, behind `ahead` unpublished ones; there is room for it. 0, -ENOMEM, or -EIO: it could not be
 * protected.
 */
int flow_put(struct flow *flow, uint32_t offset, const void *header, uint32_t header_length, const void *data,
             uint32_t length);

/* Publish packets put, consume slots, and tell the peer if it wants to know. */
uint32_t flow_publish(struct flow *flow, uint32_t count);
void flow_consume(struct flow *flow, uint32_t count);

/* Consume what is at the front and will never be read. With the reader's lock. */
void flow_skip_empty(struct flow *flow);

/* Asked to be woken, and need not sleep. */
void flow_withdraw(struct flow *flow, _Atomic uint32_t *word);

/* What sleepers wait for may be there, though not in the ring. */
void flow_withdraw_all(struct flow *flow);

/* The same for everybody. */
bool flow_is_down(struct flow *flow);

/* Flags, or an error; 0 or an error. */
int flow_get_flags(struct flow *flow);
int flow_set_flags(struct flow *flow, uint32_t flags);

/* Declare the flow down, or up again, for both ends (fccntl). */
void flow_declare(struct flow *flow, bool down);

/* The peer wrote an index that makes no sense: down for this end, for ever. With a lock of the end held. */
void flow_mark_corrupt(struct flow *flow);

/* This process has found out that the flow is down: END_* and DOWN_*, and the event. Wakes its sleepers. With a lock. */
void flow_give_up(struct flow *flow, uint32_t state, uint32_t event);

/* Why: END_* and DOWN_*. */
uint32_t flow_down_cause(struct flow *flow);

/*
 * Keep-alives (keepalive.h) on a flow without FRCP, from now on. flow_on_timer is what the process's thread does then:
 * nothing happens per packet, it sees from the rings' indices whether something has come or gone since its last visit. *found:
 * an event was raised. Returns when to come next; NEVER.
 */
void flow_keep_alive(struct flow *flow, uint32_t timeout_ms);
int64_t flow_on_timer(struct flow *flow, int64_t now, bool *found);

/* Count something that the peer wrote and that makes no sense; a packet that cannot be opened. */
void flow_refuse(struct flow *flow);
void flow_refuse_packet(struct flow *flow);

/* The eventfds of poll(2) are not used any more. */
void flow_unpoll(struct flow *flow);

/* The IRMd has gone: down for this end, wakes its sleepers. */
void flow_orphan(struct flow *flow);

/* Clear the eventfd of process_poll_writable, and ask for an event when there is room again; true when there is room already. */
bool flow_notify_writable(struct flow *flow);

/* Packets waiting to be read here, and waiting for the peer. */
void flow_queues(struct flow *flow, uint64_t *rx, uint64_t *tx);

#endif
