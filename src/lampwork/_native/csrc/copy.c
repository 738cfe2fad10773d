/* Copying samples into a batch that is larger than the caches.
 *
 * An ordinary store first reads the line it is about to overwrite. A streaming store does not, and
 * leaves the cache to others: of the three journeys over the memory bus one falls away. Where the
 * batch would have stayed in the cache for its reader that is a loss, so the caller decides.
 */
#include "kernels.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define STREAMS 1

__attribute__((target("avx2"))) static void stream(char *to, const char *from, size_t size) {
  size_t head = (size_t)(-(intptr_t)to & 31);
  if (head > size) head = size;
  memcpy(to, from, head);
  to += head, from += head, size -= head;
  for (; size >= 128; to += 128, from += 128, size -= 128) {
    __m256i a = _mm256_loadu_si256((const __m256i *)from);
    __m256i b = _mm256_loadu_si256((const __m256i *)(from + 32));
    __m256i c = _mm256_loadu_si256((const __m256i *)(from + 64));
    __m256i d = _mm256_loadu_si256((const __m256i *)(from + 96));
    _mm256_stream_si256((__m256i *)to, a);
    _mm256_stream_si256((__m256i *)(to + 32), b);
    _mm256_stream_si256((__m256i *)(to + 64), c);
    _mm256_stream_si256((__m256i *)(to + 96), d);
  }
  memcpy(to, from, size);
}
#endif

void lampwork_stream(char *to, const char *from, size_t size) {
#ifdef STREAMS
  if (__builtin_cpu_supports("avx2")) {
    stream(to, from, size);
    return;
  }
#endif
  memcpy(to, from, size);
}

void lampwork_fence(void) {
#ifdef STREAMS
  _mm_sfence();
#endif
}

static void copy_all(char *to, const uint64_t *from, size_t count, size_t size) {
  for (size_t i = 0; i < count; i++) lampwork_stream(to + i * size, (const char *)from[i], size);
  lampwork_fence(); /* another process reads this after a message that is an ordinary store */
}

/* stack(to, from, size): `from` is a buffer of uint64 addresses, `size` the bytes at each. */
static PyObject *stack(PyObject *self, PyObject *args) {
  (void)self;
  unsigned long long to, size;
  Py_buffer from;
  if (!PyArg_ParseTuple(args, "Ky*K", &to, &from, &size)) return NULL;
  Py_BEGIN_ALLOW_THREADS
  copy_all((char *)(uintptr_t)to, from.buf, (size_t)from.len / sizeof(uint64_t), (size_t)size);
  Py_END_ALLOW_THREADS
  PyBuffer_Release(&from);
  Py_RETURN_NONE;
}

PyMethodDef lampwork_copy_methods[] = {
    {"stack", stack, METH_VARARGS, "Copy samples behind one another without filling the caches."},
    {NULL, NULL, 0, NULL},
};
