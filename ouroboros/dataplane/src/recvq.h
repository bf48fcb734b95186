/*
 * recvq: the receive queue: packets received out of order, the fragments of an incomplete packet, and complete
 * packets that were not read (paper 2.14; spec/frcp 6).
 * Everything is allocated on demand: a flow whose reader keeps up, on a path that preserves order, has nothing here.
 * The window bounds the number of packets, and RECVQ_OCTETS their octets (half of it for those out of order), beside
 * one packet in reassembly.
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
        uint32_t size;   /* octets of space */
        uint32_t credit; /* packets of the peer's window that reading this one frees */
        uint8_t bits;    /* PCI_PIECE bits */
        uint8_t data[];
};

struct recvq {
        struct held **place; /* out of order: sequence number n is in place[n & mask] */
        uint32_t window;     /* a power of two: number of places, once allocated */
        uint32_t early;      /* packets out of order */
        uint32_t octets;     /* of everything kept */
        uint32_t unread;     /* packets of the peer's window that are not read yet */
        uint32_t largest;    /* bound of a packet in reassembly; 0: memory is the only bound */
        uint32_t messages;   /* complete packets, not read */
        struct held *front;
        struct held **back;
        struct held *partial; /* the packet in reassembly */
        /* the first fragments of the current packet were read as packets; the others will be, too */
        bool raw_fragments;
        uint64_t spoilt;      /* packets dropped in reassembly: a fragment was lost, or too large */
};

void recvq_init(struct recvq *q, uint32_t window, uint32_t largest);
void recvq_clear(struct recvq *q);

/* Drop the packets received out of order and the packet in reassembly. */
void recvq_drop_pending(struct recvq *q);

/* Keep a packet received out of order, less than a window ahead. False: a duplicate, or no space. */
bool recvq_hold(struct recvq *q, uint32_t seq, uint8_t bits, const uint8_t *data, uint32_t length);
bool recvq_has(const struct recvq *q, uint32_t seq);

/* Remove the packet `seq` of those out of order, which is next now. NULL: it is missing. */
struct held *recvq_turn(struct recvq *q, uint32_t seq);

/*
 * Add the packet that is next in order: a whole packet or a fragment, by its bits; without `reassemble` every
 * fragment is a packet. recvq_add_held adds a packet of recvq_turn. False: no memory, and nothing has changed.
 */
bool recvq_add(struct recvq *q, uint8_t bits, const uint8_t *data, uint32_t length, bool reassemble);
bool recvq_add_held(struct recvq *q, struct held *held, bool reassemble);

/*
 * Whether the next packet in order, with these bits, is read as a packet though it may be a fragment; note that it
 * was.
 */
bool recvq_is_raw(const struct recvq *q, uint8_t bits, bool reassemble);
void recvq_note_raw(struct recvq *q, uint8_t bits, bool raw);

/* Make the fragments in reassembly readable as a packet, and later ones of it too. */
void recvq_release_partial(struct recvq *q);

/* A fragment is lost (flows that do not retransmit). */
void recvq_gap(struct recvq *q);

/* Remove the packet at the front. */
void recvq_pop(struct recvq *q);

/* Map of the packets received after `want`: bit i is want + 1 + i. Returns the octets used, at most `size`. */
uint32_t recvq_map(const struct recvq *q, uint32_t want, uint8_t *map, uint32_t size);

#endif
