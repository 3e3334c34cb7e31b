"""The compiled loops of a dissection with default options, and the types with which it calls them.

What is missing here is compiled when it is first called. `tests/dissect/test_default_loops.py` compares this list with
what a run compiles.
"""

from typing import Any

from numba import types

from netdissect.activations import histogram, image_values, store, top_images, topk
from netdissect.concepts import label_sets
from netdissect.config import StatisticsConfig
from netdissect.process.early_compiler import LoopTypes
from netdissect.scoring import kernel, kernel_arrays
from netdissect.scoring.per_image_counts import ImageIntersections
from netdissect.scoring.statistics import bootstrap, jackknife, permutation, permutation_kernel

_tuple_type: Any = types.BaseTuple.from_types


def default_loops(statistics: StatisticsConfig, *, permutes: bool, on_device: bool = False) -> list[list[LoopTypes]]:
    """Return the loops of a dissection in two shares to compile at the same time, each in the order of use.

    Parameters
    ----------
    statistics
        Of the run.
    permutes
        Whether the run has a permutation test.
    on_device
        Whether thresholds and counts are taken in tensor code, on the device of the forward pass.
    """
    permutations = _permutation_loops() if permutes else []
    intervals = _interval_loops() if statistics.bootstrap else []
    if on_device:
        return [permutations, [SPLIT_SETS, *intervals]]
    return [[*_counting_loops(), *intervals], [*_threshold_loops(), *permutations]]


def _array(dtype: Any, *dimensions: int, readonly: bool = False) -> Any:
    """Return the type of an array, or of a tuple of arrays."""
    arrays = [types.Array(dtype, one, "C", readonly=readonly) for one in dimensions]
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


INTS, INTS_2, INTS_3 = _array(types.int64, 1, 2, 3)
FLOATS, FLOATS_2, FLOATS_3, FLOATS_4 = _array(types.float32, 1, 2, 3, 4)
DOUBLES, DOUBLES_2 = _array(types.float64, 1, 2)
LABELS, LABELS_2, LABELS_3 = _array(types.int32, 1, 2, 3)
BITS, BITS_2 = _array(types.uint8, 1, 2)
FLAGS, FLAGS_2 = _array(types.boolean, 1, 2)
WORDS, WORDS_2, WORDS_3 = _array(types.uint64, 1, 2, 3)
STARTS, STARTS_2, STARTS_3 = _array(types.uint32, 1, 2, 3)
READ_BITS, READ_FLOATS = _array(types.uint8, 1, readonly=True), _array(types.float32, 1, readonly=True)
SPLIT_SETS: LoopTypes = (label_sets._split_sets, (LABELS, LABELS, LABELS, INTS, LABELS))


def _tuple(*fields: Any) -> Any:
    return _tuple_type(fields)


def _named(named_tuple: type, *fields: Any) -> Any:
    return _tuple_type(fields, named_tuple)


def _label_arrays(index_map: Any) -> Any:
    return _named(kernel_arrays.LabelArrays, index_map, *(INTS,) * 5, INTS_2)


def _threshold_loops() -> list[LoopTypes]:
    units = _tuple(types.int64, types.int64)
    return [
        (image_values._largest, (FLOATS_2, FLOATS)),
        (histogram._count, (LABELS_3, LABELS, INTS_2, units)),
        (histogram._find_bins, (INTS_2, types.int64, INTS)),
        (topk._keep_largest, (FLOATS_3, FLOATS_2, INTS, FLOATS_2, INTS, FLOATS, types.int64, units)),
        (top_images._insert, (FLOATS_4, FLOATS_2, INTS, INTS_2, FLOATS_2, INTS_2, FLOATS_4)),
        (store._select, (FLOATS_4, FLAGS_2, FLOATS, BITS_2, BITS, FLOATS)),
        SPLIT_SETS,
        (store._scatter, (FLAGS, READ_BITS, READ_FLOATS, FLOATS_2)),
    ]


def _counting_loops() -> list[LoopTypes]:
    axis = _named(kernel_arrays.AxisArrays, WORDS, DOUBLES, DOUBLES)
    scratch = (BITS_2, DOUBLES_2, FLOATS, LABELS_2, FLAGS, INTS, INTS_2, LABELS_3, INTS, INTS, INTS_3)
    arguments = (
        FLOATS_4,
        FLOATS_4,
        _named(kernel_arrays.Counting, FLOATS_2, INTS, INTS_2, types.int64, types.int64, INTS, types.int64),
        _named(kernel_arrays.UpsamplerArrays, axis, axis, types.boolean),
        _label_arrays(LABELS_3),
        _named(kernel_arrays.CountArrays, *(INTS_3,) * 3, INTS_2, INTS_2),
        _named(kernel_arrays.Scratch, *scratch),
        _named(kernel_arrays.MaskTables, *(INTS_2,) * 4, INTS, INTS),
    )
    return [(kernel._count_images, arguments)]


def _permutation_loops() -> list[LoopTypes]:
    lanes = _named(permutation_kernel.Lanes, INTS, INTS, INTS, WORDS_2, WORDS_3)
    arguments = (
        _named(permutation.StratumMasks, INTS, INTS, STARTS, INTS, STARTS, STARTS),
        _label_arrays(_array(types.uint16, 3)),
        _tuple(INTS_2, INTS_3),
        INTS,
        _tuple(lanes, WORDS_2, STARTS_2, WORDS),
        _tuple(STARTS_3, INTS_3),
        FLAGS,
    )
    best = _named(permutation.BestConcepts, LABELS_2, DOUBLES_2)
    return [
        (permutation_kernel._count_images, arguments),
        (permutation._find_best, (INTS_2, INTS_2, INTS, INTS, INTS, best)),
    ]


def _interval_loops() -> list[LoopTypes]:
    masks = _named(ImageIntersections, *(INTS,) * 7)
    pairs = _named(jackknife.PairArrays, *(INTS,) * 3, *(DOUBLES,) * 3)
    return [
        (jackknife._add_masks, (masks, INTS, FLAGS_2, DOUBLES_2, pairs, _tuple(DOUBLES, DOUBLES, DOUBLES))),
        (bootstrap._find_pairs, (INTS,) * 5),
        (bootstrap.add_weighted, (INTS, INTS, INTS, BITS_2, INTS_2)),
    ]
