"""The compiled core, where a C compiler was there at installation: the same numbers as without it, in less time.

`core` is the module of C functions, or None: it was not built, or ``DETABLATE_NATIVE=0`` switches it off. Each place
that uses it has a counterpart in NumPy, msgspec or pycocotools beside the call; both give the same bits and sentences.

===================== =================================================================================================
``read_records``      a JSON list of COCO records, or a part of it, as columns; None where a record is unusual, which
                      the rules for single records then read (`analysis.coco.columns`)
``split_object``      where the value of each key of a JSON object stands; None where it is unusual
``decode_masks``      masks as run lengths, with area and box (`analysis.coco.run_lengths`)
``order_descending``  the order of numbers from high to low, equal ones as they stand (`analysis.arrays`)
``pair_boxes``        the boxes of each image that overlap (`analysis.evaluation.matching`); ``pair_masks`` likewise
``best_objects``      the object that each detection overlaps most; ``match_pairs`` and ``match_coco`` match greedily
                      (`analysis.evaluation.matching`)
``interpolate``       precision at recalls, from flags, and ``interpolate_hits``, from places
                      (`analysis.evaluation.average_precision`)
``hit_aps_without``   AP from the ranks of true positives after a change; so ``hit_aps_with_one``, ``hit_aps_moved``
                      (`analysis.evaluation.hit_ranks`)
``weigh_peaks``       AP where images count several times, of four resamples at a time, with ``running_weights``
                      (`analysis.stats.bootstrap`);
                      ``group_weights``: how often the images of each group of rows count (`analysis.stats.resampling`)
``parse_number``      one number of JSON as a float, correctly rounded; None where it is none
===================== =================================================================================================
"""

import os
import struct
import sys
from importlib import import_module
from typing import Any

SMALLEST_POWER, LARGEST_POWER = -64, 64  # what lies beyond is left to Python's own parser


def load_core() -> Any:
    """The module of C functions; None where it was not built, cannot be loaded or is switched off."""
    if os.environ.get("DETABLATE_NATIVE") == "0" or sys.byteorder != "little":
        return None
    try:
        built = import_module("analysis.native._core")
    except ImportError:
        return None
    built.take_powers(powers_of_five())
    return built


def powers_of_five() -> bytes:
    """The first 128 bits of 5**n for n from SMALLEST_POWER to LARGEST_POWER, which number parsing multiplies by.

    For n < 0 they are those of the reciprocal of 5**-n, rounded up (arXiv 2101.11408, section 5).
    """
    words = [SMALLEST_POWER, LARGEST_POWER]
    for exponent in range(SMALLEST_POWER, LARGEST_POWER + 1):
        power = 5 ** abs(exponent)
        if exponent >= 0:
            shift = 128 - power.bit_length()
            value = power << shift if shift >= 0 else power >> -shift
        else:
            value = (1 << (power.bit_length() + 127)) // power + 1
            value >>= max(0, value.bit_length() - 128)
        words += [value >> 64, value & (1 << 64) - 1]
    return struct.pack(f"<2q{len(words) - 2}Q", *words)


core = load_core()


def describe() -> str:
    """Whether the core is in use, for people."""
    if core is not None:
        return "in use"
    return "switched off" if os.environ.get("DETABLATE_NATIVE") == "0" else "not built"
