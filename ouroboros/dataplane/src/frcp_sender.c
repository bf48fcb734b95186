/*
 * frcp_sender: the sender of a flow end: its queue, windows, retransmission and FIN (spec/frcp 5, 7, 8, 11).
 * The sequence numbers are FRCP-6's; how much is on the path, and in packets of which size, is for inflight.h.
 */
#include "frcp_private.h"

#define FAST_RETRIES 3u /* retransmissions of `una` without an acknowledgement, after which every packet backs off with the RTO */
#define RETRIES_BEFORE_PROBING 5u     /* the same, after which `una` alone is retransmitted as a probe (FRCP-21) */
#define REORDER_THRESHOLD 3u          /* packets received after a missing one, before it counts as lost (FRCP-22) */
#define STUCK_TIME (250 * FRCP_MS)    /* retransmissions without an answer for this time are not a pause of the peer */

/* A closing end waits no longer than this for the acknowledgement of its FIN. */
#define FIN_TRIES 5u
#define FIN_WAIT (3000 * FRCP_MS)

static uint32_t piece_max(const struct frcp *frcp)
{
        return frcp->config.max_packet - PCI_OCTETS;
}

/* Octets of data in one fragment. */
static uint32_t piece_size(const struct frcp *frcp)
{
        uint32_t most = piece_max(frcp);

        return frcp->inflight.clamped && frcp->flags & FRCP_FRAGMENT && most > INFLIGHT_CLAMP ? INFLIGHT_CLAMP : most;
}

/* FRCP-24. */
uint32_t frcp_max_packet(const struct frcp *frcp)
{
        uint64_t most = (uint64_t)piece_max(frcp) * (SENDQ_PLACES / 2);

        if (!(frcp->flags & FRCP_FRAGMENT))
                return piece_max(frcp);
        return most < frcp->config.max_message ? (uint32_t)most : frcp->config.max_message;
}

/* Sequence number behind the last packet written; packets before `nxt` have been sent. */
static uint32_t end_of(const struct frcp *frcp)
{
        return frcp->tx.sendq.count > 0 ? frcp->tx.sendq.first + frcp->tx.sendq.count : frcp->tx.nxt;
}

/*
 * A peer over memory of this system keeps what has arrived (design/frcp, "Where nothing is lost").
 * Packets without a reader are among those of the current window or of the one before. As long as these fit into the
 * receive queue of the peer, it takes every packet in the window. Packets in reassembly count twice, because their
 * buffer grows by doubling.
 */
static void note_sent(struct frcp *frcp, const struct sent *sent)
{
        bool whole = !frcp->config.fragments || sent->bits == PCI_WHOLE;

        if (frcp->tx.window_packets == frcp->config.window) {
                frcp->tx.window_octets[1] = frcp->tx.window_octets[0];
                frcp->tx.window_octets[0] = frcp->tx.window_packets = 0;
        }
        frcp->tx.window_octets[0] += whole ? sent->length : 2 * sent->length;
        frcp->tx.window_packets++;
}

/* Whether the peer certainly receives and keeps a packet sent now. Without flow control the peer may drop it. */
static bool delivery_assured(const struct frcp *frcp, uint32_t length)
{
        return frcp->config.lossless && frcp->flags & FRCP_FLOW_CONTROL &&
               frcp->tx.window_octets[0] + frcp->tx.window_octets[1] + length <= RECVQ_OCTETS - frcp->config.max_message;
}

static bool is_limited(const struct frcp *frcp)
{
        return inflight_limited(&frcp->inflight, frcp->tx.rtt.min_rtt);
}

/* FRCP-7. */
static bool window_open(const struct frcp *frcp)
{
        return !(frcp->flags & FRCP_FLOW_CONTROL) || seq_before(frcp->tx.nxt, frcp->tx.lim);
}

static uint32_t pieces_of(const struct frcp *frcp, uint32_t length)
{
        return length <= piece_size(frcp) ? length > 0 : (length - 1) / piece_size(frcp) + 1;
}

bool frcp_writable(const struct frcp *frcp, uint32_t length)
{
        if (frcp->down != 0 || frcp->fin_sent || frcp->fin_received == FRCP_CLOSED || length > frcp_max_packet(frcp))
                return true;
        return end_of(frcp) == frcp->tx.nxt && window_open(frcp) && !is_limited(frcp) &&
               sendq_has_space(&frcp->tx.sendq, pieces_of(frcp, length), length);
}

/*
 * Send a packet with data, new or retransmitted; with DRF when everything before it has been acknowledged (FRCP-7), also a
 * retransmission (FRCP-19). False: the flow below is full.
 */
static bool transmit(struct frcp *frcp, uint32_t seq, uint8_t bits, const uint8_t *data, uint32_t length, int64_t now)
{
        struct pci pci;
        uint8_t header[PCI_OCTETS];

        if (frcp->tx.template_at != now) {
                frcp->tx.header_template = (struct pci){.flags = PCI_DATA};
                frcp_fill(frcp, &frcp->tx.header_template, now);
                frcp->tx.template_at = now;
        }
        pci = frcp->tx.header_template;
        pci.flags |= bits | (seq == frcp->tx.una ? PCI_DRF : 0);
        pci.seq = seq;
        pci_encode(header, &pci);
        if (!frcp->send(frcp->arg, header, PCI_OCTETS, data, length))
                return false;
        frcp->alive.sent = frcp->tx.last_data_tx_at = now;
        frcp_filled(frcp, pci.flags);
        return true;
}

static bool transmit_new(struct frcp *frcp, struct sent *sent, const uint8_t *data, int64_t now)
{
        if (!transmit(frcp, frcp->tx.nxt, sent->bits, data, sent->length, now)) {
                frcp->at.stall = now + FRCP_TICK;
                return false;
        }
        frcp->counters.sent++;
        frcp->tx.nxt++;
        if (!frcp->config.retransmit) {
                frcp->tx.una = frcp->tx.nxt;
                return true;
        }
        if (frcp->config.lossless)
                note_sent(frcp, sent);
        inflight_sent(&frcp->inflight, sent->length, frcp->tx.nxt - frcp->tx.una);
        sent->first = sent->last = now;
        sent->due = now + rtt_timeout(&frcp->tx.rtt);
        rtt_probe(&frcp->tx.rtt, frcp->tx.nxt - 1, now);
        if (sent->due < frcp->at.resend)
                frcp->at.resend = sent->due;
        return true;
}

/* Whether the packet `seq` in the send queue is FIN, which the window does not hold up. */
static bool is_fin(const struct frcp *frcp, uint32_t seq)
{
        return frcp->fin_sent && sendq_at(&frcp->tx.sendq, seq)->length == 0;
}

/* The window is shut and data is waiting: from now on this end sends rendez-vous (FRCP-16, spec/lessons 40). */
static void watch_window(struct frcp *frcp, int64_t now)
{
        if (window_open(frcp) || !(frcp->tx.write_blocked || end_of(frcp) != frcp->tx.nxt)) {
                frcp->tx.shut_at = frcp->at.rdv = NEVER;
        } else if (frcp->tx.shut_at == NEVER) {
                frcp->tx.shut_at = now;
                frcp->at.rdv = now + FRCP_RDV;
        }
}

void frcp_flush(struct frcp *frcp, int64_t now)
{
        while (end_of(frcp) != frcp->tx.nxt && !is_limited(frcp) &&
               (window_open(frcp) || is_fin(frcp, frcp->tx.nxt))) {
                struct sent *sent = sendq_at(&frcp->tx.sendq, frcp->tx.nxt);

                if (!transmit_new(frcp, sent, sendq_data(&frcp->tx.sendq, sent), now))
                        break;
                if (!frcp->config.retransmit)
                        sendq_drop(&frcp->tx.sendq, frcp->tx.una);
        }
        if (frcp->tx.sendq.count == 0 && !frcp->config.retransmit && frcp->tx.sendq.place != NULL)
                sendq_clear(&frcp->tx.sendq, frcp->tx.nxt);
        if (window_open(frcp))
                frcp->tx.write_blocked = false;
        watch_window(frcp, now);
}

/* Send a packet without keeping it: the flow does not retransmit, and `una` follows `nxt` (FRCP-7). */
static ssize_t write_through(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now)
{
        struct sent sent = {.length = length, .bits = frcp->config.fragments ? PCI_WHOLE : 0};

        if (!transmit_new(frcp, &sent, data, now)) {
                frcp->at.stall = NEVER;
                return -EAGAIN;
        }
        return length;
}

/* Send a packet and keep its sequence number only: its delivery is assured. */
static ssize_t write_seq_only(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now)
{
        struct sent *sent = sendq_push_seq_only(&frcp->tx.sendq, length, frcp->config.fragments ? PCI_WHOLE : 0);

        if (!transmit_new(frcp, sent, data, now)) {
                sendq_pop(&frcp->tx.sendq);
                frcp->at.stall = NEVER;
                return -EAGAIN;
        }
        watch_window(frcp, now);
        return length;
}

/* FRCP-23. */
static uint8_t bits_of(const struct frcp *frcp, bool first, bool last)
{
        if (!frcp->config.fragments)
                return 0;
        return (uint8_t)((first ? PCI_FFGM : 0) | (last ? 0 : PCI_MFGM));
}

/* The whole packet or nothing (FRCP-24). */
ssize_t frcp_write(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now)
{
        uint32_t most = piece_size(frcp), pieces = pieces_of(frcp, length), done;
        bool seq_only = pieces == 1 && delivery_assured(frcp, length);
        int error;

        if (frcp->down != 0)
                return frcp->down;
        if (frcp->fin_sent)
                return -EPIPE;
        if (frcp->fin_received == FRCP_CLOSED)
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
                frcp->tx.write_blocked = !window_open(frcp);
                watch_window(frcp, now);
                return -EAGAIN;
        }
        if (!frcp->config.retransmit && pieces == 1)
                return write_through(frcp, data, length, now);
        if (frcp->tx.sendq.count == 0)
                frcp->tx.sendq.first = frcp->tx.nxt;
        if (!sendq_ready(&frcp->tx.sendq, pieces, seq_only ? 0 : length)) {
                error = sendq_reserve(&frcp->tx.sendq, pieces, seq_only ? 0 : length);
                if (error != 0)
                        return error;
        }
        if (seq_only)
                return write_seq_only(frcp, data, length, now);
        for (done = 0; done < length; done += most) {
                bool last = length - done <= most;

                sendq_push(&frcp->tx.sendq, data + done, last ? length - done : most,
                           bits_of(frcp, done == 0, last));
        }
        frcp_flush(frcp, now);
        return length;
}

/* ---- windows of the peer (spec/frcp 6, 7) ---- */

/*
 * Without retransmission a lost packet never moves the window of a peer that counts received packets (FRCP-17). A Python peer
 * learns the number from the rendez-vous; a prototype must be sent one packet beyond its window now and then, which
 * it does not refuse.
 */
static bool stuck(const struct frcp *frcp, int64_t now)
{
        return !frcp->config.retransmit && frcp->tx.nxt == frcp->tx.lim && frcp->tx.shut_at != NEVER &&
               now - frcp->tx.shut_at >= FRCP_RDV_SLOW;
}

/* FRCP-12. */
void frcp_window(struct frcp *frcp, uint32_t window, int64_t now)
{
        uint32_t offset = (window - frcp->tx.una) & PCI_WINDOW_MASK;

        if ((offset == 0 || offset >= FRCP_WINDOW_SANE) && stuck(frcp, now)) {
                frcp->tx.lim++;
                return;
        }
        /* The window of a peer that does not know this end's numbers, or an old packet (FRCP-12). */
        if (offset < 1 || offset >= FRCP_WINDOW_SANE)
                return;
        if (seq_before(frcp->tx.lim, frcp->tx.una + offset))
                frcp->tx.lim = frcp->tx.una + offset;
}

/* ---- acknowledgements, and retransmission (spec/frcp 8) ---- */

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
                         !transmit(frcp, seq, sent->bits, sendq_data(&frcp->tx.sendq, sent), sent->length, now))
                return false;
        rtt_resent(&frcp->tx.rtt, seq, timed_out);
        if (!seq_only(sent)) {
                inflight_resent(&frcp->inflight, sent->length, !timed_out,
                                frcp->tx.rto_count >= FAST_RETRIES && now - sent->first >= STUCK_TIME);
                frcp->counters.resent++;
        }
        sent->tries++;
        sent->last = now;
        sent->due = now + rtt_timeout(&frcp->tx.rtt);
        return true;
}

/*
 * When the packet is due. A packet sent with a larger RTO, before the first sample, need not wait for that one; nor
 * need a packet that has backed off, once acknowledgements arrive again: it is a gap at the peer.
 */
static int64_t due_at(const struct frcp *frcp, const struct sent *sent, int64_t timeout)
{
        bool hole = frcp->tx.rto_count < FAST_RETRIES && sent->tries > 0 && frcp->tx.rtt.srtt != 0;
        int64_t due = sent->last + (hole ? rtt_base_timeout(&frcp->tx.rtt) : timeout);

        return due < sent->due ? due : sent->due;
}

/*
 * Retransmit lost packets: later packets were received. A packet that was retransmitted already has its own timeout.
 */
static void resend_skipped(struct frcp *frcp, uint32_t highest, int64_t now)
{
        int64_t timeout = frcp->tx.rtt.srtt + 4 * frcp->tx.rtt.dev;
        uint32_t budget = FRCP_BURST;

        for (uint32_t seq = frcp->tx.una; seq_before(seq + REORDER_THRESHOLD, highest + 1) && budget > 0; seq++) {
                struct sent *sent = sendq_at(&frcp->tx.sendq, seq);

                if (sent->arrived || (sent->tries > 0 && now - sent->last < timeout) ||
                    now - sent->first >= FRCP_R)
                        continue;
                if (!transmit_again(frcp, seq, sent, false, now))
                        return;
                budget--;
        }
}

/* Process the map of packets that the peer has received beyond `una` (FRCP-22). */
static void note_arrived(struct frcp *frcp, const uint8_t *map, uint32_t length, int64_t now)
{
        uint32_t highest = frcp->tx.una;

        for (uint32_t i = 0; i < length * 8; i++) {
                uint32_t seq = frcp->tx.una + 1 + i;

                if (!seq_before(seq, frcp->tx.nxt))
                        break;
                if (map[i / 8] == 0)
                        i |= 7;
                if (!(map[i / 8] & 1u << i % 8))
                        continue;
                sendq_at(&frcp->tx.sendq, seq)->arrived = true;
                highest = seq;
                if (frcp->tx.rtt.probing && seq == frcp->tx.rtt.probe)
                        rtt_acked(&frcp->tx.rtt, seq + 1, now);
        }
        if (highest != frcp->tx.una)
                resend_skipped(frcp, highest, now);
}

/* FRCP-12. */
void frcp_acknowledged(struct frcp *frcp, uint32_t ackno, const uint8_t *map, uint32_t length, int64_t now)
{
        if (!frcp->config.retransmit)
                return;
        if (ackno - frcp->tx.una > frcp->tx.nxt - frcp->tx.una) {
                /* An old acknowledgement, or one of packets never sent. */
                frcp->counters.malformed += seq_before(frcp->tx.nxt, ackno);
                return;
        }
        if (ackno != frcp->tx.una) {
                rtt_acked(&frcp->tx.rtt, ackno, now);
                frcp->tx.una = ackno;
                frcp->tx.confirmed = true;
                frcp->tx.rto_count = 0;
                inflight_acked(&frcp->inflight, sendq_drop(&frcp->tx.sendq, ackno), frcp->tx.nxt - ackno);
                if (frcp->tx.una != frcp->tx.nxt) {
                        struct sent *oldest = sendq_at(&frcp->tx.sendq, frcp->tx.una);
                        int64_t due = due_at(frcp, oldest, rtt_timeout(&frcp->tx.rtt));

                        frcp->at.resend = due < frcp->at.resend ? due : frcp->at.resend;
                }
        }
        if (frcp->config.selective && frcp->tx.una != frcp->tx.nxt)
                note_arrived(frcp, map, length, now);
}

/* ---- time ---- */

/*
 * The peer's maps cannot be trusted once one of them contains a packet that the peer does not acknowledge: clear
 * them.
 */
static void clear_arrived(struct frcp *frcp)
{
        if (!sendq_at(&frcp->tx.sendq, frcp->tx.una)->arrived)
                return;
        for (uint32_t seq = frcp->tx.una; seq != frcp->tx.nxt; seq++)
                sendq_at(&frcp->tx.sendq, seq)->arrived = false;
}

/*
 * Whether the oldest packet alone is sent, as a probe (FRCP-21): no acknowledgement has arrived for some time, or only sequence
 * numbers are kept.
 */
static bool probing(const struct frcp *frcp)
{
        return frcp->tx.rto_count >= RETRIES_BEFORE_PROBING || seq_only(sendq_at(&frcp->tx.sendq, frcp->tx.una));
}

/* Retransmit the packets in [una, end) that are due; returns the time when the next one is. */
static int64_t resend_due(struct frcp *frcp, uint32_t end, int64_t now)
{
        int64_t timeout = rtt_timeout(&frcp->tx.rtt), next = NEVER;
        uint32_t budget = FRCP_BURST;

        for (uint32_t seq = frcp->tx.una; seq != end; seq++) {
                struct sent *sent = sendq_at(&frcp->tx.sendq, seq);
                int64_t due = due_at(frcp, sent, timeout);

                if (due <= now && !sent->arrived && budget > 0 && transmit_again(frcp, seq, sent, true, now)) {
                        due = sent->due;
                        budget--;
                        frcp->tx.rto_count += seq == frcp->tx.una;
                }
                if (!sent->arrived && due < next)
                        next = due;
        }
        return next;
}

/*
 * Retransmit overdue packets, the oldest first, at most FRCP_BURST together: the acknowledgement of the first often
 * covers the others (FRCP-21). The oldest was sent first, so R bounds all of them through it (FRCP-20).
 */
void frcp_resend(struct frcp *frcp, int64_t now)
{
        const struct sent *oldest;
        int64_t next;

        frcp->at.resend = NEVER;
        if (frcp->tx.una == frcp->tx.nxt) {
                if (frcp->tx.sendq.count == 0)
                        sendq_clear(&frcp->tx.sendq, frcp->tx.nxt); /* an idle flow holds no memory */
                return;
        }
        oldest = sendq_at(&frcp->tx.sendq, frcp->tx.una);
        if (now - oldest->first >= FRCP_R) {
                frcp_break(frcp, -EFLOWDOWN);
                return;
        }
        clear_arrived(frcp);
        if (seq_before(frcp->tx.rtt.probe, frcp->tx.una) || probing(frcp))
                frcp->tx.rtt.probe = frcp->tx.una; /* the RTO doubles with this packet */
        next = resend_due(frcp, probing(frcp) ? frcp->tx.una + 1 : frcp->tx.nxt, now);
        if (next <= now)
                next = now + FRCP_TICK;
        frcp->at.resend = next < oldest->first + FRCP_R ? next : oldest->first + FRCP_R;
}

/* ---- FIN, and the end (spec/frcp 10, 11) ---- */

/* FRCP-33. The prototype notifies no peer (FRCP-27). */
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
        if (frcp->tx.sendq.count == 0)
                frcp->tx.sendq.first = frcp->tx.nxt;
        error = sendq_reserve(&frcp->tx.sendq, 1, 1);
        if (error != 0)
                return error;
        sendq_push(&frcp->tx.sendq, (const uint8_t *)"", 0, leaving ? PCI_FIRST : PCI_WHOLE);
        frcp->fin_sent = state;
        frcp->tx.write_blocked = false; /* later writes fail */
        frcp_flush(frcp, now);
        return 0;
}

void frcp_stop_sending(struct frcp *frcp)
{
        sendq_clear(&frcp->tx.sendq, frcp->tx.nxt);
        frcp->tx.una = frcp->tx.nxt;
        frcp->tx.write_blocked = false;
        frcp->at.resend = frcp->tx.shut_at = frcp->at.rdv = frcp->at.linger = NEVER;
}

/* Whether a closing end waits for the acknowledgement of its FIN when no data is unacknowledged. */
static bool fin_lingers(const struct frcp *frcp)
{
        uint32_t end = frcp->tx.sendq.first + frcp->tx.sendq.count;
        const struct sent *oldest = sendq_at(&frcp->tx.sendq, frcp->tx.una), *newest = sendq_at(&frcp->tx.sendq, end - 1);

        if (frcp->tx.nxt != end)
                return true; /* the flow below was full: FIN is not sent yet */
        /* The oldest packet is retransmitted anyhow; the newest decides when to stop waiting. */
        return !frcp->config.direct && newest->tries < FIN_TRIES && oldest->last - newest->first < FIN_WAIT;
}

/* FRCP-26. */
bool frcp_lingers(const struct frcp *frcp)
{
        if (frcp->down != 0 || !(frcp->flags & FRCP_LINGER) || frcp->tx.sendq.count == 0)
                return false;
        /* Only FINs follow a FIN. */
        return !is_fin(frcp, frcp->tx.una) || fin_lingers(frcp);
}

uint64_t frcp_unacknowledged(const struct frcp *frcp)
{
        uint64_t octets = 0;

        if (frcp->down != 0)
                return frcp->lost;
        for (uint32_t i = 0; i < frcp->tx.sendq.count; i++)
                octets += sendq_at(&frcp->tx.sendq, frcp->tx.sendq.first + i)->length;
        return octets;
}
