/* Sums over detections and objects whose images count several times, or not at all: the resamples of bootstrap.py. */
#include "core.h"

enum { MOST_BLOCKS = 62, MOST_SETS = 16, RECALLS = 101 }; /* a curve has a bit for each block */

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
    const int64_t *sums, *running, *peak, *start, *category, *curve, *objects[MOST_SETS];
    const int64_t *seen[MOST_BLOCKS], *before[MOST_BLOCKS];
    const double *lift, *recalls, *next_recalls;
    Py_ssize_t sum_count, running_count, peaks, categories, blocks, sets, curves;
    double epsilon;
} Peaks;

/* How many of the recalls are reached at a recall of 0 to 1. */
static int64_t reached(const Peaks *of, double recall) {
    int64_t guess = (int64_t)(recall * 100);
    if (guess < 0 || guess >= RECALLS) return -1;
    return guess + 1 + (recall >= of->next_recalls[guess]) - (recall < of->recalls[guess]);
}

static int has(const int64_t index, Py_ssize_t count) { return (uint64_t)index < (uint64_t)count; }

/* The precision of each curve at each peak, [C, P], and of how many recalls, under each set of objects that counts, the
   peak is the first to reach them, [S, P]; 0 where an index does not exist. */
static int measure(const Peaks *of, double *precision, double *share) {
    int64_t last_category = -1, last_reached[MOST_SETS], before[MOST_BLOCKS], total[MOST_BLOCKS];
    double objects[MOST_SETS];
    for (Py_ssize_t peak = 0; peak < of->peaks; peak++) {
        int64_t category = of->category[peak];
        if (category != last_category) {
            if (!has(category, of->categories)) return 0;
            for (Py_ssize_t block = 0; block < of->blocks; block++) {
                if (!has(of->before[block][category], of->sum_count)) return 0;
                before[block] = of->sums[of->before[block][category]];
            }
            for (Py_ssize_t set = 0; set < of->sets; set++) {
                int64_t count = of->objects[set][category];
                objects[set] = (double)(count > 1 ? count : 1);
                last_reached[set] = 0;
            }
            last_category = category;
        }
        if (!has(of->peak[peak], of->running_count) || !has(of->start[peak], of->running_count)) return 0;
        double is_tp = (double)(of->running[of->peak[peak]] - of->running[of->start[peak]]);
        for (Py_ssize_t block = 0; block < of->blocks; block++) {
            if (!has(of->seen[block][peak], of->sum_count)) return 0;
            total[block] = of->sums[of->seen[block][peak]] - before[block];
        }
        for (Py_ssize_t set = 0; set < of->sets; set++) {
            int64_t here = reached(of, is_tp / objects[set]);
            if (here < 0) return 0;
            share[set * of->peaks + peak] = (double)(here - last_reached[set]);
            last_reached[set] = here;
        }
        for (Py_ssize_t curve = 0; curve < of->curves; curve++) {
            int64_t counting = of->curve[2 * curve + 1], sum = 0;
            for (Py_ssize_t block = 0; block < of->blocks; block++) sum += -(counting >> block & 1) & total[block];
            precision[curve * of->peaks + peak] = is_tp / ((double)sum + of->epsilon);
        }
    }
    return 1;
}

/* weigh_peaks(sums i64[S], running i64[H + 1], peak, start, category i64[P], lift f64[P], curves i64[C, 2], objects, seen,
   before: tuples of i64[K], i64[P] and i64[K], recalls, next_recalls f64[101], epsilon) -> f64[C, P]: the terms whose sum
   over a category is 101 times its AP. A curve is the number of its set of objects, and one bit for each block that
   counts in it; categories ascend. See `_average` and `_shares` of bootstrap.py. */
PyObject *weigh_peaks(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[9], *objects, *seen, *before, *best = NULL, *share = NULL, *result = NULL;
    Peaks of = {0};
    if (!PyArg_ParseTuple(arguments, "OOOOOOOO!O!O!OOd", &given[0], &given[1], &given[2], &given[3], &given[4],
                          &given[5], &given[6], &PyTuple_Type, &objects, &PyTuple_Type, &seen, &PyTuple_Type, &before,
                          &given[7], &given[8], &of.epsilon))
        return NULL;
    Column column[9] = {0}, block[2 * MOST_BLOCKS] = {0}, set[MOST_SETS] = {0};
    of.blocks = PyTuple_Size(seen);
    of.sets = PyTuple_Size(objects);
    if (of.blocks > MOST_BLOCKS || of.blocks != PyTuple_Size(before) || of.sets < 1 || of.sets > MOST_SETS) {
        PyErr_SetString(PyExc_ValueError, "too many blocks, or no or too many sets of objects");
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
    if (!(of.curve = open_column(given[6], &column[6], -1, 16))) goto done;
    of.curves = column[6].view.len / 16;
    if (!(of.recalls = open_column(given[7], &column[7], RECALLS, 8))) goto done;
    if (!(of.next_recalls = open_column(given[8], &column[8], RECALLS, 8))) goto done;
    for (Py_ssize_t one = 0; one < of.sets; one++) {
        PyObject *array = PyTuple_GetItem(objects, one);
        if (!(of.objects[one] = open_column(array, &set[one], one ? of.categories : -1, 8))) goto done;
        if (!one) of.categories = set[0].view.len / 8;
    }
    for (Py_ssize_t one = 0; one < of.blocks; one++) {
        if (!(of.seen[one] = open_column(PyTuple_GetItem(seen, one), &block[2 * one], of.peaks, 8))) goto done;
        PyObject *array = PyTuple_GetItem(before, one);
        if (!(of.before[one] = open_column(array, &block[2 * one + 1], of.categories, 8))) goto done;
    }
    int good = 1;
    for (Py_ssize_t curve = 0; curve < of.curves; curve++) good &= has(of.curve[2 * curve], of.sets);
    best = PyByteArray_FromStringAndSize(NULL, 8 * of.peaks * of.curves);
    share = best ? PyByteArray_FromStringAndSize(NULL, 8 * of.peaks * of.sets) : NULL;
    if (!share) goto done;
    double *value = (double *)PyByteArray_AsString(best), *part = (double *)PyByteArray_AsString(share);
    Py_BEGIN_ALLOW_THREADS
    good = good && measure(&of, value, part);
    for (Py_ssize_t curve = 0; good && curve < of.curves; curve++, value += of.peaks) {
        const double *share_of_peak = part + of.curve[2 * curve] * of.peaks;
        double highest = 0;
        for (Py_ssize_t peak = of.peaks - 1; peak >= 0; peak--) { /* lifted, the best is one of the same category */
            double lifted = value[peak] + of.lift[peak];
            if (lifted > highest) highest = lifted;
            value[peak] = (highest - of.lift[peak]) * share_of_peak[peak];
        }
    }
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(best);
    else
        PyErr_SetString(PyExc_ValueError, "a place or a set that does not exist, or a recall outside 0 to 1");
done:
    for (int place = 0; place < 9; place++) close_column(&column[place]);
    for (int place = 0; place < 2 * MOST_BLOCKS; place++) close_column(&block[place]);
    for (int place = 0; place < MOST_SETS; place++) close_column(&set[place]);
    Py_XDECREF(best);
    Py_XDECREF(share);
    return result;
}

/* group_weights(weights i64[images], image i32[n], start i64[G + 1]) -> i64[G]: the sum of the weights of the images of
   each group of rows. */
PyObject *group_weights(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[3], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "OOO", &given[0], &given[1], &given[2])) return NULL;
    Column column[3] = {0};
    const int64_t *weight = open_column(given[0], &column[0], -1, 8), *start = NULL;
    const int32_t *image = weight ? open_column(given[1], &column[1], -1, 4) : NULL;
    Py_ssize_t images = column[0].view.len / 8, groups = image ? PyObject_Size(given[2]) - 1 : -1;
    if (image && groups < 0 && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "no edge");
    if (groups >= 0) start = open_starts(given[2], &column[2], groups, column[1].view.len / 4);
    if (start) result = PyByteArray_FromStringAndSize(NULL, 8 * groups);
    if (!result) goto done;
    int64_t *sum = (int64_t *)PyByteArray_AsString(result);
    int good = 1;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t group = 0; good && group < groups; group++) {
        int64_t total = 0;
        for (int64_t row = start[group]; good && row < start[group + 1]; row++) {
            good = (uint32_t)image[row] < (uint64_t)images;
            if (good) total += weight[image[row]];
        }
        sum[group] = total;
    }
    Py_END_ALLOW_THREADS
    if (!good) {
        Py_CLEAR(result);
        PyErr_SetString(PyExc_ValueError, "an image that does not exist");
    }
done:
    for (int place = 0; place < 3; place++) close_column(&column[place]);
    return result;
}
