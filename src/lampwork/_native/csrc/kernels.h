/* What each kernel file hands to the module: its table of functions, ended by an empty entry. */
#ifndef LAMPWORK_KERNELS_H
#define LAMPWORK_KERNELS_H

#include <Python.h>

extern PyMethodDef lampwork_copy_methods[];
extern PyMethodDef lampwork_stats_methods[];
extern PyMethodDef lampwork_batch_methods[];
extern PyMethodDef lampwork_launch_methods[];
extern PyMethodDef lampwork_philox_methods[];
extern PyMethodDef lampwork_reflections_methods[];

void lampwork_choose_stats(void); /* the fastest loops that this processor runs */

/* Copies past the caches; `lampwork_fence` makes what was copied visible to others. */
void lampwork_stream(char *to, const char *from, size_t size);
void lampwork_fence(void);

typedef struct {
  void (*run)(void *); /* called once by each thread: the threads share out the work themselves */
  void *on;
} Work;

/* Returns when all have ended; with one thread it is a plain call. */
void lampwork_in_team(Work work, int threads);

#endif
