#include "sendq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PLACES_FIRST 8u
#define OCTETS_FIRST 512u

void sendq_init(struct sendq *q, uint32_t first)
{
        memset(q, 0, sizeof *q);
        q->first = first;
}

void sendq_clear(struct sendq *q, uint32_t first)
{
        free(q->place);
        free(q->ring);
        sendq_init(q, first);
}

static int grow_places(struct sendq *q, uint32_t packets)
{
        uint32_t count = q->place == NULL ? PLACES_FIRST : q->mask + 1;
        struct sent *place;

        while (count < q->count + packets)
                count *= 2;
        place = malloc(count * sizeof *place);
        if (place == NULL)
                return -ENOMEM;
        for (uint32_t i = 0; i < q->count; i++)
                place[(q->first + i) & (count - 1)] = *sendq_at(q, q->first + i);
        free(q->place);
        q->place = place;
        q->mask = count - 1;
        return 0;
}

/* Allocate a larger ring, with all octets at its beginning. */
static int grow_ring(struct sendq *q, uint32_t octets)
{
        uint32_t size = q->size == 0 ? OCTETS_FIRST : q->size, at = 0;
        uint8_t *ring;

        while (size < q->octets + octets)
                size *= 2;
        ring = malloc(size);
        if (ring == NULL)
                return -ENOMEM;
        for (uint32_t i = 0; i < q->count; i++) {
                struct sent *sent = sendq_at(q, q->first + i);

                if (sent->kept > 0) /* without any octets kept there is no ring yet */
                        memcpy(ring + at, q->ring + sent->at, sent->kept);
                sent->at = at;
                at += sent->kept;
        }
        free(q->ring);
        q->ring = ring;
        q->size = size;
        q->head = at;
        q->tail = 0;
        return 0;
}

/* Whether the octets fit in one piece: behind the newest, or before the oldest. */
static bool fits(const struct sendq *q, uint32_t octets)
{
        if (q->head < q->tail)
                return q->tail - q->head > octets;
        return q->size - q->head >= octets || q->tail > octets;
}

bool sendq_has_space(const struct sendq *q, uint32_t packets, uint32_t octets)
{
        if (q->count + packets > SENDQ_PLACES || octets > SENDQ_OCTETS - q->octets)
                return false;
        return q->count == 0 || q->size < SENDQ_OCTETS || fits(q, octets);
}

int sendq_reserve(struct sendq *q, uint32_t packets, uint32_t octets)
{
        int error = 0;

        if (!sendq_has_space(q, packets, octets))
                return -EAGAIN; /* at the largest size the wrap of the ring alone may be the obstacle */
        if (q->place == NULL || q->count + packets > q->mask + 1)
                error = grow_places(q, packets);
        if (error == 0 && q->octets == 0)
                q->head = q->tail = 0;
        if (error == 0 && !fits(q, octets))
                error = grow_ring(q, octets < q->size ? q->size - q->octets + 1 : octets);
        return error;
}

struct sent *sendq_push(struct sendq *q, const uint8_t *data, uint32_t length, uint8_t bits)
{
        struct sent *sent = sendq_at(q, q->first + q->count);

        if (q->head >= q->tail && q->size - q->head < length)
                q->head = 0;
        *sent = (struct sent){.at = q->head, .length = length, .kept = length, .bits = bits};
        memcpy(q->ring + q->head, data, length);
        q->head += length;
        q->octets += length;
        q->count++;
        return sent;
}

struct sent *sendq_push_seq_only(struct sendq *q, uint32_t length, uint8_t bits)
{
        struct sent *sent = sendq_at(q, q->first + q->count++);

        *sent = (struct sent){.at = q->head, .length = length, .bits = bits};
        return sent;
}

void sendq_pop(struct sendq *q)
{
        struct sent *sent = sendq_at(q, q->first + --q->count);

        q->octets -= sent->kept;
        q->head = sent->at;
}

uint32_t sendq_drop(struct sendq *q, uint32_t seq)
{
        uint32_t dropped = seq - q->first, weight = 0;

        for (uint32_t i = 0; i < dropped && i < q->count; i++) {
                const struct sent *sent = sendq_at(q, q->first + i);

                q->octets -= sent->kept;
                weight += sent_weight(sent->length);
        }
        q->count = dropped < q->count ? q->count - dropped : 0;
        q->first = seq;
        q->tail = q->count > 0 ? sendq_at(q, seq)->at : q->head;
        return weight;
}
