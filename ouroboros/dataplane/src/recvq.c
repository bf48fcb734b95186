#include "recvq.h"

#include <stdlib.h>
#include <string.h>

#include "pci.h"

#define LARGEST (1u << 30)

void recvq_init(struct recvq *q, uint32_t window, uint32_t largest)
{
        *q = (struct recvq){.window = window, .largest = largest ? largest : LARGEST};
        q->back = &q->front;
}

static struct held *make(const uint8_t *data, uint32_t length, uint32_t size, uint8_t bits)
{
        struct held *held = malloc(sizeof *held + size);

        if (held == NULL)
                return NULL;
        *held = (struct held){.length = length, .size = size, .bits = bits};
        memcpy(held->data, data, length);
        return held;
}

static void give_up(struct recvq *q, struct held *held)
{
        q->octets -= held->size;
        q->unread -= held->credit;
        free(held);
}

static void drop_partial(struct recvq *q)
{
        if (q->partial == NULL)
                return;
        give_up(q, q->partial);
        q->partial = NULL;
        q->spoilt++;
}

void recvq_drop_pending(struct recvq *q)
{
        for (uint32_t i = 0; q->early > 0 && i < q->window; i++)
                if (q->place[i] != NULL) {
                        give_up(q, q->place[i]);
                        q->early--;
                }
        free(q->place);
        q->place = NULL;
        q->raw_fragments = false;
        drop_partial(q);
}

void recvq_clear(struct recvq *q)
{
        recvq_drop_pending(q);
        while (q->front != NULL)
                recvq_pop(q);
}

static bool has_space(const struct recvq *q, uint32_t length, uint32_t limit)
{
        return q->octets <= limit && length <= limit - q->octets;
}

bool recvq_has(const struct recvq *q, uint32_t seq)
{
        return q->place != NULL && q->place[seq & (q->window - 1)] != NULL;
}

bool recvq_hold(struct recvq *q, uint32_t seq, uint8_t bits, const uint8_t *data, uint32_t length)
{
        struct held *held;

        if (recvq_has(q, seq) || !has_space(q, length, RECVQ_OCTETS / 2))
                return false;
        if (q->place == NULL)
                q->place = calloc(q->window, sizeof *q->place);
        held = q->place != NULL ? make(data, length, length, bits) : NULL;
        if (held == NULL)
                return false;
        q->place[seq & (q->window - 1)] = held;
        q->octets += length;
        q->early++;
        return true;
}

struct held *recvq_turn(struct recvq *q, uint32_t seq)
{
        struct held *held;

        if (!recvq_has(q, seq))
                return NULL;
        held = q->place[seq & (q->window - 1)];
        q->place[seq & (q->window - 1)] = NULL;
        q->octets -= held->size;
        if (--q->early == 0) {
                free(q->place);
                q->place = NULL;
        }
        return held;
}

static void make_ready(struct recvq *q, struct held *held)
{
        if (held->length == 0) { /* empty packets are never read */
                give_up(q, held);
                return;
        }
        held->next = NULL;
        *q->back = held;
        q->back = &held->next;
        q->messages++;
}

/* Append a fragment to the packet in reassembly; its buffer grows by doubling. */
static bool append(struct recvq *q, const struct held *piece)
{
        struct held *whole = q->partial;
        uint32_t size = whole->size;

        while (size - whole->length < piece->length)
                size = size * 2 + 64;
        if (size != whole->size) {
                if (size > q->largest)
                        size = q->largest; /* not less than both together: the caller has checked */
                whole = realloc(whole, sizeof *whole + size);
                if (whole == NULL)
                        return false;
                q->partial = whole;
                q->octets += size - whole->size;
                whole->size = size;
        }
        memcpy(whole->data + whole->length, piece->data, piece->length);
        whole->length += piece->length;
        whole->credit += piece->credit;
        return true;
}

/*
 * One large packet must not keep the peer's window shut until it is complete. With nothing else to read, a packet in
 * reassembly does not count against the window once it has half of it; `largest` bounds its size.
 */
static void relieve(struct recvq *q)
{
        if (q->partial != NULL && q->messages == 0 && q->partial->credit >= q->window / 2) {
                q->unread -= q->partial->credit;
                q->partial->credit = 0;
        }
}

/* Append the fragment to the packet in reassembly, or drop it. */
static bool assemble(struct recvq *q, struct held *piece)
{
        if (q->partial == NULL) {
                q->spoilt += piece->bits == PCI_LAST; /* the first fragment was lost: counted once a packet */
                give_up(q, piece);
                return true;
        }
        /* The first fragment alone may be too large. */
        if (q->partial->length > q->largest || piece->length > q->largest - q->partial->length) {
                drop_partial(q);
                give_up(q, piece);
                return true;
        }
        if (!append(q, piece))
                return false;
        q->octets -= piece->size;
        if (piece->bits == PCI_LAST) {
                make_ready(q, q->partial);
                q->partial = NULL;
        }
        free(piece);
        return true;
}

bool recvq_is_raw(const struct recvq *q, uint8_t bits, bool reassemble)
{
        return !reassemble || bits == PCI_WHOLE || (q->raw_fragments && !(bits & PCI_FFGM));
}

void recvq_note_raw(struct recvq *q, uint8_t bits, bool raw)
{
        q->raw_fragments = raw && bits & PCI_MFGM;
}

void recvq_release_partial(struct recvq *q)
{
        if (q->partial == NULL)
                return;
        make_ready(q, q->partial);
        q->partial = NULL;
        q->raw_fragments = true;
}

bool recvq_add_held(struct recvq *q, struct held *held, bool reassemble)
{
        bool raw = recvq_is_raw(q, held->bits, reassemble);
        uint8_t bits = held->bits;

        q->octets += held->size;
        q->unread++;
        held->credit = 1;
        if (raw || held->bits == PCI_FIRST)
                drop_partial(q);
        if (raw) {
                make_ready(q, held);
        } else if (held->bits == PCI_FIRST) {
                q->partial = held;
        } else if (!assemble(q, held)) {
                q->octets -= held->size;
                q->unread--;
                return false;
        }
        recvq_note_raw(q, bits, raw);
        relieve(q);
        return true;
}

bool recvq_add(struct recvq *q, uint8_t bits, const uint8_t *data, uint32_t length, bool reassemble)
{
        struct held *held;

        /* An empty queue takes any packet: without it the reader would never get one. */
        if (q->messages > 0 && !has_space(q, length, RECVQ_OCTETS))
                return false;
        held = make(data, length, length, bits);
        if (held == NULL)
                return false;
        if (recvq_add_held(q, held, reassemble))
                return true;
        free(held);
        return false;
}

void recvq_gap(struct recvq *q)
{
        q->raw_fragments = false;
        drop_partial(q);
}

void recvq_pop(struct recvq *q)
{
        struct held *held = q->front;

        q->front = held->next;
        if (q->front == NULL)
                q->back = &q->front;
        q->messages--;
        give_up(q, held);
        relieve(q);
}

uint32_t recvq_map(const struct recvq *q, uint32_t want, uint8_t *map, uint32_t size)
{
        uint32_t used = 0, found = 0;

        memset(map, 0, size);
        for (uint32_t i = 0; found < q->early && i < q->window - 1 && i < size * 8; i++)
                if (recvq_has(q, want + 1 + i)) {
                        map[i / 8] |= (uint8_t)(1u << i % 8);
                        used = i / 8 + 1;
                        found++;
                }
        return used;
}
