/*
 * frcp_private: the calls between the parts of the machine (frcp.h). Each part writes its own fields; a part that is to be called at some
 * time sets its timer in `at`.
 */
#ifndef OUROBOROS_FRCP_PRIVATE_H
#define OUROBOROS_FRCP_PRIVATE_H

#include "frcp.h"

#define FRCP_WINDOW_SANE 0x10000u    /* a larger advertised window is invalid (FRCP-12) */
#define FRCP_ACK_EVERY 32u           /* packets that one acknowledgement covers at most (FRCP-17) */
#define FRCP_BURST 16u               /* packets that are retransmitted together at most (FRCP-21) */

/* Whether at most `interval` has passed since `at`; never when `at` is NEVER. */
static inline bool frcp_recent(int64_t at, int64_t interval, int64_t now)
{
        return at != NEVER && now - at <= interval;
}

/* ---- the machine (frcp.c) ---- */

/* Send a packet without data; `map` follows the header. */
bool frcp_control(struct frcp *frcp, struct pci *pci, const uint8_t *map, uint32_t length, int64_t now);

/* The flow is down. */
void frcp_break(struct frcp *frcp, int why);

/* ---- the sender (frcp_sender.c) ---- */

/* Send queued packets as far as the window allows; then watch the window. */
void frcp_flush(struct frcp *frcp, int64_t now);

/* Retransmit overdue packets. */
void frcp_resend(struct frcp *frcp, int64_t now);

/* A packet acknowledges the numbers before `ackno`; `map` shows the packets received out of order. */
void frcp_acknowledged(struct frcp *frcp, uint32_t ackno, const uint8_t *map, uint32_t length, int64_t now);

/* A packet advertises this window. */
void frcp_window(struct frcp *frcp, uint32_t window, int64_t now);

/* The peer reads no more. */
void frcp_stop_sending(struct frcp *frcp);

/* ---- the receiver (frcp_receiver.c) ---- */

/* Send an acknowledgement or the window when one is due. */
void frcp_acknowledge(struct frcp *frcp, int64_t now);

/*
 * The acknowledgement and the window that a packet carries beside its data, as of now, also when it is a retransmission (FRCP-19;
 * spec/lessons 37).
 */
void frcp_fill(struct frcp *frcp, struct pci *pci, int64_t now);

/* A packet left with these flags, and with what frcp_fill has filled in. */
static inline void frcp_filled(struct frcp *frcp, uint32_t flags)
{
        struct frcp_receiver *rx = &frcp->rx;

        if (flags & PCI_ACK)
                rx->acked = rx->want;
        if (flags & PCI_FC) {
                rx->advertised = rx->edge;
                rx->since_ack = 0;
                rx->window_requested = false;
                if (!rx->ack_now)
                        frcp->at.ack = NEVER;
        }
}

#endif
