/* Many dense tensors at once: their chunks are shared out among the threads of a team. */
#include "stats.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define WORTH_A_TEAM 2 /* chunks: of 32,768 elements, 5 µs each */

typedef struct {
  const Job *jobs;
  const uint32_t *owner; /* of each chunk: its job */
  const size_t *index;   /* its number in there, */
  const size_t *place;   /* and where its rows go */
  Row *rows;
  size_t chunks;
  atomic_size_t next;
} Batch;

static void share(void *argument) {
  Batch *batch = argument;
  for (;;) {
    size_t i = atomic_fetch_add(&batch->next, 1);
    if (i >= batch->chunks) return;
    lampwork_read_chunk(&batch->jobs[batch->owner[i]], batch->index[i],
                        &batch->rows[batch->place[i]]);
  }
}

int lampwork_read_jobs(const Job *jobs, size_t count, Row *rows, int threads) {
  if (count == 1 && jobs->count <= CHUNK) { /* what most tensors are */
    Row found[2];
    if (jobs->count) lampwork_read_chunk(jobs, 0, found);
    lampwork_join(jobs, found, rows);
    return 0;
  }
  size_t chunks = 0, total = 0, k = 0, at = 0;
  for (size_t i = 0; i < count; i++)
    chunks += chunks_of(jobs[i].count), total += chunks_of(jobs[i].count) * ROWS(&jobs[i]);
  Row *found = malloc((total + 1) * sizeof *found);
  uint32_t *owner = malloc((chunks + 1) * sizeof *owner);
  size_t *index = malloc((chunks + 1) * sizeof *index);
  size_t *place = malloc((chunks + 1) * sizeof *place);
  int failed = !found || !owner || !index || !place;
  if (!failed) {
    for (size_t i = 0; i < count; i++)
      for (size_t j = 0; j < chunks_of(jobs[i].count); j++, at += ROWS(&jobs[i]))
        owner[k] = (uint32_t)i, place[k] = at, index[k++] = j;
    Batch batch = {jobs, owner, index, place, found, chunks, 0};
    if ((size_t)threads > chunks) threads = (int)chunks;
    lampwork_in_team((Work){share, &batch}, chunks >= WORTH_A_TEAM ? threads : 1);
    for (size_t i = 0, from = 0; i < count; i++) {
      lampwork_join(&jobs[i], found + from, rows);
      from += chunks_of(jobs[i].count) * ROWS(&jobs[i]), rows += ROWS(&jobs[i]);
    }
  }
  free(found), free(owner), free(index), free(place);
  return failed ? -1 : 0;
}

#define FIELDS 5 /* int64 of a job as Python tells it: address, type, elements, old, what */
enum { COMPARED = 1, KEPT = 2, PAST_CACHES = 4 };

static Job *jobs_of(const int64_t *told, size_t count) {
  Job *jobs = malloc((count + 1) * sizeof *jobs);
  for (size_t i = 0; jobs && i < count; i++) {
    const int64_t *t = told + FIELDS * i;
    size_t n = (size_t)t[2];
    jobs[i] = (Job){.values = (const char *)(intptr_t)t[0], .old = (char *)(intptr_t)t[3],
                    .type = (int)t[1], .compared = (t[4] & COMPARED) != 0,
                    .kept = (t[4] & KEPT) != 0, .past_caches = (t[4] & PAST_CACHES) != 0,
                    .count = n, .stride = lampwork_stride_of(n)};
  }
  return jobs;
}

static int parse_jobs(Py_buffer *told, Job **jobs, size_t *count) {
  *count = (size_t)told->len / (FIELDS * sizeof(int64_t));
  for (size_t i = 0; i < *count; i++) {
    int64_t type = ((const int64_t *)told->buf)[FIELDS * i + 1];
    if (type < 0 || type >= TYPES) {
      PyErr_Format(PyExc_ValueError, "no element type has the code %lld", (long long)type);
      return -1;
    }
  }
  *jobs = jobs_of(told->buf, *count);
  if (!*jobs) PyErr_NoMemory();
  return *jobs ? 0 : -1;
}

/* summaries(jobs, threads) -> bytes of the jobs' rows; `jobs` is a buffer of FIELDS int64 each. */
static PyObject *summaries(PyObject *self, PyObject *args) {
  (void)self;
  Py_buffer told;
  Job *jobs = NULL;
  size_t count, total = 0;
  int threads, failed = 0;
  PyObject *found = NULL;
  if (!PyArg_ParseTuple(args, "y*i", &told, &threads)) return NULL;
  if (parse_jobs(&told, &jobs, &count) < 0) goto done;
  for (size_t i = 0; i < count; i++) total += ROWS(&jobs[i]);
  Row *rows = malloc((total + 1) * sizeof *rows);
  if (!rows) {
    PyErr_NoMemory();
    goto done;
  }
  Py_BEGIN_ALLOW_THREADS
  failed = lampwork_read_jobs(jobs, count, rows, threads);
  Py_END_ALLOW_THREADS
  if (failed) PyErr_NoMemory();
  else found = PyBytes_FromStringAndSize((const char *)rows, total * sizeof *rows);
  free(rows);
done:
  free(jobs);
  PyBuffer_Release(&told);
  return found;
}

#define PROBES 256

static int same_probes(const Job *job) {
  int size = lampwork_sizes[job->type];
  size_t step = job->count > PROBES ? (job->count / PROBES) | 1 : 1;
  for (size_t i = 0; i < job->count; i += step)
    if (memcmp(job->values + i * size, job->old + i * size, size) != 0) return 0;
  return 1;
}

/* same(jobs) -> bytes, 1 for each job whose values have the bits of its old ones, at PROBES places. */
static PyObject *same(PyObject *self, PyObject *buffer) {
  (void)self;
  Py_buffer told;
  Job *jobs = NULL;
  size_t count;
  PyObject *found = NULL;
  if (PyObject_GetBuffer(buffer, &told, PyBUF_SIMPLE) < 0) return NULL;
  if (parse_jobs(&told, &jobs, &count) == 0) {
    char *flags = malloc(count + 1);
    if (!flags) PyErr_NoMemory();
    for (size_t i = 0; flags && i < count; i++) flags[i] = (char)same_probes(&jobs[i]);
    if (flags) found = PyBytes_FromStringAndSize(flags, (Py_ssize_t)count);
    free(flags);
  }
  free(jobs);
  PyBuffer_Release(&told);
  return found;
}

PyMethodDef lampwork_batch_methods[] = {
    {"summaries", summaries, METH_VARARGS, "The rows of many dense tensors."},
    {"same", same, METH_O, "Which tensors have their old values still, by a sample."},
    {NULL, NULL, 0, NULL},
};
