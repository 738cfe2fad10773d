/* Several threads for one piece of work.
 *
 * Torch's own team is asked where it can be found: OpenMP's threads still spin from the operation
 * before and would compete with threads of ours for the same cores. Waking them costs 2 µs instead
 * of 60, and the calling thread keeps its part. Without it, and in a forked child, where OpenMP's
 * threads do not exist, threads are started that live for one call.
 */
#define _GNU_SOURCE
#include "kernels.h"

#include <dlfcn.h>
#include <pthread.h>

#define MOST 64

static void (*in_parallel)(void (*)(void *), void *, unsigned, unsigned);
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void leave_parent_team(void) { in_parallel = NULL; }

static void find_team(void) {
  *(void **)&in_parallel = dlsym(RTLD_DEFAULT, "GOMP_parallel"); /* as the compiler calls it */
  pthread_atfork(NULL, NULL, leave_parent_team);
}

static void *start(void *argument) {
  const Work *work = argument;
  work->run(work->on);
  return NULL;
}

void lampwork_in_team(Work work, int threads) {
  pthread_once(&once, find_team);
  if (threads <= 1) {
    work.run(work.on);
  } else if (in_parallel) {
    in_parallel(work.run, work.on, (unsigned)threads, 0);
  } else {
    pthread_t others[MOST];
    int started = 0;
    while (started < threads - 1 && started < MOST &&
           pthread_create(&others[started], NULL, start, &work) == 0)
      started++;
    work.run(work.on);
    for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
  }
}
