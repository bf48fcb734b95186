/*
 * crash: numbered points at which a test kills the process, to show that a kill anywhere leaks nothing.
 * Compiled in with -DCRASH_POINTS only; tests set crash_point and crash_countdown.
 */
#ifndef OUROBOROS_CRASH_H
#define OUROBOROS_CRASH_H

#ifdef CRASH_POINTS
enum { CRASH_POINT_LAST = 24 };
extern int crash_point;
extern long crash_countdown;
void crash_now(void);
#define CRASH(n)                                                          \
        do {                                                              \
                if (crash_point == (n) && --crash_countdown <= 0)         \
                        crash_now();                                      \
        } while (0)
#else
#define CRASH(n) ((void)0)
#endif

#endif
