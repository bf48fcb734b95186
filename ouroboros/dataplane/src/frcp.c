/* frcp: life and control of the machine; its parts are frcp_sender.c, frcp_receiver.c, frcp_timers.c and inflight.h. */
#include "frcp_private.h"

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
        frcp->tx.una = frcp->tx.nxt = config->first;
        frcp->tx.lim = config->first + FRCP_WINDOW_FIRST;
        frcp->tx.template_at = frcp->tx.last_data_tx_at = frcp->rx.last_rx_at = frcp->rx.last_data_rx_at = NEVER;
        frcp->tx.shut_at = frcp->at.rdv = frcp->at.resend = frcp->at.stall = frcp->at.ack = NEVER;
        frcp->closed_at = frcp->at.linger = NEVER;
        sendq_init(&frcp->tx.sendq, config->first);
        rtt_init(&frcp->tx.rtt);
        inflight_init(&frcp->inflight, config->lossless, window);
        recvq_init(&frcp->rx.recvq, window, frcp->config.max_message);
        keepalive_init(&frcp->alive, config->timeout_ms, now);
        return 0;
}

void frcp_fini(struct frcp *frcp)
{
        sendq_clear(&frcp->tx.sendq, frcp->tx.nxt);
        recvq_clear(&frcp->rx.recvq);
}

void frcp_break(struct frcp *frcp, int why)
{
        if (frcp->down != 0)
                return;
        frcp->lost = frcp_unacknowledged(frcp);
        frcp->down = why;
        frcp->alive.expired = true;
        frcp->tx.shut_at = frcp->at.rdv = frcp->at.resend = frcp->at.stall = frcp->at.ack = NEVER;
        sendq_clear(&frcp->tx.sendq, frcp->tx.nxt);
        recvq_drop_pending(&frcp->rx.recvq);
}

uint32_t frcp_sender_inactivity(uint32_t mpl_ms)
{
        return (uint32_t)((3 * FRCP_MS * mpl_ms + FRCP_A + FRCP_R) / SECOND) + 1;
}

uint32_t frcp_receiver_inactivity(uint32_t mpl_ms)
{
        return (uint32_t)((2 * FRCP_MS * mpl_ms + FRCP_A + FRCP_R) / SECOND) + 1;
}

/* ---- control ---- */

/*
 * Control packets carry this end's sequence number until the peer has acknowledged data: a receiver may see one of
 * them first (FRCP-9).
 */
bool frcp_control(struct frcp *frcp, struct pci *pci, const uint8_t *map, uint32_t length, int64_t now)
{
        uint8_t header[PCI_OCTETS];

        if (!frcp->tx.confirmed) {
                pci->flags |= PCI_DRF;
                pci->seq = frcp->tx.una;
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
                recvq_release_partial(&frcp->rx.recvq); /* no received data is lost */
}

/* FRCP-26. The acknowledgement may be the last chance of a prototype, whose packets would otherwise wait for R. */
void frcp_close(struct frcp *frcp, int64_t now)
{
        struct pci pci = {.flags = PCI_ACK};

        frcp_send_fin(frcp, true, now);
        if (frcp->closed_at == NEVER)
                frcp->closed_at = now;
        if (frcp_lingers(frcp))
                frcp->at.linger = frcp->closed_at + FRCP_R;
        pci.ackno = frcp->rx.want;
        if (frcp->down != 0 || !frcp->rx.run || frcp->rx.want == frcp->rx.acked)
                return;
        if (!frcp_recent(frcp->rx.last_rx_at, FRCP_A, now) || !frcp_control(frcp, &pci, NULL, 0, now))
                return;
        frcp->rx.acked = frcp->rx.want;
        frcp->rx.ack_now = false;
        frcp->at.ack = NEVER;
}

static int64_t left(int64_t at, uint32_t seconds, int64_t now)
{
        return at == NEVER ? 0 : seconds - (now - at) / SECOND;
}

/* FRCP-31. */
uint32_t frcp_quiet_time(const struct frcp *frcp, int64_t now)
{
        int64_t in = left(frcp->rx.last_rx_at, frcp_receiver_inactivity(frcp->config.mpl_ms), now);
        int64_t out = left(frcp->tx.last_data_tx_at, frcp_sender_inactivity(frcp->config.mpl_ms), now);
        int64_t longest = in > out ? in : out;

        return longest > 0 ? (uint32_t)longest : 0;
}
