/*
 * chain: a token that goes to the last of some processes and back, in shared memory, and nothing is done with it.
 *
 * What is left of a round trip through IPCPs when they do not touch packets: as many processes that wait for one
 * another. Each polls a few times, with sched_yield in between, then sleeps on a futex.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 16
#define YIELD_NS 20000

struct place {
        _Alignas(64) _Atomic uint32_t there; /* tokens that went by, outward */
        _Alignas(64) _Atomic uint32_t back;  /* and on the way back */
        _Alignas(64) _Atomic uint32_t asleep;
};

static int64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pass(struct place *to, _Atomic uint32_t *word)
{
        atomic_fetch_add(word, 1);
        if (atomic_exchange(&to->asleep, 0))
                syscall(SYS_futex, &to->asleep, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void await(struct place *at, _Atomic uint32_t *word, uint32_t seen)
{
        int64_t until;

        while (atomic_load(word) == seen) {
                until = now_ns() + YIELD_NS;
                do {
                        sched_yield();
                        if (atomic_load(word) != seen)
                                return;
                } while (now_ns() < until);
                atomic_store(&at->asleep, 1);
                if (atomic_load(word) != seen)
                        return;
                syscall(SYS_futex, &at->asleep, FUTEX_WAIT, 1, NULL, NULL, 0);
        }
}

static void serve(struct place *places, int me, int last)
{
        for (uint32_t n = 0;; n++) {
                await(&places[me], &places[me].there, n);
                if (me < last) {
                        pass(&places[me + 1], &places[me + 1].there);
                        await(&places[me], &places[me].back, n);
                }
                pass(&places[me - 1], &places[me - 1].back);
        }
}

/* Round trips over `processes` processes, us the first, `pause` ns before each. Latencies in ns. 0 or -errno. */
int chain_run(int processes, int count, int64_t pause, int64_t *latencies)
{
        struct timespec nap = {pause / 1000000000, pause % 1000000000};
        struct place *places;
        pid_t children[MOST];
        int64_t start;

        if (processes < 2 || processes > MOST)
                return -EINVAL;
        places = mmap(NULL, MOST * sizeof *places, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (places == MAP_FAILED)
                return -errno;
        for (int i = 1; i < processes; i++)
                if ((children[i] = fork()) == 0) {
                        serve(places, i, processes - 1);
                        _exit(0);
                }
        for (uint32_t n = 0; n < (uint32_t)count; n++) {
                if (pause > 0)
                        nanosleep(&nap, NULL);
                start = now_ns();
                pass(&places[1], &places[1].there);
                await(&places[0], &places[0].back, n);
                latencies[n] = now_ns() - start;
        }
        for (int i = 1; i < processes; i++) {
                kill(children[i], SIGKILL);
                waitpid(children[i], NULL, 0);
        }
        munmap(places, MOST * sizeof *places);
        return 0;
}
