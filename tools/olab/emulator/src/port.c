#define _GNU_SOURCE

#include "port.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#define SECOND 1000000000
#define RING (8u << 20) /* octets, where that is enough for FEWEST frames */
#define FEWEST 128u
#define BLOCK (64u << 10)
#define SMALLEST 2048u
#define HEADER 96u /* octets before a frame in the ring: tpacket2_hdr, an address, and both rounded up */
#define ADDRESSES 12u /* octets of the two addresses: a VLAN tag is behind them */
#define TAG 4u
#define ATTEMPTS 4
#define CLOSE 2000 /* ns */
#define LATEST (SECOND / 2) /* a timestamp older than this means that the clock was set */

_Static_assert(HEADER >= sizeof(struct tpacket2_hdr) + sizeof(struct sockaddr_ll) + 32, "a header fits there");

struct port {
        int socket;
        uint32_t room;
        uint8_t *ring;
        size_t mapped;
        uint32_t frames;
        uint32_t stride;
        uint32_t block_frames;
        uint32_t head; /* where the kernel writes the next frame to read */
        struct port_counters counters;
        struct mmsghdr messages[PORT_BATCH];
        struct iovec vectors[PORT_BATCH];
        struct slot *slots[PORT_BATCH];
};

static int set(int socket, int option, int value)
{
        return setsockopt(socket, SOL_PACKET, option, &value, sizeof value);
}

static int make_ring(struct port *port)
{
        uint32_t needed = HEADER + port->room;
        struct tpacket_req request;

        port->stride = SMALLEST;
        while (port->stride < needed)
                port->stride *= 2;
        port->frames = RING / port->stride > FEWEST ? RING / port->stride : FEWEST;
        request.tp_frame_size = port->stride;
        request.tp_frame_nr = port->frames;
        request.tp_block_size = port->stride > BLOCK ? port->stride : BLOCK;
        port->block_frames = request.tp_block_size / port->stride;
        request.tp_block_nr = port->frames / port->block_frames;
        if (setsockopt(port->socket, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) < 0)
                return -1;
        port->mapped = (size_t)request.tp_block_size * request.tp_block_nr;
        port->ring = mmap(NULL, port->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, port->socket, 0);
        if (port->ring != MAP_FAILED)
                return 0;
        port->ring = NULL;
        return -1;
}

struct port *port_create(int socket, uint32_t mtu)
{
        struct port *port = calloc(1, sizeof *port);

        if (port == NULL)
                return NULL;
        port->socket = socket;
        port->room = mtu + PORT_HEADER;
        if (set(socket, PACKET_VERSION, TPACKET_V2) < 0 || set(socket, PACKET_IGNORE_OUTGOING, 1) < 0 ||
            set(socket, PACKET_QDISC_BYPASS, 1) < 0 || make_ring(port) < 0) {
                int error = errno;

                port_destroy(port);
                errno = error;
                return NULL;
        }
        for (uint32_t number = 0; number < PORT_BATCH; number++) {
                port->messages[number].msg_hdr.msg_iov = &port->vectors[number];
                port->messages[number].msg_hdr.msg_iovlen = 1;
        }
        return port;
}

void port_destroy(struct port *port)
{
        if (port == NULL)
                return;
        if (port->ring != NULL)
                munmap(port->ring, port->mapped);
        free(port);
}

int port_socket(const struct port *port)
{
        return port->socket;
}

uint32_t port_room(const struct port *port)
{
        return port->room;
}

/* ---------------------------------------------------------------- in */

static struct tpacket2_hdr *frame_at(const struct port *port, uint32_t number)
{
        /* Frames lie one after the other: a block is a whole number of them. */
        return (struct tpacket2_hdr *)(void *)(port->ring + (size_t)number * port->stride);
}

static int64_t read_clock(clockid_t clock)
{
        struct timespec now;

        clock_gettime(clock, &now);
        return now.tv_sec * (int64_t)SECOND + now.tv_nsec;
}

/*
* The difference from the time of day, which the kernel stamps frames with, to the monotonic clock; and the monotonic time
 * now. Another thread may run between two readings: the reading between the two that are closest together counts.
 */
static int64_t time_of_day_to(int64_t *now)
{
        int64_t best = INT64_MAX, offset = 0;

        for (uint32_t attempt = 0; attempt < ATTEMPTS && best > CLOSE; attempt++) {
                int64_t before = read_clock(CLOCK_MONOTONIC);
                int64_t day = read_clock(CLOCK_REALTIME);

                *now = read_clock(CLOCK_MONOTONIC);
                if (*now - before >= best)
                        continue;
                best = *now - before;
                offset = *now - day;
        }
        return offset;
}

/* Into a slot, with the VLAN tag that the kernel has taken out of it. */
static void copy_frame(struct slot *slot, const struct tpacket2_hdr *header, uint32_t status)
{
        const uint8_t *frame = (const uint8_t *)header + header->tp_mac;
        uint16_t type = (status & TP_STATUS_VLAN_TPID_VALID) ? header->tp_vlan_tpid : 0x8100u;
        uint8_t *to = slot->frame;

        if ((status & TP_STATUS_VLAN_VALID) == 0) {
                memcpy(to, frame, slot->length);
                return;
        }
        memcpy(to, frame, ADDRESSES);
        to[ADDRESSES] = (uint8_t)(type >> 8);
        to[ADDRESSES + 1] = (uint8_t)type;
        to[ADDRESSES + 2] = (uint8_t)(header->tp_vlan_tci >> 8);
        to[ADDRESSES + 3] = (uint8_t)header->tp_vlan_tci;
        memcpy(to + ADDRESSES + TAG, frame + ADDRESSES, slot->length - TAG - ADDRESSES);
}

static void receive_one(struct port *port, struct line *line, const struct tpacket2_hdr *header, uint32_t status,
                        int64_t offset, int64_t now)
{
        int64_t arrival = header->tp_sec * (int64_t)SECOND + header->tp_nsec + offset;
        uint32_t length = header->tp_len;
        struct slot *slot;

        if (arrival > now || arrival < now - LATEST)
                arrival = now;
        if (status & TP_STATUS_VLAN_VALID)
                length += TAG;
        if (header->tp_snaplen != header->tp_len || length > port->room || header->tp_len < ADDRESSES ||
            header->tp_mac > port->stride - header->tp_snaplen) {
                port->counters.oversize++;
                return;
        }
        port->counters.unfinished += (status & TP_STATUS_CSUMNOTREADY) != 0;
        slot = line_slot(line, length);
        if (slot == NULL)
                return;
        copy_frame(slot, header, status);
        line_enter(line, slot, arrival);
}

uint32_t port_receive(struct port *port, struct line *line)
{
        int64_t now = 0, offset = 0;
        uint32_t count = 0;

        for (; count < PORT_BATCH; count++) {
                struct tpacket2_hdr *header = frame_at(port, port->head);
                uint32_t status = __atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE);

                if ((status & TP_STATUS_USER) == 0)
                        break;
                if (count == 0)
                        offset = time_of_day_to(&now);
                receive_one(port, line, header, status, offset, now);
                __atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
                port->head = port->head + 1 == port->frames ? 0 : port->head + 1;
        }
        return count;
}

/* ---------------------------------------------------------------- out */

uint32_t port_send(struct port *port, struct line *line, int64_t now)
{
        uint32_t count = 0, done = 0;
        struct slot *slot;

        while (count < PORT_BATCH && (slot = line_take(line, now)) != NULL) {
                port->vectors[count].iov_base = slot->frame;
                port->vectors[count].iov_len = slot->length;
                port->slots[count++] = slot;
        }
        while (done < count) {
                int sent = sendmmsg(port->socket, port->messages + done, count - done, MSG_DONTWAIT);

                if (sent < 0 && errno == EINTR)
                        continue;
                for (int number = 0; number < sent; number++)
                        line_done(line, port->slots[done++], true);
                if (sent <= 0) /* the first frame is refused; the errno is about that one only */
                        line_done(line, port->slots[done++], false);
        }
        return count;
}

void port_count(struct port *port, struct port_counters *counters)
{
        struct tpacket_stats stats;
        socklen_t size = sizeof stats;

        if (getsockopt(port->socket, SOL_PACKET, PACKET_STATISTICS, &stats, &size) == 0)
                port->counters.overrun += stats.tp_drops; /* reading them sets them to 0 */
        *counters = port->counters;
}
