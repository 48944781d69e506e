/* Arrays that Python gives, checked, and pairs that it gets. */
#include "core.h"

const void *open_column(PyObject *array, Column *column, Py_ssize_t rows, Py_ssize_t width) {
    if (PyObject_GetBuffer(array, &column->view, PyBUF_SIMPLE)) return NULL;
    column->open = 1;
    if (rows < 0 ? column->view.len % width == 0 : column->view.len == rows * width)
        return column->view.len ? column->view.buf : (const void *)"";
    PyErr_SetString(PyExc_ValueError, "an array has another length than expected");
    return NULL;
}

const int64_t *open_starts(PyObject *array, Column *column, Py_ssize_t images, Py_ssize_t rows) {
    const int64_t *start = open_column(array, column, images + 1, 8);
    if (!start) return NULL;
    int good = start[0] == 0 && start[images] == rows;
    for (Py_ssize_t image = 0; image < images; image++) good &= start[image] <= start[image + 1];
    if (good) return start;
    PyErr_SetString(PyExc_ValueError, "the images do not hold all rows in order");
    return NULL;
}

void close_column(Column *column) {
    if (column->open) PyBuffer_Release(&column->view);
    column->open = 0;
}

const int64_t *open_rows(PyObject *array, Column *column, Py_ssize_t count) {
    const int64_t *row = open_column(array, column, -1, 8);
    int good = 1;
    for (Py_ssize_t place = 0; row && place < column->view.len / 8; place++)
        good &= (uint64_t)row[place] < (uint64_t)count;
    if (good) return row;
    PyErr_SetString(PyExc_ValueError, "a row that does not exist");
    return NULL;
}

/* Pairs are found without Python's lock, which the arrays need when they grow. */
static int make_room(Found *found) {
    PyGILState_STATE lock = PyGILState_Ensure();
    Py_ssize_t room = found->room ? 2 * found->room : 1 << 12;
    int good = 1;
    for (int place = 0; good && place < 3; place++) {
        if (!found->array[place]) found->array[place] = PyByteArray_FromStringAndSize(NULL, 0);
        good = found->array[place] && !PyByteArray_Resize(found->array[place], 8 * room);
    }
    if (good) {
        found->detection = (int64_t *)PyByteArray_AsString(found->array[0]);
        found->object = (int64_t *)PyByteArray_AsString(found->array[1]);
        found->iou = (double *)PyByteArray_AsString(found->array[2]);
        found->room = room;
    }
    PyGILState_Release(lock);
    return good;
}

int add_pair(Found *found, int64_t detection, int64_t object, double iou) {
    if (found->count == found->room && !make_room(found)) return 0;
    found->detection[found->count] = detection;
    found->object[found->count] = object;
    found->iou[found->count++] = iou;
    return 1;
}

PyObject *pairs_found(Found *found) {
    if (!found->room && !make_room(found)) return NULL;
    for (int place = 0; place < 3; place++)
        if (PyByteArray_Resize(found->array[place], 8 * found->count)) return NULL;
    return Py_BuildValue("OOO", found->array[0], found->array[1], found->array[2]);
}

void free_pairs(Found *found) {
    for (int place = 0; place < 3; place++) Py_XDECREF(found->array[place]);
}
