/* Householder reflections multiplied up to a matrix of orthonormal columns.
 *
 * In blocks of them in the compact WY form, I + V T Vᵀ, from the last block to the first. Columns of
 * the result do not meet one another, so each thread takes some columns through all blocks: the
 * values do not depend on the number of threads, and the columns stay in the cache on the way. All
 * products leave out what the triangles of V and T make zero.
 *
 * One small product does nearly all of the work: 4 rows times as many columns as three vectors hold.
 * It adds in the same order whatever the width of vectors, so processors that fuse a product into a
 * sum give the same bits.
 */
#include "kernels.h"

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))

/* WIDTH columns at a time, DEPTH terms of a sum before it goes back to memory: both operands of the
 * small product are in the cache next to the processor. */
enum { BLOCK = 96, TALL = 4, WIDTH = 48, DEPTH = 128, MOST_THREADS = 64 };

/* to (+)= a·b for a of 4 rows, stored column by column, and b of `wide` columns, stored by rows. */
typedef void Tile(const float *a, const float *b, size_t depth, float *to, int adds);

typedef struct Job {
  size_t rows, columns, padded; /* rows in whole tiles */
  float *drawn;                 /* Gaussian, then V, in tiles of 4 rows; block after block */
  float *across;                /* V again, in tiles of DEPTH rows and 4 columns */
  float *middle;                /* T of each block, in tiles of 4 rows */
  float *signs;                 /* of the columns */
  float *scratch;               /* of each thread */
  float *to;
  ptrdiff_t row_step, column_step;
  size_t wide; /* columns of the small product; divides WIDTH */
  Tile *tile;
  void (*prepare)(const struct Job *, size_t block);
  atomic_size_t next, thread;
} Job;

typedef struct {
  size_t first, height, count, tall; /* its place on the diagonal; rows in whole tiles; columns */
  float *v, *across, *middle;
} Block;

INLINE size_t whole(size_t size) { return (size + TALL - 1) / TALL * TALL; }

static Block block_of(const Job *job, size_t number) {
  Block b = {.first = number * BLOCK};
  /* Heights fall by BLOCK from block to block. */
  size_t before = BLOCK * (number * job->padded - BLOCK * (number * (number - 1) / 2));
  size_t left = job->columns - b.first;
  b.height = job->padded - b.first;
  b.count = left < BLOCK ? left : BLOCK;
  b.tall = whole(b.count);
  b.v = job->drawn + before;
  b.across = job->across + before;
  b.middle = job->middle + number * BLOCK * BLOCK;
  return b;
}

/* Where the row of a tile of V begins whose first column is `column`. */
INLINE float *across_of(const Block *b, size_t row, size_t column) {
  size_t above = row / DEPTH * DEPTH;
  size_t deep = b->height - above < DEPTH ? b->height - above : DEPTH;
  return b->across + above * b->tall + column * deep + (row - above) * TALL;
}

/* ---- the reflections of a block ------------------------------------------------------------ */

/* Makes columns x the vectors v of reflections I - 2vvᵀ that take x to sign·|x|·e₁. Of the two that
 * do it the longer loses no digits; its square is 2|x|(|x| + |x₁|). */
INLINE void reflect(const Job *job, const Block *b) {
  double squares[BLOCK] = {0};
  float scale[BLOCK];
  const size_t rows = job->rows - b->first, count = b->count;
  for (size_t r = 0; r < rows; r++)
    for (size_t j = 0; j < (r < count ? r + 1 : count); j++)
      squares[j] += (double)b->v[r * count + j] * (double)b->v[r * count + j];
  for (size_t j = 0; j < count; j++) {
    float *lead = &b->v[j * count + j], norm = (float)sqrt(squares[j]);
    scale[j] = 1.0f / sqrtf(2.0f * norm * (norm + fabsf(*lead)));
    job->signs[b->first + j] = *lead < 0.0f ? 1.0f : -1.0f;
    *lead -= job->signs[b->first + j] * norm;
  }
  memset(b->v + rows * count, 0, (b->height - rows) * count * sizeof(float));
  for (size_t r = 0; r < b->height; r++) {
    float *row = b->v + r * count, padded[BLOCK] = {0};
    for (size_t j = 0; j < count; j++) row[j] = padded[j] = j > r ? 0.0f : row[j] * scale[j];
    for (size_t j = 0; j < b->tall; j += TALL)
      memcpy(across_of(b, r, j), padded + j, TALL * sizeof(float));
  }
}

/* The product of a block's reflections is I - V·T·Vᵀ; the inverse of T is the upper triangle of
 * VᵀV with half its diagonal, which is 1/2. */
INLINE void invert(const Block *b) {
  float inverse[BLOCK][BLOCK] = {{0}}, t[BLOCK][BLOCK] = {{0}};
  const size_t count = b->count;
  for (size_t r = 0; r < b->height; r += TALL) {
    const float *p = b->v + r * count, *q = p + count, *s = q + count, *u = s + count;
    const size_t end = r + TALL < count ? r + TALL : count;
    for (size_t i = 0; i < end; i++)
      for (size_t j = i; j < end; j++)
        inverse[i][j] += (p[i] * p[j] + q[i] * q[j]) + (s[i] * s[j] + u[i] * u[j]);
  }
  for (size_t i = count; i-- > 0;) {
    for (size_t k = i + 1; k < count; k++)
      for (size_t j = k; j < count; j++) t[i][j] -= 2.0f * inverse[i][k] * t[k][j];
    t[i][i] = 2.0f;
  }
  for (size_t i = 0; i < b->tall; i++)
    for (size_t k = 0; k < b->tall; k++)
      b->middle[i / TALL * TALL * b->tall + k * TALL + i % TALL] = -t[i][k];
}

INLINE void prepare(const Job *job, size_t number) {
  const Block b = block_of(job, number);
  reflect(job, &b);
  invert(&b);
  for (size_t r = 0; r < b.height; r += TALL) {
    float *tile = b.v + r * b.count, rows[TALL * BLOCK];
    memcpy(rows, tile, TALL * b.count * sizeof(float));
    for (size_t j = 0; j < b.count; j++)
      for (size_t i = 0; i < TALL; i++) tile[j * TALL + i] = rows[i * b.count + j];
  }
}

/* ---- for each generation of vector units --------------------------------------------------- */

/* Twelve sums by name: compilers leave an array of them in memory. */
#define FOR_EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3)
#define ADD_TO_ROW(I) l##I += a[I] * left, m##I += a[I] * mid, r##I += a[I] * right;
#define STORE_ROW(I)                                                             \
  if (adds) l##I += out[3 * I], m##I += out[3 * I + 1], r##I += out[3 * I + 2]; \
  out[3 * I] = l##I, out[3 * I + 1] = m##I, out[3 * I + 2] = r##I;
#define DEFINE_KERNELS(NAME, TARGET, LANES)                                                  \
  typedef float NAME##_lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); \
  TARGET static void NAME##_tile(const float *a, const float *b, size_t depth, float *to,    \
                                 int adds) {                                                 \
    NAME##_lanes l0 = {0}, l1 = l0, l2 = l0, l3 = l0, m0 = l0, m1 = l0, m2 = l0, m3 = l0;    \
    NAME##_lanes r0 = l0, r1 = l0, r2 = l0, r3 = l0;                                         \
    for (size_t k = 0; k < depth; k++, a += TALL, b += 3 * LANES) {                          \
      const NAME##_lanes *row = (const NAME##_lanes *)b;                                     \
      const NAME##_lanes left = row[0], mid = row[1], right = row[2];                        \
      FOR_EACH_ROW(ADD_TO_ROW)                                                               \
    }                                                                                        \
    NAME##_lanes *out = (NAME##_lanes *)to;                                                  \
    FOR_EACH_ROW(STORE_ROW)                                                                  \
  }                                                                                          \
  TARGET static void NAME##_prepare(const Job *job, size_t block) { prepare(job, block); }
#define USE_KERNELS(JOB, NAME, LANES) \
  ((JOB)->tile = NAME##_tile, (JOB)->prepare = NAME##_prepare, (JOB)->wide = 3 * LANES)

DEFINE_KERNELS(any, , 4)
#if defined(__x86_64__)
DEFINE_KERNELS(avx2, __attribute__((target("avx2,fma"))), 8)
DEFINE_KERNELS(avx512, __attribute__((target("avx512f,avx512vl,avx512dq,fma"))), 16)
#endif

static void choose_kernels(Job *job) {
  USE_KERNELS(job, any, 4);
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) USE_KERNELS(job, avx2, 8);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq"))
    USE_KERNELS(job, avx512, 16);
#endif
}

/* ---- multiplying up ------------------------------------------------------------------------ */

/* Rows `from` to `to` of the columns hold something. Adds V·T·Vᵀ of them. */
static void apply(const Job *job, const Block *b, size_t from, size_t to, float *columns,
                  float *scratch) {
  const size_t wide = job->wide, first = b->first;
  float *products = scratch, *turned = scratch + BLOCK * WIDTH, *own = columns + first * wide;
  memset(products, 0, BLOCK * WIDTH * sizeof(float));
  from = from > first ? from - first : 0;
  to -= first;
  for (size_t k = from, end; k < to; k = end) {
    end = (k / DEPTH + 1) * DEPTH < to ? (k / DEPTH + 1) * DEPTH : to;
    for (size_t j = 0; j < b->tall && j < end; j += TALL) {
      size_t begin = k > j ? k : j; /* V is zero above its diagonal */
      for (size_t part = 0; part < WIDTH; part += wide)
        job->tile(across_of(b, begin, j), own + part * job->padded + begin * wide, end - begin,
                  products + part * BLOCK + j * wide, 1);
    }
  }
  for (size_t part = 0; part < WIDTH; part += wide)
    for (size_t i = 0; i < b->tall; i += TALL)
      job->tile(b->middle + i * b->tall + i * TALL, products + part * BLOCK + i * wide, b->tall - i,
                turned + part * BLOCK + i * wide, 0);
  for (size_t r = 0; r < b->height; r += TALL)
    for (size_t part = 0; part < WIDTH; part += wide)
      job->tile(b->v + r * b->count, turned + part * BLOCK,
                r + TALL < b->count ? r + TALL : b->count,
                own + part * job->padded + r * wide, r >= from);
}

/* Columns `begin` to `end` of the result, from the identity on. */
static void make_columns(const Job *job, size_t begin, size_t end, float *scratch) {
  const size_t wide = job->wide;
  float *columns = scratch + 2 * BLOCK * WIDTH;
  for (size_t part = 0; part < WIDTH; part += wide)
    memset(columns + part * job->padded + begin * wide, 0,
           (job->padded - begin) * wide * sizeof(float));
  for (size_t j = begin; j < end; j++) {
    size_t part = (j - begin) / wide * wide;
    columns[part * job->padded + j * wide + (j - begin - part)] = job->signs[j];
  }
  size_t from = begin, to = whole(end);
  for (size_t number = (end - 1) / BLOCK + 1; number-- > 0;) {
    const Block b = block_of(job, number);
    apply(job, &b, from, to, columns, scratch);
    from = b.first < from ? b.first : from;
    to = job->padded;
  }
  for (size_t part = 0; part < WIDTH && begin + part < end; part += wide) {
    size_t count = end - begin - part < wide ? end - begin - part : wide;
    const float *source = columns + part * job->padded;
    float *target = job->to + (ptrdiff_t)(begin + part) * job->column_step;
    if (job->column_step == 1) {
      for (size_t r = 0; r < job->rows; r++)
        memcpy(target + (ptrdiff_t)r * job->row_step, source + r * wide, count * sizeof(float));
    } else {
      for (size_t j = 0; j < count; j++)
        for (size_t r = 0; r < job->rows; r++)
          target[(ptrdiff_t)r * job->row_step + (ptrdiff_t)j * job->column_step] =
              source[r * wide + j];
    }
  }
}

static size_t blocks_of(const Job *job) { return (job->columns + BLOCK - 1) / BLOCK; }

static void prepare_some(void *on) {
  Job *job = on;
  for (size_t number; (number = atomic_fetch_add(&job->next, 1)) < blocks_of(job);)
    job->prepare(job, number);
}

static size_t scratch_of(const Job *job) { return (2 * BLOCK + job->padded) * WIDTH; }

/* The last columns take the longest and come first. */
static void make_some(void *on) {
  Job *job = on;
  float *scratch = job->scratch + atomic_fetch_add(&job->thread, 1) * scratch_of(job);
  size_t parts = (job->columns + WIDTH - 1) / WIDTH;
  for (size_t done; (done = atomic_fetch_add(&job->next, 1)) < parts;) {
    size_t begin = (parts - 1 - done) * WIDTH, left = job->columns - begin;
    make_columns(job, begin, begin + (left < WIDTH ? left : WIDTH), scratch);
  }
}

static int multiply(Job *job, size_t size, int threads) {
  const size_t blocks = blocks_of(job);
  job->across = malloc((size + job->padded * TALL) * sizeof(float));
  job->middle = malloc(blocks * BLOCK * BLOCK * sizeof(float));
  job->signs = malloc(job->columns * sizeof(float));
  job->scratch = malloc((size_t)threads * scratch_of(job) * sizeof(float));
  int enough = job->across && job->middle && job->signs && job->scratch;
  if (enough) {
    lampwork_in_team((Work){prepare_some, job}, threads);
    atomic_store(&job->next, 0);
    lampwork_in_team((Work){make_some, job}, threads);
  }
  free(job->across);
  free(job->middle);
  free(job->signs);
  free(job->scratch);
  return enough;
}

static PyObject *multiply_reflections(PyObject *self, PyObject *args) {
  (void)self;
  Job job = {0};
  unsigned long long drawn, size, to, rows, columns;
  long long row_step, column_step;
  int threads, enough;
  if (!PyArg_ParseTuple(args, "KKKKKLLi:multiply_reflections", &drawn, &size, &to, &rows, &columns,
                        &row_step, &column_step, &threads))
    return NULL;
  job.rows = (size_t)rows;
  job.columns = (size_t)columns;
  job.padded = whole(job.rows);
  job.drawn = (float *)(uintptr_t)drawn;
  job.to = (float *)(uintptr_t)to;
  job.row_step = (ptrdiff_t)row_step;
  job.column_step = (ptrdiff_t)column_step;
  if (columns < 1 || columns > rows) {
    PyErr_SetString(PyExc_ValueError, "multiply_reflections: no columns, or more than rows");
    return NULL;
  }
  const Block last = block_of(&job, blocks_of(&job) - 1);
  if (size != (size_t)(last.v - job.drawn) + last.height * last.count) {
    PyErr_SetString(PyExc_ValueError, "multiply_reflections: not the reflections of this matrix");
    return NULL;
  }
  choose_kernels(&job);
  threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
  Py_BEGIN_ALLOW_THREADS
  enough = multiply(&job, (size_t)size, threads);
  Py_END_ALLOW_THREADS
  if (!enough) return PyErr_NoMemory();
  Py_RETURN_NONE;
}

PyMethodDef lampwork_reflections_methods[] = {
    {"multiply_reflections", multiply_reflections, METH_VARARGS,
     "multiply_reflections(drawn, size, to, rows, columns, row_step, column_step, threads)"},
    {NULL, NULL, 0, NULL}};
#else
PyMethodDef lampwork_reflections_methods[] = {{NULL, NULL, 0, NULL}};
#endif
