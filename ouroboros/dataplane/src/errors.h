/* errors: error numbers of Ouroboros beside errno's (docs/reference/api.md). Functions return them negated. */
#ifndef OUROBOROS_ERRORS_H
#define OUROBOROS_ERRORS_H

#include <errno.h>

#define ENOTALLOC 1000
#define EIRMD 1002
#define EFLOWDOWN 1005
#define EFLOWPEER 1006
#define EMUSTSLEEP 1100 /* internal: polling found nothing; the caller may sleep */
#define EREADAHEAD 1101 /* internal: the ring is empty, but the library has packets read ahead */

#endif
