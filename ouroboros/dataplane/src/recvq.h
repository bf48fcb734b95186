/*
 * recvq: what a receiver keeps: packets that came before their turn, the fragments of a packet that is not whole yet, and
 * whole packets that nobody has read (paper 2.14; spec/frcp 6).
 *
 * Everything is allocated when it is needed: a flow whose reader keeps up, on a path that keeps the order, has nothing
 * here. What is kept is bounded by the window in number, and by RECVQ_OCTETS in octets (half of it
 * by what came before its turn), and one packet that is being put together.
 */
#ifndef OUROBOROS_RECVQ_H
#define OUROBOROS_RECVQ_H

#include <stdbool.h>
#include <stdint.h>

#define RECVQ_OCTETS (8u << 20)
#define RECVQ_WINDOW 4096u /* largest window */

struct held {
        struct held *next;
        uint32_t length;
        uint32_t size;   /* octets there is room for */
        uint32_t credit; /* packets of the peer's window that come free when it is read */
        uint8_t bits;    /* PCI_PIECE bits */
        uint8_t data[];
};

struct recvq {
        struct held **place; /* before their turn: of sequence number n, place[n & mask] */
        uint32_t window;     /* a power of two: places there are when there are any */
        uint32_t early;      /* packets there */
        uint32_t octets;     /* of everything kept */
        uint32_t unread;     /* packets of the peer's window that the reader holds shut */
        uint32_t largest;    /* packet; 0: as large as there is memory for */
        uint32_t messages;   /* whole ones, waiting to be read */
        struct held *front;
        struct held **back;
        struct held *partial; /* a packet that is being put together */
        bool raw_fragments;           /* the beginning of the packet that comes was read as a piece: so will be its rest */
        uint64_t spoilt;      /* packets that were given up: a fragment was lost, or they would be too large */
};

void recvq_init(struct recvq *q, uint32_t window, uint32_t largest);
void recvq_clear(struct recvq *q);

/* Packets that came before their turn are not wanted any more, nor what a packet lacks fragments of. */
void recvq_drop_pending(struct recvq *q);

/* Keep what came before its turn, less than a window ahead. False: there already, or too much. */
bool recvq_hold(struct recvq *q, uint32_t seq, uint8_t bits, const uint8_t *data, uint32_t length);
bool recvq_has(const struct recvq *q, uint32_t seq);

/* Take it back when its turn has come. NULL: it is not there. */
struct held *recvq_turn(struct recvq *q, uint32_t seq);

/*
 * What is next in order. As the bits say it is a packet, or a fragment; with `reassemble` off everything is a packet.
 * recvq_add_held takes what recvq_turn gave. False: no memory, nothing has changed.
 */
bool recvq_add(struct recvq *q, uint8_t bits, const uint8_t *data, uint32_t length, bool reassemble);
bool recvq_add_held(struct recvq *q, struct held *held, bool reassemble);

/* Whether the next packet in order, with these bits, is read as it is, be it a fragment; and that it was. */
bool recvq_is_raw(const struct recvq *q, uint8_t bits, bool reassemble);
void recvq_note_raw(struct recvq *q, uint8_t bits, bool raw);

/* What is there of a packet that is being put together is read as it is, and so is its rest. */
void recvq_release_partial(struct recvq *q);

/* A fragment is missing for ever (flows that do not retransmit). */
void recvq_gap(struct recvq *q);

/* The packet at the front was read. */
void recvq_pop(struct recvq *q);

/* Which of the packets after `want` are here: bit i of the map is want + 1 + i. Octets used, at most `size`. */
uint32_t recvq_map(const struct recvq *q, uint32_t want, uint8_t *map, uint32_t size);

#endif
