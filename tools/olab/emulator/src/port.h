/*
 * port: the end of an emulated link at a device: frames are read from a ring that the kernel writes (packet(7),
 * PACKET_RX_RING: its size is bounded by no limit that an ordinary user could not raise), and sent in batches.
 *
 * One thread.
 */
#ifndef OLAB_PORT_H
#define OLAB_PORT_H

#include "line.h"

#define PORT_BATCH 64u
#define PORT_HEADER 18u /* Ethernet, with a VLAN tag */

struct port_counters {
        uint64_t overrun;    /* frames that the ring had no space for: the emulator was too slow */
        uint64_t oversize;   /* frames longer than the device's MTU: dropped */
        uint64_t unfinished; /* frames passed on without the checksum that a device was to add */
};

struct port;

/*
 * Read from and send to the device that `socket` will be bound to, and that takes packets of up to `mtu` octets. The
 * socket is AF_PACKET, SOCK_RAW, not bound yet, and stays the caller's. NULL: errno.
 */
struct port *port_create(int socket, uint32_t mtu);
void port_destroy(struct port *port);

int port_socket(const struct port *port);
uint32_t port_room(const struct port *port); /* octets of its longest frame */

/* Let up to PORT_BATCH frames that have arrived go into the line. How many there were. */
uint32_t port_receive(struct port *port, struct line *line);

/* Send the frames that are due, up to PORT_BATCH. How many there were. */
uint32_t port_send(struct port *port, struct line *line, int64_t now);

void port_count(struct port *port, struct port_counters *counters);

#endif
