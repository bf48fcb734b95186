#include "end.h"

#include "map.h"

bool end_exists(const struct segment *segment, const struct flow_spec *spec)
{
        return spec->index < segment->flows && spec->side <= 1 && spec->fd - FD_BASE < EVENT_BITS;
}

void end_attach(struct end *end, struct pool *pool, struct segment *segment, struct events *peer,
                const struct flow_spec *spec)
{
        size_t largest = pool_largest(pool);

        end->pool = pool_hold(pool);
        end->segment = segment_hold(segment);
        end->shm = &segment->shm->flow[spec->index];
        end->own = &end->shm->end[spec->side];
        end->peer = events_hold(peer);
        end->fd = spec->fd;
        end->side = spec->side;
        end->peer_fd = spec->peer_fd;
        end->max_packet = (uint32_t)(spec->max_packet > 0 && spec->max_packet < largest ? spec->max_packet : largest);
        ring_attach(&end->tx, end->shm, spec->side, spec->serial, true);
        ring_attach(&end->rx, end->shm, 1 - spec->side, spec->serial, false);
}

void end_detach(struct end *end)
{
        seal_destroy(end->seal);
        events_unmap(end->peer);
        segment_unmap(end->segment);
        pool_unmap(end->pool);
}

int end_protect(struct end *end, uint32_t cipher, const uint8_t *key, bool check)
{
        int error = seal_create(&end->seal, end->max_packet, cipher, key, check);

        if (end->seal != NULL)
                end->max_packet -= end->seal->overhead;
        return error;
}

uint32_t end_drain(struct end *end)
{
        uint32_t ready = ring_ready(&end->rx);

        for (uint32_t i = 0; i < ready; i++) {
                uint64_t slot = ring_peek(&end->rx, i);

                if (pool_packet(end->pool, slot) != NULL)
                        pool_free(end->pool, SLOT_BLOCK(slot), end->rx.owner);
                CRASH(17);
        }
        return ready > 0 ? ring_consume(&end->rx, ready) : 0;
}

int end_error(const struct end *end)
{
        uint32_t state = end_state(end);

        if (state & END_PEER)
                return -EFLOWPEER;
        return state ? -EFLOWDOWN : 0;
}

uint32_t end_take_events(struct end *end)
{
        if (atomic_load_explicit(&end->own->events, memory_order_relaxed) == 0)
                return 0;
        return end_events_now(end, atomic_exchange_explicit(&end->own->events, 0, memory_order_acq_rel));
}

uint32_t end_events_now(const struct end *end, uint32_t events)
{
        if (events & (EVENT_DOWN | EVENT_UP)) {
                events &= ~(EVENT_DOWN | EVENT_UP);
                events |= end_state(end) ? EVENT_DOWN : EVENT_UP;
        }
        return events;
}
