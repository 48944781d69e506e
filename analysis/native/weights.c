/* Sums over detections and objects whose images count several times, or not at all: the resamples of bootstrap.py. */
#include "core.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_BLOCKS = 62, MOST_SETS = 16, RECALLS = 101 }; /* a curve has a bit for each block */

/* Four resamples are measured side by side: what is done for one is done for all, and each array is read once. */
enum { LANES = 4, LANE = 4 * LANES }; /* LANE: bytes of a row of 32-bit numbers */

/* running_weights(weights i32[images, 4], image i32[n]) -> i32[n + 1, 4]: the running sums of the weights of images, from
   0. */
PyObject *running_weights(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[2], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "OO", &given[0], &given[1])) return NULL;
    Column column[2] = {0};
    const uint32_t *weight = open_column(given[0], &column[0], -1, LANE); /* unsigned: a sum that does not fit wraps */
    const int32_t *image = weight ? open_column(given[1], &column[1], -1, 4) : NULL;
    Py_ssize_t images = column[0].view.len / LANE, count = column[1].view.len / 4;
    if (image) result = PyByteArray_FromStringAndSize(NULL, LANE * (count + 1));
    if (!result) goto done;
    uint32_t *sum = (uint32_t *)PyByteArray_AsString(result), total[LANES] = {0};
    int good = 1;
    Py_BEGIN_ALLOW_THREADS
    memset(sum, 0, LANE);
    for (Py_ssize_t row = 0; good && row < count; row++) {
        good = (uint32_t)image[row] < (uint64_t)images;
        if (!good) break;
        const uint32_t *here = weight + LANES * (Py_ssize_t)image[row];
        for (int lane = 0; lane < LANES; lane++) sum[LANES * (row + 1) + lane] = total[lane] += here[lane];
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
    const int64_t *first, *category, *curve, *objects[MOST_SETS];
    const int32_t *peak, *seen[MOST_BLOCKS], *before[MOST_BLOCKS];
    const uint32_t *sums, *running;
    const double *lift, *recalls, *next_recalls;
    Py_ssize_t sum_count, running_count, peaks, occupied, longest, categories, blocks, sets, curves;
    double epsilon;
} Peaks;

/* Of the peaks of one category, [longest, 4] each. */
typedef struct {
    double *is_tp;
    double *share;  /* [S]: of how many recalls, under each set of objects that counts, a peak is the first to reach them */
    uint32_t *total; /* [B]: the detections of each block before it */
    uint32_t *seen;  /* those of all blocks that count in a curve */
    double *value;   /* recalls, then precisions */
} Scratch;

/* How many of the recalls are reached at a recall of 0 to 1; -1: it is another number. */
static int64_t reached(const Peaks *of, double recall) {
    if (!(recall >= 0 && recall <= 1)) return -1;
    int64_t guess = (int64_t)(recall * 100);
    return guess + 1 + (recall >= of->next_recalls[guess]) - (recall < of->recalls[guess]);
}

static int has(const int64_t index, Py_ssize_t count) { return (uint64_t)index < (uint64_t)count; }

/* The sums for the peaks of the category at one place of `category`; 0 where an index does not exist. */
static int count_category(const Peaks *of, Py_ssize_t place, const Scratch *in) {
    int64_t category = of->category[place], first = of->first[place], count = of->first[place + 1] - first;
    const int32_t *peak = of->peak + first;
    int64_t begin = first ? of->peak[first - 1] : 0; /* the true positives before the category */
    if (!has(category, of->categories) || !has(begin, of->running_count)) return 0;
    const uint32_t *start = of->running + LANES * begin;
    for (int64_t one = 0; one < count; one++) {
        if (!has(peak[one], of->running_count)) return 0;
        const uint32_t *here = of->running + LANES * (Py_ssize_t)peak[one];
        for (int lane = 0; lane < LANES; lane++) in->is_tp[LANES * one + lane] = (double)(int32_t)(here[lane] - start[lane]);
    }
    for (Py_ssize_t block = 0; block < of->blocks; block++) {
        const int32_t *seen = of->seen[block] + first;
        uint32_t *total = in->total + LANES * block * of->longest;
        if (!has(of->before[block][place], of->sum_count)) return 0;
        const uint32_t *before = of->sums + LANES * (Py_ssize_t)of->before[block][place];
        for (int64_t one = 0; one < count; one++) {
            if (!has(seen[one], of->sum_count)) return 0;
            const uint32_t *here = of->sums + LANES * (Py_ssize_t)seen[one];
            for (int lane = 0; lane < LANES; lane++) total[LANES * one + lane] = here[lane] - before[lane];
        }
    }
    for (Py_ssize_t set = 0; set < of->sets; set++) {
        double *share = in->share + LANES * set * of->longest, all[LANES];
        int64_t before[LANES] = {0};
        for (int lane = 0; lane < LANES; lane++) {
            int64_t objects = of->objects[set][lane * of->categories + category];
            all[lane] = (double)(objects > 1 ? objects : 1);
        }
        for (int64_t one = 0; one < count; one++)
            for (int lane = 0; lane < LANES; lane++) in->value[LANES * one + lane] = in->is_tp[LANES * one + lane] / all[lane];
        for (int64_t one = 0; one < count; one++)
            for (int lane = 0; lane < LANES; lane++) {
                int64_t here = reached(of, in->value[LANES * one + lane]);
                if (here < 0) return 0;
                share[LANES * one + lane] = (double)(here - before[lane]);
                before[lane] = here;
            }
    }
    return 1;
}

/* The terms of these peaks on each curve, [4, C, P]: lifted, the best precision from here on is one of the same category. */
static void weigh_category(const Peaks *of, Py_ssize_t place, const Scratch *in, double *terms) {
    int64_t first = of->first[place], count = of->first[place + 1] - first;
    double lift = of->lift[place];
    for (Py_ssize_t curve = 0; curve < of->curves; curve++) {
        const double *share = in->share + LANES * of->curve[2 * curve] * of->longest;
        int64_t counting = of->curve[2 * curve + 1];
        memset(in->seen, 0, (size_t)(LANE * count));
        for (Py_ssize_t block = 0; block < of->blocks; block++)
            if (counting >> block & 1) {
                const uint32_t *total = in->total + LANES * block * of->longest;
                for (int64_t one = 0; one < LANES * count; one++) in->seen[one] += total[one];
            }
        for (int64_t one = 0; one < LANES * count; one++)
            in->value[one] = in->is_tp[one] / ((double)(int32_t)in->seen[one] + of->epsilon) + lift;
        double *term = terms + curve * of->peaks + first, highest[LANES] = {0};
        for (int64_t one = count - 1; one >= 0; one--)
            for (int lane = 0; lane < LANES; lane++) {
                double lifted = in->value[LANES * one + lane];
                highest[lane] = lifted > highest[lane] ? lifted : highest[lane];
                term[lane * of->curves * of->peaks + one] = (highest[lane] - lift) * share[LANES * one + lane];
            }
    }
}

/* weigh_peaks(sums i32[S, 4], running i32[H + 1, 4], peak i32[P], first i64[Q + 1], category i64[Q], lift f64[Q], curves
   i64[C, 2], objects, seen, before: tuples of i64[4, K], i32[P] and i32[Q], recalls, next_recalls f64[101], epsilon) ->
   f64[4, C, P]: the terms whose sum over a category is 101 times its AP. The peaks of category[q] begin at first[q]. A curve
   is the number of its set of objects, and one bit for each block that counts in it. See `_average` and `_shares` of
   bootstrap.py. */
PyObject *weigh_peaks(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[9], *objects, *seen, *before, *terms = NULL, *result = NULL;
    Scratch in = {0};
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
    if (!(of.sums = open_column(given[0], &column[0], -1, LANE))) goto done;
    of.sum_count = column[0].view.len / LANE;
    if (!(of.running = open_column(given[1], &column[1], -1, LANE))) goto done;
    of.running_count = column[1].view.len / LANE;
    if (!(of.peak = open_column(given[2], &column[2], -1, 4))) goto done;
    of.peaks = column[2].view.len / 4;
    if (!(of.category = open_column(given[4], &column[4], -1, 8))) goto done;
    of.occupied = column[4].view.len / 8;
    if (!(of.first = open_starts(given[3], &column[3], of.occupied, of.peaks))) goto done;
    if (!(of.lift = open_column(given[5], &column[5], of.occupied, 8))) goto done;
    if (!(of.curve = open_column(given[6], &column[6], -1, 16))) goto done;
    of.curves = column[6].view.len / 16;
    if (!(of.recalls = open_column(given[7], &column[7], RECALLS, 8))) goto done;
    if (!(of.next_recalls = open_column(given[8], &column[8], RECALLS, 8))) goto done;
    for (Py_ssize_t one = 0; one < of.sets; one++) {
        PyObject *array = PyTuple_GetItem(objects, one);
        if (!(of.objects[one] = open_column(array, &set[one], one ? of.categories : -1, 8 * LANES))) goto done;
        if (!one) of.categories = set[0].view.len / (8 * LANES);
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
    size_t longest = (size_t)of.longest;
    in.is_tp = malloc(8 * LANES * longest + 1);
    in.share = malloc(8 * LANES * (size_t)of.sets * longest + 1);
    in.total = malloc(LANE * (size_t)of.blocks * longest + 1);
    in.seen = malloc(LANE * longest + 1);
    in.value = malloc(8 * LANES * longest + 1);
    if (!in.is_tp || !in.share || !in.total || !in.seen || !in.value) {
        PyErr_NoMemory();
        goto done;
    }
    if (!(terms = PyByteArray_FromStringAndSize(NULL, 8 * LANES * of.peaks * of.curves))) goto done;
    double *term = (double *)PyByteArray_AsString(terms);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t place = 0; good && place < of.occupied; place++) {
        good = count_category(&of, place, &in);
        if (good) weigh_category(&of, place, &in, term);
    }
    Py_END_ALLOW_THREADS
    if (good)
        result = Py_NewRef(terms);
    else
        PyErr_SetString(PyExc_ValueError, "a place or a set that does not exist, or a recall outside 0 to 1");
done:
    for (int place = 0; place < 9; place++) close_column(&column[place]);
    for (int place = 0; place < 2 * MOST_BLOCKS; place++) close_column(&block[place]);
    for (int place = 0; place < MOST_SETS; place++) close_column(&set[place]);
    Py_XDECREF(terms);
    free(in.is_tp);
    free(in.share);
    free(in.total);
    free(in.seen);
    free(in.value);
    return result;
}

/* group_weights(weights i32[images], image i32[n], start i64[G + 1]) -> i64[G]: the sum of the weights of the images of
   each group of rows. */
PyObject *group_weights(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[3], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "OOO", &given[0], &given[1], &given[2])) return NULL;
    Column column[3] = {0};
    const int32_t *weight = open_column(given[0], &column[0], -1, 4);
    const int32_t *image = weight ? open_column(given[1], &column[1], -1, 4) : NULL;
    const int64_t *start = NULL;
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
