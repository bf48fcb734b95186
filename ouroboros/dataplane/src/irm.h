/*
 * irm: operations on shared memory that only the IRMd does: opening and closing the ends of a flow, and returning the
 * blocks of a dead process to the pool.
 */
#ifndef OUROBOROS_IRM_H
#define OUROBOROS_IRM_H

#include "events.h"
#include "pool.h"
#include "segment.h"

/* Clear slot `index` of a segment for a new flow. No process is attached to it. */
void irm_flow_reset(struct segment *segment, uint32_t index);

/*
 * Latch `events` for an end, set and clear bits of its state; wakes its sleepers. `region`, which may be NULL, is the
 * end's event region, `fd` its descriptor there.
 */
void irm_end_signal(struct segment *segment, uint32_t index, uint32_t side, uint32_t set, uint32_t clear,
                    uint32_t events, struct events *region, uint32_t fd);

uint64_t irm_queued(const struct segment *segment, uint32_t index, uint32_t ring);
uint64_t irm_written(const struct segment *segment, uint32_t index, uint32_t ring);

/* Packets that the IPCP at `side` dropped on this flow; invalid slots that it refused. */
uint64_t irm_dropped(const struct segment *segment, uint32_t index, uint32_t side);
uint64_t irm_refused(const struct segment *segment, uint32_t index, uint32_t side);

/* Both ends have detached: free the blocks in the rings. Returns their number. */
uint32_t irm_flow_drain(struct segment *segment, uint32_t index, uint64_t serial, struct pool *pool);

/*
 * Reclaiming the blocks of dead processes. Filled in, then run once:
 * - irm_sweep_owner: everything with this owner word goes back (the dead process; rings whose reader is dead).
 * - irm_sweep_ring: of a ring whose writer is dead and whose reader lives, blocks that were never published go back.
 * - irm_sweep_live: the serials of all flows that exist; blocks of other rings go back (an end died in the middle of
 *   a write, and the flow was released before the sweep).
 */
struct sweep;

struct sweep *irm_sweep_create(struct pool *pool);
int irm_sweep_owner(struct sweep *sweep, uint64_t owner);
int irm_sweep_ring(struct sweep *sweep, const struct segment *segment, uint32_t index, uint32_t ring,
                   uint64_t serial);
int irm_sweep_live(struct sweep *sweep, const uint64_t *serials, size_t count);
uint32_t irm_sweep_run(struct sweep *sweep); /* blocks returned; frees the sweep */

#endif
