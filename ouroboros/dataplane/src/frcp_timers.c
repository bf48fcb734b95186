/* frcp_timers: the timers of a flow end (spec/frcp 3, 7, 8, 10; keepalive.h). */
#include "frcp_private.h"

static void keep_alive(struct frcp *frcp, int64_t now)
{
        if (keepalive_lost(&frcp->alive, now))
                frcp_break(frcp, -EFLOWPEER);
        else if (keepalive_quiet(&frcp->alive, now) && frcp->send(frcp->arg, NULL, 0, NULL, 0))
                frcp->alive.sent = now;
        else if (keepalive_quiet(&frcp->alive, now))
                frcp->at.stall = now + FRCP_TICK;
}

/* FRCP-16. */
static void rendez_vous(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_RDV};

        frcp->at.rdv = now + (now - frcp->tx.shut_at < FRCP_RDV_SLOW ? FRCP_RDV : FRCP_RDV_SLOW);
        frcp_control(frcp, &pci, NULL, 0, now);
}

/*
 * R bounds each packet from its first transmission, but neither packets behind a shut window or a full flow below,
 * nor the sum of packets that a peer acknowledges one at a time. A closing end waits for R and no longer (FRCP-26).
 */
static void stop_lingering(struct frcp *frcp)
{
        frcp->at.linger = NEVER;
        if (frcp_lingers(frcp))
                frcp_break(frcp, -EFLOWDOWN);
}

void frcp_run(struct frcp *frcp, int64_t now)
{
        if (frcp->down != 0)
                return;
        if (now >= frcp->at.linger)
                stop_lingering(frcp);
        if (frcp->down == 0 && now >= frcp->at.resend)
                frcp_resend(frcp, now);
        if (frcp->down != 0)
                return;
        frcp->at.stall = NEVER;
        frcp_flush(frcp, now);
        frcp_acknowledge(frcp, now);
        if (now >= frcp->at.rdv)
                rendez_vous(frcp, now);
        if (now >= keepalive_deadline(&frcp->alive))
                keep_alive(frcp, now);
}

int64_t frcp_deadline(const struct frcp *frcp)
{
        const int64_t at[] = {frcp->at.resend, frcp->at.ack, frcp->at.rdv, frcp->at.stall, frcp->at.linger};
        int64_t first = keepalive_deadline(&frcp->alive);

        if (frcp->down != 0)
                return NEVER;
        if (first != NEVER && frcp->at.stall != NEVER && keepalive_quiet(&frcp->alive, frcp->at.stall))
                first = frcp->alive.received + frcp->alive.timeout + 1; /* the keep-alive waits for space below */
        for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++)
                if (at[i] < first)
                        first = at[i];
        return first;
}
