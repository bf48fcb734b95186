/*
 * The floor: a bare single-producer single-consumer ring in shared memory, with nothing of a flow around it. No pool, no
 * ownership, no events, no checks of what the other side wrote: what is left is the price of Python, cffi and the cache
 * lines that must travel. Runs in the two peer processes of the benchmark; compiled by tests/bench/subjects/floor.py.
 *
 * A ring's slots have room for one packet of the size that is set with floor_use(); both sides set the same.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LINE      64
#define PAUSES    64     /* polls with PAUSE before sched_yield            */
#define YIELD_NS  20000  /* how long sched_yield polls before it sleeps    */
#define AREA      (4u << 20) /* bytes of slots of one ring                 */
#define MAX_SLOTS 1024u
#define MAX_SIZE  65536u

struct ring {
        _Alignas(LINE) _Atomic uint32_t head;     /* packets put; producer writes         */
        _Alignas(LINE) _Atomic uint32_t tail;     /* packets taken; consumer writes       */
        _Alignas(LINE) _Atomic uint32_t sleepers; /* 1: consumer sleeps, 2: producer does */
        _Alignas(LINE) uint8_t slots[AREA];
};

struct shared {
        struct ring ring[2];               /* one per direction          */
        _Alignas(LINE) _Atomic uint32_t bell; /* futex of the wake measure  */
        _Alignas(LINE) _Atomic uint32_t ready;
        _Alignas(LINE) _Atomic int64_t  rung; /* when it was rung, ns       */
};

static struct shared * shm;
static struct ring *   tx;
static struct ring *   rx;
static uint32_t        packet; /* bytes of a packet          */
static uint32_t        stride; /* bytes of a slot            */
static uint32_t        slots;  /* of a ring, a power of 2    */
static uint32_t        tx_tail; /* what we last saw of peers' */
static uint32_t        rx_head;

static int64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);

        return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static void futex_wait(_Atomic uint32_t * word, uint32_t value)
{
        syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t * word)
{
        syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void relax(void)
{
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
}

/* Wait until *word is no longer value: poll, yield, then sleep with flag set in *sleepers. */
static uint32_t await_change(_Atomic uint32_t * word, uint32_t value, _Atomic uint32_t * sleepers, uint32_t flag)
{
        uint32_t seen;
        int64_t  until;
        int      i;

        for (i = 0; i < PAUSES; i++) {
                seen = atomic_load_explicit(word, memory_order_acquire);
                if (seen != value)
                        return seen;
                relax();
        }

        until = now_ns() + YIELD_NS;
        do {
                sched_yield();
                seen = atomic_load_explicit(word, memory_order_acquire);
                if (seen != value)
                        return seen;
        } while (now_ns() < until);

        for (;;) {
                atomic_fetch_or_explicit(sleepers, flag, memory_order_seq_cst);
                seen = atomic_load_explicit(word, memory_order_seq_cst);
                if (seen != value)
                        break;
                futex_wait(word, value);
        }

        atomic_fetch_and_explicit(sleepers, ~flag, memory_order_seq_cst);

        return seen;
}

static void publish(_Atomic uint32_t * word, uint32_t value, _Atomic uint32_t * sleepers, uint32_t flag)
{
        atomic_store_explicit(word, value, memory_order_release);
        atomic_thread_fence(memory_order_seq_cst);
        if (atomic_load_explicit(sleepers, memory_order_relaxed) & flag)
                futex_wake(word);
}

/* How many slots are free for head, at least one. */
static uint32_t room(uint32_t head)
{
        if (head - tx_tail >= slots)
                tx_tail = atomic_load_explicit(&tx->tail, memory_order_acquire);
        if (head - tx_tail >= slots)
                tx_tail = await_change(&tx->tail, tx_tail, &tx->sleepers, 2);

        return slots - (head - tx_tail);
}

/* How many packets wait from tail on, at least one. */
static uint32_t waiting(uint32_t tail)
{
        if (rx_head == tail)
                rx_head = atomic_load_explicit(&rx->head, memory_order_acquire);
        if (rx_head == tail)
                rx_head = await_change(&rx->head, rx_head, &rx->sleepers, 1);

        return rx_head - tail;
}

static uint8_t * slot(struct ring * r, uint32_t index)
{
        return r->slots + (size_t) (index & (slots - 1)) * stride;
}

int floor_open(int fd, int side)
{
        if (ftruncate(fd, (off_t) sizeof(struct shared)) < 0)
                return -errno;

        shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
        if (shm == MAP_FAILED)
                return -errno;

        tx = &shm->ring[side];
        rx = &shm->ring[!side];

        return 0;
}

/* Set the size of packets, while both rings are empty. The indices go on, so nothing needs to be reset. */
int floor_use(uint32_t size)
{
        if (size == 0 || size > MAX_SIZE)
                return -EINVAL;

        packet = size;
        stride = (size + LINE - 1) / LINE * LINE;
        for (slots = MAX_SLOTS; slots * stride > AREA; slots /= 2)
                ;

        return 0;
}

void floor_put(const char * data)
{
        uint32_t head = atomic_load_explicit(&tx->head, memory_order_relaxed);

        (void) room(head);
        memcpy(slot(tx, head), data, packet);
        publish(&tx->head, head + 1, &tx->sleepers, 1);
}

void floor_get(char * data)
{
        uint32_t tail = atomic_load_explicit(&rx->tail, memory_order_relaxed);

        (void) waiting(tail);
        memcpy(data, slot(rx, tail), packet);
        publish(&rx->tail, tail + 1, &rx->sleepers, 2);
}

/* Put n packets that follow each other in data; the index is published once for what fits at once. */
int floor_put_many(const char * data, uint32_t n)
{
        uint32_t head = atomic_load_explicit(&tx->head, memory_order_relaxed);
        uint32_t free = room(head);
        uint32_t i;

        if (n > free)
                n = free;
        for (i = 0; i < n; i++)
                memcpy(slot(tx, head + i), data + (size_t) i * packet, packet);
        publish(&tx->head, head + n, &tx->sleepers, 1);

        return (int) n;
}

/* Get up to n packets, at least one. */
int floor_get_many(char * data, uint32_t n)
{
        uint32_t tail = atomic_load_explicit(&rx->tail, memory_order_relaxed);
        uint32_t have = waiting(tail);
        uint32_t i;

        if (n > have)
                n = have;
        for (i = 0; i < n; i++)
                memcpy(data + (size_t) i * packet, slot(rx, tail + i), packet);
        publish(&rx->tail, tail + n, &rx->sleepers, 2);

        return (int) n;
}

/* Sleep on a futex n times; ns[i] gets the time from just before the wake call until we run again. */
void floor_sleep(int64_t * ns, uint32_t n)
{
        uint32_t value = atomic_load(&shm->bell);
        uint32_t i;

        for (i = 0; i < n; i++) {
                atomic_store(&shm->ready, 1);
                while (atomic_load(&shm->bell) == value)
                        futex_wait(&shm->bell, value);
                ns[i] = now_ns() - atomic_load(&shm->rung);
                value++;
        }
}

/* Wake the sleeper n times, each time pause_ns after it went to sleep. */
void floor_wake(uint32_t n, int64_t pause_ns)
{
        struct timespec pause = {0, pause_ns};
        uint32_t        i;

        for (i = 0; i < n; i++) {
                while (atomic_exchange(&shm->ready, 0) == 0)
                        sched_yield();
                nanosleep(&pause, NULL);
                atomic_store(&shm->rung, now_ns());
                atomic_fetch_add(&shm->bell, 1);
                futex_wake(&shm->bell);
        }
}
