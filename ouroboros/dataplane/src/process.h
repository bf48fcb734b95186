/*
 * process: the Ouroboros state of one process: its flows by descriptor, its event region, and a watcher thread.
 * The watcher sleeps in poll(2). It wakes when the RPC connection ends (then every flow is down, and it wakes every
 * sleeper), when the doorbell of the event region is signalled (then it signals the eventfds of flows and sets, on
 * which an event loop of the application waits), and when a timer of a flow is due. It ends with the IRMd.
 */
#ifndef OUROBOROS_PROCESS_H
#define OUROBOROS_PROCESS_H

#include <pthread.h>

#include "flow.h"
#include "frcp_io.h"

struct fset;

struct process {
        pthread_mutex_t lock; /* flows, watched, sets; taken before a flow's own lock */
        struct events *events;
        struct flow *flows[EVENT_BITS];
        _Atomic uint32_t words;         /* of the bitmaps that are in use */
        uint64_t watched[EVENT_WORDS];  /* flows with an eventfd */
        uint64_t polled[EVENT_WORDS];   /* flows that an event makes the watcher poll */
        uint64_t grouped[EVENT_WORDS];  /* descriptors that are in a set */
        struct fset *sets;              /* those with an eventfd */
        unsigned generation;
        int rpc;
        int control;
        bool watching;
        _Atomic bool stop;
        _Atomic bool orphan; /* the IRMd has exited */
        struct wheel wheel;  /* polls of flows with FRCP, or with keep-alives */
        pthread_t watcher;
};

struct process *process_create(struct events *events);

/* End the watcher. The struct stays: sets and threads may refer to it until the process ends. */
void process_stop(struct process *process);

/* Start the watcher; `rpc` is the connection to the IRMd; the watcher notices its end. */
int process_watch(struct process *process, int rpc);

/* Whether the IRMd has exited. */
bool process_is_orphan(const struct process *process);

/* With the process's lock: the watcher polls the flow soon; the caller then signals `control`. */
void process_poll_soon(struct process *process, struct flow *flow);

void process_add(struct process *process, struct flow *flow);
void process_remove(struct process *process, struct flow *flow);

/*
 * Make a flow pollable: for packets (level), or for space (once after each flow_notify_writable). 0, -ENOTALLOC or
 * -EBADF. The caller owns the eventfds, which stay open until process_remove has returned.
 */
int process_poll_flow(struct process *process, struct flow *flow, int eventfd);
int process_poll_writable(struct process *process, struct flow *flow, int eventfd);

/* The end of it: the caller may close its eventfds. */
void process_unpoll(struct process *process, struct flow *flow);

/* A set of flows to wait for (paper Listings 6 and 7). A flow is in one set at most. */
struct fset {
        struct process *process;
        struct fset *next;
        _Atomic uint64_t member[EVENT_WORDS];  /* this and the following: written with the lock, read without */
        _Atomic uint64_t pending[EVENT_WORDS]; /* members to examine, taken from the region */
        uint32_t cursor;
        int eventfd;
        struct poller poller;
        _Atomic bool closed;
        _Atomic uint32_t let_go; /* see flow.h */
};

struct fevent {
        uint32_t fd;
        uint32_t type; /* one EVENT_* bit */
};

struct fset *fset_create(struct process *process);

/* The handle of an object that has no set: every function takes it, and fails with -EBADF or does nothing. */
struct fset *fset_none(void);

/* Remove the set from the process's lists, once; drop the handle. The second of the two frees it. */
void fset_close(struct fset *set);
void fset_destroy(struct fset *set);

/*
 * Members are descriptors: one with a pending allocation has no flow yet. Its bit is reported as EVENT_ALLOC, and the
 * library looks up the outcome.
 */
int fset_add(struct fset *set, uint32_t fd); /* -EPERM: in another set. -EBADF: the set is closed, or no descriptor */
void fset_remove(struct fset *set, uint32_t fd);
int fset_set_eventfd(struct fset *set, int eventfd); /* 0 or -EBADF */

/*
 * Take pending events, at most `max`; with 384 or more, a call continues where the last one stopped, and no member
 * starves. `poll`: poll for a moment when there are none.
 */
int fset_take(struct fset *set, struct fevent *out, int max, bool poll);

/* Sleep until a member may have an event. 0, -ETIMEDOUT, -EINTR, or -EIRMD. */
int fset_sleep(struct fset *set, int64_t deadline);

#endif
