/* Random values as a function of a key and a position: Philox 4x32-10 (Salmon et al. 2011).
 *
 * Element i of a stream is word i % 4 of the block whose counter is (i / 4, stream). So any
 * stretch of a tensor can be filled alone, by any thread, and gets the values that it has in the
 * whole. A word becomes a normal value by the inverse distribution function, one word each.
 *
 * The same float operations in the same order stand in philox.py; both give the same bits, as
 * long as no compiler fuses a product into a sum (CMakeLists.txt forbids it for this file). */
#include "kernels.h"

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define X86
#include <immintrin.h>
/* Compiled for each generation of vector units; the right one is chosen when the module loads. */
#define FOR_EACH_CPU __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#endif
#ifndef X86
#define FOR_EACH_CPU
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum { CHUNK = 1024, MAX_DIMS = 16, MAX_THREADS = 64, SHARES = 8 };
enum kind { WORDS, UNIFORM, NORMAL, TRUNC_NORMAL };
enum type { FLOAT32, BFLOAT16, INT32 };

/* ---- words ------------------------------------------------------------------------------- */

enum { ROUNDS = 10 };
static const uint32_t M0 = 0xD2511F53u, M1 = 0xCD9E8D57u, W0 = 0x9E3779B9u, W1 = 0xBB67AE85u;

typedef void Words(uint64_t key, uint64_t stream, uint64_t first, int blocks, uint32_t *words);

static void words_anywhere(uint64_t key, uint64_t stream, uint64_t first, int blocks,
                           uint32_t *words) {
  for (int i = 0; i < blocks; i++, first++, words += 4) {
    uint32_t c0 = (uint32_t)first, c1 = (uint32_t)(first >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < ROUNDS; round++, k0 += W0, k1 += W1) {
      uint64_t a = (uint64_t)M0 * c0, b = (uint64_t)M1 * c2;
      c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
      c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
      c1 = (uint32_t)b;
      c3 = (uint32_t)a;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
  }
}

#ifdef X86
/* One block in each 64-bit lane. The compilers do not find the multiplication of the lower halves
 * by themselves. What rubbish stands in the upper halves it does not see. */
#define DEFINE_WORDS(NAME, TARGET, LANES, MULTIPLY, ...)                                          \
  typedef uint64_t NAME##_lanes __attribute__((vector_size(8 * LANES)));                          \
  __attribute__((target(TARGET))) static void NAME(uint64_t key, uint64_t stream, uint64_t first, \
                                                   int blocks, uint32_t *words) {                 \
    const NAME##_lanes zero = {0}, number = {__VA_ARGS__};                                        \
    const NAME##_lanes m0 = zero + M0, m1 = zero + M1, lower = zero + 0xFFFFFFFFu;                \
    int i = 0;                                                                                    \
    for (; i + LANES <= blocks; i += LANES) {                                                     \
      NAME##_lanes c0 = number + (first + (uint64_t)i), c1 = c0 >> 32;                            \
      NAME##_lanes c2 = zero + (uint32_t)stream, c3 = zero + (stream >> 32);                      \
      uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);                                    \
      for (int round = 0; round < ROUNDS; round++, k0 += W0, k1 += W1) {                          \
        NAME##_lanes a = (NAME##_lanes)MULTIPLY(c0, m0), b = (NAME##_lanes)MULTIPLY(c2, m1);      \
        c0 = (b >> 32) ^ c1 ^ k0;                                                                 \
        c2 = (a >> 32) ^ c3 ^ k1;                                                                 \
        c1 = b;                                                                                   \
        c3 = a;                                                                                   \
      }                                                                                           \
      NAME##_lanes pairs[2] = {(c0 & lower) | (c1 << 32), (c2 & lower) | (c3 << 32)};             \
      for (int lane = 0; lane < LANES; lane++) {                                                  \
        uint64_t pair[2] = {pairs[0][lane], pairs[1][lane]};                                      \
        memcpy(words + 4 * (i + lane), pair, 16);                                                 \
      }                                                                                           \
    }                                                                                             \
    words_anywhere(key, stream, first + (uint64_t)i, blocks - i, words + 4 * i);                  \
  }
#define MULTIPLY_4(A, B) _mm256_mul_epu32((__m256i)(A), (__m256i)(B))
#define MULTIPLY_8(A, B) _mm512_mul_epu32((__m512i)(A), (__m512i)(B))
DEFINE_WORDS(words_avx2, "avx2", 4, MULTIPLY_4, 0, 1, 2, 3)
DEFINE_WORDS(words_avx512, "avx512f", 8, MULTIPLY_8, 0, 1, 2, 3, 4, 5, 6, 7)
#endif

static Words *fastest_words(void) {
#ifdef X86
  if (__builtin_cpu_supports("avx512f")) return words_avx512;
  if (__builtin_cpu_supports("avx2")) return words_avx2;
#endif
  return words_anywhere;
}

/* What one call fills, and with what. */
typedef struct {
  enum kind kind;
  enum type type;
  Words *words;
  char *target;
  uint64_t key, stream;
  uint64_t offset;                               /* position of the first element */
  int dims;                                      /* of the box, row-major and dense in memory */
  uint64_t sizes[MAX_DIMS], strides[MAX_DIMS];   /* strides in positions of the stream */
  float scale, shift;                            /* value = z * scale + shift */
  float low, high;                               /* and clamped to these, but for NORMAL */
  float below, above, mass;                      /* TRUNC_NORMAL: probabilities, see philox.py */
} Job;

/* ---- from words to values ---------------------------------------------------------------- */

INLINE float as_float(int32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

INLINE int32_t as_bits(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* Phi^-1(1 - p) for a tail p in [2^-40, 1/2], given x = 1 - 2p as well: x P(w), w = -log(4p(1-p)).
 * P is a polynomial in w up to 6.25 and one in sqrt(w) above; relative error below 4e-7. */
INLINE float tail_quantile(float x, float p) {
  float y = (4.0f * p) * (1.0f - p);
  int32_t moved = as_bits(y) - 0x3F3504F3; /* the mantissa from sqrt(1/2) on */
  float exponent = (float)(moved >> 23);
  float f = as_float((moved & 0x007FFFFF) + 0x3F3504F3) - 1.0f;
  float u = f - 0.0606601723f;
  float log = -0.101068214f;
  log = log * u + 0.119309783f;
  log = log * u - 0.121274464f;
  log = log * u + 0.154844195f;
  log = log * u - 0.207084581f;
  log = log * u + 0.291949928f;
  log = log * u - 0.46215111f;
  log = log * u + 0.970843077f;
  float w = 0.0f - (exponent * 0.693147182f + log * f);

  float v = w - 3.125f;
  float body = -7.15581416e-09f;
  body = body * v - 1.23432269e-08f;
  body = body * v + 6.16015086e-07f;
  body = body * v - 2.15416003e-06f;
  body = body * v - 1.9741854e-05f;
  body = body * v + 0.000264815171f;
  body = body * v - 0.00104722835f;
  body = body * v - 0.00853375252f;
  body = body * v + 0.339634746f;
  body = body * v + 2.3386209f;

  float s = sqrtf(w) - 3.875f;
  float far = -4.27240957e-06f;
  far = far * s + 4.57428105e-05f;
  far = far * s - 0.000117674106f;
  far = far * s + 0.000138909483f;
  far = far * s - 0.00020527927f;
  far = far * s + 0.000573847676f;
  far = far * s - 0.00150167046f;
  far = far * s + 0.00229019742f;
  far = far * s + 1.42713416f;
  far = far * s + 5.25184965f;
  return x * (w < 6.25f ? body : far);
}

FOR_EACH_CPU
static void uniform_of(const Job *job, const uint32_t *words, int count, float *out) {
  const float scale = job->scale, shift = job->shift, low = job->low, high = job->high;
  for (int i = 0; i < count; i++) {
    float u = ((float)(int32_t)(words[i] >> 9) + 0.5f) * 0x1p-23f;
    float value = u * scale + shift;
    value = value < low ? low : value;
    out[i] = value > high ? high : value;
  }
}

FOR_EACH_CPU
static void normal_of(const Job *job, const uint32_t *words, int count, float *out) {
  const float scale = job->scale, shift = job->shift;
  for (int i = 0; i < count; i++) {
    int32_t word = (int32_t)words[i];
    int32_t near = word ^ (word >> 31); /* distance from the nearer end of all words */
    float p = ((float)near + 0.5f) * 0x1p-32f;
    float x = ((float)(near ^ 0x7FFFFFFF) + 0.5f) * 0x1p-31f;
    int32_t sign = ~word & (int32_t)0x80000000;
    float z = as_float(as_bits(tail_quantile(x, p)) ^ sign);
    out[i] = z * scale + shift;
  }
}

FOR_EACH_CPU
static void trunc_normal_of(const Job *job, const uint32_t *words, int count, float *out) {
  const float scale = job->scale, shift = job->shift, low = job->low, high = job->high;
  const float below = job->below, above = job->above, mass = job->mass;
  for (int i = 0; i < count; i++) {
    int32_t word = (int32_t)words[i];
    int32_t near = word ^ (word >> 31);
    float u = ((float)near + 0.5f) * 0x1p-32f;
    float far = 1.0f - u;
    float left = (word < 0 ? far : u) * mass + below;
    float right = (word < 0 ? u : far) * mass + above;
    int32_t sign = left < right ? (int32_t)0x80000000 : 0;
    float p = left < right ? left : right;
    float z = as_float(as_bits(tail_quantile(1.0f - 2.0f * p, p)) ^ sign);
    float value = z * scale + shift;
    value = value < low ? low : value;
    out[i] = value > high ? high : value;
  }
}

/* To the nearest bfloat16, ties to even; no NaN comes here. */
FOR_EACH_CPU
static void round_to_bfloat16(const float *values, int count, uint16_t *out) {
  for (int i = 0; i < count; i++) {
    uint32_t bits = (uint32_t)as_bits(values[i]);
    out[i] = (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
  }
}

/* ---- filling ----------------------------------------------------------------------------- */

static void values_of(const Job *job, const uint32_t *words, int count, float *out) {
  switch (job->kind) {
    case UNIFORM: uniform_of(job, words, count, out); break;
    case NORMAL: normal_of(job, words, count, out); break;
    case TRUNC_NORMAL: trunc_normal_of(job, words, count, out); break;
    case WORDS: memcpy(out, words, (size_t)count * 4); break;
  }
}

/* At most CHUNK elements that follow one another both in memory and in the stream. */
static void fill_run(const Job *job, uint64_t position, uint64_t element, int count) {
  uint32_t words[CHUNK + 8];
  float values[CHUNK];
  int lead = (int)(position % 4);
  job->words(job->key, job->stream, position / 4, (lead + count + 3) / 4, words);
  if (job->type == BFLOAT16) {
    values_of(job, words + lead, count, values);
    round_to_bfloat16(values, count, (uint16_t *)job->target + element);
  } else {
    values_of(job, words + lead, count, (float *)job->target + element);
  }
}

/* Elements [begin, end) of the box, counted as they lie in memory. */
static void fill_span(const Job *job, uint64_t begin, uint64_t end) {
  const uint64_t inner = job->sizes[job->dims - 1];
  while (begin < end) {
    uint64_t row = begin / inner, column = begin % inner;
    uint64_t position = job->offset + column;
    for (int d = job->dims - 2; d >= 0; d--) {
      position += row % job->sizes[d] * job->strides[d];
      row /= job->sizes[d];
    }
    uint64_t count = inner - column;
    if (count > end - begin) count = end - begin;
    if (count > CHUNK) count = CHUNK;
    fill_run(job, position, begin, (int)count);
    begin += count;
  }
}

typedef struct {
  const Job *job;
  uint64_t total, step;
  atomic_uint_fast64_t next;
} Shares;

static void fill_shares(void *on) {
  Shares *shares = on;
  for (uint64_t begin; (begin = atomic_fetch_add(&shares->next, shares->step)) < shares->total;) {
    uint64_t left = shares->total - begin;
    fill_span(shares->job, begin, begin + (left < shares->step ? left : shares->step));
  }
}

/* Several shares a thread: one that is held up does not hold up the others. */
static void fill_all(const Job *job, uint64_t total, int threads) {
  Shares shares = {.job = job, .total = total};
  uint64_t parts = threads > 1 ? (uint64_t)threads * SHARES : 1;
  shares.step = (total / parts + 64) / 64 * 64; /* no two write to one cache line */
  lampwork_in_team((Work){fill_shares, &shares}, threads);
}

static int read_dims(PyObject *numbers, uint64_t *out, int dims) {
  for (int d = 0; d < dims; d++) {
    PyObject *number = PySequence_GetItem(numbers, d);
    if (!number) return -1;
    out[d] = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    if (PyErr_Occurred()) return -1;
  }
  return 0;
}

static PyObject *philox_fill(PyObject *self, PyObject *args) {
  (void)self;
  Job job;
  int kind, type, threads;
  unsigned long long target, key, stream, offset;
  PyObject *sizes, *strides;
  if (!PyArg_ParseTuple(args, "iiKKKKOO(fffffff)i:philox_fill", &kind, &type, &target, &key, &stream,
                        &offset, &sizes, &strides, &job.scale, &job.shift, &job.low, &job.high,
                        &job.below, &job.above, &job.mass, &threads))
    return NULL;
  Py_ssize_t dims = PySequence_Size(sizes);
  if (dims < 0) return NULL;
  if (kind < WORDS || kind > TRUNC_NORMAL || type < FLOAT32 || type > INT32 || dims < 1 ||
      dims > MAX_DIMS || PySequence_Size(strides) != dims) {
    PyErr_SetString(PyExc_ValueError, "philox_fill: no such kind, type or box");
    return NULL;
  }
  job.kind = (enum kind)kind;
  job.type = (enum type)type;
  job.words = fastest_words();
  job.target = (char *)(uintptr_t)target;
  job.key = key;
  job.stream = stream;
  job.offset = offset;
  job.dims = (int)dims;
  if (read_dims(sizes, job.sizes, job.dims) < 0) return NULL;
  if (read_dims(strides, job.strides, job.dims) < 0) return NULL;
  uint64_t total = 1;
  for (int d = 0; d < job.dims; d++) total *= job.sizes[d];
  threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
  Py_BEGIN_ALLOW_THREADS
  fill_all(&job, total, threads);
  Py_END_ALLOW_THREADS
  Py_RETURN_NONE;
}

PyMethodDef lampwork_philox_methods[] = {
    {"philox_fill", philox_fill, METH_VARARGS,
     "philox_fill(kind, type, address, key, stream, offset, sizes, strides, (scale, shift, low, "
     "high, below, above, mass), threads)"},
    {NULL, NULL, 0, NULL}};
