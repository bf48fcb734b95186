/* frcp_resend: what was sent and is not acknowledged: acknowledgements, and what is sent again (spec/frcp 8). */
#include "frcp.h"

#define FAST_RETRIES 3u  /* tries of the oldest packet without an answer, before the RTO is all that counts */
#define RETRIES_BEFORE_PROBING 5u /* the same, before the others are spared */
#define REORDER_THRESHOLD 3u  /* packets that came after one that did not, before it is taken for lost */

#define LARGE_LOSS_LIMIT 1024u           /* so many, of FRCP_LARGE_LOSS each, are too many large packets lost */
#define LARGE_LOSS_TIME (250 * FRCP_MS) /* tries in vain for so long are no pause of the peer's */

/* One is sent again. What timed out may be late: only where others came that were sent later it is lost. */
static void note_large_loss(struct frcp *frcp, const struct sent *sent, bool timed_out, int64_t now)
{
        if (sent->length <= FRCP_CLAMP_OCTETS)
                return;
        if (!timed_out)
                frcp->large_loss += FRCP_LARGE_LOSS;
        frcp->clamped = frcp->clamped || frcp->large_loss > LARGE_LOSS_LIMIT || (frcp->rto_count >= FAST_RETRIES && now - sent->first >= LARGE_LOSS_TIME);
}

static bool seq_only(const struct sent *sent)
{
        return sent->kept < sent->length;
}

/* What cannot be lost is asked for: the peer may have had no time to acknowledge it. */
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
 * What was sent when less was known of the round trip need not wait as long as it was then given. Nor what was sent
 * again in vain, and put off, once acknowledgements come again: it is a hole in what the peer has.
 */
static int64_t due_at(const struct frcp *frcp, const struct sent *sent, int64_t timeout)
{
        bool hole = frcp->rto_count < FAST_RETRIES && sent->tries > 0 && frcp->rtt.srtt != 0;
        int64_t due = sent->last + (hole ? rtt_base_timeout(&frcp->rtt) : timeout);

        return due < sent->due ? due : sent->due;
}

/* Lost: others that were sent later came. What was sent again already has its own time. */
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

/* A map of what the peer has beyond `una`, which it lacks. */
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
                /* Before una: old. After nxt: of what we never sent. */
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

/* A peer that said it has the very packet that it does not acknowledge says nothing one could rely on. */
static void clear_arrived(struct frcp *frcp)
{
        if (!sendq_at(&frcp->sendq, frcp->una)->arrived)
                return;
        for (uint32_t seq = frcp->una; seq != frcp->nxt; seq++)
                sendq_at(&frcp->sendq, seq)->arrived = false;
}

/* Nothing has come back for a while, or nothing is sent again: the oldest packet alone asks whether anybody is there. */
static bool probing(const struct frcp *frcp)
{
        return frcp->rto_count >= RETRIES_BEFORE_PROBING || seq_only(sendq_at(&frcp->sendq, frcp->una));
}

/* The packets in [una, end) that are due; the time when the next is. */
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
 * What has not been acknowledged in time is sent again, the oldest first, and not all at once: the acknowledgement of the
 * first often covers the rest. The oldest was sent first of all: the bound R is its bound.
 */
void frcp_resend(struct frcp *frcp, int64_t now)
{
        const struct sent *oldest;
        int64_t next;

        frcp->resend_at = NEVER;
        if (frcp->una == frcp->nxt) {
                if (frcp->sendq.count == 0)
                        sendq_clear(&frcp->sendq, frcp->nxt); /* quiet for a while: no memory for an idle flow */
                return;
        }
        oldest = sendq_at(&frcp->sendq, frcp->una);
        if (now - oldest->first >= FRCP_R) {
                frcp_break(frcp, -EFLOWDOWN);
                return;
        }
        clear_arrived(frcp);
        if (seq_before(frcp->rtt.probe, frcp->una) || probing(frcp))
                frcp->rtt.probe = frcp->una; /* who else should make the RTO double? */
        next = resend_due(frcp, probing(frcp) ? frcp->una + 1 : frcp->nxt, now);
        if (next <= now)
                next = now + FRCP_TICK;
        frcp->resend_at = next < oldest->first + FRCP_R ? next : oldest->first + FRCP_R;
}
