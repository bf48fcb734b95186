/*
 * The floor of what goes over a socket: packets of one size, as fast as the kernel moves them. Runs in the two peer
 * processes of the benchmark; compiled by tests/bench/subjects/datagram.py.
 *
 * Packets have no contents that anybody looks at: what is left is the price of the kernel and of one call for a burst.
 * The socket is open, bound and connected, so that it needs no address; a header goes in front of each packet (of a raw
 * socket) if there is one. With segments, a burst is one large packet that the kernel cuts (UDP_SEGMENT) and joins again
 * (UDP_GRO).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#define BURST    64u
#define MAX_SIZE 2048u
#define YIELD_NS 20000
#define LARGEST  65507u /* octets of one UDP packet */

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

static int            sock;
static int            segments;
static uint32_t       packet; /* octets of a packet, header included */
static uint32_t       surplus; /* packets that came joined, and were not asked for yet */
static uint8_t        out[BURST * MAX_SIZE];
static uint8_t        in[BURST * MAX_SIZE];
static struct iovec   out_at[BURST], in_at[BURST];
static struct mmsghdr out_msgs[BURST], in_msgs[BURST];

int datagram_open(int fd, int cut)
{
        int one = 1;

        sock = fd;
        segments = cut;
        if (cut && setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one) < 0)
                return -errno;
        return 0;
}

int datagram_use(const char * header, uint32_t header_size, uint32_t size)
{
        packet = header_size + size;
        if (packet == 0 || packet > MAX_SIZE)
                return -EINVAL;
        for (uint32_t i = 0; i < BURST; i++) {
                memcpy(out + i * packet, header, header_size);
                out_at[i] = (struct iovec){out + i * packet, packet};
                in_at[i] = (struct iovec){in + i * MAX_SIZE, MAX_SIZE};
                out_msgs[i].msg_hdr = (struct msghdr){.msg_iov = &out_at[i], .msg_iovlen = 1};
                in_msgs[i].msg_hdr = (struct msghdr){.msg_iov = &in_at[i], .msg_iovlen = 1};
        }
        surplus = 0;
        return 0;
}

int datagram_send(void)
{
        return send(sock, out, packet, 0) < 0 ? -errno : 1;
}

int datagram_receive(void)
{
        ssize_t n;

        if (surplus > 0) {
                surplus--;
                return 1;
        }
        n = recv(sock, in, sizeof in, 0);
        if (n > (ssize_t) packet && segments)
                surplus = (uint32_t) ((n + packet - 1) / packet) - 1;
        return n < 0 ? -errno : 1;
}

/* One packet that the kernel cuts into n. */
static int send_cut(uint32_t n)
{
        uint8_t        control[CMSG_SPACE(sizeof(uint16_t))] = {0};
        struct iovec   at = {out, 0};
        struct msghdr  msg = {.msg_iov = &at, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        struct cmsghdr * c = CMSG_FIRSTHDR(&msg);
        uint16_t       size = (uint16_t) packet;

        if (n > LARGEST / packet)
                n = LARGEST / packet;
        at.iov_len = (size_t) n * packet;
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(c), &size, sizeof size);
        return sendmsg(sock, &msg, 0) < 0 ? -errno : (int) n;
}

/* Send n packets; how many, or -errno. */
int datagram_send_many(uint32_t n)
{
        uint32_t done = 0;
        int      sent;

        if (n > BURST)
                n = BURST;
        while (done < n) {
                sent = segments ? send_cut(n - done) : sendmmsg(sock, out_msgs, n - done, 0);
                if (sent < 0)
                        return segments ? sent : -errno;
                done += (uint32_t) sent;
        }
        return (int) n;
}

static int64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Poll, yielding, then sleep: a receiver that is woken for every few packets is the slower one. */
static int receive_some(uint32_t n)
{
        int64_t until = now_ns() + YIELD_NS;
        int     got;

        do {
                got = recvmmsg(sock, in_msgs, n, MSG_DONTWAIT, NULL);
                if (got >= 0 || errno != EAGAIN)
                        return got;
                sched_yield();
        } while (now_ns() < until);

        return recvmmsg(sock, in_msgs, n, MSG_WAITFORONE, NULL);
}

/* Receive up to n packets, at least one; how many, or -errno. */
int datagram_receive_many(uint32_t n)
{
        ssize_t octets;
        int     got;

        if (n > BURST)
                n = BURST;
        if (!segments) {
                got = receive_some(n);
                return got < 0 ? -errno : got;
        }
        if (surplus == 0) {
                octets = recv(sock, in, sizeof in, 0);
                if (octets < 0)
                        return -errno;
                surplus = (uint32_t) ((octets + packet - 1) / packet);
        }
        if (n > surplus)
                n = surplus;
        surplus -= n;
        return (int) n;
}
