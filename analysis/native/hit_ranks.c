/* AP of curves that are given as the ranks of their true positives, and of what they become: hit_ranks.py. */
#include "core.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    Column column[3];
    const int64_t *hits, *start, *steps;
    Py_ssize_t curves, recalls, longest; /* longest: the most true positives of one curve */
} Curves;

/* hits i64[H], start i64[C + 1], steps i64[C, R], checked: ranks and steps from 1, steps ascending. */
static int open_curves(PyObject *hits, PyObject *start, PyObject *steps, Curves *of) {
    of->hits = open_column(hits, &of->column[0], -1, 8);
    if (!of->hits) return 0;
    Py_ssize_t count = of->column[0].view.len / 8;
    Py_ssize_t edges = PyObject_Size(start);
    if (edges < 0) return 0;
    of->curves = edges - 1;
    if (edges < 1 || !(of->start = open_starts(start, &of->column[1], of->curves, count))) goto bad;
    if (!(of->steps = open_column(steps, &of->column[2], -1, 8 * (of->curves ? of->curves : 1)))) return 0;
    of->recalls = of->curves ? of->column[2].view.len / 8 / of->curves : 0;
    int good = 1;
    for (Py_ssize_t hit = 0; hit < count; hit++) good &= of->hits[hit] > 0 && of->hits[hit] < INT64_MAX / 2;
    for (Py_ssize_t step = 0; step < of->curves * of->recalls; step++)
        good &= of->steps[step] >= (step % of->recalls ? of->steps[step - 1] : 1); /* ascending, from 1 */
    for (Py_ssize_t curve = 0; curve < of->curves; curve++) {
        Py_ssize_t length = (Py_ssize_t)(of->start[curve + 1] - of->start[curve]);
        if (length > of->longest) of->longest = length;
    }
    if (good) return 1;
bad:
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a rank or a step below 1, steps that do not ascend, or no edge");
    return 0;
}

static void close_curves(Curves *of) {
    for (int place = 0; place < 3; place++) close_column(&of->column[place]);
}

/* The sum of the precision at the recalls, in their order, over their number; `best` is the precision of each true
   positive or a later one. */
static double average(const double *best, int64_t count, const int64_t *steps, Py_ssize_t recalls) {
    double total = 0;
    for (Py_ssize_t recall = 0; recall < recalls; recall++)
        if (steps[recall] <= count) total += best[steps[recall] - 1];
    return total / (double)recalls;
}

/* hit_aps_without(hits, start, steps) -> f64[H + C]: for each curve, its AP without a wrong detection that has 0, 1, ...
   true positives before it. */
PyObject *hit_aps_without(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[3], *result = NULL;
    double *after = NULL;
    if (!PyArg_ParseTuple(arguments, "OOO", &given[0], &given[1], &given[2])) return NULL;
    Curves of = {0};
    if (!open_curves(given[0], given[1], given[2], &of)) goto done;
    if (!(after = malloc(8 * (size_t)(of.longest + 1)))) {
        PyErr_NoMemory();
        goto done;
    }
    Py_ssize_t size = of.column[0].view.len + 8 * of.curves;
    if (!(result = PyByteArray_FromStringAndSize(NULL, size))) goto done;
    double *total = (double *)PyByteArray_AsString(result);
    memset(total, 0, (size_t)size);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t curve = 0; curve < of.curves; curve++) {
        const int64_t *hits = of.hits + of.start[curve], *steps = of.steps + curve * of.recalls;
        int64_t count = of.start[curve + 1] - of.start[curve];
        for (int64_t hit = 0; hit < count; hit++)
            after[hit] = (double)(hit + 1) / (double)(hits[hit] - 1 > hit + 1 ? hits[hit] - 1 : hit + 1);
        after[count] = 0;
        best_from_here(after, count);
        for (Py_ssize_t first = 0, last; first < of.recalls && steps[first] <= count; first = last) {
            int64_t step = steps[first];
            for (last = first + 1; last < of.recalls && steps[last] == step;) last++;
            double times = (double)(last - first), best = 0;
            for (int64_t place = 0; place < step; place++) total[place] += times * after[step - 1];
            for (int64_t place = step; place <= count; place++) {
                double before = (double)place / (double)hits[place - 1];
                if (before > best) best = before;
                total[place] += times * (best > after[place] ? best : after[place]);
            }
        }
        for (int64_t place = 0; place <= count; place++) total[place] /= (double)of.recalls;
        total += count + 1;
    }
    Py_END_ALLOW_THREADS
done:
    close_curves(&of);
    free(after);
    return result;
}

/* For one more true positive at any rank: `after`, the best precision from each true positive on when these stand one
   higher in number and `shift` ranks further back; `within` [count + 1], the best of so many true positives and of those
   before, down to the last number that a recall needs. */
static void prepare_curve(const int64_t *hits, int64_t count, const int64_t *steps, Py_ssize_t recalls, int shift,
                          double *after, double *within) {
    double best = 0;
    Py_ssize_t recall = 0;
    for (int64_t hit = 0; hit < count; hit++) {
        after[hit] = (double)(hit + 2) / (double)(hits[hit] + shift);
        for (; recall < recalls && steps[recall] <= hit + 1; recall++) best = 0;
        double before = (double)(hit + 1) / (double)hits[hit];
        if (before > best) best = before;
        within[hit + 1] = best;
    }
    after[count] = 0;
    best_from_here(after, count);
}

/* hit_aps_with_one(hits, start, steps, curve i64[P], place i64[P], shift) -> f64[P]: the AP of a curve when one more
   detection, at this rank, is right, and all later true positives stand `shift` ranks further back. */
PyObject *hit_aps_with_one(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[5], *result = NULL;
    double *after = NULL, *within = NULL, *value = NULL;
    int shift;
    if (!PyArg_ParseTuple(arguments, "OOOOOi", &given[0], &given[1], &given[2], &given[3], &given[4], &shift))
        return NULL;
    Curves of = {0};
    Column column[2] = {0};
    const int64_t *curves = NULL, *places = NULL;
    if (!open_curves(given[0], given[1], given[2], &of)) goto done;
    if (!(curves = open_column(given[3], &column[0], -1, 8))) goto done;
    Py_ssize_t many = column[0].view.len / 8;
    if (!(places = open_column(given[4], &column[1], many, 8))) goto done;
    for (Py_ssize_t one = 0; one < many; one++)
        if ((uint64_t)curves[one] >= (uint64_t)of.curves || places[one] < 1) {
            PyErr_SetString(PyExc_ValueError, "a curve that does not exist, or a rank below 1");
            goto done;
        }
    after = malloc(8 * (size_t)(of.longest + 1));
    within = malloc(8 * (size_t)(of.longest + 1));
    value = malloc(8 * (size_t)(of.recalls + 1));
    if (!after || !within || !value) {
        PyErr_NoMemory();
        goto done;
    }
    if (!(result = PyByteArray_FromStringAndSize(NULL, 8 * many))) goto done;
    double *ap = (double *)PyByteArray_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    int64_t made = -1;
    for (Py_ssize_t one = 0; one < many; one++) {
        const int64_t *hits = of.hits + of.start[curves[one]], *steps = of.steps + curves[one] * of.recalls;
        int64_t count = of.start[curves[one] + 1] - of.start[curves[one]], first = 0, last = count;
        if (made != curves[one]) prepare_curve(hits, count, steps, of.recalls, shift, after, within);
        made = curves[one];
        while (first < last) { /* the true positives before the place */
            int64_t middle = (first + last) / 2;
            if (hits[middle] < places[one])
                first = middle + 1;
            else
                last = middle;
        }
        Py_ssize_t reached = of.recalls;
        while (reached > 0 && steps[reached - 1] > count + 1) reached--;
        double best = (double)(first + 1) / (double)places[one], total = 0;
        if (after[first] > best) best = after[first];
        int64_t done = first;
        for (Py_ssize_t recall = reached - 1; recall >= 0; recall--) {
            int64_t number = steps[recall] - 1;
            if (number < done) { /* between them no recall needs a number */
                if (within[done] > best) best = within[done];
                done = number;
            }
            value[recall] = number > first ? after[number - 1] : best;
        }
        for (Py_ssize_t recall = 0; recall < reached; recall++) total += value[recall];
        ap[one] = total / (double)of.recalls;
    }
    Py_END_ALLOW_THREADS
done:
    close_curves(&of);
    for (int place = 0; place < 2; place++) close_column(&column[place]);
    free(after);
    free(within);
    free(value);
    return result;
}

/* hit_aps_moved(hits, start, steps, epsilon, curve i64[P], moved i64[E], moved_start i64[P + 1], join) -> f64[P]: the AP
   of a curve which some detections leave (moved: their ranks, ascending) or join as true positives (moved: how many of
   the detections stand before each, ascending). */
PyObject *hit_aps_moved(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *given[6], *result = NULL;
    double epsilon, *best = NULL;
    int join;
    if (!PyArg_ParseTuple(arguments, "OOOdOOOp", &given[0], &given[1], &given[2], &epsilon, &given[3], &given[4],
                          &given[5], &join))
        return NULL;
    Curves of = {0};
    Column column[3] = {0};
    const int64_t *curves = NULL, *moved = NULL, *edge = NULL;
    if (!open_curves(given[0], given[1], given[2], &of)) goto done;
    if (!(curves = open_column(given[3], &column[0], -1, 8))) goto done;
    Py_ssize_t many = column[0].view.len / 8, most = 0;
    if (!(moved = open_column(given[4], &column[1], -1, 8))) goto done;
    if (!(edge = open_starts(given[5], &column[2], many, column[1].view.len / 8))) goto done;
    for (Py_ssize_t one = 0; one < many; one++) {
        if ((uint64_t)curves[one] >= (uint64_t)of.curves) {
            PyErr_SetString(PyExc_ValueError, "a curve that does not exist");
            goto done;
        }
        if (edge[one + 1] - edge[one] > most) most = (Py_ssize_t)(edge[one + 1] - edge[one]);
    }
    if (!(best = malloc(8 * (size_t)(of.longest + most + 1)))) {
        PyErr_NoMemory();
        goto done;
    }
    if (!(result = PyByteArray_FromStringAndSize(NULL, 8 * many))) goto done;
    double *ap = (double *)PyByteArray_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t one = 0; one < many; one++) {
        const int64_t *hits = of.hits + of.start[curves[one]], *change = moved + edge[one];
        int64_t count = of.start[curves[one] + 1] - of.start[curves[one]], changes = edge[one + 1] - edge[one];
        int64_t hit = 0, done = 0, number = 0;
        while (hit < count || (join && done < changes)) {
            int64_t rank;
            if (hit < count && (done == changes || hits[hit] <= change[done])) {
                rank = join ? hits[hit] + done : hits[hit] - done; /* past those that come in or go before it */
                hit++;
            } else if (join) {
                rank = change[done] + done + 1;
                done++;
            } else {
                done++;
                continue;
            }
            number++;
            best[number - 1] = (double)number / ((double)rank + epsilon);
        }
        best_from_here(best, number);
        ap[one] = average(best, number, of.steps + curves[one] * of.recalls, of.recalls);
    }
    Py_END_ALLOW_THREADS
done:
    close_curves(&of);
    for (int place = 0; place < 3; place++) close_column(&column[place]);
    free(best);
    return result;
}
