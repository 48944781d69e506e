/* Sums over detections and objects whose images count several times, or not at all: the resamples of bootstrap.py. */
#include "core.h"

enum { MOST_BLOCKS = 64, RECALLS = 101 };

/* running_weights(weights i64[images], image i64[n]) -> i64[n + 1]: the running sum of the weights of images, from 0. */
PyObject *running_weights(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[2], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "OO", &given[0], &given[1])) return NULL;
    Column column[2] = {0};
    const int64_t *weight = open_column(given[0], &column[0], -1, 8);
    const int64_t *image = weight ? open_column(given[1], &column[1], -1, 8) : NULL;
    Py_ssize_t images = column[0].view.len / 8, count = column[1].view.len / 8;
    if (image) result = PyByteArray_FromStringAndSize(NULL, 8 * (count + 1));
    if (!result) goto done;
    int64_t *sum = (int64_t *)PyByteArray_AsString(result), total = 0;
    int good = 1;
    Py_BEGIN_ALLOW_THREADS
    sum[0] = 0;
    for (Py_ssize_t row = 0; good && row < count; row++) {
        good = (uint64_t)image[row] < (uint64_t)images;
        if (good) sum[row + 1] = total += weight[image[row]];
    }
    Py_END_ALLOW_THREADS
    if (!good) {
        Py_CLEAR(result);
        PyErr_SetString(PyExc_ValueError, "an image that does not exist");
    }
done:
    for (int place = 0; place < 2; place++) close_column(&column[place]);
    return result;
}

typedef struct {
    const int64_t *sums, *running, *peak, *start, *category, *objects, *seen[MOST_BLOCKS], *before[MOST_BLOCKS];
    const double *lift, *recalls, *next_recalls;
    Py_ssize_t sum_count, running_count, peaks, categories, blocks;
    double epsilon;
} Peaks;

/* How many of the recalls are reached at a recall of 0 to 1. */
static int64_t reached(const Peaks *of, double recall) {
    int64_t guess = (int64_t)(recall * 100);
    if (guess < 0 || guess >= RECALLS) return -1;
    return guess + 1 + (recall >= of->next_recalls[guess]) - (recall < of->recalls[guess]);
}

static int has(const int64_t index, Py_ssize_t count) { return (uint64_t)index < (uint64_t)count; }

/* The precision at each peak, and how many recalls it is the first to reach; 0 where an index does not exist. */
static int measure(const Peaks *of, double *precision, double *share) {
    int64_t last_category = -1, last_reached = 0;
    for (Py_ssize_t peak = 0; peak < of->peaks; peak++) {
        int64_t category = of->category[peak], total = 0;
        if (!has(category, of->categories) || !has(of->peak[peak], of->running_count) ||
            !has(of->start[peak], of->running_count))
            return 0;
        for (Py_ssize_t block = 0; block < of->blocks; block++) {
            int64_t seen = of->seen[block][peak], before = of->before[block][category];
            if (!has(seen, of->sum_count) || !has(before, of->sum_count)) return 0;
            total += of->sums[seen] - of->sums[before];
        }
        double is_tp = (double)(of->running[of->peak[peak]] - of->running[of->start[peak]]);
        int64_t objects = of->objects[category] > 1 ? of->objects[category] : 1;
        int64_t here = reached(of, is_tp / (double)objects);
        if (here < 0) return 0;
        precision[peak] = is_tp / ((double)total + of->epsilon);
        share[peak] = (double)(category == last_category ? here - last_reached : here);
        last_category = category;
        last_reached = here;
    }
    return 1;
}

/* weigh_peaks(sums i64[S], running i64[H + 1], peak, start, category i64[P], lift f64[P], objects i64[K], seen, before:
   tuples of i64[P] and i64[K], recalls, next_recalls f64[101], epsilon) -> f64[P]: the terms whose sum over a category
   is 101 times its AP; see `_average` and `_shares` of bootstrap.py. */
PyObject *weigh_peaks(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[9], *seen, *before, *best = NULL, *share = NULL, *result = NULL;
    Peaks of = {0};
    if (!PyArg_ParseTuple(arguments, "OOOOOOOO!O!OOd", &given[0], &given[1], &given[2], &given[3], &given[4], &given[5],
                          &given[6], &PyTuple_Type, &seen, &PyTuple_Type, &before, &given[7], &given[8], &of.epsilon))
        return NULL;
    Column column[9] = {0}, block[2 * MOST_BLOCKS] = {0};
    of.blocks = PyTuple_Size(seen);
    if (of.blocks > MOST_BLOCKS || of.blocks != PyTuple_Size(before)) {
        PyErr_SetString(PyExc_ValueError, "too many blocks");
        return NULL;
    }
    if (!(of.sums = open_column(given[0], &column[0], -1, 8))) goto done;
    of.sum_count = column[0].view.len / 8;
    if (!(of.running = open_column(given[1], &column[1], -1, 8))) goto done;
    of.running_count = column[1].view.len / 8;
    if (!(of.peak = open_column(given[2], &column[2], -1, 8))) goto done;
    of.peaks = column[2].view.len / 8;
    if (!(of.start = open_column(given[3], &column[3], of.peaks, 8))) goto done;
    if (!(of.category = open_column(given[4], &column[4], of.peaks, 8))) goto done;
    if (!(of.lift = open_column(given[5], &column[5], of.peaks, 8))) goto done;
    if (!(of.objects = open_column(given[6], &column[6], -1, 8))) goto done;
    of.categories = column[6].view.len / 8;
    if (!(of.recalls = open_column(given[7], &column[7], RECALLS, 8))) goto done;
    if (!(of.next_recalls = open_column(given[8], &column[8], RECALLS, 8))) goto done;
    for (Py_ssize_t one = 0; one < of.blocks; one++) {
        if (!(of.seen[one] = open_column(PyTuple_GetItem(seen, one), &block[2 * one], of.peaks, 8))) goto done;
        PyObject *array = PyTuple_GetItem(before, one);
        if (!(of.before[one] = open_column(array, &block[2 * one + 1], of.categories, 8))) goto done;
    }
    best = PyByteArray_FromStringAndSize(NULL, 8 * of.peaks);
    share = best ? PyByteArray_FromStringAndSize(NULL, 8 * of.peaks) : NULL;
    if (!share) goto done;
    double *value = (double *)PyByteArray_AsString(best), *part = (double *)PyByteArray_AsString(share);
    int good;
    Py_BEGIN_ALLOW_THREADS
    good = measure(&of, value, part);
    double highest = 0;
    for (Py_ssize_t peak = of.peaks - 1; good && peak >= 0; peak--) { /* lifted, the best is one of the same category */
        double lifted = value[peak] + of.lift[peak];
        if (lifted > highest) highest = lifted;
        value[peak] = (highest - of.lift[peak]) * part[peak];
    }
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(best);
    else
        PyErr_SetString(PyExc_ValueError, "a place that does not exist, or a recall outside 0 to 1");
done:
    for (int place = 0; place < 9; place++) close_column(&column[place]);
    for (int place = 0; place < 2 * MOST_BLOCKS; place++) close_column(&block[place]);
    Py_XDECREF(best);
    Py_XDECREF(share);
    return result;
}
