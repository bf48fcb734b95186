/* frcp_receive: the receiver's half of FRCP (spec/frcp 6, 7). */
#include "frcp.h"

#include <stdlib.h>

#define MAP_OCTETS (RECVQ_WINDOW / 8)
#define WINDOW_LEAST 16u

/* A window in packets says nothing of their size: with large ones it is smaller. */
static uint32_t window_of(const struct frcp *frcp)
{
        uint32_t window = frcp->bulk > 0 ? frcp->config.octets / frcp->bulk : RECVQ_WINDOW;

        if (window < WINDOW_LEAST)
                window = WINDOW_LEAST;
        return window < frcp->config.window ? window : frcp->config.window;
}

void frcp_renew_edge(struct frcp *frcp)
{
        uint32_t edge = frcp->want - frcp->recvq.unread + window_of(frcp);

        if (seq_before(frcp->edge, edge))
                frcp->edge = edge;
}

static void start_run(struct frcp *frcp, uint32_t seq, int64_t now)
{
        recvq_forget(&frcp->recvq);
        frcp->run = true;
        frcp->data_heard_at = now; /* as if: from now on its numbers are those of this run */
        frcp->want = frcp->acked = seq;
        frcp->edge = seq;
        frcp_renew_edge(frcp);
        /* Not yet. A peer that was told nothing sends its first window; where packets are acknowledged it hears soon. */
        frcp->told = frcp->edge;
        if (!frcp->config.retransmit && seq_before(seq + FRCP_WINDOW_FIRST, frcp->edge))
                frcp->told = seq + FRCP_WINDOW_FIRST;
        frcp->since = 0;
        frcp->ack_at = NEVER;
}

/*
 * Whether the numbers of this packet can be taken for what they are; may start a run. Delta-t: after so long a silence nothing
 * of the run before can come any more.
 */
static bool in_run(struct frcp *frcp, const struct pci *pci, int64_t now)
{
        int64_t silence = frcp_receiver_inactivity(frcp) * (1000 * FRCP_MS);
        int64_t lifetime = 2 * FRCP_MS * frcp->config.mpl_ms + FRCP_A + FRCP_R;

        if (!frcp->run || !frcp_recent(frcp->heard_at, silence, now)) {
                if (pci->flags & PCI_DRF) {
                        if (!frcp->run || pci->seq != frcp->want)
                                start_run(frcp, pci->seq, now);
                        return true;
                }
                return !(pci->flags & PCI_DATA);
        }
        /* A sender that had long been quiet takes a new number, while our own data kept the run alive (8.14 c). */
        if ((pci->flags & PCI_DATA) && (pci->flags & PCI_DRF) && pci->seq != frcp->want &&
            frcp->recvq.early == 0 && !frcp_recent(frcp->data_heard_at, lifetime, now))
                start_run(frcp, pci->seq, now);
        return true;
}

/* ---- data ---- */

static void ack_at_once(struct frcp *frcp, int64_t now)
{
        frcp->bare = true;
        frcp->ack_at = now;
}

/*
 * Packets that are acknowledged together; half of a small window, or of what may be under way on a short way: their sender would
 * wait for the delay each time.
 */
static uint32_t pace(const struct frcp *frcp)
{
        uint32_t most = window_of(frcp);

        if (frcp->bulk > 0 && most > FRCP_SHORT_OCTETS / frcp->bulk)
                most = FRCP_SHORT_OCTETS / frcp->bulk;
        return most / 2 < FRCP_EVERY ? most / 2 : FRCP_EVERY;
}

static void ack_later(struct frcp *frcp, int64_t now)
{
        if (++frcp->since >= pace(frcp))
                frcp->ack_at = now;
        else if (frcp->config.retransmit && frcp->ack_at == NEVER)
                frcp->ack_at = now + FRCP_ACK_DELAY;
}

/* What was waiting for the packet that has just come. */
static void add_waiting(struct frcp *frcp, bool reassemble)
{
        struct held *held;

        while (frcp->recvq.early > 0 && (held = recvq_turn(&frcp->recvq, frcp->want)) != NULL) {
                if (frcp->config.ends && held->length == 0) {
                        frcp_hear_finish(frcp, held->bits);
                        free(held);
                        continue;
                }
                if (frcp->heard) {
                        frcp->counters.malformed++; /* there is nothing behind the end */
                        free(held);
                        return;
                }
                if (!recvq_add_held(&frcp->recvq, held, reassemble)) {
                        free(held); /* the peer sends it again */
                        return;
                }
                frcp->want++;
        }
}

/* The packet at `want`. True: it is the reader's at once. */
static bool take(struct frcp *frcp, uint8_t bits, const uint8_t *data, uint32_t length,
                 struct frcp_piece *direct)
{
        bool reassemble = frcp->config.fragments && frcp->flags & FRCP_REASSEMBLE;

        if (direct != NULL && length > 0 && frcp->recvq.messages == 0 && frcp->recvq.partial == NULL &&
            recvq_as_it_is(&frcp->recvq, bits, reassemble)) {
                recvq_went(&frcp->recvq, bits, true);
                *direct = (struct frcp_piece){data, length};
                frcp->counters.delivered++;
                frcp->want++;
                add_waiting(frcp, reassemble);
                return true;
        }
        if (!recvq_add(&frcp->recvq, bits, data, length, reassemble)) {
                frcp->counters.refused++;
                return false;
        }
        frcp->want++;
        add_waiting(frcp, reassemble);
        return false;
}

static bool beyond_window(struct frcp *frcp, uint32_t seq)
{
        if (seq - frcp->want < frcp->edge - frcp->want)
                return false;
        frcp_renew_edge(frcp); /* what came meanwhile may have moved it */
        return seq - frcp->want >= frcp->edge - frcp->want;
}

/* Flows that retransmit: in order and complete. */
static bool data_reliable(struct frcp *frcp, const struct pci *pci, const uint8_t *data, uint32_t length,
                          int64_t now, struct frcp_piece *direct)
{
        uint8_t bits = pci->flags & PCI_PIECE;
        bool waiting = frcp->recvq.early > 0;

        if (frcp->heard && !seq_before(pci->seq, frcp->want) && (frcp->heard == FRCP_LEFT || length > 0)) {
                frcp->counters.malformed++; /* there is nothing behind the end */
                return false;
        }
        if (frcp->config.ends && length == 0 && pci->seq == frcp->want) {
                frcp_hear_finish(frcp, bits);
                add_waiting(frcp, false);
                ack_at_once(frcp, now);
                return false;
        }
        if (!seq_before(pci->seq, frcp->want) && beyond_window(frcp, pci->seq)) {
                frcp->counters.refused++;
                ack_at_once(frcp, now);
                return false;
        }
        if (seq_before(pci->seq, frcp->want) || recvq_has(&frcp->recvq, pci->seq)) {
                frcp->counters.duplicate++;
                ack_at_once(frcp, now);
                return false;
        }
        if (pci->seq == frcp->want) {
                bool read = take(frcp, bits, data, length, direct);

                ack_later(frcp, now);
                if (waiting)
                        ack_at_once(frcp, now);
                return read;
        }
        if (recvq_hold(&frcp->recvq, pci->seq, bits, data, length))
                frcp->counters.early++;
        else
                frcp->counters.refused++;
        ack_at_once(frcp, now);
        return false;
}

/* What was before `seq` and has not come will not be waited for. */
static void skip_to(struct frcp *frcp, uint32_t seq)
{
        if (!seq_before(frcp->want, seq))
                return;
        recvq_gap(&frcp->recvq);
        frcp->counters.skipped += seq - frcp->want;
        frcp->want = seq;
}

/* Flows that do not: in order, and what is missing stays missing. */
static bool data_lossy(struct frcp *frcp, const struct pci *pci, const uint8_t *data, uint32_t length,
                       int64_t now, struct frcp_piece *direct)
{
        if (seq_before(pci->seq, frcp->want)) {
                frcp->counters.duplicate++;
                return false;
        }
        if (frcp->recvq.unread >= frcp->config.window) {
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
        frcp->stamp_at = NEVER;
        if (length < PCI_OCTETS) {
                frcp->counters.malformed += length > 0; /* an empty one keeps the flow alive */
                return false;
        }
        pci_decode(&pci, packet);
        packet += PCI_OCTETS;
        length -= PCI_OCTETS;
        if (!in_run(frcp, &pci, now)) {
                frcp->counters.refused++;
                return false;
        }
        frcp->heard_at = now;
        if (pci.flags & PCI_RDV) {
                if (!frcp->config.retransmit && pci.flags & PCI_DRF)
                        skip_to(frcp, pci.seq);
                frcp->asked = true;
                frcp->ack_at = now;
                return false;
        }
        if (pci.flags & PCI_ACK)
                frcp_acknowledged(frcp, pci.ackno, packet, pci.flags & PCI_DATA ? 0 : length, now);
        if (pci.flags & PCI_FC)
                frcp_window(frcp, pci.window, now);
        if (!(pci.flags & PCI_DATA))
                return false;
        frcp->data_heard_at = now;
        /* At once when they get larger; when they get smaller, after some dozens. */
        frcp->bulk = length > frcp->bulk ? length : frcp->bulk - (frcp->bulk - length) / 32;
        if (frcp->config.retransmit)
                return data_reliable(frcp, &pci, packet, length, now, direct);
        return data_lossy(frcp, &pci, packet, length, now, direct);
}

/* ---- reading ---- */

bool frcp_front(const struct frcp *frcp, struct frcp_piece *piece)
{
        if (frcp->recvq.front == NULL)
                return false;
        *piece = (struct frcp_piece){frcp->recvq.front->data, frcp->recvq.front->length};
        return true;
}

void frcp_pop(struct frcp *frcp, int64_t now)
{
        if (frcp->recvq.front == NULL)
                return;
        recvq_pop(&frcp->recvq);
        frcp->stamp_at = NEVER;
        frcp->counters.delivered++;
        if (frcp->down != 0 || !frcp->run)
                return;
        frcp_renew_edge(frcp);
        if (frcp->edge - frcp->told >= pace(frcp) &&
            (frcp->config.retransmit || frcp->told - frcp->want <= FRCP_EVERY))
                frcp->ack_at = now; /* the peer may be waiting for it */
        else if (frcp->told - frcp->want < FRCP_EVERY && frcp->ack_at == NEVER)
                frcp->ack_at = now + FRCP_ACK_DELAY;
}

/* ---- acknowledging ---- */

/* An answer to a rendez-vous: the window alone. */
static bool tell_window(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_FC, .window = frcp->edge};

        return frcp_control(frcp, &pci, NULL, 0, now);
}

static bool tell_all(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_ACK | PCI_FC, .window = frcp->edge, .ackno = frcp->want};
        uint8_t map[MAP_OCTETS];
        uint32_t length = 0, room = frcp->config.max_packet - PCI_OCTETS;

        if (frcp->config.selective)
                length = recvq_map(&frcp->recvq, frcp->want, map, room < sizeof map ? room : sizeof map);
        if (!frcp_control(frcp, &pci, map, length, now))
                return false;
        frcp->acked = frcp->want;
        frcp->bare = false;
        return true;
}

/* After A nothing is acknowledged any more; the window may be told as long as there is a run. */
void frcp_acknowledge(struct frcp *frcp, int64_t now)
{
        bool acknowledge, window, told = true;

        if (now < frcp->ack_at)
                return;
        frcp->ack_at = NEVER;
        if (!frcp->run)
                return;
        frcp_renew_edge(frcp);
        acknowledge = frcp->config.retransmit && frcp_recent(frcp->heard_at, FRCP_A, now) &&
                      (frcp->bare || frcp->want != frcp->acked || (!frcp->asked && frcp->edge != frcp->told));
        window = frcp->asked || (!acknowledge && frcp->edge != frcp->told);
        if (window)
                told = tell_window(frcp, now);
        if (told && acknowledge)
                told = tell_all(frcp, now);
        if (!told) {
                frcp->ack_at = now + FRCP_TICK;
                return;
        }
        frcp->asked = frcp->bare = false;
        if (window || acknowledge) {
                frcp->told = frcp->edge;
                frcp->since = 0;
        }
}
