/*
 * irm: what only the IRMd does with shared memory: opening and closing the ends of a flow, and returning to the pool
 * what a dead process held.
 */
#ifndef OUROBOROS_IRM_H
#define OUROBOROS_IRM_H

#include "events.h"
#include "pool.h"
#include "segment.h"

/* Make slot `index` of a segment fresh for a new flow. Nobody is attached to it. */
void irm_flow_reset(struct segment *segment, uint32_t index);

/*
 * Latch `events` for an end and set `state` bits there, clear others; wakes whoever sleeps on it.
 * `region`, which may be NULL, is the end's event region, `fd` its descriptor there.
 */
void irm_end_signal(struct segment *segment, uint32_t index, uint32_t side, uint32_t set, uint32_t clear,
                    uint32_t events, struct events *region, uint32_t fd);

uint64_t irm_queued(const struct segment *segment, uint32_t index, uint32_t ring);
uint64_t irm_written(const struct segment *segment, uint32_t index, uint32_t ring);

/* Packets that the IPCP at `side` had for this flow and could not put into it; what it read that made no sense. */
uint64_t irm_dropped(const struct segment *segment, uint32_t index, uint32_t side);
uint64_t irm_refused(const struct segment *segment, uint32_t index, uint32_t side);

/* Both ends have left in good order: free what lies in the rings. Returns how many blocks. */
uint32_t irm_flow_drain(struct segment *segment, uint32_t index, uint64_t serial, struct pool *pool);

/*
 * Reclaiming after deaths. Fill in, run once:
 *   - irm_sweep_owner: everything this owner word holds goes back (the dead process; rings whose reader is dead);
 *   - irm_sweep_ring: of a ring whose writer is dead and whose reader lives, what was never published goes back.
 *   - irm_sweep_live: the serials of all flows there are; what belongs to rings of others goes back (a flow that was
 *     released before the sweep, one end of which had died in the middle of a write).
 */
struct sweep;

struct sweep *irm_sweep_create(struct pool *pool);
int irm_sweep_owner(struct sweep *sweep, uint64_t owner);
int irm_sweep_ring(struct sweep *sweep, const struct segment *segment, uint32_t index, uint32_t ring,
                   uint64_t serial);
int irm_sweep_live(struct sweep *sweep, const uint64_t *serials, size_t count);
uint32_t irm_sweep_run(struct sweep *sweep); /* blocks returned; frees the sweep */

#endif
