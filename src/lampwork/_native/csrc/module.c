/* lampwork._native._kernels: the functions of all kernel files in one extension module. */
#include "kernels.h"

static int add_functions(PyObject *module) {
  lampwork_choose_stats();
  if (PyModule_AddFunctions(module, lampwork_copy_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, lampwork_stats_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, lampwork_batch_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, lampwork_launch_methods) < 0) return -1;
  if (PyModule_AddFunctions(module, lampwork_philox_methods) < 0) return -1;
  return PyModule_AddFunctions(module, lampwork_reflections_methods);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)add_functions}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_kernels",
    .m_doc = "C kernels on raw memory; lampwork._native wraps them.",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__kernels(void) { return PyModuleDef_Init(&definition); }
