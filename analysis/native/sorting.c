/* The order of numbers from high to low. */
#include "core.h"
#include <stdlib.h>
#include <string.h>

enum { DIGIT = 11, DIGITS = 6, VALUES = 1 << DIGIT }; /* 6 x 11 bits cover the 64 of a key */

/* A number whose unsigned order is that of `value` from high to low; the same for both zeros. */
static uint64_t falling_key(double value) {
    uint64_t bits;
    if (value == 0) value = 0;
    memcpy(&bits, &value, 8);
    return bits >> 63 ? bits : ~(bits | (uint64_t)1 << 63);
}

/* order_descending(values f64[n]) -> i64[n]: the places of the values from high to low; equal ones stay in their order.
   By the digits of their keys, the lowest first. */
PyObject *order_descending(PyObject *self, PyObject *argument) {
    (void)self;
    PyObject *result = NULL;
    Column column = {0};
    const double *value = open_column(argument, &column, -1, 8);
    if (!value) return NULL;
    Py_ssize_t count = column.view.len / 8;
    uint64_t *key = malloc(2 * 8 * (size_t)count + 1);
    uint32_t *row = malloc(2 * 4 * (size_t)count + 1), (*times)[VALUES] = calloc(DIGITS, sizeof *times);
    if (!key || !row || !times || count > UINT32_MAX) {
        PyErr_NoMemory();
        goto done;
    }
    if (!(result = PyByteArray_FromStringAndSize(NULL, 8 * count))) goto done;
    int64_t *order = (int64_t *)PyByteArray_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t place = 0; place < count; place++) {
        key[place] = falling_key(value[place]);
        row[place] = (uint32_t)place;
        for (int digit = 0; digit < DIGITS; digit++) times[digit][key[place] >> (DIGIT * digit) & (VALUES - 1)]++;
    }
    uint64_t *from = key, *to = key + count;
    uint32_t *row_from = row, *row_to = row + count;
    for (int digit = 0; digit < DIGITS && count; digit++) {
        uint32_t *start = times[digit], total = 0;
        if (start[from[0] >> (DIGIT * digit) & (VALUES - 1)] == (uint32_t)count) continue; /* the same in all */
        for (int at = 0; at < VALUES; at++) {
            uint32_t here = start[at];
            start[at] = total;
            total += here;
        }
        for (Py_ssize_t place = 0; place < count; place++) {
            uint32_t aim = start[from[place] >> (DIGIT * digit) & (VALUES - 1)]++;
            to[aim] = from[place];
            row_to[aim] = row_from[place];
        }
        uint64_t *keys = from;
        uint32_t *rows = row_from;
        from = to, row_from = row_to;
        to = keys, row_to = rows;
    }
    for (Py_ssize_t place = 0; place < count; place++) order[place] = row_from[place];
    Py_END_ALLOW_THREADS
done:
    close_column(&column);
    free(key);
    free(row);
    free(times);
    return result;
}

/* order_by_index(index i64[n], limit) -> i64[n]: the stable ascending order of indices of 0 .. limit - 1, by digits of 16
   bits, the lowest first. */
PyObject *order_by_index(PyObject *self, PyObject *arguments) {
    (void)self;
    enum { BITS = 16, MOST = 1 << BITS };
    PyObject *given, *result = NULL;
    long long limit;
    if (!PyArg_ParseTuple(arguments, "OL", &given, &limit)) return NULL;
    Column column = {0};
    const int64_t *index = open_column(given, &column, -1, 8);
    if (!index) return NULL;
    Py_ssize_t count = column.view.len / 8;
    int good = limit > 0, several = limit > MOST, buckets = several ? MOST : (int)limit;
    for (Py_ssize_t row = 0; row < count; row++) good &= index[row] >= 0 && index[row] < limit;
    if (!good) {
        PyErr_SetString(PyExc_ValueError, "a group that does not exist");
        goto done;
    }
    Py_ssize_t *start = malloc((size_t)buckets * sizeof *start + 1);
    int64_t *other = several ? malloc(8 * (size_t)count + 1) : NULL;
    result = start && (other || !several) ? PyByteArray_FromStringAndSize(NULL, 8 * count) : PyErr_NoMemory();
    if (!result) goto freed;
    int64_t *order = (int64_t *)PyByteArray_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    int passes = 1;
    while (passes < 4 && (limit - 1) >> (BITS * passes)) passes++;
    const int64_t *from = NULL; /* none: the rows as they stand */
    for (int pass = 0; pass < passes; pass++) {
        int64_t *to = (passes - pass) % 2 ? order : other; /* the last one gives the result */
        memset(start, 0, (size_t)buckets * sizeof *start);
        for (Py_ssize_t row = 0; row < count; row++) start[(index[row] >> (BITS * pass)) & (MOST - 1)]++;
        Py_ssize_t total = 0;
        for (int bucket = 0; bucket < buckets; bucket++) {
            Py_ssize_t here = start[bucket];
            start[bucket] = total;
            total += here;
        }
        for (Py_ssize_t place = 0; place < count; place++) {
            int64_t row = from ? from[place] : place;
            to[start[(index[row] >> (BITS * pass)) & (MOST - 1)]++] = row;
        }
        from = to;
    }
    Py_END_ALLOW_THREADS
freed:
    free(start);
    free(other);
done:
    close_column(&column);
    return result;
}
