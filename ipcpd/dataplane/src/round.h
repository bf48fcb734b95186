/*
 * round: which ports of a relay are looked at, and what happens when one is.
 *
 * Active ports are looked at every round. One that stays empty asks for the event and is left alone until it is notified; one
 * whose packets wait for space at another port is on the list of that port's waiters meanwhile. The thread runs all of it,
 * or with the lock held.
 */
#ifndef OUROBOROS_ROUND_H
#define OUROBOROS_ROUND_H

#include "relay.h"

#define ROUND_IDLE_LOOKS 64u /* empty looks before a port asks for the event */

void round_activate(struct relay *relay, struct port *port);
void round_deactivate(struct relay *relay, struct port *port);

/* The port leaves the list of waiters. It still waits for the same space. */
void round_leave_waiters(struct port *port);

/* There is space at a port: those that sleep until then are looked at. */
void round_wake_waiters(struct relay *relay, struct port *port);

/* The port no longer waits for a block. */
void round_leave_domain(struct port *port);

/* The port that waits longest for a block of this domain is looked at. False: none waits. */
bool round_retry(struct relay *relay, struct domain *domain);

/* A port got a block of this domain: two of those that wait are looked at. */
void round_found_block(struct relay *relay, struct domain *domain);

/* Give a port its turn. Returns how many packets were taken. */
uint32_t round_serve(struct relay *relay, struct port *port);

/* Publish the packets taken and put, and notify the other processes. */
void round_commit(struct relay *relay);

/* One round over the active ports and the sockets. Returns how many packets were handled. */
uint32_t round_run(struct relay *relay);

/* Pass the IRMd's events of a flow to the control plane. */
void round_pass_events(struct relay *relay, struct port *port);

/* Handle ports that were notified of packets, of space or of an event. */
bool round_collect(struct relay *relay);

#endif
