/* frcp_receiver: the receiver of a flow end: data runs, order, acknowledgements and the window (spec/frcp 6, 7, 11). */
#include "frcp_private.h"

#include <stdlib.h>

#define MAP_OCTETS (RECVQ_WINDOW / 8)
#define WINDOW_MIN 16u

/* The window counts packets of any size: it shrinks when packets are large (design/frcp). A prototype's is 256 (FRCP-5). */
static uint32_t window_of(const struct frcp *frcp)
{
        uint32_t window = frcp->rx.peak_length > 0 ? frcp->config.octets / frcp->rx.peak_length : RECVQ_WINDOW;

        if (window < WINDOW_MIN)
                window = WINDOW_MIN;
        return window < frcp->config.window ? window : frcp->config.window;
}

/* Advance the window edge, as reading goes on (FRCP-14); it never goes back. */
static void update_edge(struct frcp *frcp)
{
        uint32_t edge = frcp->rx.want - frcp->rx.recvq.unread + window_of(frcp);

        if (seq_before(frcp->rx.edge, edge))
                frcp->rx.edge = edge;
}

static void start_run(struct frcp *frcp, uint32_t seq, int64_t now)
{
        recvq_drop_pending(&frcp->rx.recvq);
        frcp->rx.run = true;
        frcp->rx.last_data_rx_at = now; /* its numbers are those of this run from now on */
        frcp->rx.want = frcp->rx.acked = seq;
        frcp->rx.edge = seq;
        update_edge(frcp);
        /*
         * The edge has not been advertised yet. A peer without an advertisement sends its initial window; where
         * packets are acknowledged the first acknowledgement carries the edge.
         */
        frcp->rx.advertised = frcp->rx.edge;
        if (!frcp->config.retransmit && seq_before(seq + FRCP_WINDOW_FIRST, frcp->rx.edge))
                frcp->rx.advertised = seq + FRCP_WINDOW_FIRST;
        frcp->rx.since_ack = 0;
        frcp->at.ack = NEVER;
}

/*
 * Whether the sequence numbers of this packet are valid; may start a data run (FRCP-10). Delta-t: after the receiver's
 * inactivity time no packet of the previous run can arrive.
 */
static bool in_run(struct frcp *frcp, const struct pci *pci, int64_t now)
{
        int64_t inactivity = frcp_receiver_inactivity(frcp->config.mpl_ms) * (1000 * FRCP_MS);
        int64_t lifetime = 2 * FRCP_MS * frcp->config.mpl_ms + FRCP_A + FRCP_R;

        if (!frcp->rx.run || !frcp_recent(frcp->rx.last_rx_at, inactivity, now)) {
                if (pci->flags & PCI_DRF) {
                        if (!frcp->rx.run || pci->seq != frcp->rx.want)
                                start_run(frcp, pci->seq, now);
                        return true;
                }
                return !(pci->flags & PCI_DATA);
        }
        /* An idle sender takes a new number, while this end's own data kept the run alive (FRCP-8). */
        if ((pci->flags & PCI_DATA) && (pci->flags & PCI_DRF) && pci->seq != frcp->rx.want &&
            frcp->rx.recvq.early == 0 && !frcp_recent(frcp->rx.last_data_rx_at, lifetime, now))
                start_run(frcp, pci->seq, now);
        return true;
}

/* ---- data (FRCP-13, FRCP-14) ---- */

static void ack_immediately(struct frcp *frcp, int64_t now)
{
        frcp->rx.ack_now = true;
        frcp->at.ack = now;
}

/*
 * Packets that one acknowledgement covers (FRCP-15, FRCP-17): at most half of a small window, or of the in-flight bound; a sender at its
 * bound would wait for the delayed acknowledgement each time.
 */
static uint32_t ack_interval(const struct frcp *frcp)
{
        uint32_t most = window_of(frcp);

        if (frcp->rx.peak_length > 0 && most > INFLIGHT_OCTETS / frcp->rx.peak_length)
                most = INFLIGHT_OCTETS / frcp->rx.peak_length;
        return most / 2 < FRCP_ACK_EVERY ? most / 2 : FRCP_ACK_EVERY;
}

static void ack_later(struct frcp *frcp, int64_t now)
{
        if (++frcp->rx.since_ack >= ack_interval(frcp))
                frcp->at.ack = now;
        else if (frcp->config.retransmit && frcp->at.ack == NEVER)
                frcp->at.ack = now + FRCP_ACK_DELAY;
}

/* FIN is next in order (FRCP-33). */
static void receive_fin(struct frcp *frcp, uint8_t bits)
{
        frcp->rx.want++;
        frcp->fin_received = bits == PCI_FIRST ? FRCP_CLOSED : FRCP_HALF_CLOSED;
        recvq_gap(&frcp->rx.recvq); /* a packet that the peer did not complete */
        if (frcp->fin_received != FRCP_CLOSED)
                return;
        recvq_drop_pending(&frcp->rx.recvq); /* no data follows */
        /* The peer reads no more and needs no keep-alives. */
        frcp_stop_sending(frcp);
        frcp->alive.timeout = 0;
}

/* Move early packets that are in order now to the receive queue. */
static void add_early(struct frcp *frcp, bool reassemble)
{
        struct held *held;

        while (frcp->rx.recvq.early > 0 && (held = recvq_turn(&frcp->rx.recvq, frcp->rx.want)) != NULL) {
                if (frcp->config.fin && held->length == 0) {
                        receive_fin(frcp, held->bits);
                        free(held);
                        continue;
                }
                if (frcp->fin_received) {
                        frcp->counters.malformed++; /* data behind FIN */
                        free(held);
                        return;
                }
                if (!recvq_add_held(&frcp->rx.recvq, held, reassemble)) {
                        free(held); /* the peer retransmits it */
                        return;
                }
                frcp->rx.want++;
        }
}

/* The packet at `want`. True: the caller delivers it directly. */
static bool take(struct frcp *frcp, uint8_t bits, const uint8_t *data, uint32_t length,
                 struct frcp_piece *direct)
{
        bool reassemble = frcp->config.fragments && frcp->flags & FRCP_REASSEMBLE;

        if (direct != NULL && length > 0 && frcp->rx.recvq.messages == 0 && frcp->rx.recvq.partial == NULL &&
            recvq_is_raw(&frcp->rx.recvq, bits, reassemble)) {
                recvq_note_raw(&frcp->rx.recvq, bits, true);
                *direct = (struct frcp_piece){data, length};
                frcp->counters.delivered++;
                frcp->rx.want++;
                add_early(frcp, reassemble);
                return true;
        }
        if (!recvq_add(&frcp->rx.recvq, bits, data, length, reassemble)) {
                frcp->counters.refused++;
                return false;
        }
        frcp->rx.want++;
        add_early(frcp, reassemble);
        return false;
}

static bool beyond_window(struct frcp *frcp, uint32_t seq)
{
        if (seq - frcp->rx.want < frcp->rx.edge - frcp->rx.want)
                return false;
        update_edge(frcp); /* packets received meanwhile may have moved the edge */
        return seq - frcp->rx.want >= frcp->rx.edge - frcp->rx.want;
}

/* Data on flows with retransmission: in order and complete (FRCP-13). A gap or a duplicate is acknowledged immediately (FRCP-15). */
static bool data_reliable(struct frcp *frcp, const struct pci *pci, const uint8_t *data, uint32_t length,
                          int64_t now, struct frcp_piece *direct)
{
        uint8_t bits = pci->flags & PCI_PIECE;
        bool waiting = frcp->rx.recvq.early > 0;

        if (frcp->fin_received && !seq_before(pci->seq, frcp->rx.want) &&
            (frcp->fin_received == FRCP_CLOSED || length > 0)) {
                frcp->counters.malformed++; /* data behind FIN */
                return false;
        }
        if (frcp->config.fin && length == 0 && pci->seq == frcp->rx.want) {
                receive_fin(frcp, bits);
                add_early(frcp, false);
                ack_immediately(frcp, now);
                return false;
        }
        if (!seq_before(pci->seq, frcp->rx.want) && beyond_window(frcp, pci->seq)) {
                frcp->counters.refused++;
                ack_immediately(frcp, now);
                return false;
        }
        if (seq_before(pci->seq, frcp->rx.want) || recvq_has(&frcp->rx.recvq, pci->seq)) {
                frcp->counters.duplicate++;
                ack_immediately(frcp, now);
                return false;
        }
        if (pci->seq == frcp->rx.want) {
                bool delivered = take(frcp, bits, data, length, direct);

                ack_later(frcp, now);
                if (waiting)
                        ack_immediately(frcp, now);
                return delivered;
        }
        if (recvq_hold(&frcp->rx.recvq, pci->seq, bits, data, length))
                frcp->counters.early++;
        else
                frcp->counters.refused++;
        ack_immediately(frcp, now);
        return false;
}

/* The receiver does not wait for missing packets before `seq`. */
static void skip_to(struct frcp *frcp, uint32_t seq)
{
        if (!seq_before(frcp->rx.want, seq))
                return;
        recvq_gap(&frcp->rx.recvq);
        frcp->counters.skipped += seq - frcp->rx.want;
        frcp->rx.want = seq;
}

/* Data on flows without retransmission: in order, with gaps (FRCP-13). */
static bool data_lossy(struct frcp *frcp, const struct pci *pci, const uint8_t *data, uint32_t length,
                       int64_t now, struct frcp_piece *direct)
{
        if (seq_before(pci->seq, frcp->rx.want)) {
                frcp->counters.duplicate++;
                return false;
        }
        if (frcp->rx.recvq.unread >= frcp->config.window) {
                frcp->counters.refused++; /* the reader is far behind */
                return false;
        }
        skip_to(frcp, pci->seq);
        ack_later(frcp, now);
        return take(frcp, pci->flags & PCI_PIECE, data, length, direct);
}

bool frcp_receive(struct frcp *frcp, const uint8_t *packet, uint32_t length, int64_t now,
                  struct frcp_piece *direct)
{
        struct pci pci;

        if (frcp->down != 0)
                return false;
        frcp->alive.received = now;
        frcp->counters.received++;
        frcp->tx.template_at = NEVER;
        if (length < PCI_OCTETS) {
                frcp->counters.malformed += length > 0; /* an empty packet is a keep-alive */
                return false;
        }
        pci_decode(&pci, packet);
        packet += PCI_OCTETS;
        length -= PCI_OCTETS;
        if (!in_run(frcp, &pci, now)) {
                frcp->counters.refused++;
                return false;
        }
        frcp->rx.last_rx_at = now;
        if (pci.flags & PCI_RDV) {
                if (!frcp->config.retransmit && pci.flags & PCI_DRF)
                        skip_to(frcp, pci.seq);
                frcp->rx.window_requested = true;
                frcp->at.ack = now;
                return false;
        }
        if (pci.flags & PCI_ACK)
                frcp_acknowledged(frcp, pci.ackno, packet, pci.flags & PCI_DATA ? 0 : length, now);
        if (pci.flags & PCI_FC)
                frcp_window(frcp, pci.window, now);
        if (!(pci.flags & PCI_DATA))
                return false;
        frcp->rx.last_data_rx_at = now;
        /* Follows larger packets immediately, and smaller ones after some dozens. */
        frcp->rx.peak_length = length > frcp->rx.peak_length ? length : frcp->rx.peak_length - (frcp->rx.peak_length - length) / 32;
        if (frcp->config.retransmit)
                return data_reliable(frcp, &pci, packet, length, now, direct);
        return data_lossy(frcp, &pci, packet, length, now, direct);
}

/* ---- reading ---- */

bool frcp_front(const struct frcp *frcp, struct frcp_piece *piece)
{
        if (frcp->rx.recvq.front == NULL)
                return false;
        *piece = (struct frcp_piece){frcp->rx.recvq.front->data, frcp->rx.recvq.front->length};
        return true;
}

void frcp_pop(struct frcp *frcp, int64_t now)
{
        if (frcp->rx.recvq.front == NULL)
                return;
        recvq_pop(&frcp->rx.recvq);
        frcp->tx.template_at = NEVER;
        frcp->counters.delivered++;
        if (frcp->down != 0 || !frcp->rx.run)
                return;
        update_edge(frcp);
        if (frcp->rx.edge - frcp->rx.advertised >= ack_interval(frcp) &&
            (frcp->config.retransmit || frcp->rx.advertised - frcp->rx.want <= FRCP_ACK_EVERY))
                frcp->at.ack = now; /* the peer may be waiting for the window */
        else if (frcp->rx.advertised - frcp->rx.want < FRCP_ACK_EVERY && frcp->at.ack == NEVER)
                frcp->at.ack = now + FRCP_ACK_DELAY;
}

/* ---- acknowledging (FRCP-15 to FRCP-17) ---- */

void frcp_fill(struct frcp *frcp, struct pci *pci, int64_t now)
{
        int64_t inactivity = frcp_receiver_inactivity(frcp->config.mpl_ms) * (1000 * FRCP_MS);

        if (frcp->rx.run && frcp_recent(frcp->rx.last_rx_at, inactivity, now)) {
                update_edge(frcp);
                pci->flags |= PCI_FC;
                pci->window = frcp->rx.edge;
        }
        if (frcp->rx.run && frcp->config.retransmit && frcp_recent(frcp->rx.last_rx_at, FRCP_A, now)) {
                pci->flags |= PCI_ACK;
                pci->ackno = frcp->rx.want;
        }
}

/* The answer to a rendez-vous: the window alone (FRCP-11). */
static bool send_window(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_FC, .window = frcp->rx.edge};

        return frcp_control(frcp, &pci, NULL, 0, now);
}

/* FRCP-15, FRCP-22. */
static bool send_ack(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_ACK | PCI_FC, .window = frcp->rx.edge, .ackno = frcp->rx.want};
        uint8_t map[MAP_OCTETS];
        uint32_t length = 0, space = frcp->config.max_packet - PCI_OCTETS;

        if (frcp->config.selective)
                length = recvq_map(&frcp->rx.recvq, frcp->rx.want, map, space < sizeof map ? space : sizeof map);
        if (!frcp_control(frcp, &pci, map, length, now))
                return false;
        frcp->rx.acked = frcp->rx.want;
        frcp->rx.ack_now = false;
        return true;
}

/* After A the receiver acknowledges nothing (FRCP-4); it advertises its window as long as there is a run. */
void frcp_acknowledge(struct frcp *frcp, int64_t now)
{
        bool acknowledge, window, sent = true;

        if (now < frcp->at.ack)
                return;
        frcp->at.ack = NEVER;
        if (!frcp->rx.run)
                return;
        update_edge(frcp);
        acknowledge = frcp->config.retransmit && frcp_recent(frcp->rx.last_rx_at, FRCP_A, now) &&
                      (frcp->rx.ack_now || frcp->rx.want != frcp->rx.acked ||
                       (!frcp->rx.window_requested && frcp->rx.edge != frcp->rx.advertised));
        window = frcp->rx.window_requested || (!acknowledge && frcp->rx.edge != frcp->rx.advertised);
        if (window)
                sent = send_window(frcp, now);
        if (sent && acknowledge)
                sent = send_ack(frcp, now);
        if (!sent) {
                frcp->at.ack = now + FRCP_TICK;
                return;
        }
        frcp->rx.window_requested = frcp->rx.ack_now = false;
        if (window || acknowledge) {
                frcp->rx.advertised = frcp->rx.edge;
                frcp->rx.since_ack = 0;
        }
}
