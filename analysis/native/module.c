/* The functions of the compiled core as Python sees them. */
#include "core.h"

static PyMethodDef functions[] = {
    {"take_powers", take_powers, METH_O, NULL},
    {"parse_number", parse_number, METH_O, NULL},
    {"read_records", read_records, METH_VARARGS, NULL},
    {"split_object", split_object, METH_O, NULL},
    {"order_by_index", order_by_index, METH_VARARGS, NULL},
    {"order_descending", order_descending, METH_O, NULL},
    {"pair_boxes", pair_boxes, METH_VARARGS, NULL},
    {"best_objects", best_objects, METH_VARARGS, NULL},
    {"match_pairs", match_pairs, METH_VARARGS, NULL},
    {"match_coco", match_coco, METH_VARARGS, NULL},
    {"interpolate", interpolate, METH_VARARGS, NULL},
    {"interpolate_hits", interpolate_hits, METH_VARARGS, NULL},
    {"hit_aps_without", hit_aps_without, METH_VARARGS, NULL},
    {"hit_aps_with_one", hit_aps_with_one, METH_VARARGS, NULL},
    {"hit_aps_moved", hit_aps_moved, METH_VARARGS, NULL},
    {"running_weights", running_weights, METH_VARARGS, NULL},
    {"weigh_peaks", weigh_peaks, METH_VARARGS, NULL},
    {"group_weights", group_weights, METH_VARARGS, NULL},
    {"decode_masks", decode_masks, METH_VARARGS, NULL},
    {"pair_masks", pair_masks, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", NULL, -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&module); }
