/*
 * frcp: the flow and retransmission control protocol of one flow end (paper 2.14, Fig. 8, 5.1; spec/frcp): order,
 * Delta-t with its bounds MPL, A and R, retransmission, flow control, fragments, keep-alive.
 * A machine without I/O. Packets and the time are arguments; the machine emits packets through `send`, offers
 * received data through frcp_front, and frcp_deadline returns the time of the next frcp_run. Applications, tests and
 * the simulator run the same code. The caller holds a lock: one thread at a time. Times are in ns of a clock that
 * never goes back.
 * After each batch of frcp_receive, frcp_write and frcp_pop the caller calls frcp_run with the same time, which sends
 * the packets that have become due. Negative results are -errno, or a number of errors.h.
 * Its parts call each other through frcp_private.h.
 */
#ifndef OUROBOROS_FRCP_H
#define OUROBOROS_FRCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "errors.h"
#include "inflight.h"
#include "keepalive.h"
#include "pci.h"
#include "recvq.h"
#include "rtt.h"
#include "sendq.h"

#define FRCP_MS 1000000ll
#define FRCP_A (10000 * FRCP_MS)  /* A: longest time until a receiver acknowledges a packet (FRCP-4) */
#define FRCP_R (120000 * FRCP_MS) /* R: longest time for which a sender retransmits a packet */
#define FRCP_TICK (5 * FRCP_MS)
#define FRCP_ACK_DELAY (2 * FRCP_TICK)
#define FRCP_RDV (100 * FRCP_MS)       /* between two rendez-vous, while the window is shut */
#define FRCP_RDV_SLOW (1000 * FRCP_MS) /* the same, once the window has been shut for FRCP_RDV_SLOW */
#define FRCP_WINDOW_FIRST 64u          /* initial window, until the peer advertises one */
#define FRCP_WINDOW 256u
#define FRCP_WINDOW_OCTETS (4u << 20)

/* Flags (fccntl; spec/frcp 10). FRCP_RETRANSMIT cannot be changed; the last two exist in this implementation only. */
#define FRCP_RETRANSMIT 1u
#define FRCP_FLOW_CONTROL 2u
#define FRCP_LINGER 4u
#define FRCP_FRAGMENT 8u
#define FRCP_REASSEMBLE 16u

struct frcp_config {
        uint32_t mpl_ms;
        uint32_t timeout_ms;  /* of the peer; 0: none */
        uint32_t max_packet;  /* of the flow below, FRCP header included */
        uint32_t max_message; /* largest packet of the user, with fragments; 0: bounded by the queues only */
        uint32_t window;      /* receive window in packets, a power of two up to RECVQ_WINDOW; 0: FRCP_WINDOW */
        uint32_t octets;      /* receive window in octets, for large packets; 0: FRCP_WINDOW_OCTETS */
        uint32_t first;       /* initial sequence number: random */
        bool retransmit;      /* QoS loss = 0 */
        bool fragments;       /* granted: the peer reads the fragment bits */
        bool selective;       /* granted: acknowledgements carry a map of the packets received out of order */
        bool lossless;        /* the path loses nothing: it is memory of this system */
        bool direct;          /* no layer in between: the IRMd serves both ends, and reports the end of each */
        bool fin;             /* granted on reliable flows: an end sends FIN when it writes no more */
};

/* State of one direction of the flow. FIN is a packet with data of 0 octets, in sequence with the others. */
enum frcp_direction { FRCP_OPEN, FRCP_HALF_CLOSED, FRCP_CLOSED };

/*
 * Send header and data as one packet of the flow below; without both, an empty packet. False: the flow below is full.
 */
typedef bool frcp_send(void *arg, const uint8_t *header, uint32_t header_length, const uint8_t *data,
                       uint32_t length);

struct frcp_counters {
        uint64_t sent;      /* packets with data, first transmission */
        uint64_t resent;    /* packets with data, retransmitted */
        uint64_t control;   /* packets without data */
        uint64_t received;  /* packets, of any kind */
        uint64_t delivered; /* packets that were read */
        uint64_t duplicate; /* received before, or too late */
        uint64_t early;     /* received out of order, and kept */
        uint64_t refused;   /* outside the window, or without a data run */
        uint64_t malformed; /* too short, or with impossible numbers */
        uint64_t skipped;   /* never received (no retransmission) */
};

/* The sender (FRCP-6), on whose numbers the sender alone decides. */
struct frcp_sender {
        uint32_t una;        /* oldest unacknowledged */
        uint32_t nxt;        /* next to be sent */
        uint32_t lim;        /* first number beyond the peer's window */
        bool confirmed;      /* the peer has acknowledged data: it knows this end's sequence numbers */
        bool write_blocked;  /* a write failed because the window was shut */
        uint32_t rto_count;  /* retransmissions of `una` since the last acknowledgement */
        /* octets that the peer may hold of the current window of packets, and of the one before */
        uint32_t window_octets[2];
        uint32_t window_packets;    /* packets sent in the current window */
        struct pci header_template; /* flags, window and acknowledgement of the next packets with data */
        int64_t template_at;        /* the time of the template; NEVER: it is invalid */
        int64_t last_data_tx_at;    /* last transmission of data; NEVER: not yet */
        int64_t shut_at;            /* when the window was found shut; NEVER: it is open */
        struct sendq sendq;
        struct rtt rtt;
};

/* The receiver (FRCP-6). */
struct frcp_receiver {
        bool run;                /* a data run is active: the numbers below are valid */
        bool ack_now;            /* an acknowledgement is due even if `want` has not advanced */
        bool window_requested;   /* the peer sent a rendez-vous */
        uint32_t want;           /* next sequence number in order */
        uint32_t edge;           /* right window edge: first number that is refused */
        uint32_t acked;          /* last acknowledgement sent */
        uint32_t advertised;     /* last window edge sent */
        uint32_t since_ack;      /* packets received since the last acknowledgement or window was sent */
        uint32_t peak_length;    /* octets of the largest packets received recently */
        int64_t last_rx_at;      /* last packet received; NEVER: not yet */
        int64_t last_data_rx_at; /* last data received */
        struct recvq recvq;
};

/* When something is due; NEVER: it is not. */
struct frcp_timers {
        int64_t resend; /* a retransmission */
        int64_t ack;    /* an acknowledgement, or the window */
        int64_t rdv;    /* a rendez-vous */
        int64_t stall;  /* the flow below was full: when to try again */
        int64_t linger; /* unacknowledged data is given up */
};

/* Its fields are read outside of the machine, and written by it alone. */
struct frcp {
        struct frcp_config config;
        frcp_send *send;
        void *arg;
        uint32_t flags;
        int down;                         /* 0, or the reason why the flow is down: -EFLOWDOWN, -EFLOWPEER */
        enum frcp_direction fin_sent;     /* this end's direction */
        enum frcp_direction fin_received; /* the peer's direction: after FIN the peer sends no more data */
        int64_t closed_at;                /* when the user deallocated; NEVER: not yet */
        uint64_t lost;                    /* octets unacknowledged when the flow went down */
        struct frcp_sender tx;
        struct inflight inflight;
        struct frcp_timers at;
        struct frcp_receiver rx;
        struct keepalive alive;
        struct frcp_counters counters;
};

/* 0 or -EINVAL. frcp_fini frees all later allocations. */
int frcp_init(struct frcp *frcp, const struct frcp_config *config, frcp_send *send, void *arg, int64_t now);
void frcp_fini(struct frcp *frcp);

/* ---- writing ---- */

/*
 * Write a packet; an empty one is a keep-alive. Returns its length: FRCP takes whole packets. -EAGAIN: the window is
 * shut or a queue is full; -EMSGSIZE; the reason why the flow is down. A peer that cannot reassemble gets no
 * fragments.
 */
ssize_t frcp_write(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now);

/* Whether a write of `length` octets would be accepted now, or fail immediately. */
bool frcp_writable(const struct frcp *frcp, uint32_t length);

/* Largest packet that can be written. */
uint32_t frcp_max_packet(const struct frcp *frcp);

/*
 * Send FIN (FRCP-33): data of 0 octets with a sequence number of its own: acknowledged, retransmitted, in order, and allowed beyond
 * the window when everything before it was received. This end writes no more and, with `leaving`, reads no more. The prototype's
 * protocol has no FIN: an end that has left cannot be distinguished from one that is silent. 0;
 * -EAGAIN: no space now; -ENOTSUP: the peer does not implement FIN; the reason why the flow is down. FIN cannot be
 * withdrawn.
 */
int frcp_send_fin(struct frcp *frcp, bool leaving, int64_t now);

/* ---- reading ---- */

struct frcp_piece {
        const uint8_t *data;
        uint32_t length;
};

/*
 * A packet received from the flow below. With `direct`, the next packet in order is not copied: `direct` points into
 * the packet, the packet counts as read, and the result is true.
 */
bool frcp_receive(struct frcp *frcp, const uint8_t *packet, uint32_t length, int64_t now,
                  struct frcp_piece *direct);

/* The packet at the front, which frcp_pop removes. False: there is none. */
bool frcp_front(const struct frcp *frcp, struct frcp_piece *piece);
void frcp_pop(struct frcp *frcp, int64_t now);

/* ---- time ---- */

/* Do everything that is due: acknowledge, retransmit, probe, keep alive, send queued packets. */
void frcp_run(struct frcp *frcp, int64_t now);

/* The time of the next frcp_run if no other event happens before; NEVER. */
int64_t frcp_deadline(const struct frcp *frcp);

/* ---- control and end ---- */

/* Switch flow control, linger, fragmentation and reassembly. FRCP_RETRANSMIT does not change. */
void frcp_set_flags(struct frcp *frcp, uint32_t flags);

/* The user deallocates: send FIN and a last acknowledgement. */
void frcp_close(struct frcp *frcp, int64_t now);

/* Whether the end must go on (frcp_receive, frcp_run) because data is unacknowledged. R bounds this time. */
bool frcp_lingers(const struct frcp *frcp);

/* Octets written and not acknowledged; of a flow that is down, when it went down. */
uint64_t frcp_unacknowledged(const struct frcp *frcp);

/*
 * Seconds without a packet after which a sender (a receiver) of a flow over a layer with this MPL has no state of a data run any more
 * (Delta-t, FRCP-4).
 */
uint32_t frcp_sender_inactivity(uint32_t mpl_ms);
uint32_t frcp_receiver_inactivity(uint32_t mpl_ms);

/* Seconds during which the flow below must not be used for another flow (spec/frcp 10). */
uint32_t frcp_quiet_time(const struct frcp *frcp, int64_t now);

#endif
