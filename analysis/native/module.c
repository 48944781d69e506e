/* The functions of the compiled core as Python sees them; what each one does stands in analysis/native/__init__.py. */
#include "core.h"

static PyObject *take_powers(PyObject *self, PyObject *argument) {
    (void)self;
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE)) return NULL;
    int good = set_powers(&view);
    PyBuffer_Release(&view);
    if (good) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "no table of powers");
    return NULL;
}

static PyMethodDef functions[] = {
    {"take_powers", take_powers, METH_O, NULL},   {"parse_number", parse_number, METH_O, NULL},
    {"read_records", read_records, METH_O, NULL}, {"split_object", split_object, METH_O, NULL},
    {"pair_boxes", pair_boxes, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL},
};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&module); }
