/* What the reading of one tensor and of many have in common: the row, and dense memory by chunks. */
#ifndef LAMPWORK_STATS_H
#define LAMPWORK_STATS_H

#include "kernels.h"

#include <stdint.h>

#define BLOCK 2048
#define CHUNK (16 * BLOCK)
#define BINS 64
#define TYPES 12

extern const int lampwork_sizes[TYPES]; /* bytes, in the order of `_CODES` in stats.py */

typedef struct { /* the columns, in order */
  double count, sum, squares, zeros, nan, posinf, neginf, low, high, units, dead, bins[BINS];
} Row;

typedef struct {
  const char *values;
  char *old;    /* earlier values, or where the values go as well; NULL if there are none */
  int type, compared, kept; /* values minus old are measured; old becomes the values */
  int past_caches;          /* the copy is larger than they are */
  size_t count, stride;     /* of the whole tensor; every `stride`th exponent is counted */
} Job;

/* A job with old values to be overwritten gives two rows: of the change, and of the old values. */
#define ROWS(job) (1 + ((job)->compared && (job)->kept))

size_t lampwork_stride_of(size_t count);
void lampwork_reset_row(Row *row);
void lampwork_add_row(Row *to, const Row *from);

/* The row, or rows, of chunk `index` of a dense tensor. */
void lampwork_read_chunk(const Job *job, size_t index, Row *rows);

/* The row, or rows, of all of it from those of its chunks. */
void lampwork_join(const Job *job, const Row *chunks, Row *rows);

static inline size_t chunks_of(size_t count) { return (count + CHUNK - 1) / CHUNK; }

/* Dense tensors: rows of job after job, those that `job` has in a row. -1 without memory. */
int lampwork_read_jobs(const Job *jobs, size_t count, Row *rows, int threads);

#endif
