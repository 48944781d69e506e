/* Overlapping boxes, with the arithmetic of COCO's bbIou operation by operation, so that every bit agrees. */
#include "core.h"
#include <stdlib.h>

/* The objects of an image by their sides, and those that one detection overlaps, with their common area. */
typedef struct {
    double *left, *top, *right, *bottom, *area, *common;
    int64_t *hit;
    size_t room;
} Side;

static int make_sides(Side *side, size_t room) { /* 0: memory is full */
    if (room <= side->room) return 1;
    double *all = realloc(side->left, 7 * 8 * room);
    if (!all) return 0;
    *side = (Side){all,            all + room,     all + 2 * room,           all + 3 * room,
                   all + 4 * room, all + 5 * room, (int64_t *)(all + 6 * room), room};
    return 1;
}

static void take_sides(Side *side, const double *box, size_t count) {
    for (size_t row = 0; row < count; row++, box += 4) {
        side->left[row] = box[0];
        side->top[row] = box[1];
        side->right[row] = box[2] + box[0];
        side->bottom[row] = box[3] + box[1];
        side->area[row] = box[2] * box[3];
    }
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

/* 0: memory is full. */
static int pair_image(Found *found, Side *side, const double *detections, const double *objects, const uint8_t *inside,
                      const int64_t *d, const int64_t *g) {
    size_t count = (size_t)(g[1] - g[0]);
    if (!count || d[0] == d[1]) return 1;
    if (!make_sides(side, count)) return 0;
    take_sides(side, objects + 4 * g[0], count);
    for (int64_t detection = d[0]; detection < d[1]; detection++) {
        const double *box = detections + 4 * detection;
        double area = box[2] * box[3];
        size_t hits = overlapping(side, count, box);
        for (size_t hit = 0; hit < hits; hit++) {
            int64_t row = side->hit[hit], object = g[0] + row;
            double common = side->common[hit];
            double all = inside[object] ? area : area + side->area[row] - common;
            if (!add_pair(found, detection, object, common / all)) return 0;
        }
    }
    return 1;
}

/* pair_boxes(images, detection_start, object_start, detection_box f64[n, 4], object_box f64[m, 4], inside bool[m]):
   the pairs of each image with IoU > 0, rows counted in the order given; boxes are x, y, width, height. */
PyObject *pair_boxes(PyObject *self, PyObject *arguments) {
    (void)self;
    Py_ssize_t images;
    PyObject *given[5], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "nOOOOO", &images, &given[0], &given[1], &given[2], &given[3], &given[4]))
        return NULL;
    Column column[5] = {0};
    Found found = {0};
    Side side = {0};
    const double *detections = open_column(given[2], &column[2], -1, 32);
    const double *objects = detections ? open_column(given[3], &column[3], -1, 32) : NULL;
    const uint8_t *inside = objects ? open_column(given[4], &column[4], column[3].view.len / 32, 1) : NULL;
    const int64_t *d_start = inside ? open_starts(given[0], &column[0], images, column[2].view.len / 32) : NULL;
    const int64_t *g_start = d_start ? open_starts(given[1], &column[1], images, column[3].view.len / 32) : NULL;
    if (!g_start) goto done;
    int good = 1;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t image = 0; good && image < images; image++)
        good = pair_image(&found, &side, detections, objects, inside, d_start + image, g_start + image);
    Py_END_ALLOW_THREADS
    if (good)
        result = pairs_found(&found);
    else
        PyErr_NoMemory();
done:
    for (int place = 0; place < 5; place++) close_column(&column[place]);
    free_pairs(&found);
    free(side.left);
    return result;
}
