/* What each kernel file hands to the module: its table of functions, ended by an empty entry. */
#ifndef LAMPWORK_KERNELS_H
#define LAMPWORK_KERNELS_H

#define Py_LIMITED_API 0x030B0000
#include <Python.h>

extern PyMethodDef lampwork_copy_methods[];
extern PyMethodDef lampwork_stats_methods[];
extern PyMethodDef lampwork_philox_methods[];

void lampwork_choose_stats(void); /* the fastest loops that this processor runs */

#endif
