/* Arrays that Python gives, checked, and pairs that it gets. */
#include "core.h"
#include <stdlib.h>

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

static int make_room(Found *found) {
    size_t room = found->room ? 2 * (size_t)found->room : 1 << 12;
    void *iou = realloc(found->iou, room * 8);
    if (iou) found->iou = iou;
    void *detection = realloc(found->detection, room * 8);
    if (detection) found->detection = detection;
    void *object = realloc(found->object, room * 8);
    if (object) found->object = object;
    if (iou && detection && object) {
        found->room = (Py_ssize_t)room;
        return 1;
    }
    return 0;
}

int add_pair(Found *found, int64_t detection, int64_t object, double iou) {
    if (found->count == found->room && !make_room(found)) return 0;
    found->detection[found->count] = detection;
    found->object[found->count] = object;
    found->iou[found->count++] = iou;
    return 1;
}

static PyObject *array_of(const void *items, Py_ssize_t count) {
    return PyByteArray_FromStringAndSize(items, 8 * count);
}

PyObject *pairs_found(const Found *found) {
    PyObject *detection = array_of(found->detection, found->count);
    PyObject *object = detection ? array_of(found->object, found->count) : NULL;
    PyObject *iou = object ? array_of(found->iou, found->count) : NULL;
    if (iou) return Py_BuildValue("NNN", detection, object, iou);
    Py_XDECREF(detection);
    Py_XDECREF(object);
    return NULL;
}

void free_pairs(Found *found) {
    free(found->detection);
    free(found->object);
    free(found->iou);
}
