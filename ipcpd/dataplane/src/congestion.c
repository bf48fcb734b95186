#include "congestion.h"

#define EXPONENT 24u /* 16.8 ms */
#define EXPONENT_LEAST 10u
#define EXPONENT_MOST 36u /* a delay is a second at most, so longer slots mean nothing */
#define INITIAL 65536u    /* octets */
#define LIMIT_MOST (1ull << 48)
#define SILENCE 32u /* packets without an update: it is over */
#define SLOT_PACKETS 8u      /* packets that a slot should hold at least */
#define MANY 64u    /* and at most */
#define LEVEL_MOST 8191u  /* more than everything cannot be taken off the limit */
#define DELAY_MOST 1000000000ll

static void begin(struct congestion *c, int64_t now)
{
        c->exponent = EXPONENT;
        c->slot = (uint64_t)now >> EXPONENT;
        c->limit = c->increment = INITIAL;
}

/* Slots so long that they hold a sensible number of packets. True: the count of the old slot is carried on. */
static bool scale(struct congestion *c)
{
        uint32_t f = 0;
        bool carry = false;

        if (c->packets < SLOT_PACKETS) {
                while (c->packets << f < SLOT_PACKETS && c->exponent + f < EXPONENT_MOST)
                        f++;
                c->exponent += f;
                c->slot >>= f;
                if (f > 0 && (c->slot & ((1ull << f) - 1)) == 0) {
                        c->slot++;
                        carry = true;
                }
                c->limit <<= f;
                c->increment <<= f;
        } else if (c->packets > MANY) {
                while (c->packets >> f > MANY && c->exponent - f > EXPONENT_LEAST)
                        f++;
                c->exponent -= f;
                c->slot <<= f;
                c->limit >>= f;
                c->increment >>= f;
        }
        return carry;
}

static void next_slot(struct congestion *c)
{
        if (!c->avoiding) {
                if (c->octets > c->limit)
                        c->limit *= 2;
        } else if (c->level != 0) {
                c->limit -= (c->limit * c->level) >> 13;
        } else {
                c->limit = c->octets + c->increment;
        }
        if (c->limit > LIMIT_MOST)
                c->limit = LIMIT_MOST;
        if (!scale(c)) {
                c->octets = 0;
                c->packets = 0;
        }
}

int64_t congestion_send(struct congestion *c, uint32_t length, int64_t now)
{
        uint64_t slot;
        int64_t delay;

        if (c->exponent == 0)
                begin(c, now);
        slot = (uint64_t)now >> c->exponent;
        c->silence++;
        c->packets++;
        c->octets += length;
        if (c->silence > SILENCE)
                c->level = 0;
        if (slot > c->slot) {
                c->slot = slot;
                next_slot(c);
        }
        if (c->octets <= c->limit)
                return 0;
        delay = (int64_t)((c->slot + 1) << c->exponent) - now;
        return delay < 0 ? 0 : delay > DELAY_MOST ? DELAY_MOST : delay;
}

void congestion_update(struct congestion *c, uint16_t level)
{
        c->level = level < LEVEL_MOST ? level : LEVEL_MOST;
        c->silence = 0;
        c->avoiding = true;
}

bool congestion_receive(struct congestion *c, uint8_t mark)
{
        uint32_t seen;

        if (mark == 0) {
                if (c->seen == 0)
                        return false;
                c->seen >>= 2;
                return c->seen == 0;
        }
        if (c->seen == 0) {
                c->seen = mark;
                c->marked = 0;
                return true;
        }
        seen = (uint32_t)c->seen - (c->seen >> 5) + mark;
        c->seen = seen > UINT16_MAX ? UINT16_MAX : (uint16_t)seen;
        return (c->marked++ & 7) == 1;
}
