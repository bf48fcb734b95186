/*
 * fate: what happens to frame n of one direction of an emulated link (docs/reference/olab.md, "Emulated links").
 *
 * Pure: a function of settings, seed, direction and n, in whole numbers only, so that it is the same on every machine.
 * Each question about a frame has a draw of its own: to change the delay of a link changes nothing about which of its
 * frames are lost.
 */
#ifndef OLAB_FATE_H
#define OLAB_FATE_H

#include <stdbool.h>
#include <stdint.h>

#define FATE_ALWAYS UINT64_MAX /* a chance of 1; others are in parts of 2^64 */
#define FATE_COPIES 2u

struct impairment {
        uint64_t loss;
        uint64_t duplicate;
        uint64_t reorder;
        uint64_t corrupt;
        int64_t delay;  /* ns */
        int64_t jitter; /* ns; delays are spread evenly over delay - jitter ... delay + jitter */
        uint64_t rate;  /* bits per second; 0: as fast as it goes */
        uint32_t limit; /* frames that may wait at a time */
};

struct copy_fate {
        int64_t delay; /* ns, 0 for one that overtakes */
        uint64_t spot; /* which bit is flipped: this modulo the number of bits */
        bool corrupt;
        bool overtakes;
};

struct fate {
        uint32_t copies; /* 0: lost */
        struct copy_fate copy[FATE_COPIES];
};

void fate_of(const struct impairment *impairment, uint64_t seed, uint32_t direction, uint64_t n, struct fate *fate);

#endif
