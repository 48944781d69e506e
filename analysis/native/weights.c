/* Sums over detections and objects whose images count several times, or not at all: the resamples of bootstrap.py. */
#include "core.h"
#include <stdlib.h>

enum { MOST_BLOCKS = 62, MOST_SETS = 16, RECALLS = 101 }; /* a curve has a bit for each block */

typedef struct {
    const int64_t *sums, *running, *first, *category, *curve, *objects[MOST_SETS];
    const int32_t *seen[MOST_BLOCKS], *before[MOST_BLOCKS];
    const double *lift, *recalls, *next_recalls;
    Py_ssize_t sum_count, peaks, occupied, longest, categories, blocks, sets, curves;
    double epsilon;
} Peaks;

/* How many of the recalls are reached at a recall of 0 to 1; -1: it is another number. */
static int64_t reached(const Peaks *of, double recall) {
    if (!(recall >= 0 && recall <= 1)) return -1;
    int64_t guess = (int64_t)(recall * 100);
    return guess + 1 + (recall >= of->next_recalls[guess]) - (recall < of->recalls[guess]);
}

static int has(const int64_t index, Py_ssize_t count) { return (uint64_t)index < (uint64_t)count; }

/* For the peaks of the category at one place of `category`: their precision on each curve, to terms [C, P], and of how
   many recalls, under each set of objects that counts, each is the first to reach them, to share [S, longest]; 0 where
   an index does not exist. */
static int measure(const Peaks *of, Py_ssize_t place, double *terms, double *share) {
    int64_t category = of->category[place], last_reached[MOST_SETS] = {0}, before[MOST_BLOCKS], total[MOST_BLOCKS];
    double objects[MOST_SETS];
    if (!has(category, of->categories)) return 0;
    for (Py_ssize_t block = 0; block < of->blocks; block++) {
        if (!has(of->before[block][place], of->sum_count)) return 0;
        before[block] = of->sums[of->before[block][place]];
    }
    for (Py_ssize_t set = 0; set < of->sets; set++) {
        int64_t count = of->objects[set][category];
        objects[set] = (double)(count > 1 ? count : 1);
    }
    int64_t first = of->first[place], last = of->first[place + 1];
    for (int64_t peak = first; peak < last; peak++) {
        double is_tp = (double)(of->running[peak + 1] - of->running[first]);
        for (Py_ssize_t block = 0; block < of->blocks; block++) {
            if (!has(of->seen[block][peak], of->sum_count)) return 0;
            total[block] = of->sums[of->seen[block][peak]] - before[block];
        }
        for (Py_ssize_t set = 0; set < of->sets; set++) {
            int64_t here = reached(of, is_tp / objects[set]);
            if (here < 0) return 0;
            share[set * of->longest + (peak - first)] = (double)(here - last_reached[set]);
            last_reached[set] = here;
        }
        for (Py_ssize_t curve = 0; curve < of->curves; curve++) {
            int64_t counting = of->curve[2 * curve + 1], sum = 0;
            for (Py_ssize_t block = 0; block < of->blocks; block++) sum += -(counting >> block & 1) & total[block];
            terms[curve * of->peaks + peak] = is_tp / ((double)sum + of->epsilon);
        }
    }
    return 1;
}

/* The terms of these peaks, from their precision: lifted, the best from here on is one of the same category. */
static void sum_up(const Peaks *of, Py_ssize_t place, double *terms, const double *share) {
    int64_t first = of->first[place], last = of->first[place + 1];
    double lift = of->lift[place];
    for (Py_ssize_t curve = 0; curve < of->curves; curve++) {
        const double *share_of_peak = share + of->curve[2 * curve] * of->longest;
        double *value = terms + curve * of->peaks, highest = 0;
        for (int64_t peak = last - 1; peak >= first; peak--) {
            double lifted = value[peak] + lift;
            if (lifted > highest) highest = lifted;
            value[peak] = (highest - lift) * share_of_peak[peak - first];
        }
    }
}

/* weigh_peaks(sums i64[S], running i64[P + 1], first i64[Q + 1], category i64[Q], lift f64[Q], curves i64[C, 2],
   objects, seen, before: tuples of i64[K], i32[P] and i32[Q], recalls, next_recalls f64[101], epsilon) -> f64[C, P]: the
   terms whose sum over a category is 101 times its AP. The peaks of category[q] begin at first[q]. A curve is the number
   of its set of objects, and one bit for each block that counts in it. See `_average` and `_shares` of bootstrap.py. */
PyObject *weigh_peaks(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[8], *objects, *seen, *before, *terms = NULL, *result = NULL;
    double *share = NULL;
    Peaks of = {0};
    if (!PyArg_ParseTuple(arguments, "OOOOOOO!O!O!OOd", &given[0], &given[1], &given[2], &given[3], &given[4], &given[5],
                          &PyTuple_Type, &objects, &PyTuple_Type, &seen, &PyTuple_Type, &before, &given[6], &given[7],
                          &of.epsilon))
        return NULL;
    Column column[8] = {0}, block[2 * MOST_BLOCKS] = {0}, set[MOST_SETS] = {0};
    of.blocks = PyTuple_Size(seen);
    of.sets = PyTuple_Size(objects);
    if (of.blocks > MOST_BLOCKS || of.blocks != PyTuple_Size(before) || of.sets < 1 || of.sets > MOST_SETS) {
        PyErr_SetString(PyExc_ValueError, "too many blocks, or no or too many sets of objects");
        return NULL;
    }
    if (!(of.sums = open_column(given[0], &column[0], -1, 8))) goto done;
    of.sum_count = column[0].view.len / 8;
    if (!(of.running = open_column(given[1], &column[1], -1, 8))) goto done;
    of.peaks = column[1].view.len / 8 - 1;
    if (!(of.category = open_column(given[3], &column[3], -1, 8))) goto done;
    of.occupied = column[3].view.len / 8;
    if (!(of.first = open_starts(given[2], &column[2], of.occupied, of.peaks))) goto done;
    if (!(of.lift = open_column(given[4], &column[4], of.occupied, 8))) goto done;
    if (!(of.curve = open_column(given[5], &column[5], -1, 16))) goto done;
    of.curves = column[5].view.len / 16;
    if (!(of.recalls = open_column(given[6], &column[6], RECALLS, 8))) goto done;
    if (!(of.next_recalls = open_column(given[7], &column[7], RECALLS, 8))) goto done;
    for (Py_ssize_t one = 0; one < of.sets; one++) {
        PyObject *array = PyTuple_GetItem(objects, one);
        if (!(of.objects[one] = open_column(array, &set[one], one ? of.categories : -1, 8))) goto done;
        if (!one) of.categories = set[0].view.len / 8;
    }
    for (Py_ssize_t one = 0; one < of.blocks; one++) {
        if (!(of.seen[one] = open_column(PyTuple_GetItem(seen, one), &block[2 * one], of.peaks, 4))) goto done;
        PyObject *array = PyTuple_GetItem(before, one);
        if (!(of.before[one] = open_column(array, &block[2 * one + 1], of.occupied, 4))) goto done;
    }
    int good = 1;
    for (Py_ssize_t curve = 0; curve < of.curves; curve++) good &= has(of.curve[2 * curve], of.sets);
    for (Py_ssize_t place = 0; place < of.occupied; place++) {
        Py_ssize_t length = (Py_ssize_t)(of.first[place + 1] - of.first[place]);
        if (length > of.longest) of.longest = length;
    }
    if (!(share = malloc(8 * (size_t)(of.sets * of.longest + 1)))) {
        PyErr_NoMemory();
        goto done;
    }
    if (!(terms = PyByteArray_FromStringAndSize(NULL, 8 * of.peaks * of.curves))) goto done;
    double *term = (double *)PyByteArray_AsString(terms);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t place = 0; good && place < of.occupied; place++) {
        good = measure(&of, place, term, share);
        if (good) sum_up(&of, place, term, share);
    }
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(terms);
    else
        PyErr_SetString(PyExc_ValueError, "a place or a set that does not exist, or a recall outside 0 to 1");
done:
    for (int place = 0; place < 8; place++) close_column(&column[place]);
    for (int place = 0; place < 2 * MOST_BLOCKS; place++) close_column(&block[place]);
    for (int place = 0; place < MOST_SETS; place++) close_column(&set[place]);
    Py_XDECREF(terms);
    free(share);
    return result;
}

/* group_weights(weights i32[images], image i32[n], start i64[G + 1]) -> i64[G]: the sum of the weights of the images of
   each group of rows. */
PyObject *group_weights(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[3], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "OOO", &given[0], &given[1], &given[2])) return NULL;
    Column column[3] = {0};
    const int32_t *weight = open_column(given[0], &column[0], -1, 4), *image = NULL;
    const int64_t *start = NULL;
    image = weight ? open_column(given[1], &column[1], -1, 4) : NULL;
    Py_ssize_t images = column[0].view.len / 4, groups = image ? PyObject_Size(given[2]) - 1 : -1;
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
