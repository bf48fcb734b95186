#define _GNU_SOURCE
#include "nic_packet.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SLACK 64u        /* octets behind a frame: one that is longer than it may be is seen to be */
#define STAGE (1u << 18) /* octets of space for frames that come in: they should stay in the cache */

struct packet_nic {
        struct nic nic; /* first: a nic of these operations is its packet_nic */
        int senders[CUBES];
        struct mmsghdr out[NIC_BURST];
        uint8_t *stage;
        struct iovec space[NIC_BURST];
        struct mmsghdr in[NIC_BURST];
};

static int send_burst(struct nic *nic, uint32_t cube, uint32_t first, uint32_t n)
{
        struct packet_nic *packet = (struct packet_nic *)nic;
        int sent = sendmmsg(packet->senders[cube], packet->out + first, n, MSG_DONTWAIT);

        if (sent >= 0)
                return sent;
        return errno == ENOBUFS || errno == ENOMEM || errno == EINTR ? -EAGAIN : -errno;
}

static uint32_t receive_burst(struct nic *nic)
{
        struct packet_nic *packet = (struct packet_nic *)nic;
        int n = recvmmsg(nic->fd, packet->in, nic->burst, MSG_DONTWAIT, NULL);

        if (n <= 0)
                return 0; /* nothing, or an error of the device, which the control plane also receives */
        for (int i = 0; i < n; i++)
                nic->rx[i] = (struct nic_frame){
                        .data = packet->space[i].iov_base,
                        .length = packet->in[i].msg_len,
                        .truncated = packet->in[i].msg_hdr.msg_flags & MSG_TRUNC,
                };
        return (uint32_t)n;
}

static int set_frame_size(struct nic *nic, uint32_t octets)
{
        struct packet_nic *packet = (struct packet_nic *)nic;
        uint32_t stride = (octets + SLACK + CACHE_LINE - 1) & ~(CACHE_LINE - 1u);
        uint8_t *stage = aligned_alloc(CACHE_LINE, (size_t)stride * NIC_BURST);

        if (stage == NULL)
                return -ENOMEM;
        free(packet->stage);
        packet->stage = stage;
        nic->burst = STAGE / stride < NIC_BURST ? STAGE / stride : NIC_BURST;
        if (nic->burst == 0)
                nic->burst = 1;
        for (uint32_t i = 0; i < NIC_BURST; i++)
                packet->space[i] = (struct iovec){stage + (size_t)i * stride, stride};
        return 0;
}

static void destroy(struct nic *nic)
{
        struct packet_nic *packet = (struct packet_nic *)nic;

        free(packet->stage);
        free(packet);
}

static const struct nic_ops operations = {
        .send = send_burst,
        .receive = receive_burst,
        .set_frame_size = set_frame_size,
        .destroy = destroy,
};

struct nic *nic_packet(int receiver, const int senders[CUBES])
{
        struct packet_nic *packet = calloc(1, sizeof *packet);

        if (packet == NULL)
                return NULL;
        packet->nic.ops = &operations;
        packet->nic.fd = receiver;
        memcpy(packet->senders, senders, sizeof packet->senders);
        for (uint32_t i = 0; i < NIC_BURST; i++) {
                packet->out[i].msg_hdr = (struct msghdr){.msg_iov = packet->nic.tx[i], .msg_iovlen = 2};
                packet->in[i].msg_hdr = (struct msghdr){.msg_iov = &packet->space[i], .msg_iovlen = 1};
        }
        return &packet->nic;
}

/* ---- what the kernel lets through ---- */

#define LOAD(width, at) BPF_STMT(BPF_LD | (width) | BPF_ABS, (uint32_t)(at))
#define AND(mask) BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask)
#define FILTER_OF_LLC 16 /* the first instruction that looks at LLC */
#define MUST_BE(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0), BPF_STMT(BPF_RET | BPF_K, 0)
#define MUST_NOT_BE(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1), BPF_STMT(BPF_RET | BPF_K, 0)

int nic_packet_filter(int fd, enum eth_framing framing, uint32_t index, const uint8_t mac[ETH_ALEN])
{
        uint32_t high = (uint32_t)mac[0] << 24 | (uint32_t)mac[1] << 16 | (uint32_t)mac[2] << 8 | mac[3];
        uint32_t low = (uint32_t)mac[4] << 8 | mac[5];
        struct sock_filter code[] = {
                /* A socket of a device gets what a VLAN device, or another one, above it receives as well. */
                LOAD(BPF_W, SKF_AD_OFF + SKF_AD_IFINDEX),
                MUST_BE(index),
                /* The kernel takes the tag off a frame for a VLAN that has no device, and marks it so. */
                LOAD(BPF_W, SKF_AD_OFF + SKF_AD_PKTTYPE),
                MUST_NOT_BE(PACKET_OTHERHOST),
                LOAD(BPF_W, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, high, 0, 2),
                LOAD(BPF_H, 4),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, low, 6, 0),
                LOAD(BPF_W, 0),
                MUST_BE(0xffffffffu),
                LOAD(BPF_H, 4),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffffu, 1, 0),
                BPF_STMT(BPF_RET | BPF_K, 0),
                /* LLC: unnumbered information between SAPs that one of us can have */
                LOAD(BPF_B, 16),
                MUST_BE(LLC_INFORMATION),
                LOAD(BPF_H, 14),
                AND(0x0303),
                MUST_BE(0),
                BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        };
        struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};

        if (framing == ETH_DIX) {
                code[FILTER_OF_LLC] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
                program.len = FILTER_OF_LLC + 1;
        }
        return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0 ? -errno : 0;
}
