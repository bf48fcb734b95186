/* frcp_resend: acknowledgements, and the retransmission of unacknowledged packets (spec/frcp 8). */
#include "frcp.h"

/* retransmissions of `una` without an acknowledgement, after which every packet backs off with the RTO */
#define FAST_RETRIES 3u
#define RETRIES_BEFORE_PROBING 5u /* the same, after which `una` alone is retransmitted as a probe */
#define REORDER_THRESHOLD 3u      /* packets received after a missing one, before it counts as lost */

#define LARGE_LOSS_LIMIT 1024u          /* loss budget of large packets: above it the sender clamps */
/* retransmissions without an answer for this time are not a pause of the peer */
#define LARGE_LOSS_TIME (250 * FRCP_MS)

/*
 * A packet is retransmitted. After a timeout it may be late only: a packet counts as lost when later packets were
 * received.
 */
static void note_large_loss(struct frcp *frcp, const struct sent *sent, bool timed_out, int64_t now)
{
        if (sent->length <= FRCP_CLAMP_OCTETS)
                return;
        if (!timed_out)
                frcp->large_loss += FRCP_LARGE_LOSS;
        frcp->clamped = frcp->clamped || frcp->large_loss > LARGE_LOSS_LIMIT ||
                        (frcp->rto_count >= FAST_RETRIES && now - sent->first >= LARGE_LOSS_TIME);
}

static bool seq_only(const struct sent *sent)
{
        return sent->kept < sent->length;
}

/*
 * A packet whose delivery is assured is not retransmitted: the sender asks for the acknowledgement, which the peer
 * may have had no time to send.
 */
static bool send_rendez_vous(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_RDV};

        return frcp_control(frcp, &pci, NULL, 0, now);
}

static bool transmit_again(struct frcp *frcp, uint32_t seq, struct sent *sent, bool timed_out, int64_t now)
{
        if (seq_only(sent) ? !send_rendez_vous(frcp, now) :
                         !frcp_transmit(frcp, seq, sent->bits, sendq_data(&frcp->sendq, sent), sent->length, now))
                return false;
        rtt_resent(&frcp->rtt, seq, timed_out);
        if (!seq_only(sent)) {
                note_large_loss(frcp, sent, timed_out, now);
                frcp->counters.resent++;
        }
        sent->tries++;
        sent->last = now;
        sent->due = now + rtt_timeout(&frcp->rtt);
        return true;
}

/*
 * When the packet is due. A packet sent with a larger RTO, before the first sample, need not wait for that one; nor
 * need a packet that has backed off, once acknowledgements arrive again: it is a gap at the peer.
 */
static int64_t due_at(const struct frcp *frcp, const struct sent *sent, int64_t timeout)
{
        bool hole = frcp->rto_count < FAST_RETRIES && sent->tries > 0 && frcp->rtt.srtt != 0;
        int64_t due = sent->last + (hole ? rtt_base_timeout(&frcp->rtt) : timeout);

        return due < sent->due ? due : sent->due;
}

/*
 * Retransmit lost packets: later packets were received. A packet that was retransmitted already has its own timeout.
 */
static void resend_skipped(struct frcp *frcp, uint32_t highest, int64_t now)
{
        int64_t timeout = frcp->rtt.srtt + 4 * frcp->rtt.dev;
        uint32_t budget = FRCP_BURST;

        for (uint32_t seq = frcp->una; seq_before(seq + REORDER_THRESHOLD, highest + 1) && budget > 0; seq++) {
                struct sent *sent = sendq_at(&frcp->sendq, seq);

                if (sent->arrived || (sent->tries > 0 && now - sent->last < timeout) ||
                    now - sent->first >= FRCP_R)
                        continue;
                if (!transmit_again(frcp, seq, sent, false, now))
                        return;
                budget--;
        }
}

/* Process the map of packets that the peer has received beyond `una`. */
static void note_arrived(struct frcp *frcp, const uint8_t *map, uint32_t length, int64_t now)
{
        uint32_t highest = frcp->una;

        for (uint32_t i = 0; i < length * 8; i++) {
                uint32_t seq = frcp->una + 1 + i;

                if (!seq_before(seq, frcp->nxt))
                        break;
                if (map[i / 8] == 0)
                        i |= 7;
                if (!(map[i / 8] & 1u << i % 8))
                        continue;
                sendq_at(&frcp->sendq, seq)->arrived = true;
                highest = seq;
                if (frcp->rtt.probing && seq == frcp->rtt.probe)
                        rtt_acked(&frcp->rtt, seq + 1, now);
        }
        if (highest != frcp->una)
                resend_skipped(frcp, highest, now);
}

void frcp_acknowledged(struct frcp *frcp, uint32_t ackno, const uint8_t *map, uint32_t length, int64_t now)
{
        if (!frcp->config.retransmit)
                return;
        if (ackno - frcp->una > frcp->nxt - frcp->una) {
                /* An old acknowledgement, or one of packets never sent. */
                frcp->counters.malformed += seq_before(frcp->nxt, ackno);
                return;
        }
        if (ackno != frcp->una) {
                rtt_acked(&frcp->rtt, ackno, now);
                frcp->una = ackno;
                frcp->confirmed = true;
                frcp->rto_count = 0;
                frcp->in_flight -= sendq_drop(&frcp->sendq, ackno);
                frcp_limit_inflight(frcp);
                if (frcp->una != frcp->nxt) {
                        struct sent *oldest = sendq_at(&frcp->sendq, frcp->una);
                        int64_t due = due_at(frcp, oldest, rtt_timeout(&frcp->rtt));

                        frcp->resend_at = due < frcp->resend_at ? due : frcp->resend_at;
                }
        }
        if (frcp->config.selective && frcp->una != frcp->nxt)
                note_arrived(frcp, map, length, now);
}

/* ---- time ---- */

/*
 * The peer's maps cannot be trusted once one of them contains a packet that the peer does not acknowledge: clear
 * them.
 */
static void clear_arrived(struct frcp *frcp)
{
        if (!sendq_at(&frcp->sendq, frcp->una)->arrived)
                return;
        for (uint32_t seq = frcp->una; seq != frcp->nxt; seq++)
                sendq_at(&frcp->sendq, seq)->arrived = false;
}

/*
 * Whether the oldest packet alone is sent, as a probe: no acknowledgement has arrived for some time, or only sequence
 * numbers are kept.
 */
static bool probing(const struct frcp *frcp)
{
        return frcp->rto_count >= RETRIES_BEFORE_PROBING || seq_only(sendq_at(&frcp->sendq, frcp->una));
}

/* Retransmit the packets in [una, end) that are due; returns the time when the next one is. */
static int64_t resend_due(struct frcp *frcp, uint32_t end, int64_t now)
{
        int64_t timeout = rtt_timeout(&frcp->rtt), next = NEVER;
        uint32_t budget = FRCP_BURST;

        for (uint32_t seq = frcp->una; seq != end; seq++) {
                struct sent *sent = sendq_at(&frcp->sendq, seq);
                int64_t due = due_at(frcp, sent, timeout);

                if (due <= now && !sent->arrived && budget > 0 && transmit_again(frcp, seq, sent, true, now)) {
                        due = sent->due;
                        budget--;
                        frcp->rto_count += seq == frcp->una;
                }
                if (!sent->arrived && due < next)
                        next = due;
        }
        return next;
}

/*
 * Retransmit overdue packets, the oldest first, at most FRCP_BURST together: the acknowledgement of the first often
 * covers the others. The oldest was sent first, so R bounds all of them through it.
 */
void frcp_resend(struct frcp *frcp, int64_t now)
{
        const struct sent *oldest;
        int64_t next;

        frcp->resend_at = NEVER;
        if (frcp->una == frcp->nxt) {
                if (frcp->sendq.count == 0)
                        sendq_clear(&frcp->sendq, frcp->nxt); /* an idle flow holds no memory */
                return;
        }
        oldest = sendq_at(&frcp->sendq, frcp->una);
        if (now - oldest->first >= FRCP_R) {
                frcp_break(frcp, -EFLOWDOWN);
                return;
        }
        clear_arrived(frcp);
        if (seq_before(frcp->rtt.probe, frcp->una) || probing(frcp))
                frcp->rtt.probe = frcp->una; /* the RTO doubles with this packet */
        next = resend_due(frcp, probing(frcp) ? frcp->una + 1 : frcp->nxt, now);
        if (next <= now)
                next = now + FRCP_TICK;
        frcp->resend_at = next < oldest->first + FRCP_R ? next : oldest->first + FRCP_R;
}
