/* errors: the numbers of our own beside errno's (docs/reference/api.md). Functions return them negated. */
#ifndef OUROBOROS_ERRORS_H
#define OUROBOROS_ERRORS_H

#include <errno.h>

#define ENOTALLOC 1000
#define EIRMD 1002
#define EFLOWDOWN 1005
#define EFLOWPEER 1006
#define EMUSTSLEEP 1100 /* internal: nothing yet, polling did not help, the caller may sleep */
#define EREADAHEAD 1101    /* internal: nothing in the ring, but the library has packets that were taken ahead */

#endif
