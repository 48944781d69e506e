/* Overlapping boxes, with the arithmetic of COCO's bbIou operation by operation, so that every bit agrees. */
#include "core.h"

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
    const double *detections = open_column(given[2], &column[2], -1, 32);
    const double *objects = detections ? open_column(given[3], &column[3], -1, 32) : NULL;
    const uint8_t *inside = objects ? open_column(given[4], &column[4], column[3].view.len / 32, 1) : NULL;
    const int64_t *d_start = inside ? open_starts(given[0], &column[0], images, column[2].view.len / 32) : NULL;
    const int64_t *g_start = d_start ? open_starts(given[1], &column[1], images, column[3].view.len / 32) : NULL;
    if (!g_start) goto done;
    for (Py_ssize_t image = 0; image < images; image++)
        for (int64_t d = d_start[image]; d < d_start[image + 1]; d++) {
            const double *a = detections + 4 * d;
            double right = a[2] + a[0], bottom = a[3] + a[1], area = a[2] * a[3];
            for (int64_t g = g_start[image]; g < g_start[image + 1]; g++) {
                const double *b = objects + 4 * g;
                double b_right = b[2] + b[0], b_bottom = b[3] + b[1];
                double width = (right < b_right ? right : b_right) - (a[0] > b[0] ? a[0] : b[0]);
                if (!(width > 0)) continue;
                double height = (bottom < b_bottom ? bottom : b_bottom) - (a[1] > b[1] ? a[1] : b[1]);
                if (!(height > 0)) continue;
                double common = width * height;
                double all = inside[g] ? area : area + b[2] * b[3] - common;
                if (!add_pair(&found, d, g, common / all)) goto done;
            }
        }
    result = pairs_found(&found);
done:
    for (int place = 0; place < 5; place++) close_column(&column[place]);
    free_pairs(&found);
    return result;
}
