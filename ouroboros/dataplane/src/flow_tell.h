/*
 * flow_tell: telling the other side of a flow that packets, or room, are there. With a lock of the end held: a detaching thread
 * must not unmap what is used here.
 */
#ifndef OUROBOROS_FLOW_TELL_H
#define OUROBOROS_FLOW_TELL_H

#include "flow.h"

static inline void flow_tell(struct flow *flow, _Atomic uint32_t *word, uint32_t wanted)
{
        if (wanted & WAIT_FUTEX)
                wait_wake(word);
        if (wanted & WAIT_EVENT && flow->peer != NULL)
                events_raise(flow->peer, flow->peer_fd);
}

#endif
