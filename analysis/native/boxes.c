/* Overlapping boxes, with the arithmetic of COCO's bbIou operation by operation, so that every bit agrees. */
#include "core.h"
#include <stdlib.h>

/* The objects of an image by their sides, and those that one detection overlaps, with their common area. */
typedef struct {
    double *left, *top, *right, *bottom, *area, *common;
    int64_t *hit;
    size_t room;
} Side;

static int make_sides(Side *side, size_t room) { /* 0, with an error: memory is full */
    if (room <= side->room) return 1;
    double *all = realloc(side->left, 7 * 8 * room);
    if (!all) {
        PyGILState_STATE lock = PyGILState_Ensure();
        PyErr_NoMemory();
        PyGILState_Release(lock);
        return 0;
    }
    *side = (Side){all,            all + room,     all + 2 * room,           all + 3 * room,
                   all + 4 * room, all + 5 * room, (int64_t *)(all + 6 * room), room};
    return 1;
}

static void take_side(Side *side, size_t row, const double *box) {
    side->left[row] = box[0];
    side->top[row] = box[1];
    side->right[row] = box[2] + box[0];
    side->bottom[row] = box[3] + box[1];
    side->area[row] = box[2] * box[3];
}

/* The rows of the objects that a box overlaps; without a branch on what is hardly predictable. */
static size_t overlapping(const Side *side, size_t count, const double *box) {
    double left = box[0], top = box[1], right = box[2] + box[0], bottom = box[3] + box[1];
    size_t hits = 0;
    for (size_t row = 0; row < count; row++) {
        double width = (right < side->right[row] ? right : side->right[row]) -
                       (left > side->left[row] ? left : side->left[row]);
        double height = (bottom < side->bottom[row] ? bottom : side->bottom[row]) -
                        (top > side->top[row] ? top : side->top[row]);
        side->hit[hits] = (int64_t)row;
        side->common[hits] = width * height;
        hits += (width > 0) & (height > 0);
    }
    return hits;
}

/* The boxes of detections and objects, and which of them are paired: rows, image by image. */
typedef struct {
    const double *detections, *objects;
    const int64_t *detection_row, *object_row;
    const uint8_t *inside;
} Boxes;

/* The pairs of an image; 0, with an error: memory is full. */
static int pair_image(Found *found, Side *side, const Boxes *of, const int64_t *d, const int64_t *g) {
    size_t count = (size_t)(g[1] - g[0]);
    if (!count || d[0] == d[1]) return 1;
    if (!make_sides(side, count)) return 0;
    for (size_t row = 0; row < count; row++) take_side(side, row, of->objects + 4 * of->object_row[g[0] + (int64_t)row]);
    for (int64_t detection = d[0]; detection < d[1]; detection++) {
        const double *box = of->detections + 4 * of->detection_row[detection];
        double area = box[2] * box[3];
        size_t hits = overlapping(side, count, box);
        for (size_t hit = 0; hit < hits; hit++) {
            int64_t row = side->hit[hit], object = g[0] + row;
            double common = side->common[hit];
            double all = of->inside[object] ? area : area + side->area[row] - common;
            if (!add_pair(found, detection, object, common / all)) return 0;
        }
    }
    return 1;
}

/* pair_boxes(images, detection_start, object_start, detection_row i64[n], object_row i64[m], detection_box f64[N, 4],
   object_box f64[M, 4], inside bool[m]): the pairs of each image with IoU > 0, as places in the rows, which are image by
   image; boxes are x, y, width, height. */
PyObject *pair_boxes(PyObject *self, PyObject *arguments) {
    (void)self;
    Py_ssize_t images;
    PyObject *given[7], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "nOOOOOOO", &images, &given[0], &given[1], &given[2], &given[3], &given[4], &given[5],
                          &given[6]))
        return NULL;
    Column column[7] = {0};
    Found found = {0};
    Side side = {0};
    Boxes of = {0};
    if (!(of.detections = open_column(given[4], &column[4], -1, 32))) goto done;
    if (!(of.objects = open_column(given[5], &column[5], -1, 32))) goto done;
    if (!(of.detection_row = open_rows(given[2], &column[2], column[4].view.len / 32))) goto done;
    if (!(of.object_row = open_rows(given[3], &column[3], column[5].view.len / 32))) goto done;
    Py_ssize_t detections = column[2].view.len / 8, objects = column[3].view.len / 8;
    if (!(of.inside = open_column(given[6], &column[6], objects, 1))) goto done;
    const int64_t *d_start = open_starts(given[0], &column[0], images, detections);
    const int64_t *g_start = d_start ? open_starts(given[1], &column[1], images, objects) : NULL;
    if (!g_start) goto done;
    int good = 1;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t image = 0; good && image < images; image++)
        good = pair_image(&found, &side, &of, d_start + image, g_start + image);
    Py_END_ALLOW_THREADS
    if (good) result = pairs_found(&found);
done:
    for (int place = 0; place < 7; place++) close_column(&column[place]);
    free_pairs(&found);
    free(side.left);
    return result;
}
