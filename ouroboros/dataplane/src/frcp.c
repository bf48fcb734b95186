/* frcp: life, timers and control of the machine; its two halves are frcp_send.c and frcp_receive.c. */
#include "frcp.h"

#include <string.h>

#define SECOND 1000000000ll
#define MESSAGE_MAX (1u << 20)

int frcp_init(struct frcp *frcp, const struct frcp_config *config, frcp_send *send, void *arg, int64_t now)
{
        uint32_t window = config->window ? config->window : FRCP_WINDOW;

        if (config->max_packet <= PCI_OCTETS || window > RECVQ_WINDOW || (window & (window - 1)) != 0)
                return -EINVAL;
        if (config->timeout_ms > INT32_MAX || config->mpl_ms > INT32_MAX)
                return -EINVAL;
        memset(frcp, 0, sizeof *frcp);
        frcp->config = *config;
        frcp->config.window = window;
        if (config->octets == 0)
                frcp->config.octets = FRCP_WINDOW_OCTETS;
        if (config->max_message == 0 || config->max_message > MESSAGE_MAX)
                frcp->config.max_message = MESSAGE_MAX;
        frcp->send = send;
        frcp->arg = arg;
        frcp->flags = FRCP_FLOW_CONTROL | (config->retransmit ? FRCP_RETRANSMIT | FRCP_LINGER : 0) |
                      (config->fragments ? FRCP_FRAGMENT | FRCP_REASSEMBLE : 0);
        frcp->una = frcp->nxt = config->first;
        frcp->lim = config->first + FRCP_WINDOW_FIRST;
        frcp->template_at = frcp->last_data_tx_at = frcp->last_rx_at = frcp->last_data_rx_at = NEVER;
        frcp->shut_at = frcp->rdv_at = frcp->resend_at = frcp->stall_at = frcp->ack_at = NEVER;
        frcp->closed_at = frcp->linger_until = NEVER;
        sendq_init(&frcp->sendq, config->first);
        rtt_init(&frcp->rtt);
        recvq_init(&frcp->recvq, window, frcp->config.max_message);
        keepalive_init(&frcp->alive, config->timeout_ms, now);
        return 0;
}

void frcp_fini(struct frcp *frcp)
{
        sendq_clear(&frcp->sendq, frcp->nxt);
        recvq_clear(&frcp->recvq);
}

void frcp_break(struct frcp *frcp, int why)
{
        if (frcp->down != 0)
                return;
        frcp->lost = frcp_unacknowledged(frcp);
        frcp->down = why;
        frcp->alive.expired = true;
        frcp->shut_at = frcp->rdv_at = frcp->resend_at = frcp->stall_at = frcp->ack_at = NEVER;
        sendq_clear(&frcp->sendq, frcp->nxt);
        recvq_drop_pending(&frcp->recvq);
}

/* ---- time ---- */

uint32_t frcp_sender_inactivity(const struct frcp *frcp)
{
        return (uint32_t)((3 * FRCP_MS * frcp->config.mpl_ms + FRCP_A + FRCP_R) / SECOND) + 1;
}

uint32_t frcp_receiver_inactivity(const struct frcp *frcp)
{
        return (uint32_t)((2 * FRCP_MS * frcp->config.mpl_ms + FRCP_A + FRCP_R) / SECOND) + 1;
}

static void keep_alive(struct frcp *frcp, int64_t now)
{
        if (keepalive_lost(&frcp->alive, now))
                frcp_break(frcp, -EFLOWPEER);
        else if (keepalive_quiet(&frcp->alive, now) && frcp->send(frcp->arg, NULL, 0, NULL, 0))
                frcp->alive.sent = now;
        else if (keepalive_quiet(&frcp->alive, now))
                frcp->stall_at = now + FRCP_TICK;
}

static void rendez_vous(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_RDV};

        frcp->rdv_at = now + (now - frcp->shut_at < FRCP_RDV_SLOW ? FRCP_RDV : FRCP_RDV_SLOW);
        frcp_control(frcp, &pci, NULL, 0, now);
}

/*
 * R bounds each packet from its first transmission, but neither packets behind a shut window or a full flow below,
 * nor the sum of packets that a peer acknowledges one at a time. A closing end waits for R and no longer.
 */
static void stop_lingering(struct frcp *frcp)
{
        frcp->linger_until = NEVER;
        if (frcp_lingers(frcp))
                frcp_break(frcp, -EFLOWDOWN);
}

void frcp_run(struct frcp *frcp, int64_t now)
{
        if (frcp->down != 0)
                return;
        if (now >= frcp->linger_until)
                stop_lingering(frcp);
        if (frcp->down == 0 && now >= frcp->resend_at)
                frcp_resend(frcp, now);
        if (frcp->down != 0)
                return;
        frcp->stall_at = NEVER;
        frcp_flush(frcp, now);
        frcp_acknowledge(frcp, now);
        if (now >= frcp->rdv_at)
                rendez_vous(frcp, now);
        if (now >= keepalive_deadline(&frcp->alive))
                keep_alive(frcp, now);
}

int64_t frcp_deadline(const struct frcp *frcp)
{
        const int64_t at[] = {frcp->resend_at, frcp->ack_at, frcp->rdv_at, frcp->stall_at, frcp->linger_until};
        int64_t first = keepalive_deadline(&frcp->alive);

        if (frcp->down != 0)
                return NEVER;
        if (first != NEVER && frcp->stall_at != NEVER && keepalive_quiet(&frcp->alive, frcp->stall_at))
                first = frcp->alive.received + frcp->alive.timeout + 1; /* the keep-alive waits for space below */
        for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++)
                if (at[i] < first)
                        first = at[i];
        return first;
}

/* ---- control ---- */

/*
 * Control packets carry this end's sequence number until the peer has acknowledged data: a receiver may see one of
 * them first (8.14 a).
 */
bool frcp_control(struct frcp *frcp, struct pci *pci, const uint8_t *map, uint32_t length, int64_t now)
{
        uint8_t header[PCI_OCTETS];

        if (!frcp->confirmed) {
                pci->flags |= PCI_DRF;
                pci->seq = frcp->una;
        }
        pci_encode(header, pci);
        if (!frcp->send(frcp->arg, header, PCI_OCTETS, map, length))
                return false;
        frcp->counters.control++;
        frcp->alive.sent = now;
        return true;
}

void frcp_set_flags(struct frcp *frcp, uint32_t flags)
{
        uint32_t can = FRCP_FLOW_CONTROL | FRCP_LINGER;

        if (frcp->config.fragments)
                can |= FRCP_FRAGMENT | FRCP_REASSEMBLE;
        frcp->flags = (frcp->flags & FRCP_RETRANSMIT) | (flags & can);
        if (!(frcp->flags & FRCP_REASSEMBLE))
                recvq_release_partial(&frcp->recvq); /* no received data is lost */
}

void frcp_close(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_ACK};

        frcp_send_fin(frcp, true, now);
        if (frcp->closed_at == NEVER)
                frcp->closed_at = now;
        if (frcp_lingers(frcp))
                frcp->linger_until = frcp->closed_at + FRCP_R;
        pci.ackno = frcp->want;
        if (frcp->down != 0 || !frcp->run || frcp->want == frcp->acked)
                return;
        if (!frcp_recent(frcp->last_rx_at, FRCP_A, now) || !frcp_control(frcp, &pci, NULL, 0, now))
                return;
        frcp->acked = frcp->want;
        frcp->ack_now = false;
        frcp->ack_at = NEVER;
}

bool frcp_lingers(const struct frcp *frcp)
{
        if (frcp->down != 0 || !(frcp->flags & FRCP_LINGER) || frcp->sendq.count == 0)
                return false;
        /* Only FINs follow a FIN. */
        return !frcp_is_fin(frcp, frcp->una) || frcp_fin_lingers(frcp);
}

uint64_t frcp_unacknowledged(const struct frcp *frcp)
{
        uint64_t octets = 0;

        if (frcp->down != 0)
                return frcp->lost;
        for (uint32_t i = 0; i < frcp->sendq.count; i++)
                octets += sendq_at(&frcp->sendq, frcp->sendq.first + i)->length;
        return octets;
}

static int64_t left(int64_t at, uint32_t seconds, int64_t now)
{
        return at == NEVER ? 0 : seconds - (now - at) / SECOND;
}

uint32_t frcp_quiet_time(const struct frcp *frcp, int64_t now)
{
        int64_t in = left(frcp->last_rx_at, frcp_receiver_inactivity(frcp), now);
        int64_t out = left(frcp->last_data_tx_at, frcp_sender_inactivity(frcp), now);
        int64_t longest = in > out ? in : out;

        return longest > 0 ? (uint32_t)longest : 0;
}
