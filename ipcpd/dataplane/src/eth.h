/*
 * eth: packets of flows to and from an Ethernet device (paper 5.4; spec/ethernet 1, 5).
 *
 * Two framings (DIX and LLC) above a device (nic.h). Packets that processes write into flows get a header and leave in bursts, by the
 * queue of their QoS cube. Frames that arrive are checked, and copied once into
 * a block of the flow they are for; those of the management protocol go to the control plane. A frame that is for another host, or
 * malformed, is dropped and counted by reason. A flow whose process does not read loses its own packets only.
 *
 * The header is never written into the block of a packet: its process may still reach that memory, and what it would
 * make of a raw frame's addresses is not for it to decide.
 */
#ifndef OUROBOROS_ETH_H
#define OUROBOROS_ETH_H

#include "nic.h"
#include "paths.h"

#define ETH_ALEN 6u
#define ETH_ENDPOINTS 4096u
#define LLC_INFORMATION 0x03u /* the control octet of every frame of eth-llc */

enum eth_framing { ETH_DIX, ETH_LLC };

enum eth_drop {
        ETH_DROP_SHORT,      /* shorter than the headers, or not of this kind at all */
        ETH_DROP_LENGTH,     /* the length field exceeds the frame, or is out of range */
        ETH_DROP_FOREIGN,    /* for another machine, or a packet of a flow sent to all */
        ETH_DROP_ENDPOINT,   /* no flow has the endpoint */
        ETH_DROP_SOURCE,     /* not from the other end of the flow */
        ETH_DROP_FULL,       /* the process does not read, or its pool is empty */
        ETH_DROP_MANAGEMENT, /* the control plane has too much to do */
        ETH_DROP_OVERSIZE,   /* to be sent, and larger than the device takes */
        ETH_DROP_DEVICE,     /* to be sent, and the device is down or removed */
        ETH_DROPS,
};

struct eth_counters {
        uint64_t received; /* frames, all of them */
        uint64_t delivered;
        uint64_t management; /* handed to the control plane */
        uint64_t path; /* marks and reports of paths */
        uint64_t sent;
        uint64_t full; /* times that the device had no space; nothing is lost */
        uint64_t dropped[ETH_DROPS];
};

struct eth;

/* The nic is destroyed with it, also when this fails. -errno in errno when NULL. */
struct eth *eth_create(struct relay *relay, struct punt *punt, uint32_t component, enum eth_framing framing,
                       uint16_t ethertype, struct nic *nic);
void eth_destroy(struct eth *eth);

/* The device is this now. `max_packet`: the most octets that a frame carries. -ENOMEM. */
int eth_device(struct eth *eth, const uint8_t mac[ETH_ALEN], uint32_t max_packet);

/*
 * A port becomes the flow with this endpoint. It receives the frames from `peer`; packets that its process writes wait until
 * eth_connect sets the endpoint of the other end. -EBADF, -EADDRINUSE, -EINVAL, -ENOMEM.
 */
int eth_open(struct eth *eth, uint32_t fd, uint32_t endpoint, const uint8_t peer[ETH_ALEN]);
int eth_leave(struct eth *eth, uint32_t fd); /* no other end is known: the port has no endpoint then */
int eth_connect(struct eth *eth, uint32_t fd, uint32_t peer_endpoint, const uint8_t peer[ETH_ALEN]);

struct paths *eth_paths(struct eth *eth); /* they end with it; samples go to the component behind `component` */
void eth_count(struct eth *eth, struct eth_counters *counters);

#endif
