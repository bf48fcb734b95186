/*
 * frcp_fin: the end of what an end of a flow writes, as a packet among the others (extension END). The prototype's protocol
 * has none: there a peer that has left cannot be told from one that is silent (spec/frcp 10).
 *
 * It is data of no octets, with a number of its own: acknowledged, sent again, in order. An unfragmented packet: I write no
 * more. The first fragment of one: I have left. It may come beyond the window when everything before it has come.
 */
#include "frcp.h"

/* Somebody who has left does not wait longer than that for the peer to hear it. */
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
        frcp->write_blocked = false; /* nobody can write any more: who did is told so */
        frcp_flush(frcp, now);
        return 0;
}

void frcp_receive_fin(struct frcp *frcp, uint8_t bits)
{
        frcp->want++;
        frcp->fin_received = bits == PCI_FIRST ? FRCP_CLOSED : FRCP_HALF_CLOSED;
        recvq_gap(&frcp->recvq); /* a packet that it did not write to its end */
        if (frcp->fin_received != FRCP_CLOSED)
                return;
        recvq_drop_pending(&frcp->recvq); /* there is nothing behind */
        /* Nobody reads what we write, and nobody needs a sign of life. */
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
                return true; /* it found no room in the flow below yet */
        /* The oldest is sent again whatever happens: from the newest its time counts. */
        return frcp->config.mpl_ms > FRCP_DIRECT_MS && newest->tries < TRIES && oldest->last - newest->first < WAIT;
}
