/* One pass over a tensor in memory → the row of `lampwork._core.summary`.
 *
 * A tensor is read in the order of its memory, in chunks of CHUNK elements, each in blocks that stay
 * in the first cache: one vectorised loop for the sums, the extremes and the zeros, then the block's
 * share of the exponents. A block with something that is not finite shows in its sum of squares and
 * is read again with care. All sums are float64, and chunks are merged in order, so that neither
 * threads nor alignment change a bit.
 */
#include "kernels.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 2048
#define CHUNK (128 * BLOCK)
#define BINS 64
#define LOWEST (127 - 40) /* biased float32 exponent of the first bin */
#define SAMPLE 8192       /* SAMPLED_ABOVE in stats.py */
#define MAX_DIMS 64
#define RELEASED_ABOVE 32768 /* elements from which other Python threads may run meanwhile */

typedef struct { /* the columns, in order */
  double count, sum, squares, zeros, nan, posinf, neginf, low, high, units, dead, bins[BINS];
} Row;

/* ---- blocks ---- */

typedef struct {
  double sum, squares, low, high;
  int64_t zeros;
} Block;

/* A reduction of floats is vectorised only where the order may change; `omp simd` says so. */
#define READER(NAME, T, ATTRIBUTES)                                                              \
  ATTRIBUTES static void NAME(const T *x, size_t n, Block *block) {                              \
    double sum = 0, squares = 0;                                                                 \
    T low = INFINITY, high = -INFINITY;                                                          \
    int32_t zeros = 0;                                                                           \
    _Pragma("omp simd reduction(+ : sum, squares, zeros) reduction(min : low) reduction(max : high)") \
    for (size_t i = 0; i < n; i++) {                                                             \
      T v = x[i];                                                                                \
      double d = v;                                                                              \
      sum += d;                                                                                  \
      squares += d * d;                                                                          \
      low = v < low ? v : low;                                                                   \
      high = v > high ? v : high;                                                                \
      zeros += v == 0;                                                                           \
    }                                                                                            \
    *block = (Block){sum, squares, low, high, zeros};                                            \
  }

#define CAREFUL(NAME, T)                                       \
  static void NAME(const T *x, size_t n, Row *row) {           \
    for (size_t i = 0; i < n; i++) {                           \
      double d = x[i];                                         \
      if (d != d) {                                            \
        row->nan++;                                            \
      } else if (isinf(d)) {                                   \
        *(d > 0 ? &row->posinf : &row->neginf) += 1;           \
      } else {                                                 \
        row->sum += d;                                         \
        row->squares += d * d;                                 \
        row->zeros += d == 0;                                  \
        if (d < row->low) row->low = d;                        \
        if (d > row->high) row->high = d;                      \
      }                                                        \
    }                                                          \
  }

#if defined(__x86_64__) && defined(__GNUC__)
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")))
#define AVX2 __attribute__((target("avx2,fma")))
READER(floats_avx512, float, AVX512)
READER(doubles_avx512, double, AVX512)
READER(floats_avx2, float, AVX2)
READER(doubles_avx2, double, AVX2)
#endif
READER(floats_portable, float, )
READER(doubles_portable, double, )
CAREFUL(floats_careful, float)
CAREFUL(doubles_careful, double)

static void (*read_floats)(const float *, size_t, Block *) = floats_portable;
static void (*read_doubles)(const double *, size_t, Block *) = doubles_portable;

void lampwork_choose_stats(void) {
#ifdef AVX2
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    read_floats = floats_avx512, read_doubles = doubles_avx512;
  } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    read_floats = floats_avx2, read_doubles = doubles_avx2;
  }
#endif
}

/* ---- element types; the order is that of `_CODES` in stats.py ---- */

enum { F32, F64, F16, BF16, I8, I16, I32, I64, U8, U16, U32, U64 };
static const int SIZES[] = {4, 8, 2, 2, 1, 2, 4, 8, 1, 2, 4, 8};
#define TYPES 12
#define IS_FLOAT(type) ((type) <= BF16)
#define AS_FLOAT32(type) ((type) == F32 || (type) == F16 || (type) == BF16)

static float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static float half_to_float(uint16_t half) {
  uint32_t magnitude = half & 0x7fff, sign = (uint32_t)(half & 0x8000) << 16;
  uint32_t normal = (magnitude << 13) + (magnitude >= 0x7c00 ? 224u << 23 : 112u << 23);
  float small = (float)(int32_t)magnitude * 0x1p-24f; /* denormal halves are normal floats */
  uint32_t bits;
  memcpy(&bits, &small, 4);
  return bits_to_float((magnitude < 0x400 ? bits : normal) | sign);
}

#define WIDEN(T, TO, EXPRESSION)                  \
  {                                               \
    const T *x = from;                            \
    TO *y = to;                                   \
    for (size_t i = 0; i < n; i++) y[i] = EXPRESSION; \
    break;                                        \
  }

/* Elements of any type but float32 and float64 as one of these. */
static void widen(const void *from, int type, size_t n, void *to) {
  switch (type) {
    case F16: WIDEN(uint16_t, float, half_to_float(x[i]))
    case BF16: WIDEN(uint16_t, float, bits_to_float((uint32_t)x[i] << 16))
    case I8: WIDEN(int8_t, double, x[i])
    case I16: WIDEN(int16_t, double, x[i])
    case I32: WIDEN(int32_t, double, x[i])
    case I64: WIDEN(int64_t, double, (double)x[i])
    case U8: WIDEN(uint8_t, double, x[i])
    case U16: WIDEN(uint16_t, double, x[i])
    case U32: WIDEN(uint32_t, double, x[i])
    case U64: WIDEN(uint64_t, double, (double)x[i])
  }
}

/* ---- a chunk ---- */

typedef struct {
  const char *values;
  char *copy;        /* where the values go as well, or NULL */
  const char *minus; /* what is subtracted from them, or NULL */
  int type;
  size_t count, stride; /* of the whole tensor; every `stride`th exponent is counted */
} Job;

static void reset(Row *row) {
  memset(row, 0, sizeof *row);
  row->low = INFINITY, row->high = -INFINITY;
}

static void add(Row *to, const Row *from) {
  double low = fmin(to->low, from->low), high = fmax(to->high, from->high);
  double *a = (double *)to;
  const double *b = (const double *)from;
  for (size_t i = 0; i < sizeof(Row) / sizeof(double); i++) a[i] += b[i];
  to->low = low, to->high = high;
}

typedef struct {
  uint32_t counts[4][256]; /* four, as neighbours often fall into the same bin */
  uint32_t zeros;
} Exponents;

static void count_floats(Exponents *e, const float *x, size_t begin, size_t n, size_t stride) {
  uint32_t zeros = 0, k = 0;
  for (size_t i = begin; i < n; i += stride, k++) {
    uint32_t bits;
    memcpy(&bits, x + i, 4);
    e->counts[k & 3][bits >> 23 & 255]++;
    zeros += bits << 1 == 0;
  }
  e->zeros += zeros;
}

static void count_doubles(Exponents *e, const double *x, size_t begin, size_t n, size_t stride) {
  for (size_t i = begin; i < n; i += stride) {
    uint64_t bits;
    memcpy(&bits, x + i, 8);
    int biased = bits >> 52 & 2047, narrow = biased - 1023 + 127;
    narrow = narrow < 1 ? 1 : narrow > 254 ? 254 : narrow;
    narrow = biased == 0 ? 0 : biased == 2047 ? 255 : narrow;
    e->counts[i & 3][narrow]++;
    e->zeros += bits << 1 == 0;
  }
}

static void fold(const Exponents *e, Row *row) {
  uint32_t sums[256];
  double below = 0, above = 0;
  for (int i = 0; i < 256; i++)
    sums[i] = e->counts[0][i] + e->counts[1][i] + e->counts[2][i] + e->counts[3][i];
  for (int i = 0; i < BINS; i++) row->bins[i] = sums[LOWEST + i];
  for (int i = 0; i < LOWEST; i++) below += sums[i];
  for (int i = LOWEST + BINS; i < 255; i++) above += sums[i]; /* 255 is what is not finite */
  row->bins[0] += below - e->zeros;
  row->bins[BINS - 1] += above;
}

typedef struct { /* what is needed to read blocks one after the other */
  Row row;
  Exponents exponents;
  size_t next; /* which element's exponent is counted next */
} Reading;

static void begin(Reading *r, size_t from, size_t stride) {
  reset(&r->row);
  memset(&r->exponents, 0, sizeof r->exponents);
  r->next = (from + stride - 1) / stride * stride;
}

/* Elements `from` … `from + n` of the tensor, as float32 or float64. */
static void read_block(Reading *r, const void *x, int wide, size_t from, size_t n, size_t stride) {
  Block block;
  if (wide) read_doubles(x, n, &block);
  else read_floats(x, n, &block);
  if (isfinite(block.squares)) {
    r->row.sum += block.sum, r->row.squares += block.squares, r->row.zeros += block.zeros;
    r->row.low = fmin(r->row.low, block.low), r->row.high = fmax(r->row.high, block.high);
  } else if (wide) {
    doubles_careful(x, n, &r->row);
  } else {
    floats_careful(x, n, &r->row);
  }
  if (r->next < from + n) {
    size_t first = r->next - from;
    if (wide) count_doubles(&r->exponents, x, first, n, stride);
    else count_floats(&r->exponents, x, first, n, stride);
    r->next += (n - first + stride - 1) / stride * stride;
  }
  r->row.count += n;
}

static void subtract_floats(const float *a, const float *b, size_t n, float *to) {
  for (size_t i = 0; i < n; i++) to[i] = a[i] - b[i];
}

static void subtract_doubles(const double *a, const double *b, size_t n, double *to) {
  for (size_t i = 0; i < n; i++) to[i] = a[i] - b[i];
}

/* Chunk `index` of a dense tensor. */
static void read_chunk(const Job *job, size_t index, Row *row) {
  size_t from = index * CHUNK, end = from + CHUNK < job->count ? from + CHUNK : job->count;
  int type = job->type, size = SIZES[type], wide = !AS_FLOAT32(type);
  double scratch[2][BLOCK];
  Reading r;
  begin(&r, from, job->stride);
  for (size_t i = from; i < end; i += BLOCK) {
    size_t n = end - i < BLOCK ? end - i : BLOCK;
    const void *x = job->values + i * size;
    if (job->copy) memcpy(job->copy + i * size, x, n * size);
    if (type != F32 && type != F64) {
      widen(x, type, n, scratch[0]);
      x = scratch[0];
    }
    if (job->minus) {
      const void *y = job->minus + i * size;
      if (type != F32 && type != F64) {
        widen(y, type, n, scratch[1]);
        y = scratch[1];
      }
      if (wide) subtract_doubles(x, y, n, scratch[0]);
      else subtract_floats(x, y, n, (float *)scratch[0]);
      x = scratch[0];
    }
    read_block(&r, x, wide, i, n, job->stride);
  }
  fold(&r.exponents, &r.row);
  *row = r.row;
}

static size_t stride_of(size_t count) {
  return count > SAMPLE ? ((count + SAMPLE - 1) / SAMPLE) | 1 : 1; /* odd: not in step with rows */
}

static void estimate(Row *row, size_t stride) {
  if (stride == 1) return;
  size_t count = (size_t)row->count, seen = (count + stride - 1) / stride;
  for (int i = 0; i < BINS; i++) row->bins[i] *= (double)count / seen;
}

static size_t chunks_of(size_t count) { return (count + CHUNK - 1) / CHUNK; }

/* ---- tensors of any layout ---- */

typedef struct {
  int dims;
  int64_t size[MAX_DIMS], stride[MAX_DIMS]; /* outermost first, strides in elements */
} Layout;

/* Dimensions in the order of memory, neighbours joined where they are one run. */
static void normalize(Layout *l) {
  Layout sorted = {0};
  for (int i = 0; i < l->dims; i++) {
    if (l->size[i] == 1) continue;
    int j = sorted.dims++;
    for (; j > 0 && sorted.stride[j - 1] < l->stride[i]; j--)
      sorted.size[j] = sorted.size[j - 1], sorted.stride[j] = sorted.stride[j - 1];
    sorted.size[j] = l->size[i], sorted.stride[j] = l->stride[i];
  }
  l->dims = 0;
  for (int i = 0; i < sorted.dims; i++) {
    int last = l->dims - 1;
    if (last >= 0 && l->stride[last] == sorted.stride[i] * sorted.size[i]) {
      l->size[last] *= sorted.size[i], l->stride[last] = sorted.stride[i];
    } else {
      l->size[l->dims] = sorted.size[i], l->stride[l->dims++] = sorted.stride[i];
    }
  }
}

#define GATHER(T)                                                            \
  for (size_t i = 0; i < n; i++) ((T *)to)[i] = ((const T *)from)[i * stride];

static void gather(const char *from, int64_t stride, int size, size_t n, char *to) {
  if (stride == 1) memcpy(to, from, n * size);
  else if (size == 1) GATHER(uint8_t)
  else if (size == 2) GATHER(uint16_t)
  else if (size == 4) GATHER(uint32_t)
  else GATHER(uint64_t)
}

/* A tensor with gaps, block by block through a buffer; `l` is normalised. */
static void read_strided(const char *values, int type, const Layout *l, Row *total) {
  int64_t at[MAX_DIMS] = {0};
  int last = l->dims - 1, size = SIZES[type], wide = !AS_FLOAT32(type);
  size_t count = 1, done = 0, filled = 0;
  for (int i = 0; i < l->dims; i++) count *= l->size[i];
  size_t stride = stride_of(count);
  double raw[BLOCK], scratch[BLOCK];
  Reading r;
  begin(&r, 0, stride);
  while (done + filled < count) {
    int64_t offset = 0;
    for (int i = 0; i <= last; i++) offset += at[i] * l->stride[i];
    size_t run = l->size[last] - at[last];
    if (run > BLOCK - filled) run = BLOCK - filled;
    gather(values + offset * size, l->stride[last], size, run, (char *)raw + filled * size);
    filled += run;
    at[last] += run;
    for (int i = last; i > 0 && at[i] == l->size[i]; i--) at[i] = 0, at[i - 1]++;
    if (filled == BLOCK || done + filled == count) {
      const void *x = raw;
      if (type != F32 && type != F64) {
        widen(raw, type, filled, scratch);
        x = scratch;
      }
      read_block(&r, x, wide, done, filled, stride);
      done += filled, filled = 0;
    }
  }
  fold(&r.exponents, &r.row);
  add(total, &r.row);
}

static void read_tensor(const char *values, int type, Layout *l, Row *total) {
  size_t count = 1;
  for (int i = 0; i < l->dims; i++) count *= l->size[i];
  reset(total);
  if (count == 0) {
    total->dead = INFINITY; /* the identity of merging */
    return;
  }
  normalize(l);
  if (l->dims == 0 || (l->dims == 1 && l->stride[0] == 1)) {
    Job job = {values, NULL, NULL, type, count, stride_of(count)};
    for (size_t i = 0; i < chunks_of(count); i++) {
      Row chunk;
      read_chunk(&job, i, &chunk);
      add(total, &chunk);
    }
  } else {
    read_strided(values, type, l, total);
  }
  estimate(total, stride_of(count));
}

static int parse_layout(PyObject *shape, PyObject *strides, Layout *l) {
  Py_ssize_t dims = PyTuple_Size(shape);
  if (dims < 0 || PyTuple_Size(strides) != dims || dims > MAX_DIMS) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "shape and strides differ in length");
    return -1;
  }
  l->dims = (int)dims;
  for (int i = 0; i < dims; i++) {
    l->size[i] = PyLong_AsLongLong(PyTuple_GetItem(shape, i));
    l->stride[i] = PyLong_AsLongLong(PyTuple_GetItem(strides, i));
  }
  return PyErr_Occurred() ? -1 : 0;
}

static int parse_tensor(PyObject *const *args, const char **values, int *type, Layout *l) {
  *values = (const char *)(uintptr_t)PyLong_AsUnsignedLongLong(args[0]);
  long code = PyLong_AsLong(args[1]);
  if (PyErr_Occurred()) return -1;
  if (code < 0 || code >= TYPES) {
    PyErr_Format(PyExc_ValueError, "no element type has the code %ld", code);
    return -1;
  }
  *type = (int)code;
  return parse_layout(args[2], args[3], l);
}

/* summary(address, type, shape, strides) -> bytes of one row. */
static PyObject *summary(PyObject *self, PyObject *const *args, Py_ssize_t count) {
  (void)self;
  const char *values;
  int type;
  Layout layout;
  Row row;
  if (count != 4) return PyErr_Format(PyExc_TypeError, "summary takes 4 arguments");
  if (parse_tensor(args, &values, &type, &layout) < 0) return NULL;
  int64_t elements = 1;
  for (int i = 0; i < layout.dims; i++) elements *= layout.size[i];
  if (elements < RELEASED_ABOVE) {
    read_tensor(values, type, &layout, &row);
  } else {
    Py_BEGIN_ALLOW_THREADS
    read_tensor(values, type, &layout, &row);
    Py_END_ALLOW_THREADS
  }
  return PyBytes_FromStringAndSize((const char *)&row, sizeof row);
}

/* ---- channels ---- */

static int any_set(const char *x, int64_t stride, int size, uint64_t mask, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    uint64_t bits = 0;
    memcpy(&bits, x + i * stride * size, size); /* little-endian, as all that torch runs on */
    if (bits & mask) return 1;
  }
  return 0;
}

static int any_run(const char *x, int size, uint64_t mask, int64_t n) {
  int64_t i = 0;
  if (size == 4) { /* eight at a time: a silent channel is read to its end */
    for (; i + 8 <= n; i += 8) {
      uint32_t eight[8], found = 0;
      memcpy(eight, x + i * 4, 32);
      for (int j = 0; j < 8; j++) found |= eight[j];
      if (found & (uint32_t)mask) return 1;
    }
  }
  return any_set(x + i * size, 1, size, mask, n - i);
}

static int channel_speaks(const char *x, int type, const Layout *rest) {
  int size = SIZES[type], last = rest->dims - 1;
  uint64_t all = size == 8 ? ~0ull : (1ull << size * 8) - 1;
  uint64_t mask = IS_FLOAT(type) ? all >> 1 : all; /* -0.0 is silent as well */
  if (rest->dims == 0) return any_set(x, 1, size, mask, 1);
  int64_t at[MAX_DIMS] = {0}, offset = 0;
  for (;;) {
    const char *run = x + offset * size;
    if (rest->stride[last] == 1 ? any_run(run, size, mask, rest->size[last])
                                : any_set(run, rest->stride[last], size, mask, rest->size[last]))
      return 1;
    int i = last - 1;
    for (; i >= 0; i--) {
      offset += rest->stride[i];
      if (++at[i] < rest->size[i]) break;
      offset -= at[i] * rest->stride[i], at[i] = 0;
    }
    if (i < 0) return 0;
  }
}

/* alive(address, type, shape, strides, dim) -> bytes, 1 for each channel that is not all zero. */
static PyObject *alive(PyObject *self, PyObject *const *args, Py_ssize_t count) {
  (void)self;
  const char *values;
  int type;
  Layout l;
  if (count != 5) return PyErr_Format(PyExc_TypeError, "alive takes 5 arguments");
  if (parse_tensor(args, &values, &type, &l) < 0) return NULL;
  long dim = PyLong_AsLong(args[4]);
  if (dim < 0 || dim >= l.dims) return PyErr_Format(PyExc_ValueError, "no dimension %ld", dim);
  int64_t channels = l.size[dim], step = l.stride[dim], others = 1;
  l.dims--;
  for (int i = (int)dim; i < l.dims; i++) l.size[i] = l.size[i + 1], l.stride[i] = l.stride[i + 1];
  for (int i = 0; i < l.dims; i++) others *= l.size[i];
  char *flags = calloc(channels ? channels : 1, 1);
  if (!flags) return PyErr_NoMemory();
  normalize(&l);
  Py_BEGIN_ALLOW_THREADS
  for (int64_t c = 0; others && c < channels; c++)
    flags[c] = (char)channel_speaks(values + c * step * SIZES[type], type, &l);
  Py_END_ALLOW_THREADS
  PyObject *found = PyBytes_FromStringAndSize(flags, channels);
  free(flags);
  return found;
}

/* ---- many dense tensors at once ---- */

typedef struct {
  const Job *jobs;
  const uint32_t *owner; /* of each chunk: its job */
  const size_t *index;   /* and its number in there */
  Row *rows;
  size_t chunks;
  atomic_size_t next;
} Batch;

static void *work(void *argument) {
  Batch *batch = argument;
  for (;;) {
    size_t i = atomic_fetch_add(&batch->next, 1);
    if (i >= batch->chunks) return NULL;
    read_chunk(&batch->jobs[batch->owner[i]], batch->index[i], &batch->rows[i]);
  }
}

/* Threads live for one call only, and end with the chunks: nothing is left for a fork to break. */
static void run_batch(Batch *batch, int threads) {
  pthread_t others[15];
  int started = 0;
  while (started < threads - 1 && started < 15 &&
         pthread_create(&others[started], NULL, work, batch) == 0)
    started++;
  work(batch);
  for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
}

/* summaries(jobs, threads) -> bytes of as many rows. `jobs` is a buffer of five int64 each: address,
 * type, elements, address to copy to, address of what to subtract; 0 for none of the last two. */
static PyObject *summaries(PyObject *self, PyObject *args) {
  (void)self;
  Py_buffer buffer;
  int threads;
  if (!PyArg_ParseTuple(args, "y*i", &buffer, &threads)) return NULL;
  const int64_t *told = buffer.buf;
  size_t count = (size_t)buffer.len / (5 * sizeof(int64_t)), chunks = 0, k = 0;
  for (size_t i = 0; i < count; i++) {
    if (told[5 * i + 1] < 0 || told[5 * i + 1] >= TYPES) {
      PyBuffer_Release(&buffer);
      return PyErr_Format(PyExc_ValueError, "no element type has that code");
    }
    chunks += chunks_of((size_t)told[5 * i + 2]);
  }
  Job *jobs = malloc((count + 1) * sizeof *jobs);
  Row *rows = malloc((chunks + 1) * sizeof *rows), *totals = malloc((count + 1) * sizeof *totals);
  uint32_t *owner = malloc((chunks + 1) * sizeof *owner);
  size_t *index = malloc((chunks + 1) * sizeof *index);
  PyObject *found = NULL;
  if (!jobs || !rows || !totals || !owner || !index) {
    PyErr_NoMemory();
    goto done;
  }
  for (size_t i = 0; i < count; i++) {
    const int64_t *t = told + 5 * i;
    size_t n = (size_t)t[2];
    jobs[i] = (Job){(const char *)(intptr_t)t[0], (char *)(intptr_t)t[3],
                    (const char *)(intptr_t)t[4], (int)t[1], n, stride_of(n)};
    for (size_t j = 0; j < chunks_of(n); j++) owner[k] = (uint32_t)i, index[k++] = j;
  }
  Batch batch = {.jobs = jobs, .owner = owner, .index = index, .rows = rows, .chunks = chunks};
  Py_BEGIN_ALLOW_THREADS
  run_batch(&batch, threads);
  for (size_t i = 0; i < count; i++) reset(&totals[i]);
  for (size_t i = 0; i < chunks; i++) add(&totals[owner[i]], &rows[i]);
  for (size_t i = 0; i < count; i++) {
    if (jobs[i].count == 0) totals[i].dead = INFINITY;
    estimate(&totals[i], jobs[i].stride);
  }
  Py_END_ALLOW_THREADS
  found = PyBytes_FromStringAndSize((const char *)totals, count * sizeof *totals);
done:
  free(jobs), free(rows), free(totals), free(owner), free(index);
  PyBuffer_Release(&buffer);
  return found;
}

PyMethodDef lampwork_stats_methods[] = {
    {"summary", (PyCFunction)(void (*)(void))summary, METH_FASTCALL, "The row of one tensor."},
    {"summaries", summaries, METH_VARARGS, "The rows of many dense tensors."},
    {"alive", (PyCFunction)(void (*)(void))alive, METH_FASTCALL, "Which channels are not silent."},
    {NULL, NULL, 0, NULL},
};
