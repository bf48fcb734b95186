#include "path.h"

#include <endian.h>
#include <string.h>

#define SECOND 1000000000ll
#define TOGETHER 1000000ll      /* ns of the rate that may be sent together: a shorter sleep costs more than it yields */
#define TOGETHER_OCTETS 3000ll  /* and these at least */
#define LATE 4000000ll       /* ns: a thread that is woken late sends what it missed */
#define QUANTUM 3000         /* octets of a flow's turn: two packets of Ethernet */
#define AHEAD 3000ll         /* octets that the highest cube may overdraw: it does not wait for the credit of others */
#define SHARE 128u           /* octets carried for each octet of marks */
#define GRANT 16384u         /* octets that count as carried before a path has carried any */
#define BLOCKED 100000000ll /* ns between marks behind which nothing was sent, while the window is shut */
#define SILENCE (3 * SECOND) /* ns without a report; a satellite and a long queue are within it */
#define ANSWER_LEAST 100000ll /* ns between answers */
#define SAMPLE_LEAST 4000000ll /* ns between samples: the control plane decides a few times per round trip */

struct message {
        uint8_t version;
        uint8_t type;
        uint16_t reserved;
        uint32_t instance; /* report: of the count, which begins at 0 with every new path of its sender */
        uint64_t nonce;
        uint64_t time;    /* ns: of its sender's clock */
        uint64_t packets; /* mark: sent; report: arrived */
        uint64_t octets;
        uint64_t echo; /* report: the mark's time */
} __attribute__((packed));

_Static_assert(sizeof(struct message) == PATH_MESSAGE, "a message of the wire");

static int64_t at_most(int64_t a, int64_t b)
{
        return a < b ? a : b;
}

/* SplitMix64: a nonce that an observer of other paths cannot guess. */
static uint64_t nonce_of(struct path *path)
{
        uint64_t x = path->key + ++path->serial * 0x9e3779b97f4a7c15u;

        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
}

void path_begin(struct path *path, const struct path_type *type, uint32_t id, uint32_t overhead, uint64_t key)
{
        path->type = type;
        path->id = id;
        path->overhead = overhead;
        path->key = key;
        path->instance = (uint32_t)(key >> 32) | 1u;
}

static bool is_shut(const struct path *path)
{
        return path->window != 0 && path->counters.sent_octets - path->reported >= path->window;
}

/* Flows that wait are served now. */
static void resume(struct path *path)
{
        path->wake = 0;
        path->shut = false;
        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (struct path_flow *flow = path->first[cube]; flow != NULL; flow = flow->next)
                        flow->port->paused = 0;
}

void path_set(struct path *path, uint64_t rate, uint64_t window, int64_t spacing, int64_t now)
{
        if (path->rate == 0)
                path->next = now;
        path->rate = rate;
        path->window = window;
        path->spacing = spacing;
        resume(path);
}

/* The pace counts these octets. */
static void charge(struct path *path, uint32_t octets)
{
        if (path->rate != 0)
                path->next += (int64_t)((uint64_t)octets * (uint64_t)SECOND / path->rate);
}

/* ---- marks ---- */

static bool send_message(struct path *path, const struct message *message)
{
        if (!path->type->emit(path, (const uint8_t *)message, sizeof *message))
                return false;
        path->counters.sent_packets++;
        path->counters.sent_octets += PATH_MESSAGE + path->overhead;
        charge(path, PATH_MESSAGE + path->overhead);
        return true;
}

static void send_mark(struct path *path, int64_t now)
{
        struct path_counters *counters = &path->counters;
        struct path_mark_sent *mark;
        struct message message = {
                .version = PATH_VERSION,
                .type = PATH_MARK,
                .nonce = nonce_of(path), /* random: its order of octets is of no meaning */
                .time = htobe64((uint64_t)now),
                .packets = htobe64(counters->sent_packets + 1),
                .octets = htobe64(counters->sent_octets + PATH_MESSAGE + path->overhead),
        };

        path->marked_at = now;
        if (!send_message(path, &message))
                return;
        mark = &path->marks[counters->marks++ % PATH_MARKS];
        *mark = (struct path_mark_sent){
                .nonce = message.nonce,
                .packets = counters->sent_packets,
                .octets = counters->sent_octets,
                .at = now,
                .open = true,
                .busy = path->busy,
                .held = path->held,
        };
        path->mark_octets = counters->sent_octets;
        path->busy = path->held = false;
        if (path->unanswered == 0)
                path->unanswered = now;
}

/* Report a neighbour that has not answered for too long. */
static void watch(struct path *path, int64_t now)
{
        struct path_sample sample = {.path = path->id, .now = now};

        if (path->unanswered == 0 || now - path->unanswered < SILENCE || path->watch_at > now)
                return;
        sample.silent = (uint32_t)((now - path->unanswered) / 1000000);
        path->watch_at = now + SECOND;
        path->type->notify(path, &sample);
}

/* When the next mark is due. Nothing was sent behind the last one: that may have been lost, and a shut window waits for it. */
static int64_t mark_at(const struct path *path)
{
        return path->marked_at + (path->counters.sent_octets == path->mark_octets ? BLOCKED : path->spacing);
}

static void mark_if_due(struct path *path, int64_t now)
{
        struct path_counters *counters = &path->counters;

        if (!path->measured || path->spacing == 0 || now < mark_at(path))
                return;
        if (!path->shut &&
            counters->sent_octets + GRANT < (counters->marks + 1) * SHARE * (PATH_MESSAGE + (uint64_t)path->overhead))
                return;
        send_mark(path, path->type->clock(path));
        watch(path, now);
}

static void answer(struct path *path, const struct message *mark, int64_t now)
{
        struct message report = {
                .version = PATH_VERSION,
                .type = PATH_REPORT,
                .instance = htobe32(path->instance),
                .nonce = mark->nonce,
                .time = htobe64((uint64_t)now),
                .packets = htobe64(path->counters.arrived_packets),
                .octets = htobe64(path->counters.arrived_octets),
                .echo = mark->time,
        };

        if (now < path->answer_at) {
                path->counters.refused_mark++;
                return;
        }
        path->answer_at = now + ANSWER_LEAST;
        if (send_message(path, &report))
                path->counters.answered++;
}

static struct path_mark_sent *mark_of(struct path *path, uint64_t nonce)
{
        uint64_t marks = path->counters.marks;

        for (uint64_t n = 1; n <= PATH_MARKS && n <= marks; n++) {
                struct path_mark_sent *mark = &path->marks[(marks - n) % PATH_MARKS];

                if (mark->open && mark->nonce == nonce)
                        return mark;
        }
        return NULL;
}

/* A report of the newest mark so far: older ones, which others overtook, have no news. */
static void report(struct path *path, const struct message *message, int64_t now)
{
        struct path_mark_sent *mark = mark_of(path, message->nonce);
        uint64_t packets = be64toh(message->packets), octets = be64toh(message->octets);
        struct path_counters *counters = &path->counters;
        struct path_sample sample;

        if (mark == NULL || mark->at != (int64_t)be64toh(message->echo)) {
                counters->refused_report++;
                return;
        }
        mark->open = false;
        if (counters->reports == 0 || message->instance != path->neighbour) {
                path->neighbour = message->instance;
                path->base_packets = mark->packets - packets;
                path->base_octets = mark->octets - octets;
        }
        packets += path->base_packets;
        octets += path->base_octets;
        if (packets > mark->packets + PATH_AHEAD || octets > mark->octets + PATH_AHEAD * UINT64_C(65536) ||
            packets + PATH_AHEAD < path->best_packets) {
                counters->absurd_report++;
                return;
        }
        if (counters->reports > 0 && mark->packets <= path->best_sent)
                return;
        counters->reports++;
        path->best_sent = mark->packets;
        path->best_packets = packets;
        path->reported = mark->octets;
        path->unanswered = 0;
        if (path->shut && !is_shut(path))
                resume(path);
        path->was_busy |= mark->busy;
        path->was_held |= mark->held;
        if (now < path->sample_at)
                return;
        path->sample_at = now + SAMPLE_LEAST;
        sample = (struct path_sample){
                .path = path->id,
                .now = now,
                .marked = mark->at,
                .arrived = (int64_t)be64toh(message->time),
                .sent_packets = mark->packets,
                .sent_octets = mark->octets,
                .arrived_packets = packets,
                .arrived_octets = octets,
                .busy = path->was_busy,
                .held = path->was_held,
        };
        path->was_busy = path->was_held = false;
        path->type->notify(path, &sample);
}

void path_message(struct path *path, const uint8_t *data, uint32_t length, int64_t now)
{
        struct message message;

        if (length != sizeof message) {
                path->counters.refused_mark++;
                return;
        }
        memcpy(&message, data, sizeof message);
        if (message.version != PATH_VERSION)
                path->counters.refused_mark++;
        else if (message.type == PATH_MARK)
                answer(path, &message, now);
        else if (message.type == PATH_REPORT)
                report(path, &message, now);
        else
                path->counters.refused_mark++;
}

/* ---- flows that wait ---- */

void path_join(struct path *path, struct path_flow *flow, struct port *port)
{
        *flow = (struct path_flow){.path = path, .port = port};
        path->flows++;
}

static void enqueue(struct path_flow *flow)
{
        struct path *path = flow->path;
        uint32_t cube = flow->port->cube;

        flow->queued = true;
        flow->next = NULL;
        if (path->first[cube] == NULL)
                path->first[cube] = flow;
        else
                path->last[cube]->next = flow;
        path->last[cube] = flow;
}

static void dequeue(struct path_flow *flow)
{
        struct path *path = flow->path;
        struct path_flow *before = NULL;

        for (uint32_t cube = 0; cube < CUBES; cube++, before = NULL)
                for (struct path_flow **at = &path->first[cube]; *at != NULL; before = *at, at = &(*at)->next) {
                        if (*at != flow)
                                continue;
                        *at = flow->next;
                        if (path->last[cube] == flow)
                                path->last[cube] = before;
                        flow->queued = false;
                        return;
                }
}

void path_leave(struct path_flow *flow)
{
        if (flow->queued)
                dequeue(flow);
        flow->path->flows--;
}

static bool waits(const struct path_flow *flow)
{
        return flow->port->taken < ring_ready(&flow->port->end.rx);
}

/* ---- the pace ---- */

/* Octets that may be sent now; none: `wake` is when some may. */
static int64_t credit(struct path *path, int64_t now)
{
        int64_t burst, octets, most = INT32_MAX;

        path->shut = is_shut(path);
        if (path->shut) {
                path->wake = mark_at(path) > now ? mark_at(path) : now + TOGETHER;
                return 0;
        }
        if (path->window != 0)
                most = at_most(most, (int64_t)(path->window - (path->counters.sent_octets - path->reported)));
        if (path->rate == 0)
                return most;
        burst = TOGETHER_OCTETS * SECOND / (int64_t)path->rate;
        if (burst < TOGETHER)
                burst = TOGETHER;
        if (path->next < now - LATE)
                path->next = now - LATE;
        if (path->next > now + SECOND) /* the rate was much lower */
                path->next = now + SECOND;
        octets = (now + burst - path->next) > 0 ? (int64_t)((unsigned __int128)(now + burst - path->next) * path->rate / SECOND) : 0;
        path->wake = path->next;
        return at_most(octets, most);
}

/* Send from a flow. False: the device takes no more now. */
static bool send_from(struct path_flow *flow, uint32_t most, int64_t now, uint32_t *octets)
{
        struct path *path = flow->path;

        path->full = false;
        *octets = path->type->send(flow, most, now);
        path->counters.sent_octets += *octets;
        charge(path, *octets);
        path->held |= path->full;
        return !path->full;
}

/* Without a pace a flow sends what the device takes. */
static void send_freely(struct path_flow *flow, int64_t now)
{
        struct path *path = flow->path;
        uint32_t octets;

        if (send_from(flow, UINT32_MAX, now, &octets))
                path->busy |= waits(flow);
        mark_if_due(path, now);
}

static struct path_flow *next_flow(struct path *path)
{
        for (uint32_t cube = CUBES; cube-- > 0;)
                if (path->first[cube] != NULL)
                        return path->first[cube];
        return NULL;
}

/* The flow's turn, or the rest of it. False: the device takes no more now. */
static bool serve_turn(struct path_flow *flow, int64_t octets, int64_t now)
{
        uint32_t n;
        bool more;

        if (flow->deficit <= 0)
                flow->deficit += QUANTUM;
        more = send_from(flow, (uint32_t)at_most(flow->deficit > 0 ? flow->deficit : 1, octets), now, &n);
        flow->deficit -= (int32_t)n;
        if (!more)
                return false;
        if (n == 0 || !waits(flow)) {
                dequeue(flow);
                flow->deficit = 0;
        } else if (flow->deficit <= 0) {
                dequeue(flow);
                enqueue(flow);
        }
        return true;
}

static void send_paced(struct path *path, int64_t now)
{
        struct path_flow *flow;

        while ((flow = next_flow(path)) != NULL) {
                int64_t octets = credit(path, now);

                if (octets <= 0 && flow->port->cube == CUBES - 1 && !path->shut)
                        octets = path->next - now < AHEAD * SECOND / (int64_t)path->rate + TOGETHER ? 1 : 0;
                if (octets <= 0) {
                        path->counters.waits++;
                        path->busy = true;
                        return;
                }
                if (!serve_turn(flow, octets, now))
                        return;
        }
}

void path_serve(struct path_flow *flow, int64_t now)
{
        struct path *path = flow->path;

        if (path->rate == 0 && path->window == 0 && !flow->queued) {
                send_freely(flow, now);
                return;
        }
        if (!flow->queued)
                enqueue(flow);
        if (now >= path->wake || flow->port->cube == CUBES - 1)
                send_paced(path, now);
        mark_if_due(path, now);
        if (flow->queued && flow->port->paused <= now)
                port_pause(flow->port, path->wake > now ? path->wake : now + TOGETHER);
}
