/* Masks as COCO's run lengths: decoded and checked, their area and box, and the IoU of those of an image.

   Runs are pixels column by column, background first. The arithmetic is that of pycocotools, on integers, so every
   result is equal. A mask that is not minimal (a run of 0 pixels behind the first) is marked: there pycocotools has
   results of its own, and the caller asks it. */
#include "core.h"
#include <stdlib.h>
#include <string.h>

#define LONGEST_NUMBER 7 /* characters: 35 bits, more than any difference of two runs needs */
enum { UNUSUAL = 0, GOOD = 1, MINIMAL = 3 };

typedef struct {
    uint32_t *run;
    Py_ssize_t count, room;
} Runs;

static int add_run(Runs *runs, uint32_t run) {
    if (runs->count == runs->room) {
        Py_ssize_t room = runs->room ? 2 * runs->room : 1 << 16;
        void *larger = realloc(runs->run, (size_t)room * sizeof *runs->run);
        if (!larger) return 0;
        runs->run = larger;
        runs->room = room;
    }
    runs->run[runs->count++] = run;
    return 1;
}

/* Decode compressed counts that must cover `pixels`; -1 where memory is full. `json`: a backslash escapes a mark. */
static int decode_counts(const char *at, const char *end, int json, uint64_t pixels, Runs *runs) {
    Py_ssize_t first = runs->count;
    uint64_t total = 0;
    int state = MINIMAL;
    while (at < end) {
        int64_t value = 0;
        int more = 1, length = 0;
        while (more) {
            if (at < end && json && *at == '\\') at++; /* the only one that stands for a data character is itself */
            if (at >= end || length == LONGEST_NUMBER) return UNUSUAL;
            int code = (unsigned char)*at++ - 48;
            if (code < 0 || code > 63) return UNUSUAL;
            value |= (int64_t)(code & 31) << 5 * length++;
            more = code & 32;
            if (!more && code & 16) value -= (int64_t)1 << 5 * length;
        }
        Py_ssize_t place = runs->count - first;
        if (place > 2) value += runs->run[runs->count - 2];
        if (value < 0 || (uint64_t)value > pixels - total) return UNUSUAL;
        if (value == 0 && place > 0) state = GOOD;
        total += (uint64_t)value;
        if (!add_run(runs, (uint32_t)value)) return -1;
    }
    return total == pixels ? state : UNUSUAL;
}

/* Find size and counts of {"size": [h, w], "counts": "..."}; 0 where it is written in any other way. */
static int read_rle(Text *text, int64_t *size, const char **counts, const char **counts_end) {
    int has_size = 0, has_counts = 0;
    if (!take(text, '{')) return 0;
    do {
        const char *key;
        Py_ssize_t length;
        int plain;
        skip_space(text);
        if (!read_key(text, &key, &length)) return 0;
        if (length == 4 && !memcmp(key, "size", 4) && !has_size++) {
            if (!take(text, '[')) return 0;
            skip_space(text);
            if (!read_whole(text, size) || !next(text, ',')) return 0;
            skip_space(text);
            if (!read_whole(text, size + 1) || !next(text, ']')) return 0;
        } else if (length == 6 && !memcmp(key, "counts", 6) && !has_counts++) {
            *counts = text->at + 1;
            if (!skip_string(text, &plain)) return 0;
            *counts_end = text->at - 1;
            for (const char *at = *counts; !plain && at < *counts_end; at++)
                if (*at == '\\' && *++at != '\\') return 0; /* an escape that no data character needs */
        } else {
            return 0;
        }
    } while (next(text, ','));
    return next(text, '}') && text->at == text->end && has_size && has_counts;
}

static uint32_t area_of(const uint32_t *run, Py_ssize_t count) {
    uint32_t area = 0;
    for (Py_ssize_t place = 1; place < count; place += 2) area += run[place];
    return area;
}

/* The tight box x, y, width, height of a minimal mask, as pycocotools' rleToBbox has it. */
static void box_of(const uint32_t *run, Py_ssize_t count, int64_t height, int64_t width, int32_t *box) {
    uint32_t pixel = 0, rows = (uint32_t)height, column_before = 0; /* 32 bits divide in less time */
    int64_t left = width, right = 0, top = height, bottom = 0;
    count = count / 2 * 2;
    memset(box, 0, 4 * sizeof *box);
    if (!count) return;
    for (Py_ssize_t place = 0; place < count; place++) {
        pixel += run[place];
        uint32_t at = pixel - (uint32_t)(place % 2), x = at / rows, y = at - x * rows;
        if (place % 2 == 0)
            column_before = x;
        else if (column_before < x) {
            top = 0;
            bottom = height - 1;
        }
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        if (y > bottom) bottom = y;
    }
    box[0] = (int32_t)left;
    box[1] = (int32_t)top;
    box[2] = (int32_t)(right - left + 1);
    box[3] = (int32_t)(bottom - top + 1);
}

/* decode_masks(content, spans i64[N, 2], sizes i64[N, 2] or None) -> ends u32, starts i64[N + 1], sizes i64[N, 2],
   areas f64[N], boxes i32[N, 4], states u8[N]. Without sizes each span is the JSON of an RLE, else its counts alone.
   The ends are the pixel behind each run, column by column. */
PyObject *decode_masks(PyObject *self, PyObject *arguments) {
    (void)self;
    PyObject *content, *spans, *sizes, *result = NULL, *made[5] = {0};
    Column column[3] = {0};
    Runs runs = {0};
    if (!PyArg_ParseTuple(arguments, "OOO", &content, &spans, &sizes)) return NULL;
    const char *text_start = open_column(content, &column[0], -1, 1);
    const int64_t *span = text_start ? open_column(spans, &column[1], -1, 16) : NULL;
    if (!span) goto done;
    Py_ssize_t masks = column[1].view.len / 16, end = column[0].view.len;
    const int64_t *given = NULL;
    if (sizes != Py_None && !(given = open_column(sizes, &column[2], masks, 16))) goto done;
    const Py_ssize_t width[5] = {8, 16, 8, 16, 1};
    for (int place = 0; place < 5; place++)
        if (!(made[place] = PyByteArray_FromStringAndSize(NULL, (masks + !place) * width[place]))) goto done;
    int64_t *start = (int64_t *)PyByteArray_AsString(made[0]), *size = (int64_t *)PyByteArray_AsString(made[1]);
    double *area = (double *)PyByteArray_AsString(made[2]);
    int32_t *box = (int32_t *)PyByteArray_AsString(made[3]);
    uint8_t *state = (uint8_t *)PyByteArray_AsString(made[4]);
    memset(box, 0, (size_t)masks * 16);
    const char *wrong = NULL;
    int full = 0;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t mask = 0; mask < masks && !full && !wrong; mask++) {
        const char *counts = NULL, *counts_end = NULL;
        start[mask] = runs.count;
        area[mask] = 0;
        state[mask] = UNUSUAL;
        size[2 * mask] = size[2 * mask + 1] = 0;
        int64_t low = span[2 * mask], high = span[2 * mask + 1];
        if (low < 0 || low > high || high > end) {
            wrong = "a span outside its text";
            continue;
        }
        Text text = {text_start + low, text_start + high};
        if (given) {
            memcpy(size + 2 * mask, given + 2 * mask, 16);
            counts = text.at;
            counts_end = text.end;
        } else if (!read_rle(&text, size + 2 * mask, &counts, &counts_end)) {
            continue;
        }
        int64_t rows = size[2 * mask], columns = size[2 * mask + 1];
        if (rows < 1 || columns < 1 || rows > UINT32_MAX || columns > UINT32_MAX / rows) continue;
        int found = decode_counts(counts, counts_end, !given, (uint64_t)(rows * columns), &runs);
        if (found < 0) {
            full = 1;
            continue;
        }
        if (found == UNUSUAL) {
            runs.count = start[mask];
            continue;
        }
        state[mask] = (uint8_t)found;
        uint32_t *run = runs.run + start[mask];
        Py_ssize_t count = runs.count - start[mask];
        area[mask] = area_of(run, count);
        if (found == MINIMAL) box_of(run, count, rows, columns, box + 4 * mask);
        for (Py_ssize_t place = 1; place < count; place++) run[place] += run[place - 1];
    }
    Py_END_ALLOW_THREADS
    if (full) PyErr_NoMemory();
    if (wrong) PyErr_SetString(PyExc_ValueError, wrong);
    if (full || wrong) goto done;
    start[masks] = runs.count;
    PyObject *kept = PyByteArray_FromStringAndSize((char *)runs.run, runs.count * (Py_ssize_t)sizeof *runs.run);
    if (kept) result = Py_BuildValue("NOOOOO", kept, made[0], made[1], made[2], made[3], made[4]);
done:
    for (int place = 0; place < 5; place++) Py_XDECREF(made[place]);
    for (int place = 0; place < 3; place++) close_column(&column[place]);
    free(runs.run);
    return result;
}

/* The pixels that two masks have in common, from where the runs of each end: those of odd number are foreground. */
static uint32_t common_pixels(const uint32_t *a, Py_ssize_t a_count, const uint32_t *b, Py_ssize_t b_count) {
    uint32_t common = 0;
    Py_ssize_t i = 1, j = 1;
    while (i < a_count && j < b_count) {
        uint32_t low = a[i - 1] > b[j - 1] ? a[i - 1] : b[j - 1], high = a[i] < b[j] ? a[i] : b[j];
        common += high > low ? high - low : 0;
        int a_first = a[i] <= b[j], b_first = b[j] <= a[i]; /* no branch: which one is first is hardly predictable */
        i += 2 * a_first;
        j += 2 * b_first;
    }
    return common;
}

/* The first run of odd number that ends behind a pixel. */
static Py_ssize_t first_behind(const uint32_t *end, Py_ssize_t count, uint32_t pixel) {
    Py_ssize_t low = 0, high = count / 2; /* pairs of runs */
    while (low < high) {
        Py_ssize_t middle = (low + high) / 2;
        if (end[2 * middle + 1] > pixel) high = middle;
        else low = middle + 1;
    }
    return 2 * low;
}

/* Whether two boxes have a pixel in common. */
static int meet(const int32_t *a, const int32_t *b) {
    for (int axis = 0; axis < 2; axis++)
        if (a[axis] >= (int64_t)b[axis] + b[axis + 2] || b[axis] >= (int64_t)a[axis] + a[axis + 2]) return 0;
    return 1;
}

typedef struct {
    Column column[5];
    const uint32_t *end;
    const int64_t *start, *size;
    const double *area;
    const int32_t *box;
    Py_ssize_t masks;
} Masks;

static int open_masks(PyObject *tuple, Masks *masks) {
    PyObject *part[5];
    if (!PyArg_ParseTuple(tuple, "OOOOO", &part[0], &part[1], &part[2], &part[3], &part[4])) return 0;
    if (!(masks->end = open_column(part[0], &masks->column[0], -1, 4))) return 0;
    if (!(masks->start = open_column(part[1], &masks->column[1], -1, 8))) return 0;
    masks->masks = masks->column[1].view.len / 8 - 1;
    if (!(masks->size = open_column(part[2], &masks->column[2], masks->masks, 16))) return 0;
    if (!(masks->area = open_column(part[3], &masks->column[3], masks->masks, 8))) return 0;
    if (!(masks->box = open_column(part[4], &masks->column[4], masks->masks, 16))) return 0;
    for (Py_ssize_t mask = 0; mask < masks->masks; mask++)
        if (masks->start[mask] < 0 || masks->start[mask] >= masks->start[mask + 1]) {
            PyErr_SetString(PyExc_ValueError, "a mask without runs");
            return 0;
        }
    if (masks->masks < 0 || masks->start[masks->masks] > masks->column[0].view.len / 4) {
        PyErr_SetString(PyExc_ValueError, "fewer runs than expected");
        return 0;
    }
    return 1;
}

/* pair_masks(images, detection_start, object_start, detection_row i64[n], object_row i64[m], detections, objects,
   inside bool[m]): as pair_boxes; the rows are those of the masks, which are tuples as decode_masks gives them. */
PyObject *pair_masks(PyObject *self, PyObject *arguments) {
    (void)self;
    Py_ssize_t images;
    PyObject *given[7], *result = NULL;
    if (!PyArg_ParseTuple(arguments, "nOOOOO!O!O", &images, &given[0], &given[1], &given[2], &given[3], &PyTuple_Type,
                          &given[4], &PyTuple_Type, &given[5], &given[6]))
        return NULL;
    Masks a = {0}, b = {0};
    Column column[5] = {0};
    Found found = {0};
    if (!open_masks(given[4], &a) || !open_masks(given[5], &b)) goto done;
    const int64_t *a_row = open_rows(given[2], &column[2], a.masks);
    const int64_t *b_row = a_row ? open_rows(given[3], &column[3], b.masks) : NULL;
    if (!b_row) goto done;
    const int64_t *a_start = open_starts(given[0], &column[0], images, column[2].view.len / 8);
    const int64_t *b_start = a_start ? open_starts(given[1], &column[1], images, column[3].view.len / 8) : NULL;
    const uint8_t *inside = b_start ? open_column(given[6], &column[4], column[3].view.len / 8, 1) : NULL;
    if (!inside) goto done;
    int good = 1;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t image = 0; good && image < images; image++)
        for (int64_t d = a_start[image]; good && d < a_start[image + 1]; d++)
            for (int64_t g = b_start[image]; good && g < b_start[image + 1]; g++) {
                int64_t i = a_row[d], j = b_row[g];
                if (!meet(a.box + 4 * i, b.box + 4 * j) || memcmp(a.size + 2 * i, b.size + 2 * j, 16)) continue;
                const uint32_t *a_end = a.end + a.start[i], *b_end = b.end + b.start[j];
                Py_ssize_t a_count = a.start[i + 1] - a.start[i], b_count = b.start[j + 1] - b.start[j];
                Py_ssize_t a_skip = first_behind(a_end, a_count, b_end[0]);
                Py_ssize_t b_skip = first_behind(b_end, b_count, a_end[0]);
                double both = common_pixels(a_end + a_skip, a_count - a_skip, b_end + b_skip, b_count - b_skip);
                if (both == 0) continue;
                double all = inside[g] ? a.area[i] : a.area[i] + b.area[j] - both;
                good = add_pair(&found, d, g, both / all);
            }
    Py_END_ALLOW_THREADS
    if (good) result = pairs_found(&found);
done:
    for (int place = 0; place < 5; place++) {
        close_column(&a.column[place]);
        close_column(&b.column[place]);
        close_column(&column[place]);
    }
    free_pairs(&found);
    return result;
}
