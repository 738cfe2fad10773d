#include "kernels.h"

PyMethodDef lampwork_philox_methods[] = {{NULL, NULL, 0, NULL}};
