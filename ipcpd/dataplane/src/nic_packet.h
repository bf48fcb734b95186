/*
 * nic_packet: the nic over packet sockets (packet(7)): one that receives, and one for each QoS cube that sends, so that voice
 * never waits for space behind data. A burst is one system call (sendmmsg, recvmmsg).
 */
#ifndef OUROBOROS_NIC_PACKET_H
#define OUROBOROS_NIC_PACKET_H

#include "eth.h"

/* The sockets stay the caller's, and outlive the nic. NULL: no memory. */
struct nic *nic_packet(int receiver, const int senders[CUBES]);

/* Let a socket receive only frames to this machine or to all, of this device, of this framing, not of a VLAN. -errno. */
int nic_packet_filter(int fd, enum eth_framing framing, uint32_t index, const uint8_t mac[ETH_ALEN]);

#endif
