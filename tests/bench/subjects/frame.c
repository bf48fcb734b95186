/*
 * The floor of an Ethernet layer: bare frames between two packet sockets, with nothing of a flow around them. Frames are
 * sent and received in batches, with one system call each (sendmmsg, recvmmsg); the receiver polls, yields, then sleeps,
 * whichever of these gave the most. Memory-mapped rings (PACKET_MMAP) were measured too, and were slower in either
 * direction on a veth pair: see docs/design/ethernet.md. Compiled by tests/bench/subjects/frame.py.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEADER    14
#define ETHERTYPE 0xA0F0
#define BATCH     64
#define ROOM      65536
#define QUEUE     (16 << 20)
#define YIELD_NS  20000

static uint8_t        out[HEADER + ROOM];
static uint8_t        in[BATCH][2048 + HEADER];
static struct iovec   parts[BATCH];
static struct mmsghdr messages[BATCH];

static int64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);

        return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A packet socket on `device`; its address is written to `mac`. Returns the descriptor, or -errno. */
int frame_open(const char * device, uint8_t * mac)
{
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE)};
        struct ifreq       request = {0};
        int                room    = QUEUE;
        int                fd      = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        strncpy(request.ifr_name, device, IFNAMSIZ - 1);
        if (ioctl(fd, SIOCGIFHWADDR, &request) < 0)
                goto fail;
        memcpy(mac, request.ifr_hwaddr.sa_data, 6);
        if (ioctl(fd, SIOCGIFINDEX, &request) < 0)
                goto fail;
        address.sll_ifindex = request.ifr_ifindex;
        if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0)
                setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
        if (bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                goto fail;
        return fd;
 fail:
        room = errno;
        close(fd);
        return -room;
}

/* Whom to send to. */
void frame_address(const uint8_t * to, const uint8_t * from)
{
        memcpy(out, to, 6);
        memcpy(out + 6, from, 6);
        out[12] = ETHERTYPE >> 8;
        out[13] = ETHERTYPE & 0xff;
}

/* Send `count` frames with `size` octets each. Returns how many; *began is when the first call was made, ns. */
int64_t frame_flood(int fd, uint32_t size, int64_t count, int64_t * began)
{
        int64_t sent = 0;
        int     n;

        for (n = 0; n < BATCH; n++) {
                parts[n] = (struct iovec) {out, HEADER + size};
                messages[n].msg_hdr = (struct msghdr) {.msg_iov = &parts[n], .msg_iovlen = 1};
        }
        *began = now_ns();
        while (sent < count) {
                n = sendmmsg(fd, messages, count - sent < BATCH ? (unsigned) (count - sent) : BATCH, 0);
                if (n > 0)
                        sent += n;
                else if (errno != ENOBUFS && errno != EAGAIN && errno != EINTR)
                        return -errno;
        }
        return sent;
}

/* Receive until `count` frames have come, or none has for `silence_ms`. *ended: when the last one did. */
int64_t frame_sink(int fd, int64_t count, int silence_ms, int64_t * ended)
{
        struct pollfd poller = {fd, POLLIN, 0};
        int64_t       got = 0, until = 0;
        int           n;

        for (n = 0; n < BATCH; n++) {
                parts[n] = (struct iovec) {in[n], sizeof(in[n])};
                messages[n].msg_hdr = (struct msghdr) {.msg_iov = &parts[n], .msg_iovlen = 1};
        }
        while (got < count) {
                n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
                if (n > 0) {
                        got += n;
                        *ended = now_ns();
                        until = *ended + YIELD_NS;
                } else if (now_ns() < until) {
                        sched_yield();
                } else if (poll(&poller, 1, silence_ms) == 0) {
                        break;
                }
        }
        return got;
}

/* One frame back and forth: `count` times, each round trip in ns to `samples`. */
int frame_ping(int fd, uint32_t size, int64_t count, int64_t * samples)
{
        int64_t i, last;

        for (i = 0; i < count; i++) {
                last = now_ns();
                if (send(fd, out, HEADER + size, 0) < 0 || recv(fd, in[0], sizeof(in[0]), 0) < 0)
                        return -errno;
                samples[i] = now_ns() - last;
        }
        return 0;
}

int frame_echo(int fd, uint32_t size, int64_t count)
{
        while (count-- > 0)
                if (recv(fd, in[0], sizeof(in[0]), 0) < 0 || send(fd, out, HEADER + size, 0) < 0)
                        return -errno;
        return 0;
}
