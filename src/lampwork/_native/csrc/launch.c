/* Starting a CUDA kernel that is compiled and loaded, by the driver's own function.
 *
 * What a compiler's launcher does for each call in Python (bind arguments, find the variant, check
 * pointers) takes tens of microseconds; the driver takes two. Nothing of CUDA is linked here: the
 * driver's function comes as an address, from whoever found the library.
 */
#include "kernels.h"

#include <stdint.h>

#define MOST 32  /* arguments of a kernel */
#define SPARE 4  /* pointers that a compiler adds behind them, null for kernels that need none */
#define BEFORE 7 /* arguments of ours before the kernel's */

typedef int (*Launch)(
    void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
    unsigned block_y, unsigned block_z, unsigned shared, void *stream, void **arguments,
    void **extra);

typedef struct {
  Launch launch;
  void *function, *stream;
  unsigned programs, threads, shared;
  int64_t values[MOST];
  int count;
} Start;

static int start(Start *s) {
  int64_t none = 0;
  void *arguments[MOST + SPARE];
  for (int i = 0; i < s->count; i++) arguments[i] = &s->values[i];
  for (int i = s->count; i < s->count + SPARE; i++) arguments[i] = &none;
  return s->launch(
      s->function, s->programs, 1, 1, s->threads, 1, 1, s->shared, s->stream, arguments, NULL);
}

static int read_start(Start *s, PyObject *const *args, Py_ssize_t count) {
  char *constants;
  Py_ssize_t size;
  s->launch = (Launch)(uintptr_t)PyLong_AsVoidPtr(args[0]);
  s->function = PyLong_AsVoidPtr(args[1]);
  s->stream = PyLong_AsVoidPtr(args[2]);
  s->programs = (unsigned)PyLong_AsUnsignedLong(args[3]);
  s->threads = (unsigned)PyLong_AsUnsignedLong(args[4]);
  s->shared = (unsigned)PyLong_AsUnsignedLong(args[5]);
  if (PyErr_Occurred() || PyBytes_AsStringAndSize(args[6], &constants, &size) < 0) return -1;
  Py_ssize_t own = count - BEFORE, fixed = size / (Py_ssize_t)sizeof(int64_t);
  if (own + fixed > MOST) {
    PyErr_SetString(PyExc_ValueError, "a kernel has at most 32 arguments");
    return -1;
  }
  for (Py_ssize_t i = 0; i < own; i++) s->values[i] = PyLong_AsLongLong(args[BEFORE + i]);
  for (Py_ssize_t i = 0; i < fixed; i++) s->values[own + i] = ((const int64_t *)constants)[i];
  s->count = (int)(own + fixed);
  return PyErr_Occurred() ? -1 : 0;
}

/* launch(driver, function, stream, programs, threads, shared, constants, *numbers) -> status: the
 * kernel's arguments, all int64, are the numbers and then those in `constants`. */
static PyObject *launch(PyObject *self, PyObject *const *args, Py_ssize_t count) {
  (void)self;
  Start s;
  int status;
  if (count < BEFORE) {
    PyErr_SetString(PyExc_TypeError, "launch takes at least 7 arguments");
    return NULL;
  }
  if (read_start(&s, args, count) < 0) return NULL;
  /* The driver waits where its queue is full, which it may be until some callback gets the lock. */
  Py_BEGIN_ALLOW_THREADS
  status = start(&s);
  Py_END_ALLOW_THREADS
  return PyLong_FromLong(status);
}

PyMethodDef lampwork_launch_methods[] = {
    {"launch", (PyCFunction)(void (*)(void))launch, METH_FASTCALL,
     "Start a CUDA kernel; the driver's status."},
    {NULL, NULL, 0, NULL},
};
