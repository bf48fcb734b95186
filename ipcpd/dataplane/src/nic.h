/*
 * nic: a network device: frames leave and arrive in bursts. The framing above (eth.h) gives a frame its contents.
 *
 * A back-end (nic_packet.h) sets `fd` and `ops`, and keeps what it needs behind `struct nic`, which is its first member. The
 * user holds the lock of the relay for every call but nic_destroy. The state of the link reaches the control plane, which watches
 * the device (ipcpd/eth/device.py); here a device that is down is an error of `send`.
 */
#ifndef OUROBOROS_NIC_H
#define OUROBOROS_NIC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define NIC_BURST 64u

struct nic;

struct nic_ops {
        /*
         * Send tx[first] to tx[first + n - 1] by the queue of this QoS cube. Returns how many left, at least one, or for the first
         * of them -EAGAIN: no space now; -EMSGSIZE: larger than the device takes; another -errno: the device is down or removed.
         */
        int (*send)(struct nic *nic, uint32_t cube, uint32_t first, uint32_t n);

        /* Frames that have arrived, in rx, at most `burst`, valid until the next call. Returns how many; never blocks. */
        uint32_t (*receive)(struct nic *nic);

        /* Frames have at most `octets` from now on; a longer one arrives truncated. -ENOMEM, and nothing has changed. */
        int (*set_frame_size)(struct nic *nic, uint32_t octets);

        void (*destroy)(struct nic *nic);
};

struct nic_frame {
        const uint8_t *data;
        uint32_t length;
        bool truncated;
};

struct nic {
        const struct nic_ops *ops;
        int fd;                         /* readable while a frame waits */
        uint32_t burst;                 /* frames of one call of `receive`; 0 before the size of a frame is set */
        struct iovec tx[NIC_BURST][2];  /* of each frame the header, and the payload */
        struct nic_frame rx[NIC_BURST];
};

static inline int nic_send(struct nic *nic, uint32_t cube, uint32_t first, uint32_t n)
{
        return nic->ops->send(nic, cube, first, n);
}

static inline uint32_t nic_receive(struct nic *nic)
{
        return nic->ops->receive(nic);
}

static inline int nic_set_frame_size(struct nic *nic, uint32_t octets)
{
        return nic->ops->set_frame_size(nic, octets);
}

static inline void nic_destroy(struct nic *nic)
{
        nic->ops->destroy(nic);
}

#endif
