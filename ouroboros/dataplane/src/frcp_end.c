#define _GNU_SOURCE
#include "frcp_end.h"

#include <stdlib.h>
#include <string.h>

#include "flow_notify.h"
#include "scratch.h"

/* ---- to the ring ---- */

void frcp_end_publish(struct frcp_end *end)
{
        if (end->unpublished == 0)
                return;
        flow_publish(end->flow, end->unpublished);
        end->unpublished = 0;
}

uint32_t frcp_end_space(struct frcp_end *end)
{
        struct flow *flow = end->flow;
        uint32_t space = end_space(&flow->end);

        if (space > end->unpublished && !budget_spent(&flow->end.budget))
                return space - end->unpublished;
        frcp_end_publish(end);
        return end_space_now(&flow->end);
}

static bool emit(void *arg, const uint8_t *header, uint32_t header_length, const uint8_t *data, uint32_t length)
{
        struct frcp_end *end = arg;
        struct flow *flow = end->flow;

        if (frcp_end_space(end) == 0 || flow_put(flow, end->unpublished, header, header_length, data, length) < 0)
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

void frcp_end_read(struct frcp_end *end, struct frcp_reader *reader, int64_t now)
{
        struct frcp_piece piece;

        while (reader->count < reader->max && frcp_front(&end->frcp, &piece) && piece.length <= reader->size) {
                deliver(reader, &piece);
                frcp_pop(&end->frcp, now);
        }
}

uint32_t frcp_end_take(struct frcp_end *end, uint32_t most, struct frcp_reader *reader, int64_t now)
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
                    frcp_receive(&end->frcp, packet, length, now, fits ? &piece : NULL))
                        deliver(reader, &piece);
                pool_free(flow->end.pool, SLOT_BLOCK(slot), flow->end.rx.owner);
                if (reader != NULL)
                        frcp_end_read(end, reader, now);
        }
        if (i > 0)
                end_consume(&flow->end, i);
        return i;
}

void frcp_end_run(struct frcp_end *end, int64_t now)
{
        struct flow *flow = end->flow;

        frcp_run(&end->frcp, now);
        frcp_end_publish(end);
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

void frcp_end_leave(struct frcp_end *end, int64_t now)
{
        bool request;

        frcp_end_run(end, now);
        request = end->request_poll != NULL &&
              (!atomic_exchange_explicit(&end->poll_requested, true, memory_order_relaxed) || end->state_changed);
        frcp_end_unlock(end->flow);
        if (request)
                end->request_poll(end->request_arg, end->flow);
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

void frcp_io_end(struct flow *flow)
{
        if (flow->frcp == NULL)
                return;
        frcp_fini(&flow->frcp->frcp);
        free(flow->frcp);
        flow->frcp = NULL;
}
