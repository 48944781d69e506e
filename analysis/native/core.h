/* The compiled core: what its files share. Python's stable ABI of 3.11, so that one build serves later versions. */
#ifndef DETABLATE_CORE_H
#define DETABLATE_CORE_H
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>

/* A piece of text under a reader: [at, end) is still to be read. Nothing behind `end` is ever read. */
typedef struct {
    const char *at, *end;
} Text;

/* Set up what number parsing needs: the powers of five; see powers_of_five in the Python module. */
int set_powers(const Py_buffer *powers);
/* Read one number by JSON's grammar, correctly rounded and whatever the locale; 0 where there is none. */
int read_number(Text *text, double *value);
/* Read a whole number that fits 64 bits, written without point or exponent; 0 where there is none. */
int read_whole(Text *text, int64_t *value);

PyObject *read_records(PyObject *, PyObject *);
PyObject *split_object(PyObject *, PyObject *);
PyObject *parse_number(PyObject *, PyObject *);
PyObject *pair_boxes(PyObject *, PyObject *);
#endif
