/*
 * emulator: the two ports of a link, and the line in either direction between them. One thread, which does all of it.
 */
#ifndef OLAB_EMULATOR_H
#define OLAB_EMULATOR_H

#include "port.h"

struct emulator;

/* Between two sockets (see port_create). NULL: errno. */
struct emulator *emulator_create(int one, int other, uint32_t mtu);
void emulator_destroy(struct emulator *emulator);

/* The line of frames that arrive at port 0, or at port 1. */
struct line *emulator_line(struct emulator *emulator, uint32_t from);
void emulator_count(struct emulator *emulator, uint32_t from, struct port_counters *counters);

/* Pass frames on until something can be read from `control`. 0, or -errno when this cannot go on. */
int emulator_run(struct emulator *emulator, int control);

#endif
