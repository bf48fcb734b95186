#include "line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define BESIDE 1024u /* slots for frames that do not wait: those of one turn */
#define SLOTS (LINE_LIMIT + BESIDE)
#define SECOND 1000000000

__extension__ typedef unsigned __int128 wide;

/* A frame that is held. `serial` keeps the order of those that are due at the same time. */
struct held {
        int64_t due;
        uint64_t serial;
        struct slot *slot;
};

struct line {
        struct impairment impairment;
        uint64_t seed;
        uint32_t direction;
        uint32_t room;
        uint64_t n;      /* of the next frame */
        uint64_t serial; /* of the next that is held */
        int64_t busy;    /* until then the wire is taken */
        int64_t arrival; /* of the last frame: time does not go back */
        struct line_counters counters;
        struct held *heap; /* a binary one, the next due first */
        uint32_t held;
        uint32_t out; /* slots taken and not done */
        struct slot *free;
        uint8_t *slots;
        uint32_t used; /* slots that have ever been used: the memory of the others was never touched */
        size_t stride;
        size_t mapped;
};

/* Memory that the kernel maps at first use: a line for the largest limit costs nothing until that many frames wait. */
static void *reserve(size_t octets)
{
        void *memory = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return memory == MAP_FAILED ? NULL : memory;
}

struct line *line_create(uint32_t room)
{
        struct line *line = calloc(1, sizeof *line);

        if (line == NULL)
                return NULL;
        line->room = room;
        line->stride = (sizeof(struct slot) + room + 63) & ~(size_t)63;
        line->mapped = line->stride * SLOTS;
        line->slots = reserve(line->mapped);
        line->heap = reserve(SLOTS * sizeof *line->heap);
        line->impairment.limit = LINE_LIMIT;
        line->busy = line->arrival = INT64_MIN;
        if (line->slots == NULL || line->heap == NULL) {
                line_destroy(line);
                errno = ENOMEM;
                return NULL;
        }
        return line;
}

void line_destroy(struct line *line)
{
        if (line == NULL)
                return;
        if (line->slots != NULL)
                munmap(line->slots, line->mapped);
        if (line->heap != NULL)
                munmap(line->heap, SLOTS * sizeof *line->heap);
        free(line);
}

int line_set(struct line *line, const struct impairment *impairment, uint64_t seed, uint32_t direction)
{
        if (impairment->limit < 1 || impairment->limit > LINE_LIMIT || impairment->delay < 0 ||
            impairment->jitter < 0 || impairment->delay > INT32_MAX * (int64_t)SECOND ||
            impairment->jitter > INT32_MAX * (int64_t)SECOND)
                return -EINVAL;
        line->impairment = *impairment;
        line->seed = seed;
        line->direction = direction;
        line->n = 0;
        line->counters = (struct line_counters){.received = line->held + line->out};
        return 0;
}

/* ---------------------------------------------------------------- held frames */

static bool before(const struct held *one, const struct held *other)
{
        return one->due < other->due || (one->due == other->due && one->serial < other->serial);
}

static void hold(struct line *line, struct slot *slot, int64_t due)
{
        struct held held = {due, line->serial++, slot};
        uint32_t at = line->held++;

        while (at > 0 && before(&held, &line->heap[(at - 1) / 2])) {
                line->heap[at] = line->heap[(at - 1) / 2];
                at = (at - 1) / 2;
        }
        line->heap[at] = held;
}

static struct slot *let_go(struct line *line)
{
        struct slot *first = line->heap[0].slot;
        struct held last = line->heap[--line->held];
        uint32_t at = 0;

        for (uint32_t child = 1; child < line->held; child = 2 * at + 1) {
                if (child + 1 < line->held && before(&line->heap[child + 1], &line->heap[child]))
                        child++;
                if (before(&last, &line->heap[child]))
                        break;
                line->heap[at] = line->heap[child];
                at = child;
        }
        line->heap[at] = last;
        return first;
}

static struct slot *take_free(struct line *line)
{
        struct slot *slot = line->free;

        if (slot != NULL)
                line->free = slot->next;
        else if (line->used < SLOTS)
                slot = (struct slot *)(void *)(line->slots + line->stride * line->used++);
        return slot;
}

static void give_back(struct line *line, struct slot *slot)
{
        slot->next = line->free;
        line->free = slot;
}

/* ---------------------------------------------------------------- in */

/* When a frame of this length, that arrives now, has been put on the wire. */
static int64_t put_on_wire(struct line *line, uint32_t length, int64_t arrival)
{
        int64_t start = line->busy > arrival ? line->busy : arrival;

        if (line->impairment.rate == 0)
                return arrival;
        line->busy = start + (int64_t)((wide)length * 8 * SECOND / line->impairment.rate);
        return line->busy;
}

/* A copy of frame n goes in. Takes its slot. */
static void enter_copy(struct line *line, struct slot *slot, const struct copy_fate *copy, int64_t arrival)
{
        bool waits = copy->delay > 0 || (line->impairment.rate != 0);

        if (waits && line->held >= line->impairment.limit) {
                line->counters.full++;
                give_back(line, slot);
                return;
        }
        line->counters.reordered += copy->overtakes;
        if (copy->corrupt && slot->length > 0) {
                uint64_t bit = copy->spot % ((uint64_t)slot->length * 8);

                slot->frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
                line->counters.corrupted++;
        }
        hold(line, slot, put_on_wire(line, slot->length, arrival) + copy->delay);
}

static void count_frame(struct line *line, uint32_t length)
{
        line->counters.received++;
        line->counters.received_octets += length;
}

struct slot *line_slot(struct line *line, uint32_t length)
{
        struct slot *slot = length <= line->room ? take_free(line) : NULL;

        if (slot != NULL) {
                slot->length = length;
                return slot;
        }
        count_frame(line, length);
        line->counters.full++;
        line->n++;
        return NULL;
}

void line_enter(struct line *line, struct slot *slot, int64_t arrival)
{
        struct slot *copies[FATE_COPIES] = {slot, NULL};
        struct fate fate;

        if (arrival < line->arrival)
                arrival = line->arrival;
        line->arrival = arrival;
        count_frame(line, slot->length);
        fate_of(&line->impairment, line->seed, line->direction, line->n++, &fate);
        if (fate.copies == 0) {
                line->counters.lost++;
                give_back(line, slot);
                return;
        }
        if (fate.copies > 1) { /* made before the first is corrupted */
                line->counters.duplicated++;
                copies[1] = take_free(line);
                if (copies[1] != NULL) {
                        copies[1]->length = slot->length;
                        memcpy(copies[1]->frame, slot->frame, slot->length);
                } else {
                        line->counters.full++;
                }
        }
        for (uint32_t number = 0; number < FATE_COPIES && copies[number] != NULL; number++)
                enter_copy(line, copies[number], &fate.copy[number], arrival);
}

int line_offer(struct line *line, const void *frame, uint32_t length, int64_t arrival)
{
        struct slot *slot;

        if (length > line->room)
                return -EMSGSIZE;
        slot = line_slot(line, length);
        if (slot == NULL)
                return -ENOBUFS;
        memcpy(slot->frame, frame, length);
        line_enter(line, slot, arrival);
        return 0;
}

/* ---------------------------------------------------------------- out */

struct slot *line_take(struct line *line, int64_t now)
{
        if (line->held == 0 || line->heap[0].due > now)
                return NULL;
        line->out++;
        return let_go(line);
}

void line_done(struct line *line, struct slot *slot, bool sent)
{
        line->out--;
        line->counters.sent += sent;
        line->counters.sent_octets += sent ? slot->length : 0;
        line->counters.refused += !sent;
        give_back(line, slot);
}

int64_t line_deadline(const struct line *line)
{
        return line->held == 0 ? NEVER : line->heap[0].due;
}

void line_count(const struct line *line, struct line_counters *counters)
{
        *counters = line->counters;
        counters->held = line->held + line->out;
}
