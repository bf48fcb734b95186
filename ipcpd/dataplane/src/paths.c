#include "paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct entry {
        struct path path; /* first: a path is its entry */
        struct paths *paths;
        struct entry *next;
        uint8_t peer[PATHS_PEER];
};

struct paths {
        struct relay *relay;
        struct punt *punt;
        uint32_t component;
        struct paths_type type;
        struct path_type calls;
        void *owner;
        struct entry *first;
        uint32_t serial;
        uint64_t rate; /* of new paths */
};

static bool emit(struct path *path, const uint8_t *message, uint32_t length)
{
        const struct entry *entry = (const struct entry *)path;

        return entry->paths->type.emit(entry->paths->owner, entry->peer, message, length);
}

static int64_t clock_of(const struct path *path)
{
        return relay_clock(((const struct entry *)path)->paths->relay);
}

static void notify(struct path *path, const struct path_sample *sample)
{
        const struct paths *paths = ((const struct entry *)path)->paths;

        punt_push(paths->punt, paths->component, 0, sample, sizeof *sample);
}

struct paths *paths_create(struct relay *relay, struct punt *punt, uint32_t component, const struct paths_type *type,
                           void *owner)
{
        struct paths *paths = calloc(1, sizeof *paths);

        if (paths == NULL)
                return NULL;
        *paths = (struct paths){.relay = relay_hold(relay), .punt = punt_hold(punt), .component = component, .type = *type,
                                .calls = {type->send, emit, notify, clock_of}, .owner = owner};
        return paths;
}

void paths_free(struct paths *paths)
{
        if (paths == NULL)
                return;
        relay_let_go(paths->relay);
        punt_destroy(paths->punt);
        free(paths);
}

static struct entry *find(const struct paths *paths, const uint8_t *peer, uint32_t length)
{
        struct entry *entry = paths->first;

        while (entry != NULL && memcmp(entry->peer, peer, length) != 0)
                entry = entry->next;
        return entry;
}

static struct entry *add(struct paths *paths, const uint8_t *peer, uint32_t length)
{
        struct entry *entry = calloc(1, sizeof *entry);
        uint64_t key = 0;

        if (entry == NULL)
                return NULL;
        if (getrandom(&key, sizeof key, 0) != sizeof key) {
                free(entry);
                return NULL;
        }
        path_begin(&entry->path, &paths->calls, ++paths->serial, paths->type.overhead, key);
        path_set(&entry->path, paths->rate, 0, 0, relay_clock(paths->relay));
        entry->paths = paths;
        memcpy(entry->peer, peer, length);
        entry->next = paths->first;
        paths->first = entry;
        return entry;
}

int paths_join(struct paths *paths, const uint8_t *peer, uint32_t length, struct path_flow *flow, struct port *port)
{
        struct entry *entry = find(paths, peer, length);

        if (entry == NULL)
                entry = add(paths, peer, length);
        if (entry == NULL)
                return -ENOMEM;
        if (flow->path == &entry->path)
                return 0;
        paths_leave(paths, flow);
        path_join(&entry->path, flow, port);
        return 0;
}

void paths_leave(struct paths *paths, struct path_flow *flow)
{
        struct path *path = flow->path;

        if (path == NULL)
                return;
        path_leave(flow);
        flow->path = NULL;
        if (path->flows > 0)
                return;
        for (struct entry **at = &paths->first; *at != NULL; at = &(*at)->next)
                if (&(*at)->path == path) {
                        struct entry *entry = *at;

                        *at = entry->next;
                        free(entry);
                        return;
                }
}

bool paths_message(struct paths *paths, const uint8_t *peer, uint32_t length, const uint8_t *message, uint32_t octets)
{
        struct entry *entry = find(paths, peer, length);

        if (entry == NULL || !entry->path.measured)
                return false;
        path_arrived(&entry->path, octets);
        path_message(&entry->path, message, octets, relay_clock(paths->relay));
        return true;
}

/* ---- control ---- */

int64_t paths_measure(struct paths *paths, const uint8_t *peer, uint32_t length)
{
        struct entry *entry;
        int64_t id = -ENOENT;

        relay_lock(paths->relay);
        entry = find(paths, peer, length);
        if (entry != NULL) {
                entry->path.measured = true;
                id = entry->path.id;
        }
        relay_unlock(paths->relay);
        return id;
}

void paths_rate(struct paths *paths, uint64_t rate)
{
        relay_lock(paths->relay);
        paths->rate = rate;
        for (struct entry *entry = paths->first; entry != NULL; entry = entry->next)
                path_set(&entry->path, rate, 0, 0, relay_clock(paths->relay));
        relay_unlock(paths->relay);
}

int paths_set(struct paths *paths, uint32_t id, uint64_t rate, uint64_t window, int64_t spacing, int64_t now)
{
        struct entry *entry;

        relay_lock(paths->relay);
        entry = paths->first;
        while (entry != NULL && entry->path.id != id)
                entry = entry->next;
        if (entry != NULL)
                path_set(&entry->path, rate, window, spacing, now);
        relay_unlock(paths->relay);
        return entry != NULL ? 0 : -ENOENT;
}

static uint32_t waiting(const struct path *path)
{
        uint32_t n = 0;

        for (uint32_t cube = 0; cube < CUBES; cube++)
                for (const struct path_flow *flow = path->first[cube]; flow != NULL; flow = flow->next)
                        n++;
        return n;
}

int paths_read(struct paths *paths, uint32_t n, struct path_state *state)
{
        const struct entry *entry;

        relay_lock(paths->relay);
        entry = paths->first;
        while (entry != NULL && n-- > 0)
                entry = entry->next;
        if (entry != NULL) {
                const struct path *path = &entry->path;

                *state = (struct path_state){.id = path->id,
                                             .flows = path->flows,
                                             .measured = path->measured,
                                             .waiting = waiting(path),
                                             .rate = path->rate,
                                             .window = path->window,
                                             .counters = path->counters};
                memcpy(state->peer, entry->peer, PATHS_PEER);
        }
        relay_unlock(paths->relay);
        return entry != NULL ? 0 : -ENOENT;
}
