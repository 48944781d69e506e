/* The compiled core: what its files share. Python's stable ABI of 3.11, so that one build serves later versions. */
#ifndef DETABLATE_CORE_H
#define DETABLATE_CORE_H
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>

/* --- Text (json.c): [at, end) is still to be read, and nothing behind `end` is ever read. Each function goes past what
   it has read and returns 1, or returns 0 where something else stands there. --- */
typedef struct {
    const char *at, *end;
} Text;

static inline void skip_space(Text *text) {
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\r' || *text->at == '\t'))
        text->at++;
}

static inline int take(Text *text, char mark) {
    if (text->at >= text->end || *text->at != mark) return 0;
    text->at++;
    return 1;
}

static inline int next(Text *text, char mark) { /* white space, then take */
    skip_space(text);
    return take(text, mark);
}

int skip_string(Text *text, int *plain);                                  /* plain: without an escape */
int skip_word(Text *text, const char *word, Py_ssize_t length);
int skip_value(Text *text, int depth);                                    /* any value, checked */
int read_key(Text *text, const char **key, Py_ssize_t *length);           /* without an escape, and its colon */
int read_number(Text *text, double *value);                               /* correctly rounded, and finite */
int read_whole(Text *text, int64_t *value);                               /* up to 18 digits, no point or exponent */
int set_powers(const Py_buffer *powers);                                  /* powers_of_five of __init__.py */

/* --- Columns (columns.c): arrays that Python gives --- */
typedef struct {
    Py_buffer view;
    int open;
} Column;

/* The items of an array of `rows` rows (-1: any number) of `width` bytes; NULL, with an error, for another length. */
const void *open_column(PyObject *array, Column *column, Py_ssize_t rows, Py_ssize_t width);
/* Where the rows of each image begin, i64[images + 1], ascending from 0 to `rows`. */
const int64_t *open_starts(PyObject *array, Column *column, Py_ssize_t images, Py_ssize_t rows);
/* Rows i64[n], each of 0 .. count - 1. */
const int64_t *open_rows(PyObject *array, Column *column, Py_ssize_t count);
void close_column(Column *column);

/* --- Pairs (columns.c) of a detection and an object with their IoU --- */
typedef struct {
    PyObject *array[3]; /* bytearrays, which grow */
    int64_t *detection, *object;
    double *iou;
    Py_ssize_t count, room;
} Found;

int add_pair(Found *found, int64_t detection, int64_t object, double iou); /* 0, with an error: memory is full */
PyObject *pairs_found(Found *found);                                       /* detections i64, objects i64, IoUs f64 */
void free_pairs(Found *found);

void best_from_here(double *value, int64_t count); /* matching.c: each becomes the highest of itself and all later ones */

PyObject *take_powers(PyObject *, PyObject *);
PyObject *parse_number(PyObject *, PyObject *);
PyObject *read_records(PyObject *, PyObject *);
PyObject *split_object(PyObject *, PyObject *);
PyObject *order_by_index(PyObject *, PyObject *);
PyObject *order_descending(PyObject *, PyObject *);
PyObject *pair_boxes(PyObject *, PyObject *);
PyObject *best_objects(PyObject *, PyObject *);
PyObject *match_pairs(PyObject *, PyObject *);
PyObject *match_coco(PyObject *, PyObject *);
PyObject *interpolate(PyObject *, PyObject *);
PyObject *interpolate_hits(PyObject *, PyObject *);
PyObject *hit_aps_without(PyObject *, PyObject *);
PyObject *hit_aps_with_one(PyObject *, PyObject *);
PyObject *hit_aps_moved(PyObject *, PyObject *);
PyObject *running_weights(PyObject *, PyObject *);
PyObject *weigh_peaks(PyObject *, PyObject *);
PyObject *group_weights(PyObject *, PyObject *);
PyObject *decode_masks(PyObject *, PyObject *);
PyObject *pair_masks(PyObject *, PyObject *);
#endif
