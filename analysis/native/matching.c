/* Pairs of a detection and an object: the best of each detection, and greedy matching. Precision from what was matched. */
#include "core.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    Column column[6];
    const int64_t *detection, *object;
    Py_ssize_t count, detections, objects;
} Listed;

/* Pairs in arrays that Python gives; 0, with an error, where a row does not exist. */
static int open_pairs(Listed *pairs, PyObject *detection, PyObject *object) {
    pairs->detection = open_column(detection, &pairs->column[0], -1, 8);
    if (!pairs->detection) return 0;
    pairs->count = pairs->column[0].view.len / 8;
    pairs->object = open_column(object, &pairs->column[1], pairs->count, 8);
    if (!pairs->object) return 0;
    int good = pairs->detections >= 0 && pairs->objects >= 0;
    for (Py_ssize_t pair = 0; pair < pairs->count; pair++)
        good &= (uint64_t)pairs->detection[pair] < (uint64_t)pairs->detections &&
                (uint64_t)pairs->object[pair] < (uint64_t)pairs->objects;
    if (!good) PyErr_SetString(PyExc_ValueError, "a pair of rows that do not exist");
    return good;
}

static void close_pairs(Listed *pairs) {
    for (int place = 0; place < 6; place++) close_column(&pairs->column[place]);
}

/* best_objects(detections, objects, detection i64[P], object i64[P], iou f64[P], used bool[P]): the highest IoU
   f64[detections] of each detection among the pairs that are used, and the first object i64[detections] that has it; 0
   and -1 where it has none. */
PyObject *best_objects(PyObject *self, PyObject *arguments) {
    (void)self;
    Listed pairs = {0};
    PyObject *given[4], *best = NULL, *target = NULL, *result = NULL;
    if (!PyArg_ParseTuple(arguments, "nnOOOO", &pairs.detections, &pairs.objects, &given[0], &given[1], &given[2],
                          &given[3]))
        return NULL;
    if (!open_pairs(&pairs, given[0], given[1])) goto done;
    const double *iou = open_column(given[2], &pairs.column[2], pairs.count, 8);
    const uint8_t *used = iou ? open_column(given[3], &pairs.column[3], pairs.count, 1) : NULL;
    if (!used) goto done;
    best = PyByteArray_FromStringAndSize(NULL, 8 * pairs.detections);
    target = best ? PyByteArray_FromStringAndSize(NULL, 8 * pairs.detections) : NULL;
    if (!target) goto done;
    double *highest = (double *)PyByteArray_AsString(best);
    int64_t *aim = (int64_t *)PyByteArray_AsString(target);
    memset(highest, 0, 8 * (size_t)pairs.detections);
    memset(aim, -1, 8 * (size_t)pairs.detections);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t pair = 0; pair < pairs.count; pair++) {
        int64_t row = pairs.detection[pair];
        if (used[pair] && iou[pair] > highest[row]) {
            highest[row] = iou[pair];
            aim[row] = pairs.object[pair];
        }
    }
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("OO", best, target);
done:
    Py_XDECREF(best);
    Py_XDECREF(target);
    close_pairs(&pairs);
    return result;
}

/* match_pairs(detections, objects, detection i64[P], object i64[P], used bool[P], shared bool[objects] or None): the
   object i64[detections] that each detection takes, -1 for none. The pairs stand in the order of priority: each one is
   taken whose detection has no object yet and whose object is free, or shared. */
PyObject *match_pairs(PyObject *self, PyObject *arguments) {
    (void)self;
    Listed pairs = {0};
    PyObject *given[4], *free_objects = NULL, *matched = NULL, *result = NULL;
    if (!PyArg_ParseTuple(arguments, "nnOOOO", &pairs.detections, &pairs.objects, &given[0], &given[1], &given[2],
                          &given[3]))
        return NULL;
    if (!open_pairs(&pairs, given[0], given[1])) goto done;
    const uint8_t *used = open_column(given[2], &pairs.column[2], pairs.count, 1), *shared = NULL;
    if (!used) goto done;
    if (given[3] != Py_None && !(shared = open_column(given[3], &pairs.column[3], pairs.objects, 1))) goto done;
    matched = PyByteArray_FromStringAndSize(NULL, 8 * pairs.detections);
    free_objects = matched ? PyByteArray_FromStringAndSize(NULL, pairs.objects) : NULL;
    if (!free_objects) goto done;
    int64_t *taken = (int64_t *)PyByteArray_AsString(matched);
    char *is_free = PyByteArray_AsString(free_objects);
    memset(taken, -1, 8 * (size_t)pairs.detections);
    memset(is_free, 1, (size_t)pairs.objects);
    for (Py_ssize_t pair = 0; pair < pairs.count; pair++) {
        int64_t row = pairs.detection[pair], object = pairs.object[pair];
        if (!used[pair] || taken[row] >= 0 || !is_free[object]) continue;
        taken[row] = object;
        is_free[object] = shared && shared[object];
    }
    result = Py_NewRef(matched);
done:
    Py_XDECREF(matched);
    Py_XDECREF(free_objects);
    close_pairs(&pairs);
    return result;
}

/* match_coco(detections, objects, detection i64[P], object i64[P], iou f64[P], threshold, ignored bool[objects],
   crowd bool[objects], out_of_range bool[detections]): match_coco of matching.py, one detection after another. */
PyObject *match_coco(PyObject *self, PyObject *arguments) {
    (void)self;
    Listed pairs = {0};
    double threshold;
    PyObject *given[6], *matched = NULL, *left_out = NULL, *free_objects = NULL, *result = NULL;
    if (!PyArg_ParseTuple(arguments, "nnOOOdOOO", &pairs.detections, &pairs.objects, &given[0], &given[1], &given[2],
                          &threshold, &given[3], &given[4], &given[5]))
        return NULL;
    if (!open_pairs(&pairs, given[0], given[1])) goto done;
    const double *iou = open_column(given[2], &pairs.column[2], pairs.count, 8);
    const uint8_t *ignored = iou ? open_column(given[3], &pairs.column[3], pairs.objects, 1) : NULL;
    const uint8_t *crowd = ignored ? open_column(given[4], &pairs.column[4], pairs.objects, 1) : NULL;
    const uint8_t *out_of_range = crowd ? open_column(given[5], &pairs.column[5], pairs.detections, 1) : NULL;
    if (!out_of_range) goto done;
    matched = PyByteArray_FromStringAndSize(NULL, 8 * pairs.detections);
    left_out = matched ? PyByteArray_FromStringAndSize((const char *)out_of_range, pairs.detections) : NULL;
    free_objects = left_out ? PyByteArray_FromStringAndSize(NULL, pairs.objects) : NULL;
    if (!free_objects) goto done;
    int64_t *taken = (int64_t *)PyByteArray_AsString(matched);
    char *is_left_out = PyByteArray_AsString(left_out), *is_free = PyByteArray_AsString(free_objects);
    memset(taken, -1, 8 * (size_t)pairs.detections);
    memset(is_free, 1, (size_t)pairs.objects);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t pair = 0, end; pair < pairs.count; pair = end) {
        int64_t row = pairs.detection[pair], excuse = -1;
        for (end = pair; end < pairs.count && pairs.detection[end] == row; end++) {
            int64_t object = pairs.object[end];
            if (iou[end] < threshold || !is_free[object]) continue;
            if (!ignored[object] && taken[row] < 0)
                taken[row] = object;
            else if (ignored[object] && excuse < 0)
                excuse = object;
        }
        if (taken[row] >= 0) {
            is_free[taken[row]] = 0;
            is_left_out[row] = 0;
        } else if (excuse >= 0) {
            is_free[excuse] = (char)crowd[excuse];
            is_left_out[row] = 1;
        }
    }
    Py_END_ALLOW_THREADS
    result = Py_BuildValue("OO", matched, left_out);
done:
    Py_XDECREF(matched);
    Py_XDECREF(left_out);
    Py_XDECREF(free_objects);
    close_pairs(&pairs);
    return result;
}

void best_from_here(double *value, int64_t count) {
    for (int64_t place = count - 1; place > 0; place--)
        if (value[place] > value[place - 1]) value[place - 1] = value[place];
}

/* The best precision at each recall or a higher one, from the precision at each true positive of a category. */
static void read_at_recalls(double *precision, int64_t right, const int64_t *steps, Py_ssize_t recalls, double *value) {
    best_from_here(precision, right);
    for (Py_ssize_t recall = 0; recall < recalls; recall++)
        value[recall] = steps[recall] <= right ? precision[steps[recall] - 1] : 0.0;
}

/* steps i64[K, R], each above 0; NULL, with an error, otherwise. */
static const int64_t *open_steps(PyObject *array, Column *column, Py_ssize_t categories, Py_ssize_t *recalls) {
    const int64_t *steps = open_column(array, column, -1, 8 * (categories ? categories : 1));
    if (!steps) return NULL;
    *recalls = categories ? column->view.len / 8 / categories : 0;
    int good = 1;
    for (Py_ssize_t step = 0; step < categories * *recalls; step++) good &= steps[step] > 0;
    if (good) return steps;
    PyErr_SetString(PyExc_ValueError, "a step below 1");
    return NULL;
}

/* interpolate(categories, start i64[K + 1], rows i64[N], is_tp bool[n], counts bool[n], steps i64[K, R], epsilon) ->
   f64[K, R]: precision_at_recalls of average_precision.py. */
PyObject *interpolate(PyObject *self, PyObject *arguments) {
    (void)self;
    Py_ssize_t categories, recalls;
    double epsilon, *precision = NULL;
    PyObject *given[5], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "nOOOOOd", &categories, &given[0], &given[1], &given[2], &given[3], &given[4],
                          &epsilon))
        return NULL;
    Column column[5] = {0};
    const int64_t *rows = open_column(given[1], &column[1], -1, 8);
    Py_ssize_t count = rows ? column[1].view.len / 8 : 0;
    const int64_t *start = rows ? open_starts(given[0], &column[0], categories, count) : NULL;
    const uint8_t *is_tp = start ? open_column(given[2], &column[2], -1, 1) : NULL;
    Py_ssize_t positions = is_tp ? column[2].view.len : 0;
    const uint8_t *counts = is_tp ? open_column(given[3], &column[3], positions, 1) : NULL;
    const int64_t *steps = counts ? open_steps(given[4], &column[4], categories, &recalls) : NULL;
    if (!steps) goto done;
    int good = 1;
    for (Py_ssize_t row = 0; row < count; row++) good &= (uint64_t)rows[row] < (uint64_t)positions;
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "a row that does not exist");
        goto done;
    }
    if (!(precision = malloc(8 * (size_t)(count + 1)))) {
        PyErr_NoMemory();
        goto done;
    }
    if (!(result = PyByteArray_FromStringAndSize(NULL, 8 * categories * recalls))) goto done;
    double *value = (double *)PyByteArray_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t category = 0; category < categories; category++) {
        int64_t right = 0, wrong = 0;
        for (int64_t row = start[category]; row < start[category + 1]; row++) {
            if (!counts[rows[row]]) continue;
            if (!is_tp[rows[row]]) {
                wrong++;
                continue;
            }
            right++;
            precision[right - 1] = (double)right / ((double)wrong + (double)right + epsilon);
        }
        read_at_recalls(precision, right, steps + category * recalls, recalls, value + category * recalls);
    }
    Py_END_ALLOW_THREADS
done:
    for (int part = 0; part < 5; part++) close_column(&column[part]);
    free(precision);
    return result;
}

/* interpolate_hits(categories, first i64[K + 1], seen i64[H], steps i64[K, R], epsilon) -> f64[K, R]: interpolate_hits
   of average_precision.py. */
PyObject *interpolate_hits(PyObject *self, PyObject *arguments) {
    (void)self;
    Py_ssize_t categories, recalls;
    double epsilon, *precision = NULL;
    PyObject *given[3], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "nOOOd", &categories, &given[0], &given[1], &given[2], &epsilon)) return NULL;
    Column column[3] = {0};
    const int64_t *seen = open_column(given[1], &column[1], -1, 8);
    Py_ssize_t count = seen ? column[1].view.len / 8 : 0;
    const int64_t *first = seen ? open_starts(given[0], &column[0], categories, count) : NULL;
    const int64_t *steps = first ? open_steps(given[2], &column[2], categories, &recalls) : NULL;
    if (!steps) goto done;
    if (!(precision = malloc(8 * (size_t)(count + 1)))) {
        PyErr_NoMemory();
        goto done;
    }
    if (!(result = PyByteArray_FromStringAndSize(NULL, 8 * categories * recalls))) goto done;
    double *value = (double *)PyByteArray_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t category = 0; category < categories; category++) {
        int64_t right = 0;
        for (int64_t hit = first[category]; hit < first[category + 1]; hit++) {
            right++;
            precision[right - 1] = (double)right / ((double)(seen[hit] - right) + (double)right + epsilon);
        }
        read_at_recalls(precision, right, steps + category * recalls, recalls, value + category * recalls);
    }
    Py_END_ALLOW_THREADS
done:
    for (int part = 0; part < 3; part++) close_column(&column[part]);
    free(precision);
    return result;
}
