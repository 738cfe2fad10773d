/* One pass over a tensor in memory → the row of `lampwork._core.summary`.
 *
 * A tensor is read in the order of its memory, in chunks of CHUNK elements, each in blocks that stay
 * in the first cache: one vectorised loop for the sums, the extremes and the zeros, then the block's
 * share of the exponents. A block with something that is not finite shows in its sum of squares and
 * is read again with care. All sums are float64, and chunks are merged in order, so that neither
 * threads nor alignment change a bit.
 */
#include "stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LOWEST (127 - 40) /* biased float32 exponent of the first bin */
#define SAMPLE 8192       /* SAMPLED_ABOVE in stats.py */
#define MAX_DIMS 64
#define RELEASED_ABOVE 32768 /* elements from which other Python threads may run meanwhile */

/* ---- blocks ---- */

typedef struct {
  double sum, squares, low, high;
  int64_t zeros;
} Block;

/* A reduction of floats is vectorised only where the order may change; `omp simd` says so. */
#define READER(NAME, T, VALUE, ATTRIBUTES)                                                       \
  ATTRIBUTES static void NAME(const T *x, const T *y, size_t n, Block *block) {                  \
    double sum = 0, squares = 0;                                                                 \
    T low = INFINITY, high = -INFINITY;                                                          \
    int32_t zeros = 0;                                                                           \
    (void)y;                                                                                     \
    _Pragma("omp simd reduction(+ : sum, squares, zeros) reduction(min : low) reduction(max : high)") \
    for (size_t i = 0; i < n; i++) {                                                             \
      T v = VALUE;                                                                               \
      double d = v;                                                                              \
      sum += d;                                                                                  \
      squares += d * d;                                                                          \
      low = v < low ? v : low;                                                                   \
      high = v > high ? v : high;                                                                \
      zeros += v == 0;                                                                           \
    }                                                                                            \
    *block = (Block){sum, squares, low, high, zeros};                                            \
  }

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,prefer-vector-width=512")))
#define AVX2 __attribute__((target("avx2,fma,popcnt")))
#define PAGE 1024 /* float32 elements */

/* What a compiler makes of READER waits for memory at the start of each page, where the processor
 * stops looking ahead by itself: it takes 0.57 ns an element where reading alone takes 0.36. It
 * also converts halves of a register, which costs a shuffle each; memory is converted without.
 *
 * WIDE and NARROW are the prefixes of the instructions, D and F the types of WIDE registers. */
#define FLOATS(NAME, WIDE, NARROW, D, F, LANES, ZEROS, CHANGED, ATTRIBUTES)                        \
  ATTRIBUTES static void NAME(const float *x, const float *y, size_t n, Block *block) {            \
    D sum[4], squares[4];                                                                          \
    F low = WIDE##_set1_ps(INFINITY), high = WIDE##_set1_ps(-INFINITY);                            \
    double sums[2] = {0, 0};                                                                       \
    float least[LANES], most[LANES];                                                               \
    int64_t zeros = 0;                                                                             \
    size_t i = 0;                                                                                  \
    for (int k = 0; k < 4; k++) sum[k] = squares[k] = WIDE##_setzero_pd();                         \
    for (; i + 2 * LANES <= n; i += 2 * LANES) {                                                   \
      for (int k = 0; k < 2 * LANES; k += 16) {                                                    \
        __builtin_prefetch(x + i + k + PAGE);                                                      \
        if (CHANGED) __builtin_prefetch(y + i + k + PAGE);                                         \
      }                                                                                            \
      for (int k = 0; k < 4; k++) {                                                                \
        size_t at = i + k * LANES / 2;                                                             \
        D d = WIDE##_cvtps_pd(CHANGED ? NARROW##_sub_ps(NARROW##_loadu_ps(x + at),                 \
                                                        NARROW##_loadu_ps(y + at))                 \
                                      : NARROW##_loadu_ps(x + at));                                \
        sum[k] = WIDE##_add_pd(sum[k], d);                                                         \
        squares[k] = WIDE##_fmadd_pd(d, d, squares[k]);                                            \
      }                                                                                            \
      for (size_t at = i; at < i + 2 * LANES; at += LANES) {                                       \
        F v = WIDE##_loadu_ps(x + at);                                                             \
        if (CHANGED) v = WIDE##_sub_ps(v, WIDE##_loadu_ps(y + at));                                \
        low = WIDE##_min_ps(v, low), high = WIDE##_max_ps(v, high);                                \
        zeros += ZEROS(v);                                                                         \
      }                                                                                            \
    }                                                                                              \
    for (int k = 1; k < 4; k++)                                                                    \
      sum[0] = WIDE##_add_pd(sum[0], sum[k]), squares[0] = WIDE##_add_pd(squares[0], squares[k]);  \
    for (int k = 0; k < LANES / 2; k++) sums[0] += sum[0][k], sums[1] += squares[0][k];            \
    WIDE##_storeu_ps(least, low), WIDE##_storeu_ps(most, high);                                    \
    for (; i < n; i++) {                                                                           \
      float v = CHANGED ? x[i] - y[i] : x[i];                                                      \
      sums[0] += v, sums[1] += (double)v * v;                                                      \
      least[0] = v < least[0] ? v : least[0], most[0] = v > most[0] ? v : most[0];                 \
      zeros += v == 0;                                                                             \
    }                                                                                              \
    for (int k = 1; k < LANES; k++) { /* of which none is NaN */                                   \
      least[0] = least[k] < least[0] ? least[k] : least[0];                                        \
      most[0] = most[k] > most[0] ? most[k] : most[0];                                             \
    }                                                                                              \
    *block = (Block){sums[0], sums[1], least[0], most[0], zeros};                                  \
  }
#define ZEROS_512(v) __builtin_popcount(_mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_EQ_OQ))
#define ZEROS_256(v) \
  __builtin_popcount(_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_EQ_OQ)))

FLOATS(floats_avx512, _mm512, _mm256, __m512d, __m512, 16, ZEROS_512, 0, AVX512)
FLOATS(float_changes_avx512, _mm512, _mm256, __m512d, __m512, 16, ZEROS_512, 1, AVX512)
FLOATS(floats_avx2, _mm256, _mm, __m256d, __m256, 8, ZEROS_256, 0, AVX2)
FLOATS(float_changes_avx2, _mm256, _mm, __m256d, __m256, 8, ZEROS_256, 1, AVX2)
READER(doubles_avx512, double, x[i], AVX512)
READER(double_changes_avx512, double, x[i] - y[i], AVX512)
READER(doubles_avx2, double, x[i], AVX2)
READER(double_changes_avx2, double, x[i] - y[i], AVX2)
#endif
READER(floats_portable, float, x[i], )
READER(float_changes_portable, float, x[i] - y[i], )
READER(doubles_portable, double, x[i], )
READER(double_changes_portable, double, x[i] - y[i], )

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

CAREFUL(floats_careful, float)
CAREFUL(doubles_careful, double)

static struct { /* of values, or of the differences of two arrays */
  void (*floats)(const float *, const float *, size_t, Block *);
  void (*doubles)(const double *, const double *, size_t, Block *);
} readers[2] = {{floats_portable, doubles_portable},
                {float_changes_portable, double_changes_portable}};

#define CHOOSE(KIND)                                                       \
  readers[0].floats = floats_##KIND, readers[0].doubles = doubles_##KIND,  \
  readers[1].floats = float_changes_##KIND, readers[1].doubles = double_changes_##KIND

/* ---- element types; the order is that of `_CODES` in stats.py ---- */

enum { F32, F64, F16, BF16, I8, I16, I32, I64, U8, U16, U32, U64 };
const int lampwork_sizes[TYPES] = {4, 8, 2, 2, 1, 2, 4, 8, 1, 2, 4, 8};
#define SIZES lampwork_sizes
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

static void halves_portable(const uint16_t *x, size_t n, float *y) {
  for (size_t i = 0; i < n; i++) y[i] = half_to_float(x[i]);
}

static void (*widen_halves)(const uint16_t *, size_t, float *) = halves_portable;

#if defined(AVX2) && (defined(__clang__) || __GNUC__ >= 11) /* that can ask for it below */
#define F16C __attribute__((target("avx2,f16c")))
F16C static void halves_f16c(const uint16_t *x, size_t n, float *y) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
  halves_portable(x + i, n - i, y + i);
}
#endif

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
    case F16: widen_halves(from, n, to); break;
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

void lampwork_choose_stats(void) {
#ifdef AVX2
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    CHOOSE(avx512);
  else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    CHOOSE(avx2);
#endif
#ifdef F16C
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c")) widen_halves = halves_f16c;
#endif
}

/* ---- a chunk ---- */

void lampwork_reset_row(Row *row) {
  memset(row, 0, sizeof *row);
  row->low = INFINITY, row->high = -INFINITY;
}

void lampwork_add_row(Row *to, const Row *from) {
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

static inline uint32_t count_float(uint32_t *counts, float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  counts[bits >> 23 & 255]++;
  return bits << 1 == 0;
}

/* Of x, or of x - y where there is a y. */
static void count_floats(Exponents *e, const float *x, const float *y, size_t begin, size_t n,
                         size_t stride) {
  uint32_t zeros = 0;
  size_t i = begin;
  for (; i + 3 * stride < n; i += 4 * stride) /* unrolled: a third faster */
    for (size_t k = 0, at = i; k < 4; k++, at += stride)
      zeros += count_float(e->counts[k], y ? x[at] - y[at] : x[at]);
  for (; i < n; i += stride) zeros += count_float(e->counts[0], y ? x[i] - y[i] : x[i]);
  e->zeros += zeros;
}

static void count_doubles(Exponents *e, const double *x, const double *y, size_t begin, size_t n,
                          size_t stride) {
  for (size_t i = begin; i < n; i += stride) {
    double v = y ? x[i] - y[i] : x[i];
    uint64_t bits;
    memcpy(&bits, &v, 8);
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
  lampwork_reset_row(&r->row);
  memset(&r->exponents, 0, sizeof r->exponents);
  r->next = (from + stride - 1) / stride * stride;
}

static void read_carefully(Row *row, const void *x, const void *y, int wide, size_t n) {
  double changes[BLOCK];
  if (y && wide) {
    const double *a = x, *b = y;
    for (size_t i = 0; i < n; i++) changes[i] = a[i] - b[i];
  } else if (y) {
    const float *a = x, *b = y;
    for (size_t i = 0; i < n; i++) ((float *)changes)[i] = a[i] - b[i];
  }
  if (wide) doubles_careful(y ? changes : x, n, row);
  else floats_careful(y ? (float *)changes : x, n, row);
}

/* Elements `from` … `from + n` of the tensor, as float32 or float64; minus y where there is one. */
static void read_block(Reading *r, const void *x, const void *y, int wide, size_t from, size_t n,
                       size_t stride) {
  Block block;
  if (wide) readers[y != NULL].doubles(x, y, n, &block);
  else readers[y != NULL].floats(x, y, n, &block);
  if (isfinite(block.squares)) {
    r->row.sum += block.sum, r->row.squares += block.squares, r->row.zeros += block.zeros;
    r->row.low = fmin(r->row.low, block.low), r->row.high = fmax(r->row.high, block.high);
  } else {
    read_carefully(&r->row, x, y, wide, n);
  }
  if (r->next < from + n) {
    size_t first = r->next - from;
    if (wide) count_doubles(&r->exponents, x, y, first, n, stride);
    else count_floats(&r->exponents, x, y, first, n, stride);
    r->next += (n - first + stride - 1) / stride * stride;
  }
  r->row.count += n;
}

void lampwork_read_chunk(const Job *job, size_t index, Row *rows) {
  size_t from = index * CHUNK, end = from + CHUNK < job->count ? from + CHUNK : job->count;
  int type = job->type, size = SIZES[type], wide = !AS_FLOAT32(type);
  int narrow = type != F32 && type != F64, both = ROWS(job) > 1;
  double scratch[2][BLOCK];
  Reading values, before;
  begin(&values, from, job->stride);
  if (both) begin(&before, from, job->stride);
  for (size_t i = from; i < end; i += BLOCK) {
    size_t n = end - i < BLOCK ? end - i : BLOCK;
    const char *now = job->values + i * size;
    char *old = job->old ? job->old + i * size : NULL;
    const void *x = now, *y = job->compared ? old : NULL;
    if (narrow) widen(now, type, n, scratch[0]), x = scratch[0];
    if (narrow && y) widen(old, type, n, scratch[1]), y = scratch[1];
    if (both) read_block(&before, y, NULL, wide, i, n, job->stride);
    read_block(&values, x, y, wide, i, n, job->stride);
    if (job->kept && job->past_caches) lampwork_stream(old, now, n * size);
    else if (job->kept) memcpy(old, now, n * size);
  }
  if (job->kept && job->past_caches) lampwork_fence();
  fold(&values.exponents, &values.row);
  rows[0] = values.row;
  if (both) fold(&before.exponents, &before.row), rows[1] = before.row;
}

size_t lampwork_stride_of(size_t count) {
  return count > SAMPLE ? ((count + SAMPLE - 1) / SAMPLE) | 1 : 1; /* odd: not in step with rows */
}

static void estimate(Row *row, size_t stride) {
  if (stride == 1) return;
  size_t count = (size_t)row->count, seen = (count + stride - 1) / stride;
  for (int i = 0; i < BINS; i++) row->bins[i] *= (double)count / seen;
}

void lampwork_join(const Job *job, const Row *chunks, Row *rows) {
  int width = ROWS(job);
  for (int k = 0; k < width; k++) {
    lampwork_reset_row(&rows[k]);
    for (size_t i = 0; i < chunks_of(job->count); i++)
      lampwork_add_row(&rows[k], &chunks[i * width + k]);
    if (job->count == 0) rows[k].dead = INFINITY; /* the identity of merging */
    estimate(&rows[k], job->stride);
  }
}

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
  size_t stride = lampwork_stride_of(count);
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
      read_block(&r, x, NULL, wide, done, filled, stride);
      done += filled, filled = 0;
    }
  }
  fold(&r.exponents, &r.row);
  *total = r.row;
  estimate(total, stride);
}

static int read_tensor(const char *values, int type, Layout *l, Row *total, int threads) {
  size_t count = 1;
  for (int i = 0; i < l->dims; i++) count *= l->size[i];
  if (count) normalize(l);
  if (count && l->dims && (l->dims > 1 || l->stride[0] != 1)) {
    read_strided(values, type, l, total);
    return 0;
  }
  Job job = {.values = values, .type = type, .count = count, .stride = lampwork_stride_of(count)};
  return lampwork_read_jobs(&job, 1, total, threads);
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

/* Of each channel along `dim`, 1 if it is not all zero. */
static void find_speaking(const char *values, int type, Layout l, int dim, char *flags) {
  int64_t channels = l.size[dim], step = l.stride[dim], others = 1;
  l.dims--;
  for (int i = dim; i < l.dims; i++) l.size[i] = l.size[i + 1], l.stride[i] = l.stride[i + 1];
  for (int i = 0; i < l.dims; i++) others *= l.size[i];
  normalize(&l);
  for (int64_t c = 0; others && c < channels; c++)
    flags[c] = (char)channel_speaks(values + c * step * SIZES[type], type, &l);
}

/* ---- both, of a tensor that Python gives ---- */

static int read_both(const char *values, int type, Layout *l, int dim, char *flags, Row *row,
                     int threads) {
  Layout own = *l; /* reading puts it in order */
  int failed = read_tensor(values, type, &own, row, threads);
  if (!failed && flags) find_speaking(values, type, *l, dim, flags);
  return failed;
}

/* summary(address, type, shape, strides, threads, dim) -> (bytes of one row, and of the flags, 1 for
 * each channel along `dim` that is not all zero; None where dim is -1). */
static PyObject *summary(PyObject *self, PyObject *const *args, Py_ssize_t count) {
  (void)self;
  const char *values;
  char *flags = NULL;
  int type, failed;
  Layout l;
  Row row;
  if (count != 6) return PyErr_Format(PyExc_TypeError, "summary takes 6 arguments");
  if (parse_tensor(args, &values, &type, &l) < 0) return NULL;
  int threads = (int)PyLong_AsLong(args[4]);
  long dim = PyLong_AsLong(args[5]);
  if (PyErr_Occurred()) return NULL;
  if (dim < -1 || dim >= l.dims) return PyErr_Format(PyExc_ValueError, "no dimension %ld", dim);
  int64_t channels = dim < 0 ? 0 : l.size[dim], elements = 1;
  if (dim >= 0 && !(flags = calloc(channels ? channels : 1, 1))) return PyErr_NoMemory();
  for (int i = 0; i < l.dims; i++) elements *= l.size[i];
  if (elements < RELEASED_ABOVE) {
    failed = read_both(values, type, &l, (int)dim, flags, &row, 1);
  } else {
    Py_BEGIN_ALLOW_THREADS
    failed = read_both(values, type, &l, (int)dim, flags, &row, threads);
    Py_END_ALLOW_THREADS
  }
  PyObject *found = NULL, *one = NULL, *other = NULL;
  if (failed) {
    PyErr_NoMemory();
  } else {
    one = PyBytes_FromStringAndSize((const char *)&row, sizeof row);
    other = flags ? PyBytes_FromStringAndSize(flags, channels) : Py_NewRef(Py_None);
    if (one && other) found = PyTuple_Pack(2, one, other);
  }
  Py_XDECREF(one);
  Py_XDECREF(other);
  free(flags);
  return found;
}

PyMethodDef lampwork_stats_methods[] = {
    {"summary", (PyCFunction)(void (*)(void))summary, METH_FASTCALL,
     "The row of one tensor, and which of its channels are not silent."},
    {NULL, NULL, 0, NULL},
};
