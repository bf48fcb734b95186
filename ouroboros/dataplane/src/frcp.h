/*
 * frcp: the flow and retransmission control protocol of one flow end (paper 2.14, Fig. 8, 5.1; spec/frcp): order,
 * Delta-t with its bounds MPL, A and R, retransmission, flow control, fragments, keep-alive.
 *
 * A machine without I/O: packets and the time go in; packets come out through `send`, what there is to read through
 * frcp_front, and the time of the next call of frcp_run from frcp_deadline. Applications, tests and the simulator run
 * this same code. Not for several threads at once: the caller has a lock. Times are ns of a clock that never goes back.
 *
 * After each batch of frcp_receive, frcp_write and frcp_pop comes one frcp_run with the same time: it sends what they
 * made due. Negative results are -errno, or a number of errors.h.
 */
#ifndef OUROBOROS_FRCP_H
#define OUROBOROS_FRCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "errors.h"
#include "keepalive.h"
#include "pci.h"
#include "recvq.h"
#include "rtt.h"
#include "sendq.h"

#define FRCP_MS 1000000ll
#define FRCP_DIRECT_MS 1u         /* MPL of a direct flow: what was written there is not lost */
#define FRCP_A (10000 * FRCP_MS)  /* longest time until a packet is acknowledged */
#define FRCP_R (120000 * FRCP_MS) /* longest time that a packet is sent again */
#define FRCP_TICK (5 * FRCP_MS)
#define FRCP_ACK_DELAY (2 * FRCP_TICK)
#define FRCP_RDV (100 * FRCP_MS)       /* between two rendez-vous, while the window is shut */
#define FRCP_RDV_SLOW (1000 * FRCP_MS) /* the same once it has been shut for so long */
#define FRCP_WINDOW_FIRST 64u          /* what a peer that has said nothing takes */
#define FRCP_WINDOW 256u
#define FRCP_WINDOW_OCTETS (4u << 20)
#define FRCP_INFLIGHT_PACKETS 512u           /* packets sent before the first of them is acknowledged, on a short way, */
#define FRCP_INFLIGHT_OCTETS 786432u /* and their octets */
#define FRCP_LONG_RTT (20 * FRCP_MS)  /* a round trip from which on packets are on the wire; in it is the delay of a lone packet's acknowledgement */
#define FRCP_WINDOW_SANE 0x10000u /* nobody means to let so many packets come */
#define FRCP_ACK_EVERY 32u            /* packets that are acknowledged together at most */
#define FRCP_BURST 16u            /* packets that are sent again together at most */
#define FRCP_CLAMP_OCTETS 1400u          /* octets of data in a packet that no link on the way cuts */
#define FRCP_LARGE_LOSS 64u             /* of so many larger ones one may be lost, and sixteen more */

/* Flags (fccntl; spec/frcp 10). The first cannot be changed; the last two are ours. */
#define FRCP_RETRANSMIT 1u
#define FRCP_FLOW_CONTROL 2u
#define FRCP_LINGER 4u
#define FRCP_FRAGMENT 8u
#define FRCP_REASSEMBLE 16u

struct frcp_config {
        uint32_t mpl_ms;
        uint32_t timeout_ms;  /* of the peer; 0: never */
        uint32_t max_packet;  /* of the flow, header included */
        uint32_t max_message; /* largest packet of the user, with fragments; 0: what the queues bear */
        uint32_t window;      /* packets we let come, a power of two up to RECVQ_WINDOW; 0: FRCP_WINDOW */
        uint32_t octets;      /* large packets: not more of them than this; 0: FRCP_WINDOW_OCTETS */
        uint32_t first;       /* our first sequence number: random */
        bool retransmit;      /* loss = 0 */
        bool fragments;       /* granted: the peer reads the fragment bits */
        bool selective;       /* granted: acknowledgements say what came out of order */
        bool lossless;        /* the way loses nothing: memory of this system */
        bool fin;            /* granted, where packets are sent again: who writes no more says so */
};

/* What an end has said of itself: by a packet with data of no octets, in order with all others. */
enum frcp_direction { FRCP_OPEN, FRCP_HALF_CLOSED, FRCP_CLOSED };

/* Send header and data as one packet of the flow below. False: there is no room now. Neither for an empty packet. */
typedef bool frcp_send(void *arg, const uint8_t *header, uint32_t header_length, const uint8_t *data,
                       uint32_t length);

struct frcp_counters {
        uint64_t sent;      /* packets with data, first time */
        uint64_t resent;    /* packets with data, again */
        uint64_t control;   /* packets without data */
        uint64_t received;  /* packets, of any kind */
        uint64_t delivered; /* packets that were read */
        uint64_t duplicate; /* came twice, or too late */
        uint64_t early;     /* came before their turn, and were kept */
        uint64_t refused;   /* outside of the window, or without a run */
        uint64_t malformed; /* too short; numbers that cannot be */
        uint64_t skipped;   /* never came (no retransmission) */
};

struct frcp {
        struct frcp_config config;
        frcp_send *send;
        void *arg;
        uint32_t flags;
        int down; /* why nothing goes any more: 0, -EFLOWDOWN, -EFLOWPEER */
        enum frcp_direction fin_sent;  /* we write no more */
        enum frcp_direction fin_received; /* the peer does not: there is nothing behind what has come */
        int64_t closed_at; /* the user has left; NEVER: not yet */
        int64_t linger_until;  /* what is not acknowledged then is given up; NEVER: nobody lingers */
        uint64_t lost;     /* octets that were not acknowledged when the flow went down */

        /* sender */
        uint32_t una;    /* oldest that is not acknowledged */
        uint32_t nxt;    /* next to be sent */
        uint32_t in_flight; /* weight of what was sent and is not acknowledged */
        uint32_t lim;    /* first that may not be sent */
        bool confirmed;  /* the peer has acknowledged some of our data: it knows our numbers */
        bool inflight_limited;    /* enough is under way for a short one */
        bool write_blocked;    /* somebody wants to write and could not */
        uint32_t rto_count;   /* how often `una` was sent again since something was acknowledged */
        uint32_t large_loss;   /* large packets that were sent again, less a part of all that were sent */
        bool clamped;      /* what is written is cut so that nobody below cuts it once more */
        uint32_t window_octets[2]; /* octets the peer has to keep of the last window of packets begun, and of that before it */
        uint32_t window_packets; /* packets of the last one */
        struct pci header_template; /* what packets with data say beside their number */
        int64_t template_at; /* as of when; NEVER: not any more */
        int64_t last_data_tx_at;  /* data was sent last; NEVER: not yet */
        int64_t shut_at; /* window found shut; NEVER: it is not */
        int64_t rdv_at;
        int64_t resend_at;
        int64_t stall_at; /* the flow below had no room: try again */
        struct sendq sendq;
        struct rtt rtt;

        /* receiver */
        bool run;              /* a data run goes on: the numbers below mean something */
        bool ack_now;             /* an acknowledgement is due, whatever the numbers say */
        bool window_requested;            /* the peer has asked for the window */
        uint32_t want;         /* next in order */
        uint32_t edge;         /* first that may not come */
        uint32_t acked;        /* acknowledged last */
        uint32_t advertised;         /* edge that the peer has been told */
        uint32_t since_ack;        /* packets since the peer was told anything */
        uint32_t peak_length;         /* octets of the largest packets that came lately */
        int64_t last_rx_at;      /* anything came last; NEVER: not yet */
        int64_t last_data_rx_at; /* data came last */
        int64_t ack_at;
        struct recvq recvq;

        struct keepalive alive;
        struct frcp_counters counters;
};

/* 0 or -EINVAL. What is allocated later goes with frcp_fini. */
int frcp_init(struct frcp *frcp, const struct frcp_config *config, frcp_send *send, void *arg, int64_t now);
void frcp_fini(struct frcp *frcp);

/* ---- writing ---- */

/*
 * Write a packet; an empty one is a keep-alive. Returns its length: all of it will be sent. -EAGAIN: the window is shut, or
 * there is no room; -EMSGSIZE; why the flow is down. A peer that cannot reassemble gets no fragments.
 */
ssize_t frcp_write(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now);

/* Whether a write of so many octets would be taken now, or fail at once. */
bool frcp_writable(const struct frcp *frcp, uint32_t length);

/* Largest packet that can be written. */
uint32_t frcp_max_packet(const struct frcp *frcp);

/*
 * Nothing more will be written; or `leaving`, read neither. The peer learns it when it has read everything. 0; -EAGAIN: no room
 * now; -ENOTSUP: the peer does not understand it; why the flow is down. Once said it is said.
 */
int frcp_send_fin(struct frcp *frcp, bool leaving, int64_t now);

/* ---- reading ---- */

struct frcp_piece {
        const uint8_t *data;
        uint32_t length;
};

/*
 * A packet came from the flow below. With `direct`, one that is next to be read is not copied and kept: `direct` points
 * into the packet, it counts as read, and true is returned.
 */
bool frcp_receive(struct frcp *frcp, const uint8_t *packet, uint32_t length, int64_t now,
                  struct frcp_piece *direct);

/* The packet at the front, which frcp_pop takes away. False: none is there. */
bool frcp_front(const struct frcp *frcp, struct frcp_piece *piece);
void frcp_pop(struct frcp *frcp, int64_t now);

/* ---- time ---- */

/* Do what is due: acknowledge, send again, probe, keep alive, send what waited. */
void frcp_run(struct frcp *frcp, int64_t now);

/* When to call frcp_run next, if nothing else happens; NEVER. */
int64_t frcp_deadline(const struct frcp *frcp);

/* ---- control and end ---- */

/* Switch flow control, linger, fragmentation, reassembly. FRCP_RETRANSMIT stays what it is. */
void frcp_set_flags(struct frcp *frcp, uint32_t flags);

/* The user deallocates: it says so, with a last acknowledgement. */
void frcp_close(struct frcp *frcp, int64_t now);

/* Whether the end has to go on (frcp_receive, frcp_run) because of data that is not acknowledged. Never longer than R. */
bool frcp_lingers(const struct frcp *frcp);

/* Octets that were written, and that the peer has not acknowledged; of a flow that is down, when it went down. */
uint64_t frcp_unacknowledged(const struct frcp *frcp);

/* Seconds that the flow below must not be used for anything else (spec/frcp 10). */
uint32_t frcp_quiet_time(const struct frcp *frcp, int64_t now);

/* ---- between the files of the machine ---- */

/* Seconds after which a sender (a receiver) knows nothing of the other any more. */
uint32_t frcp_sender_inactivity(const struct frcp *frcp);
uint32_t frcp_receiver_inactivity(const struct frcp *frcp);

/* Whether `at` is no longer than `span` ago; NEVER is. */
static inline bool frcp_recent(int64_t at, int64_t span, int64_t now)
{
        return at != NEVER && now - at <= span;
}

/* A packet without data; `map` goes behind the header. */
bool frcp_control(struct frcp *frcp, struct pci *pci, const uint8_t *map, uint32_t length, int64_t now);

/* A packet with data, new or again, with what is to be said beside it now. False: no room below. */
bool frcp_transmit(struct frcp *frcp, uint32_t seq, uint8_t bits, const uint8_t *data, uint32_t length, int64_t now);

/* Whether enough is under way, as of now: called when that has changed. */
void frcp_limit_inflight(struct frcp *frcp);

/* Packets that wait, as far as the window goes; then, whether the window is open. */
void frcp_flush(struct frcp *frcp, int64_t now);

/* What acknowledgement number and window of a packet say to our sender; `map` is what came out of order. */
void frcp_acknowledged(struct frcp *frcp, uint32_t ackno, const uint8_t *map, uint32_t length, int64_t now);
void frcp_window(struct frcp *frcp, uint32_t window, int64_t now);

/* Send again what was lost. */
void frcp_resend(struct frcp *frcp, int64_t now);

/* Acknowledge, or tell the window, when that is due. */
void frcp_acknowledge(struct frcp *frcp, int64_t now);

/* The edge as of now; it never goes back. */
void frcp_update_edge(struct frcp *frcp);

/* The packet with this number, which waits or is not acknowledged, says that we write no more: no window has to be open. */
bool frcp_is_fin(const struct frcp *frcp, uint32_t seq);

/* The peer has said, in order, that it writes no more. */
void frcp_receive_fin(struct frcp *frcp, uint8_t bits);

/* Whether the end, or that and the one after it, is worth waiting for, when nothing else is not acknowledged. */
bool frcp_fin_lingers(const struct frcp *frcp);

/* Nothing goes any more. */
void frcp_break(struct frcp *frcp, int why);

#endif
