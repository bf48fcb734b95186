#include "fate.h"

#include <stddef.h>

#define GOLDEN 0x9e3779b97f4a7c15u /* 2^64 divided by the golden ratio: steps of SplitMix64 */

__extension__ typedef unsigned __int128 wide;

/* The questions; a second copy asks its own again, from COPY on. */
enum question { LOSS, DUPLICATE, REORDER, CORRUPT, SPOT, JITTER, COPY = 8 };

/* The output function of SplitMix64 (Stafford's variant 13): each bit depends on every one of the input. */
static uint64_t mix(uint64_t x)
{
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        return x ^ (x >> 31);
}

static bool happens(uint64_t draw, uint64_t chance)
{
        return draw < chance || chance == FATE_ALWAYS;
}

void fate_of(const struct impairment *impairment, uint64_t seed, uint32_t direction, uint64_t n, struct fate *fate)
{
        uint64_t frame = mix(mix(seed + (direction + 1u) * GOLDEN) + n * GOLDEN);
#define DRAW(question) mix(frame + ((uint64_t)(question) + 1u) * GOLDEN)

        fate->copies = 0;
        if (happens(DRAW(LOSS), impairment->loss))
                return;
        fate->copies = happens(DRAW(DUPLICATE), impairment->duplicate) ? 2 : 1;
        for (uint32_t number = 0; number < fate->copies; number++) {
                struct copy_fate *copy = &fate->copy[number];
                uint32_t from = number * COPY;

                copy->overtakes = happens(DRAW(from + REORDER), impairment->reorder);
                copy->corrupt = happens(DRAW(from + CORRUPT), impairment->corrupt);
                copy->spot = DRAW(from + SPOT);
                copy->delay = 0;
                if (copy->overtakes)
                        continue;
                copy->delay = impairment->delay;
                if (impairment->jitter > 0) {
                        wide spread = 2 * (wide)impairment->jitter + 1;

                        copy->delay += (int64_t)(DRAW(from + JITTER) * spread >> 64) - impairment->jitter;
                        if (copy->delay < 0)
                                copy->delay = 0;
                }
        }
#undef DRAW
}
