/* frcp_send: the sender's queue, window and in-flight bound (spec/frcp 5, 7). */
#include "frcp.h"

static uint32_t piece_max(const struct frcp *frcp)
{
        return frcp->config.max_packet - PCI_OCTETS;
}

/*
 * Octets of data in one fragment. A layer over IP takes packets larger than the MTU of its links, and IP fragments
 * them: the loss of one IP fragment loses the packet, and the other fragments occupy the reassembly memory of the
 * destination for half a minute; when that is full, no large packet gets through. After many losses of large packets
 * the sender clamps its packets below the MTU.
 */
static uint32_t piece_size(const struct frcp *frcp)
{
        uint32_t most = piece_max(frcp);

        return frcp->clamped && frcp->flags & FRCP_FRAGMENT && most > FRCP_CLAMP_OCTETS ? FRCP_CLAMP_OCTETS : most;
}

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
        return frcp->sendq.count > 0 ? frcp->sendq.first + frcp->sendq.count : frcp->nxt;
}

/*
 * The window bounds the packets that the peer can take, not those that the queues on the path can take: with a short
 * round trip all unacknowledged packets stand in these queues. At the in-flight bound the sender stops, and goes on
 * when half of it has been acknowledged: queues that never drain count as congestion, and sending packets one at a
 * time costs every hop more than sending many together. In shared memory no queue is congested; there the bound is in
 * octets, so that they fit the cache of a processor.
 */
static bool inflight_limited(const struct frcp *frcp)
{
        return frcp->inflight_limited && frcp->rtt.min_rtt < FRCP_LONG_RTT;
}

void frcp_limit_inflight(struct frcp *frcp)
{
        uint32_t packets = frcp->nxt - frcp->una;
        uint32_t limit = frcp->config.lossless ? frcp->config.window : FRCP_INFLIGHT_PACKETS;

        if (packets >= limit || frcp->in_flight >= FRCP_INFLIGHT_OCTETS)
                frcp->inflight_limited = true;
        else if (packets <= limit / 2 && frcp->in_flight <= FRCP_INFLIGHT_OCTETS / 2)
                frcp->inflight_limited = false;
}

/*
 * Packets without a reader are among those of the current window or of the one before. As long as these fit into the
 * receive queue of the peer, it takes every packet in the window. Packets in reassembly count twice, because their
 * buffer grows by doubling.
 */
static void note_sent(struct frcp *frcp, const struct sent *sent)
{
        bool whole = !frcp->config.fragments || sent->bits == PCI_WHOLE;

        if (frcp->window_packets == frcp->config.window) {
                frcp->window_octets[1] = frcp->window_octets[0];
                frcp->window_octets[0] = frcp->window_packets = 0;
        }
        frcp->window_octets[0] += whole ? sent->length : 2 * sent->length;
        frcp->window_packets++;
}

/* Whether the peer certainly receives and keeps a packet sent now. Without flow control the peer may drop it. */
static bool delivery_assured(const struct frcp *frcp, uint32_t length)
{
        return frcp->config.lossless && frcp->flags & FRCP_FLOW_CONTROL &&
               frcp->window_octets[0] + frcp->window_octets[1] + length <= RECVQ_OCTETS - frcp->config.max_message;
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
        if (frcp->down != 0 || frcp->fin_sent || frcp->fin_received == FRCP_CLOSED || length > frcp_max_packet(frcp))
                return true;
        return end_of(frcp) == frcp->nxt && window_open(frcp) && !inflight_limited(frcp) &&
               sendq_has_space(&frcp->sendq, pieces_of(frcp, length), length);
}

/*
 * Header fields beside the sequence number, as of now, also for retransmissions (spec/lessons 37). Computed once for
 * all packets that are sent before the next event.
 */
static void fill_template(struct frcp *frcp, int64_t now)
{
        struct pci *pci = &frcp->header_template;
        int64_t inactivity = frcp_receiver_inactivity(frcp) * (1000 * FRCP_MS);

        *pci = (struct pci){.flags = PCI_DATA};
        if (frcp->run && frcp_recent(frcp->last_rx_at, inactivity, now)) {
                frcp_update_edge(frcp);
                pci->flags |= PCI_FC;
                pci->window = frcp->edge;
        }
        if (frcp->run && frcp->config.retransmit && frcp_recent(frcp->last_rx_at, FRCP_A, now)) {
                pci->flags |= PCI_ACK;
                pci->ackno = frcp->want;
        }
        frcp->template_at = now;
}

bool frcp_transmit(struct frcp *frcp, uint32_t seq, uint8_t bits, const uint8_t *data, uint32_t length, int64_t now)
{
        struct pci pci;
        uint8_t header[PCI_OCTETS];

        if (frcp->template_at != now)
                fill_template(frcp, now);
        pci = frcp->header_template;
        pci.flags |= bits | (seq == frcp->una ? PCI_DRF : 0);
        pci.seq = seq;
        pci_encode(header, &pci);
        if (!frcp->send(frcp->arg, header, PCI_OCTETS, data, length))
                return false;
        frcp->alive.sent = frcp->last_data_tx_at = now;
        if (pci.flags & PCI_ACK)
                frcp->acked = frcp->want;
        if (pci.flags & PCI_FC) {
                frcp->advertised = frcp->edge;
                frcp->since_ack = 0;
                frcp->window_requested = false;
                if (!frcp->ack_now)
                        frcp->ack_at = NEVER;
        }
        return true;
}

static bool transmit_new(struct frcp *frcp, struct sent *sent, const uint8_t *data, int64_t now)
{
        if (!frcp_transmit(frcp, frcp->nxt, sent->bits, data, sent->length, now)) {
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
        frcp->in_flight += sent_weight(sent->length);
        frcp->large_loss -= frcp->large_loss > 0 && sent->length > FRCP_CLAMP_OCTETS;
        frcp_limit_inflight(frcp);
        sent->first = sent->last = now;
        sent->due = now + rtt_timeout(&frcp->rtt);
        rtt_probe(&frcp->rtt, frcp->nxt - 1, now);
        if (sent->due < frcp->resend_at)
                frcp->resend_at = sent->due;
        return true;
}

/* The window is shut and data is waiting: from now on this end sends rendez-vous (spec/frcp 7, spec/lessons 40). */
static void watch_window(struct frcp *frcp, int64_t now)
{
        if (window_open(frcp) || !(frcp->write_blocked || end_of(frcp) != frcp->nxt)) {
                frcp->shut_at = frcp->rdv_at = NEVER;
        } else if (frcp->shut_at == NEVER) {
                frcp->shut_at = now;
                frcp->rdv_at = now + FRCP_RDV;
        }
}

void frcp_flush(struct frcp *frcp, int64_t now)
{
        while (end_of(frcp) != frcp->nxt && !inflight_limited(frcp) &&
               (window_open(frcp) || frcp_is_fin(frcp, frcp->nxt))) {
                struct sent *sent = sendq_at(&frcp->sendq, frcp->nxt);

                if (!transmit_new(frcp, sent, sendq_data(&frcp->sendq, sent), now))
                        break;
                if (!frcp->config.retransmit)
                        sendq_drop(&frcp->sendq, frcp->una);
        }
        if (frcp->sendq.count == 0 && !frcp->config.retransmit && frcp->sendq.place != NULL)
                sendq_clear(&frcp->sendq, frcp->nxt);
        if (window_open(frcp))
                frcp->write_blocked = false;
        watch_window(frcp, now);
}

/* Send a packet without keeping it: the flow does not retransmit. */
static ssize_t write_through(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now)
{
        struct sent sent = {.length = length, .bits = frcp->config.fragments ? PCI_WHOLE : 0};

        if (!transmit_new(frcp, &sent, data, now)) {
                frcp->stall_at = NEVER;
                return -EAGAIN;
        }
        return length;
}

/* Send a packet and keep its sequence number only: its delivery is assured. */
static ssize_t write_seq_only(struct frcp *frcp, const uint8_t *data, uint32_t length, int64_t now)
{
        struct sent *sent = sendq_push_seq_only(&frcp->sendq, length, frcp->config.fragments ? PCI_WHOLE : 0);

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
                frcp->write_blocked = !window_open(frcp);
                watch_window(frcp, now);
                return -EAGAIN;
        }
        if (!frcp->config.retransmit && pieces == 1)
                return write_through(frcp, data, length, now);
        if (frcp->sendq.count == 0)
                frcp->sendq.first = frcp->nxt;
        if (!sendq_ready(&frcp->sendq, pieces, seq_only ? 0 : length)) {
                error = sendq_reserve(&frcp->sendq, pieces, seq_only ? 0 : length);
                if (error != 0)
                        return error;
        }
        if (seq_only)
                return write_seq_only(frcp, data, length, now);
        for (done = 0; done < length; done += most) {
                bool last = length - done <= most;

                sendq_push(&frcp->sendq, data + done, last ? length - done : most,
                           bits_of(frcp, done == 0, last));
        }
        frcp_flush(frcp, now);
        return length;
}

/* ---- acknowledgements and windows of the peer ---- */

/*
 * Without retransmission a lost packet never moves the window of a peer that counts received packets. A Python peer
 * learns the number from the rendez-vous; a prototype must be sent one packet beyond its window now and then, which
 * it does not refuse.
 */
static bool stuck(const struct frcp *frcp, int64_t now)
{
        return !frcp->config.retransmit && frcp->nxt == frcp->lim && frcp->shut_at != NEVER &&
               now - frcp->shut_at >= FRCP_RDV_SLOW;
}

void frcp_window(struct frcp *frcp, uint32_t window, int64_t now)
{
        uint32_t offset = (window - frcp->una) & PCI_WINDOW_MASK;

        if ((offset == 0 || offset >= FRCP_WINDOW_SANE) && stuck(frcp, now)) {
                frcp->lim++;
                return;
        }
        /* The window of a peer that does not know this end's numbers, or an old packet (8.14 b). */
        if (offset < 1 || offset >= FRCP_WINDOW_SANE)
                return;
        if (seq_before(frcp->lim, frcp->una + offset))
                frcp->lim = frcp->una + offset;
}
