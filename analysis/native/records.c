/* Lists of COCO records into columns, and JSON objects into the places of their values.

   Both read the usual spelling alone. Whatever is unusual (a text for an id, a number written as 1.0, a key twice or
   with an escape, no JSON at all) makes them return None: the caller then reads the same bytes by the rules for single
   records, which have a sentence for each fault. So they may refuse what is fine, and never accept what is not. */
#include "core.h"
#include <string.h>

enum { IMAGE, CATEGORY, SCORE, BOX, ID, AREA, CROWD, MARKED, SEGMENTATION, FIELDS, NAMED = FIELDS };
static const struct {
    const char *name; /* as a record has it, in quotation marks */
    Py_ssize_t length, width; /* of these characters; bytes of a row in its column */
} FIELD[FIELDS] = {
    {"\"image_id\"", 10, 8}, {"\"category_id\"", 13, 8}, {"\"score\"", 7, 8},
    {"\"bbox\"", 6, 32},     {"\"id\"", 4, 8},           {"\"area\"", 6, 8},
    {"\"iscrowd\"", 9, 1},   {"\"ignore\"", 8, 1},       {"\"segmentation\"", 14, 16},
};

static int read_box(Text *text, double *box) {
    if (!take(text, '[')) return 0;
    for (int side = 0; side < 4; side++) {
        if (side && !next(text, ',')) return 0;
        skip_space(text);
        if (!read_number(text, box + side)) return 0;
    }
    return next(text, ']');
}

static int read_flag(Text *text, uint8_t *flag) {
    if (skip_word(text, "true", 4)) return *flag = 1;
    *flag = 0;
    if (skip_word(text, "false", 5)) return 1;
    int64_t value;
    if (!read_whole(text, &value) || (value != 0 && value != 1)) return 0;
    *flag = (uint8_t)value;
    return 1;
}

/* Read a key and the colon behind it: the field that it names, NAMED, FIELDS + 1 for any other, -1 where it is unusual.
   `likely` is the field that is tried first. */
static int read_field(Text *text, int likely) {
    if (skip_word(text, FIELD[likely].name, FIELD[likely].length)) {
        if (!next(text, ':')) return -1;
        skip_space(text);
        return likely;
    }
    const char *key;
    Py_ssize_t length;
    if (!read_key(text, &key, &length)) return -1;
    for (int field = 0; field < FIELDS; field++)
        if (FIELD[field].length == length + 2 && !memcmp(key, FIELD[field].name + 1, (size_t)length)) return field;
    int named = (length == 9 && !memcmp(key, "file_name", 9)) || (length == 13 && !memcmp(key, "category_name", 13));
    return named ? NAMED : FIELDS + 1;
}

/* Read one record into row `row` of the columns; the fields that it has, as bits, or -1 where it is unusual. `after`
   remembers the field that came after each one in the last record, and first of all. */
static int read_record(Text *text, char **column, Py_ssize_t row, const char *start, uint8_t *after) {
    int found = 0, last = FIELDS;
    if (!take(text, '{')) return -1;
    if (next(text, '}')) return 0;
    do {
        skip_space(text);
        int field = read_field(text, after[last]);
        if (field < 0) return -1;
        if (field >= FIELDS) {
            if (field == NAMED) found |= 1 << NAMED;
            if (!skip_value(text, 0)) return -1;
            continue;
        }
        after[last] = (uint8_t)field;
        last = field;
        if (found & 1 << field) return -1; /* a key twice */
        if (field == BOX && skip_word(text, "null", 4)) continue;
        found |= 1 << field;
        char *cell = column[field] + row * FIELD[field].width;
        int good = 0;
        switch (field) {
        case IMAGE:
        case CATEGORY:
        case ID: good = read_whole(text, (int64_t *)cell); break;
        case SCORE:
        case AREA: good = read_number(text, (double *)cell); break;
        case BOX: good = read_box(text, (double *)cell); break;
        case CROWD:
        case MARKED: good = read_flag(text, (uint8_t *)cell); break;
        case SEGMENTATION:
            ((int64_t *)cell)[0] = text->at - start;
            good = skip_value(text, 0);
            ((int64_t *)cell)[1] = text->at - start;
        }
        if (!good) return -1;
    } while (next(text, ','));
    return next(text, '}') ? found : -1;
}

enum { BEFORE, INSIDE, BEHIND }; /* where in a list a text begins or ends */

/* Read the records of a list, or of a part of one that ends anywhere: of which the state at its start is given, and set
   to that at its end. A record is read where what follows it, a comma or the end of the list, is there too; `at` is then
   behind that. The number of records, or -1 where something else than white space follows the list. `all` and `any`:
   the fields of every and of some. */
static Py_ssize_t read_list(Text *text, char **column, int *state, int *all, int *any) {
    const char *start = text->at;
    Py_ssize_t rows = 0;
    uint8_t after[FIELDS + 1] = {0};
    *all = ~0;
    *any = 0;
    if (*state == BEFORE) {
        if (!next(text, '[')) return 0;
        Text behind = *text;
        *state = INSIDE;
        if (next(&behind, ']')) {
            *text = behind;
            *state = BEHIND;
        }
    }
    while (*state == INSIDE) {
        Text ahead = *text;
        skip_space(&ahead);
        for (int field = CROWD; field <= SEGMENTATION; field++)
            memset(column[field] + rows * FIELD[field].width, 0, (size_t)FIELD[field].width);
        int found = read_record(&ahead, column, rows, start, after);
        if (found < 0) return rows;
        if (next(&ahead, ']')) *state = BEHIND;
        else if (!take(&ahead, ',')) return rows;
        *text = ahead;
        *all &= found;
        *any |= found;
        rows++;
    }
    skip_space(text);
    return text->at == text->end ? rows : -1;
}

static Py_ssize_t count_objects(const char *at, Py_ssize_t length) {
    Py_ssize_t count = 0;
    const char *end = at + length;
    while ((at = memchr(at, '{', (size_t)(end - at)))) at++, count++;
    return count;
}

/* Where rows are written into the column of a field, from row `before` of the list on, with room for `most` of them; NULL,
   with an error. A column has `room` rows, `larger` from now on, or none as long as no record had its field. */
static char *open_field(PyObject *array, int field, Py_ssize_t before, Py_ssize_t most, Py_ssize_t room, Py_ssize_t larger) {
    int known = PyObject_TypeCheck(array, &PyByteArray_Type);
    Py_ssize_t size = known ? PyByteArray_Size(array) : -1, width = FIELD[field].width;
    if (size == room * width && size) {
        if (larger > room && PyByteArray_Resize(array, larger * width)) return NULL;
        return PyByteArray_AsString(array) + before * width;
    }
    if (!size) return PyByteArray_Resize(array, (before ? most : larger) * width) ? NULL : PyByteArray_AsString(array);
    PyErr_SetString(PyExc_ValueError, "the columns have different lengths");
    return NULL;
}

/* read_records(text, state, columns, before): the number of records, the fields of all and of some, the state at the end,
   and how many bytes were read; None where one is unusual, also because it has a field that none of the `before` records
   in the columns had. The records are written behind those. A column is a bytearray with room for some rows more than it
   has, or empty where no record had its field; where some have it and others not, what it holds is undefined. */
PyObject *read_records(PyObject *self, PyObject *arguments) {
    (void)self;
    Py_buffer view;
    PyObject *argument, *columns, *array[FIELDS], *result = NULL;
    char *column[FIELDS];
    int state, seen = 0; /* the fields of records before, as bits */
    Py_ssize_t before;
    if (!PyArg_ParseTuple(arguments, "OiO!n", &argument, &state, &PyTuple_Type, &columns, &before)) return NULL;
    if (PyTuple_Size(columns) != FIELDS) {
        PyErr_SetString(PyExc_ValueError, "not one column for each field");
        return NULL;
    }
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE)) return NULL;
    for (int field = 0; field < FIELDS; field++) array[field] = PyTuple_GetItem(columns, field);
    Py_ssize_t most = count_objects(view.buf, view.len) + 1; /* and the row in which another is tried */
    Py_ssize_t room = PyObject_Size(array[CROWD]);           /* one byte a row, in every record */
    if (room < 0) goto done;
    if (before < 0 || before > room) {
        PyErr_SetString(PyExc_ValueError, "the columns have fewer rows");
        goto done;
    }
    Py_ssize_t need = before + most, larger = room >= need ? room : before ? need + need / 2 : need;
    for (int field = 0; field < FIELDS; field++) {
        Py_ssize_t size = PyObject_Size(array[field]);
        if (size < 0) goto done;
        seen |= (size > 0) << field;
        if (!(column[field] = open_field(array[field], field, before, most, room, larger))) goto done;
    }
    Text text = {view.buf, (const char *)view.buf + view.len};
    int all, any;
    Py_ssize_t rows;
    Py_BEGIN_ALLOW_THREADS
    rows = read_list(&text, column, &state, &all, &any);
    Py_END_ALLOW_THREADS
    if (rows < 0 || any & 1 << NAMED || (before && any & ~seen)) {
        result = Py_NewRef(Py_None);
        goto done;
    }
    for (int field = 0; field < FIELDS; field++)
        if (field != CROWD && field != MARKED && !((any | (before ? seen : 0)) >> field & 1) &&
            PyByteArray_Resize(array[field], 0))
            goto done;
    result = Py_BuildValue("niiin", rows, all & ((1 << FIELDS) - 1), any, state,
                           (Py_ssize_t)(text.at - (const char *)view.buf));
done:
    PyBuffer_Release(&view);
    return result;
}

PyObject *split_object(PyObject *self, PyObject *argument) {
    (void)self;
    Py_buffer view;
    if (PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE)) return NULL;
    const char *start = view.buf;
    Text text = {start, start + view.len};
    PyObject *fields = PyDict_New();
    int good = fields && next(&text, '{');
    if (good && !next(&text, '}')) {
        do {
            const char *key;
            Py_ssize_t length;
            skip_space(&text);
            good = read_key(&text, &key, &length);
            if (!good) break;
            const char *value = text.at;
            good = skip_value(&text, 0);
            if (!good) break;
            PyObject *name = PyUnicode_FromStringAndSize(key, length);
            PyObject *span = name ? Py_BuildValue("nn", value - start, text.at - start) : NULL;
            good = span && !PyDict_Contains(fields, name) && !PyDict_SetItem(fields, name, span);
            Py_XDECREF(name);
            Py_XDECREF(span);
            if (!good) break;
        } while (next(&text, ','));
        good = good && next(&text, '}');
    }
    skip_space(&text);
    good = good && text.at == text.end;
    PyBuffer_Release(&view);
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) PyErr_Clear(); /* of a key: good is 0 */
    if (PyErr_Occurred()) {
        Py_XDECREF(fields);
        return NULL;
    }
    if (good) return fields;
    Py_XDECREF(fields);
    Py_RETURN_NONE;
}
