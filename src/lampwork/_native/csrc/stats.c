#include "kernels.h"

PyMethodDef lampwork_stats_methods[] = {{NULL, NULL, 0, NULL}};
