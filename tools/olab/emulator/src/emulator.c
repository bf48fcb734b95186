#define _GNU_SOURCE

#include "emulator.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000
#define PORTS 2u
#define SLICE 100000 /* ns; the shortest that the kernel gives */
#define ROUNDS 4u
#define TURNS 64u /* busy turns after which the thread polls `control` all the same */

struct emulator {
        struct port *port[PORTS];
        struct line *line[PORTS]; /* by the port where its frames arrive */
};

struct emulator *emulator_create(int one, int other, uint32_t mtu)
{
        struct emulator *emulator = calloc(1, sizeof *emulator);
        int sockets[PORTS] = {one, other};

        if (emulator == NULL)
                return NULL;
        for (uint32_t at = 0; at < PORTS; at++) {
                emulator->port[at] = port_create(sockets[at], mtu);
                if (emulator->port[at] != NULL)
                        emulator->line[at] = line_create(port_room(emulator->port[at]));
                if (emulator->line[at] == NULL) {
                        int error = errno;

                        emulator_destroy(emulator);
                        errno = error;
                        return NULL;
                }
        }
        return emulator;
}

void emulator_destroy(struct emulator *emulator)
{
        if (emulator == NULL)
                return;
        for (uint32_t at = 0; at < PORTS; at++) {
                line_destroy(emulator->line[at]);
                port_destroy(emulator->port[at]);
        }
        free(emulator);
}

struct line *emulator_line(struct emulator *emulator, uint32_t from)
{
        return from < PORTS ? emulator->line[from] : NULL;
}

void emulator_count(struct emulator *emulator, uint32_t from, struct port_counters *counters)
{
        port_count(emulator->port[from % PORTS], counters);
}

static int64_t time_now(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * (int64_t)SECOND + now.tv_nsec;
}

/* How long to sleep unless a frame arrives; NULL: without limit. */
static const struct timespec *idle_time(const struct emulator *emulator, struct timespec *idle)
{
        int64_t due = NEVER, left;

        for (uint32_t at = 0; at < PORTS; at++)
                if (line_deadline(emulator->line[at]) < due)
                        due = line_deadline(emulator->line[at]);
        if (due == NEVER)
                return NULL;
        left = due - time_now();
        if (left < 0)
                left = 0;
        idle->tv_sec = left / SECOND;
        idle->tv_nsec = left % SECOND;
        return idle;
}

/* A device that went down makes poll report an error once; reading SO_ERROR clears it. It may come up again. */
static void forget_error(int socket)
{
        int error;
        socklen_t size = sizeof error;

        getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size);
}

/* More frames may be due than arrived, by copies and by held frames: sending must not be slower than receiving. */
static uint32_t send_due(struct emulator *emulator, uint32_t from)
{
        int64_t now = time_now();
        uint32_t total = 0;

        for (uint32_t round = 0; round < ROUNDS; round++) {
                uint32_t sent = port_send(emulator->port[PORTS - 1 - from], emulator->line[from], now);

                total += sent;
                if (sent < PORT_BATCH)
                        break;
        }
        return total;
}

/* Argument of sched_setattr(2), which the C library does not declare. */
struct attributes {
        uint32_t size;
        uint32_t policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
};

/*
* Wake up in time, at no cost to others: without timer slack (the kernel batches timers for up to 50 us by default), and with a
 * short slice, which a kernel that knows slices schedules first. Neither needs a privilege; an older kernel ignores both.
 */
static void be_punctual(void)
{
        struct attributes attributes = {.size = sizeof attributes, .runtime = SLICE};

        attributes.nice = getpriority(PRIO_PROCESS, 0);
        prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
        syscall(SYS_sched_setattr, 0, &attributes, 0);
}

int emulator_run(struct emulator *emulator, int control)
{
        static const struct timespec at_once;
        struct pollfd polled[PORTS + 1] = {
                {.fd = port_socket(emulator->port[0]), .events = POLLIN},
                {.fd = port_socket(emulator->port[1]), .events = POLLIN},
                {.fd = control, .events = POLLIN},
        };
        struct timespec idle;
        uint32_t turns = 0;

        be_punctual();
        for (;;) {
                uint32_t moved = 0;

                for (uint32_t at = 0; at < PORTS; at++) {
                        moved += port_receive(emulator->port[at], emulator->line[at]);
                        moved += send_due(emulator, at);
                }
                if (moved > 0 && ++turns % TURNS != 0)
                        continue;
                if (ppoll(polled, PORTS + 1, moved > 0 ? &at_once : idle_time(emulator, &idle), NULL) < 0) {
                        if (errno == EINTR)
                                return 0; /* the caller may have a signal to look at */
                        return -errno;
                }
                for (uint32_t at = 0; at < PORTS; at++)
                        if (polled[at].revents & POLLERR)
                                forget_error(polled[at].fd);
                if (polled[PORTS].revents != 0)
                        return 0;
        }
}
