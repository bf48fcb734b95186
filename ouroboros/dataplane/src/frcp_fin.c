/*
 * frcp_fin: FIN, the last packet of one direction of a flow (extension END). The prototype's protocol has none: its
 * peers cannot distinguish an end that has left from one that is silent (spec/frcp 10).
 * FIN is data of 0 octets with a sequence number of its own: acknowledged, retransmitted, in order. As an
 * unfragmented packet it means "this end writes no more", as the first fragment of a packet "this end has left". It
 * may lie beyond the window when everything before it was received.
 */
#include "frcp.h"

/* A closing end waits no longer than this for the acknowledgement of its FIN. */
#define TRIES 5u
#define WAIT (3000 * FRCP_MS)

bool frcp_is_fin(const struct frcp *frcp, uint32_t seq)
{
        return frcp->fin_sent && sendq_at(&frcp->sendq, seq)->length == 0;
}

int frcp_send_fin(struct frcp *frcp, bool leaving, int64_t now)
{
        enum frcp_direction state = leaving ? FRCP_CLOSED : FRCP_HALF_CLOSED;
        int error;

        if (frcp->down != 0)
                return frcp->down;
        if (!frcp->config.fin)
                return -ENOTSUP;
        if (frcp->fin_sent >= state || frcp->fin_received == FRCP_CLOSED)
                return 0;
        if (frcp->sendq.count == 0)
                frcp->sendq.first = frcp->nxt;
        error = sendq_reserve(&frcp->sendq, 1, 1);
        if (error != 0)
                return error;
        sendq_push(&frcp->sendq, (const uint8_t *)"", 0, leaving ? PCI_FIRST : PCI_WHOLE);
        frcp->fin_sent = state;
        frcp->write_blocked = false; /* later writes fail */
        frcp_flush(frcp, now);
        return 0;
}

void frcp_receive_fin(struct frcp *frcp, uint8_t bits)
{
        frcp->want++;
        frcp->fin_received = bits == PCI_FIRST ? FRCP_CLOSED : FRCP_HALF_CLOSED;
        recvq_gap(&frcp->recvq); /* a packet that the peer did not complete */
        if (frcp->fin_received != FRCP_CLOSED)
                return;
        recvq_drop_pending(&frcp->recvq); /* no data follows */
        /* The peer reads no more and needs no keep-alives. */
        sendq_clear(&frcp->sendq, frcp->nxt);
        frcp->una = frcp->nxt;
        frcp->write_blocked = false;
        frcp->resend_at = frcp->shut_at = frcp->rdv_at = frcp->linger_until = NEVER;
        frcp->alive.timeout = 0;
}

bool frcp_fin_lingers(const struct frcp *frcp)
{
        uint32_t end = frcp->sendq.first + frcp->sendq.count;
        const struct sent *oldest = sendq_at(&frcp->sendq, frcp->una), *newest = sendq_at(&frcp->sendq, end - 1);

        if (frcp->nxt != end)
                return true; /* the flow below was full: FIN is not sent yet */
        /* The oldest packet is retransmitted anyhow; the newest decides when to stop waiting. */
        return frcp->config.mpl_ms > FRCP_DIRECT_MS && newest->tries < TRIES && oldest->last - newest->first < WAIT;
}
