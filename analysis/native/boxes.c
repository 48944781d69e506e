/* Overlapping boxes, with the arithmetic of COCO's bbIou operation by operation, so that every bit agrees. */
#include "core.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    Py_buffer view;
    int taken;
} Column;

/* The items of a column of `width` bytes each; NULL, with an error, where there are not `rows` of them. */
static const void *items(PyObject *array, Column *column, Py_ssize_t rows, Py_ssize_t width) {
    if (PyObject_GetBuffer(array, &column->view, PyBUF_SIMPLE)) return NULL;
    column->taken = 1;
    if (column->view.len == rows * width) return rows ? column->view.buf : (const void *)"";
    PyErr_SetString(PyExc_ValueError, "a column has another length than expected");
    return NULL;
}

typedef struct {
    double *iou;
    int64_t *detection, *object;
    Py_ssize_t count, room;
} Found;

static int make_room(Found *found) {
    Py_ssize_t room = found->room ? 2 * found->room : 1 << 16;
    void *iou = realloc(found->iou, (size_t)room * 8);
    if (iou) found->iou = iou;
    void *detection = realloc(found->detection, (size_t)room * 8);
    if (detection) found->detection = detection;
    void *object = realloc(found->object, (size_t)room * 8);
    if (object) found->object = object;
    if (!iou || !detection || !object) return 0;
    found->room = room;
    return 1;
}

PyObject *pair_boxes(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[5], *result = NULL;
    Py_ssize_t images, detections, objects;
    if (!PyArg_ParseTuple(arguments, "nnnOOOOO", &images, &detections, &objects, &given[0], &given[1], &given[2],
                          &given[3], &given[4]))
        return NULL;
    Column column[5];
    memset(column, 0, sizeof column);
    Found found = {0};
    const int64_t *detection_start = items(given[0], &column[0], images + 1, 8);
    const int64_t *object_start = detection_start ? items(given[1], &column[1], images + 1, 8) : NULL;
    const double *detection_box = object_start ? items(given[2], &column[2], detections, 32) : NULL;
    const double *object_box = detection_box ? items(given[3], &column[3], objects, 32) : NULL;
    const uint8_t *inside = object_box ? items(given[4], &column[4], objects, 1) : NULL;
    if (!inside) goto done;
    if (detection_start[images] != detections || object_start[images] != objects) {
        PyErr_SetString(PyExc_ValueError, "the images do not hold all boxes");
        goto done;
    }
    if (!make_room(&found)) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t image = 0; image < images; image++) {
        for (int64_t d = detection_start[image]; d < detection_start[image + 1]; d++) {
            const double *a = detection_box + 4 * d;
            double right = a[2] + a[0], bottom = a[3] + a[1], area = a[2] * a[3];
            for (int64_t g = object_start[image]; g < object_start[image + 1]; g++) {
                const double *b = object_box + 4 * g;
                double b_right = b[2] + b[0], b_bottom = b[3] + b[1];
                double w = (right < b_right ? right : b_right) - (a[0] > b[0] ? a[0] : b[0]);
                if (!(w > 0)) continue;
                double h = (bottom < b_bottom ? bottom : b_bottom) - (a[1] > b[1] ? a[1] : b[1]);
                if (!(h > 0)) continue;
                double common = w * h, all = inside[g] ? area : area + b[2] * b[3] - common;
                if (found.count == found.room && !make_room(&found)) {
                    PyErr_NoMemory();
                    goto done;
                }
                found.detection[found.count] = d;
                found.object[found.count] = g;
                found.iou[found.count++] = common / all;
            }
        }
    }
    result = Py_BuildValue("y#y#y#", (char *)found.detection, 8 * found.count, (char *)found.object, 8 * found.count,
                           (char *)found.iou, 8 * found.count);
done:
    for (int place = 0; place < 5; place++)
        if (column[place].taken) PyBuffer_Release(&column[place].view);
    free(found.detection);
    free(found.object);
    free(found.iou);
    return result;
}
