/* frcp_send: the sender's half of FRCP (spec wire-unicast 8.6, 8.9, 8.10). */
#include "frcp.h"

#include <string.h>

#define HOPE 3u  /* tries of the oldest packet without an answer, before the RTO is all that counts */
#define ALONE 5u /* the same, before the others are spared */
#define SPAN 3u  /* packets that came after one that did not, before it is taken for lost */

#define SMALL 1400u      /* octets of data in a packet that no link on the way cuts */
#define TORN 64u         /* of so many large packets one may be lost */
#define TORN_MOST 1024u  /* sixteen more are too many */
#define TORN_TIME (250 * FRCP_MS) /* tries in vain for so long are no pause of the peer's */

static uint32_t piece_max(const struct frcp *frcp)
{
        return frcp->config.max_packet - PCI_OCTETS;
}

/*
 * Where pieces are cut. A layer over IP takes larger packets than the links below it, and IP cuts them; then a packet is lost with any
 * of its parts, and what is left of it stands for half a minute in the memory where IP puts parts together, until that is full and
 * nothing large gets through any more. Whoever loses many large packets sends small ones from then on.
 */
static uint32_t piece_size(const struct frcp *frcp)
{
        uint32_t most = piece_max(frcp);

        return frcp->small && frcp->flags & FRCP_FRAGMENT && most > SMALL ? SMALL : most;
}

/* One is sent again. What timed out may be late: only where others came that were sent later it is lost. */
static void note_torn(struct frcp *frcp, const struct sent *sent, bool timed_out, int64_t now)
{
        if (sent->length <= SMALL)
                return;
        if (!timed_out)
                frcp->torn += TORN;
        frcp->small = frcp->small || frcp->torn > TORN_MOST || (frcp->vain >= HOPE && now - sent->first >= TORN_TIME);
}

uint32_t frcp_max_packet(const struct frcp *frcp)
{
        uint64_t most = (uint64_t)piece_max(frcp) * (SENDQ_PLACES / 2);

        if (!(frcp->flags & FRCP_FRAGMENT))
                return piece_max(frcp);
        return most < frcp->config.max_message ? (uint32_t)most : frcp->config.max_message;
}

/* Sequence number after the last packet that was written; up to `nxt` they have been sent. */
static uint32_t end_of(const struct frcp *frcp)
{
        return frcp->sendq.count > 0 ? frcp->sendq.first + frcp->sendq.count : frcp->nxt;
}

/*
 * The window says what the peer can take, not what the queues on the way can: as long as a round trip is short, all that is
 * not acknowledged stands in those. Who has sent enough goes on when half of it has been acknowledged: queues that never run dry
 * count as congestion, and packets one at a time cost everybody on the way more than many together.
 */
static bool enough(const struct frcp *frcp)
{
        return frcp->resting && frcp->rtt.least < FRCP_LONG;
}

static void rest(struct frcp *frcp)
{
        uint32_t packets = frcp->nxt - frcp->una;

        if (packets >= FRCP_SHORT || frcp->flying >= FRCP_SHORT_OCTETS)
                frcp->resting = true;
        else if (packets <= FRCP_SHORT / 2 && frcp->flying <= FRCP_SHORT_OCTETS / 2)
                frcp->resting = false;
}

/*
 * Packets that nobody has read are among those of the last window, or of that before: where they are no more than the peer keeps,
 * it takes whatever the window allows. What it puts together has twice the room that it needs.
 */
static void note_sent(struct frcp *frcp, const struct sent *sent)
{
        bool whole = !frcp->config.fragments || sent->bits == PCI_WHOLE;

        if (frcp->of_window == frcp->config.window) {
                frcp->lately[1] = frcp->lately[0];
                frcp->lately[0] = frcp->of_window = 0;
        }
        frcp->lately[0] += whole ? sent->length : 2 * sent->length;
        frcp->of_window++;
}

/* Whether a packet that is sent arrives, and is taken. Behind a window that is not looked at, the peer takes nothing. */
static bool sure(const struct frcp *frcp, uint32_t length)
{
        return frcp->config.lossless && frcp->flags & FRCP_FLOW_CONTROL &&
               frcp->lately[0] + frcp->lately[1] + length <= RECVQ_OCTETS - frcp->config.max_message;
}

static bool window_open(const struct frcp *frcp)
{
        return !(frcp->flags & FRCP_FLOW_CONTROL) || seq_before(frcp->nxt, frcp->lim);
}

static uint32_t pieces_of(const struct frcp *frcp, uint32_t length)
{
        return length <= piece_size(frcp) ? length > 0 : (length - 1) / piece_size(frcp) + 1;
}

bool frcp_writable(const struct frcp *frcp, uint32_t length)
{
        if (frcp->down != 0 || frcp->said || frcp->heard == FRCP_LEFT || length > frcp_max_packet(frcp))
                return true;
        return end_of(frcp) == frcp->nxt && window_open(frcp) && !enough(frcp) &&
               sendq_has_room(&frcp->sendq, pieces_of(frcp, length), length);
}

/*
 * What packets with data say beside their number, now: also those that are sent again (trap 37). Worked out once for all that
 * are sent before anything else happens.
 */
static void stamp(struct frcp *frcp, int64_t now)
{
        struct pci *pci = &frcp->stamp;
        int64_t silence = frcp_receiver_inactivity(frcp) * (1000 * FRCP_MS);

        *pci = (struct pci){.flags = PCI_DATA};
        if (frcp->run && frcp_recent(frcp->heard_at, silence, now)) {
                frcp_renew_edge(frcp);
                pci->flags |= PCI_FC;
                pci->window = frcp->edge;
        }
        if (frcp->run && frcp->config.retransmit && frcp_recent(frcp->heard_at, FRCP_A, now)) {
                pci->flags |= PCI_ACK;
                pci->ackno = frcp->want;
        }
        frcp->stamp_at = now;
}

static bool transmit(struct frcp *frcp, uint32_t seq, uint8_t bits, const uint8_t *data, uint32_t length,
                     int64_t now)
{
        struct pci pci;
        uint8_t header[PCI_OCTETS];

        if (frcp->stamp_at != now)
                stamp(frcp, now);
        pci = frcp->stamp;
        pci.flags |= bits | (seq == frcp->una ? PCI_DRF : 0);
        pci.seq = seq;
        pci_encode(header, &pci);
        if (!frcp->send(frcp->arg, header, PCI_OCTETS, data, length))
                return false;
        frcp->alive.sent = frcp->data_at = now;
        if (pci.flags & PCI_ACK)
                frcp->acked = frcp->want;
        if (pci.flags & PCI_FC) {
                frcp->told = frcp->edge;
                frcp->since = 0;
                frcp->asked = false;
                if (!frcp->bare)
                        frcp->ack_at = NEVER;
        }
        return true;
}

static bool transmit_new(struct frcp *frcp, struct sent *sent, const uint8_t *data, int64_t now)
{
        if (!transmit(frcp, frcp->nxt, sent->bits, data, sent->length, now)) {
                frcp->stall_at = now + FRCP_TICK;
                return false;
        }
        frcp->counters.sent++;
        frcp->nxt++;
        if (!frcp->config.retransmit) {
                frcp->una = frcp->nxt;
                return true;
        }
        if (frcp->config.lossless)
                note_sent(frcp, sent);
        frcp->flying += sent_weight(sent->length);
        frcp->torn -= frcp->torn > 0 && sent->length > SMALL;
        rest(frcp);
        sent->first = sent->last = now;
        sent->due = now + rtt_timeout(&frcp->rtt);
        rtt_probe(&frcp->rtt, frcp->nxt - 1, now);
        if (sent->due < frcp->resend_at)
                frcp->resend_at = sent->due;
        return true;
}

/* The window is shut and somebody wants it open: from now on the peer is asked (8.9, trap 40). */
static void watch_window(struct frcp *frcp, int64_t now)
{
        if (window_open(frcp) || !(frcp->wanting || end_of(frcp) != frcp->nxt)) {
                frcp->shut_at = frcp->rdv_at = NEVER;
        } else if (frcp->shut_at == NEVER) {
                frcp->shut_at = now;
                frcp->rdv_at = now + FRCP_RDV;
        }
}

void frcp_flush(struct frcp *frcp, int64_t now)
{
        while (end_of(frcp) != frcp->nxt && !enough(frcp) && (window_open(frcp) || frcp_at_finish(frcp, frcp->nxt))) {
                struct sent *sent = sendq_at(&frcp->sendq, frcp->nxt);

                if (!transmit_new(frcp, sent, sendq_data(&frcp->sendq, sent), now))
                        break;
                if (!frcp->config.retransmit)
                        sendq_drop(&frcp->sendq, frcp->una);
        }
        if (frcp->sendq.count == 0 && !frcp->config.retransmit && frcp->sendq.place != NULL)
                sendq_clear(&frcp->sendq, frcp->nxt);
        if (window_open(frcp))
                frcp->wanting = false;
        watch_window(frcp, now);
}

/* One that is not kept, and needs no place: nobody acknowledges it. */
static ssize_t write_through(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now)
{
        struct sent sent = {.length = length, .bits = frcp->config.fragments ? PCI_WHOLE : 0};

        if (!transmit_new(frcp, &sent, data, now)) {
                frcp->stall_at = NEVER;
                return -EAGAIN;
        }
        return length;
}

/* One that is not kept, but for its number. */
static ssize_t write_bare(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now)
{
        struct sent *sent = sendq_push_bare(&frcp->sendq, length, frcp->config.fragments ? PCI_WHOLE : 0);

        if (!transmit_new(frcp, sent, data, now)) {
                sendq_pop(&frcp->sendq);
                frcp->stall_at = NEVER;
                return -EAGAIN;
        }
        watch_window(frcp, now);
        return length;
}

static uint8_t bits_of(const struct frcp *frcp, bool first, bool last)
{
        if (!frcp->config.fragments)
                return 0;
        return (uint8_t)((first ? PCI_FFGM : 0) | (last ? 0 : PCI_MFGM));
}

ssize_t frcp_write(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now)
{
        uint32_t most = piece_size(frcp), pieces = pieces_of(frcp, length), done;
        bool bare = pieces == 1 && sure(frcp, length);
        int error;

        if (frcp->down != 0)
                return frcp->down;
        if (frcp->said)
                return -EPIPE;
        if (frcp->heard == FRCP_LEFT)
                return -EFLOWDOWN;
        if (length > frcp_max_packet(frcp))
                return -EMSGSIZE;
        if (length == 0) {
                if (!frcp->send(frcp->arg, NULL, 0, NULL, 0))
                        return -EAGAIN;
                frcp->alive.sent = now;
                return 0;
        }
        if (!frcp_writable(frcp, length)) {
                frcp->wanting = !window_open(frcp);
                watch_window(frcp, now);
                return -EAGAIN;
        }
        if (!frcp->config.retransmit && pieces == 1)
                return write_through(frcp, data, length, now);
        if (frcp->sendq.count == 0)
                frcp->sendq.first = frcp->nxt;
        if (!sendq_ready(&frcp->sendq, pieces, bare ? 0 : length)) {
                error = sendq_reserve(&frcp->sendq, pieces, bare ? 0 : length);
                if (error != 0)
                        return error;
        }
        if (bare)
                return write_bare(frcp, data, length, now);
        for (done = 0; done < length; done += most) {
                bool last = length - done <= most;

                sendq_push(&frcp->sendq, data + done, last ? length - done : most,
                           bits_of(frcp, done == 0, last));
        }
        frcp_flush(frcp, now);
        return length;
}

/* ---- what the peer says ---- */

/*
 * Where nothing is sent again, what was lost last never moved the window of a peer that counts what comes. Ours look at the
 * number of a rendez-vous; another has to be sent a packet now and then, be it beyond the window, which it does not check.
 */
static bool stuck(const struct frcp *frcp, int64_t now)
{
        return !frcp->config.retransmit && frcp->nxt == frcp->lim && frcp->shut_at != NEVER &&
               now - frcp->shut_at >= FRCP_RDV_SLOW;
}

void frcp_window(struct frcp *frcp, uint32_t window, int64_t now)
{
        uint32_t ahead = (window - frcp->una) & PCI_WINDOW_MASK;

        if ((ahead == 0 || ahead >= FRCP_WINDOW_SANE) && stuck(frcp, now)) {
                frcp->lim++;
                return;
        }
        /* An end that does not know our numbers says something; and an old packet says something old (8.14 b). */
        if (ahead < 1 || ahead >= FRCP_WINDOW_SANE)
                return;
        if (seq_before(frcp->lim, frcp->una + ahead))
                frcp->lim = frcp->una + ahead;
}

static bool bare(const struct sent *sent)
{
        return sent->kept < sent->length;
}

/* What cannot be lost is asked for: the peer may have had no time to acknowledge it. */
static bool ask(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_RDV};

        return frcp_control(frcp, &pci, NULL, 0, now);
}

static bool transmit_again(struct frcp *frcp, uint32_t seq, struct sent *sent, bool timed_out, int64_t now)
{
        if (bare(sent) ? !ask(frcp, now) :
                         !transmit(frcp, seq, sent->bits, sendq_data(&frcp->sendq, sent), sent->length, now))
                return false;
        rtt_resent(&frcp->rtt, seq, timed_out);
        if (!bare(sent)) {
                note_torn(frcp, sent, timed_out, now);
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
        bool hole = frcp->vain < HOPE && sent->tries > 0 && frcp->rtt.srtt != 0;
        int64_t due = sent->last + (hole ? rtt_patience(&frcp->rtt) : timeout);

        return due < sent->due ? due : sent->due;
}

/* Lost: others that were sent later came. What was sent again already has its own time. */
static void resend_skipped(struct frcp *frcp, uint32_t highest, int64_t now)
{
        int64_t patience = frcp->rtt.srtt + 4 * frcp->rtt.dev;
        uint32_t budget = FRCP_BURST;

        for (uint32_t seq = frcp->una; seq_before(seq + SPAN, highest + 1) && budget > 0; seq++) {
                struct sent *sent = sendq_at(&frcp->sendq, seq);

                if (sent->arrived || (sent->tries > 0 && now - sent->last < patience) ||
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
                frcp->vain = 0;
                frcp->flying -= sendq_drop(&frcp->sendq, ackno);
                rest(frcp);
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
static void forget_arrived(struct frcp *frcp)
{
        if (!sendq_at(&frcp->sendq, frcp->una)->arrived)
                return;
        for (uint32_t seq = frcp->una; seq != frcp->nxt; seq++)
                sendq_at(&frcp->sendq, seq)->arrived = false;
}

/* Nothing has come back for a while, or nothing is sent again: the oldest packet alone asks whether anybody is there. */
static bool alone(const struct frcp *frcp)
{
        return frcp->vain >= ALONE || bare(sendq_at(&frcp->sendq, frcp->una));
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
                        frcp->vain += seq == frcp->una;
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
        forget_arrived(frcp);
        if (seq_before(frcp->rtt.probe, frcp->una) || alone(frcp))
                frcp->rtt.probe = frcp->una; /* who else should make the RTO double? */
        next = resend_due(frcp, alone(frcp) ? frcp->una + 1 : frcp->nxt, now);
        if (next <= now)
                next = now + FRCP_TICK;
        frcp->resend_at = next < oldest->first + FRCP_R ? next : oldest->first + FRCP_R;
}
