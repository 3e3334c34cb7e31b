"""The compiled loop over sparse maps: only those with a cell above a threshold are visited, one after the other.

A map is counted as by `netdissect.scoring.kernel`, or, where all thresholds of its unit are 0, by the blocks of pixels
of its active cells. What it counts is added at once: of a thousand latents a map meets few labels of an image.
"""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.jit import compiled_in_place, inlined
from netdissect.scoring.kernel import add_runs, count_unit, counts_of_mask, is_counted, labels_of_image
from netdissect.scoring.kernel_arrays import (
    ANNOTATED,
    NONE,
    OVERLAP,
    CountArrays,
    Counting,
    ImageArrays,
    LabelArrays,
    MaskTables,
    Scratch,
    UpsamplerArrays,
)
from netdissect.scoring.sparse.label_blocks import LabelBlocks

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

EXPECTED_ENTRIES, EXPECTED_RUNS = 8, 32
"""Labels and runs of a mask for which tables have capacity at first."""


class MapArrays(NamedTuple):
    """The arrays of a `SparseMaps`."""

    map_starts: Ints
    units: Ints
    value_starts: Ints
    cells: Ints
    values: Floats


class MapScratch(NamedTuple):
    """Arrays reused from map to map, which are 0 between maps.

    Attributes
    ----------
    cells, flat
        float32 (h, w), and the same memory as (h * w,): the map.
    active
        uint8 (h + 1, w + 1): 1 where a cell is above 0; the last row and column are 0.
    label_pixels
        int64 (Q, n): intersection with each label of the image.
    met
        bool (n,): whether a label of the image was met.
    met_labels
        int64 (n,): these labels.
    """

    cells: Floats
    flat: Floats
    active: npt.NDArray[np.uint8]
    label_pixels: Ints
    met: npt.NDArray[np.bool_]
    met_labels: Ints

    @classmethod
    def of(cls, shape: tuple[int, ...], quantiles: int, labels: LabelArrays) -> Self:
        """Return the arrays for maps of a batch of this shape, (B, U, h, w)."""
        cells, most = np.zeros(shape[2:], np.float32), int(np.diff(labels.starts[0]).max())
        active = np.zeros((shape[2] + 1, shape[3] + 1), np.uint8)
        label_pixels = np.zeros((quantiles, most), np.int64)
        return cls(cells, cells.reshape(-1), active, label_pixels, np.zeros(most, np.bool_), np.empty(most, np.int64))


def count_sparse_batch(
    maps: SparseMaps,
    counting: Counting,
    upsampler: UpsamplerArrays,
    labels: LabelArrays,
    blocks: LabelBlocks,
    counts: CountArrays,
) -> tuple[Ints, Ints, Ints, Ints]:
    """Count a batch at several quantiles and add it to the counts, but for the firing map.

    Parameters
    ----------
    maps
        At the size that the axes expect; see `netdissect.scoring.upsampling.Upsampler.resample`.
    counting, upsampler, labels, counts
        As for `netdissect.scoring.kernel.count_batch`.
    blocks
        Of the same images.

    Returns
    -------
    masks, entries, run_masks, runs
        As `netdissect.scoring.kernel.count_batch` returns them, the masks by image and unit.
    """
    scratch = Scratch.of((len(maps), 1, *maps.shape[2:]), counting, upsampler, labels)
    own, tables = MapScratch.of(maps.shape, len(counting.thresholds), labels), MaskTables.empty()
    arrays = MapArrays(maps.map_starts, maps.units, maps.value_starts, maps.cells, maps.values)
    most, count = tables.most_rows(1, counting, scratch, labels), len(maps.units)
    masks, runs = count * most[0], count * most[2]
    tables = tables.with_capacity((masks, EXPECTED_ENTRIES * masks, runs, EXPECTED_RUNS * runs))
    while tables.next_map[1] < count:
        tables = tables.with_capacity(most)
        _count_maps(arrays, counting, upsampler, labels, blocks, counts, scratch, own, tables)
    found = [table.T.copy() for table in tables.rows()]
    return found[0], found[1], found[2], found[3]


@compiled_in_place
def _count_maps(
    maps: MapArrays,
    counting: Counting,
    upsampler: UpsamplerArrays,
    labels: LabelArrays,
    blocks: LabelBlocks,
    counts: CountArrays,
    scratch: Scratch,
    own: MapScratch,
    tables: MaskTables,
) -> None:
    """Count from `tables.next_map` on, image and map, up to the last map or the capacity of a table."""
    map_starts, units, value_starts, cells, values = maps
    thresholds, next_map, least, last = counting.thresholds, tables.next_map, blocks.least, len(counting.thresholds) - 1
    for image in range(next_map[0], len(map_starts) - 1):
        image_labels = labels_of_image(labels, image)
        for index in range(max(next_map[1], map_starts[image]), map_starts[image + 1]):
            unit, begin, end = units[index], value_starts[index], value_starts[index + 1]
            smallest, largest = _extremes(values, begin, end)
            if not largest > thresholds[0, unit]:
                continue
            if not _have_capacity(len(image_labels.label_ids), counting, scratch, tables):
                next_map[0], next_map[1] = image, index
                return
            of_map = cells[begin:end]
            if thresholds[last, unit] == 0 and smallest > least[0]:
                num_met = _count_blocks(image, of_map, blocks, scratch, own.active)
            else:
                num_met = _count_interpolated(
                    of_map, values[begin:end], thresholds[:, unit], upsampler, image_labels.index_map, scratch, own
                )
            num_labels = _find_labels(num_met, image_labels, scratch, own)
            _add_map(image, unit, num_labels, image_labels, counting, counts, scratch, own, tables)
            add_runs(image, unit, scratch.num_runs, scratch.runs, tables)
    next_map[0], next_map[1] = len(map_starts) - 1, len(units)


@inlined
def _extremes(values: Floats, begin: int, end: int) -> tuple[np.float32, np.float32]:
    """Return the smallest and the largest of the values of a map."""
    smallest = largest = values[begin]
    for index in range(begin + 1, end):
        smallest, largest = min(smallest, values[index]), max(largest, values[index])
    return smallest, largest


@inlined
def _have_capacity(num_labels: int, counting: Counting, scratch: Scratch, tables: MaskTables) -> bool:
    """Tell whether the tables have capacity for what is listed of one map."""
    used, masks, (listed, most_runs, _) = tables.used, counting.record_images_for, scratch.runs.shape
    return bool(
        used[0] + masks <= len(tables.masks)
        and used[1] + masks * num_labels <= len(tables.entries)
        and used[2] + listed <= len(tables.run_masks)
        and used[3] + listed * most_runs <= len(tables.runs)
    )


@inlined
def _count_interpolated(
    cells: Ints,
    values: Floats,
    thresholds: Floats,
    upsampler: UpsamplerArrays,
    index_map: npt.NDArray[np.int32],
    scratch: Scratch,
    own: MapScratch,
) -> int:
    """Count one map, of which these cells have these values, by `count_unit`."""
    flat, mask_pixels = own.flat, scratch.mask_pixels[:, 0]
    for index in range(len(cells)):
        flat[cells[index]] = values[index]
    mask_pixels[:] = 0
    num_met: int = count_unit(own.cells, thresholds, upsampler, index_map, scratch, mask_pixels)
    for cell in cells:
        flat[cell] = 0
    return num_met


@inlined
def _count_blocks(image: int, cells: Ints, blocks: LabelBlocks, scratch: Scratch, active: npt.NDArray[np.uint8]) -> int:
    """Count one map, of which these cells are active, at thresholds that are all 0, as `count_unit` does."""
    width = active.shape[1] - 1
    first_row, last_row, first_column, last_column = active.shape[0], np.int64(0), active.shape[1], np.int64(0)
    for cell in cells:
        i, j = cell // width, cell % width
        active[i, j] = 1
        first_row, last_row = min(first_row, i), max(last_row, i)
        first_column, last_column = min(first_column, j), max(last_column, j)
    box = max(first_row - 1, 0), last_row + 1, max(first_column - 1, 0), last_column + 1
    num_met: int = _add_blocks(box, active, blocks.starts[image], blocks.label_sets, blocks.pixels, scratch)
    if len(scratch.num_runs):
        _list_block_runs(box, active, blocks.rows, blocks.columns, scratch)
    for cell in cells:
        active[cell // width, cell % width] = 0
    return num_met


@inlined
def _add_blocks(
    box: tuple[int, int, int, int],
    active: npt.NDArray[np.uint8],
    starts: Ints,
    label_sets: npt.NDArray[np.int32],
    pixels: npt.NDArray[np.int32],
    scratch: Scratch,
) -> int:
    """Add the pixels of the active blocks of the rows and columns of cells in a box."""
    mask_pixels, set_counts, met, met_sets = scratch.mask_pixels, scratch.set_counts, scratch.met, scratch.met_sets
    width, num_met, total = active.shape[1] - 1, int(np.int64(0)), np.int64(0)
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            own, right, below, diagonal = active[i, j], active[i, j + 1], active[i + 1, j], active[i + 1, j + 1]
            for part in range(4):
                if own | (right & (part % 2)) | (below & (part // 2)) | (diagonal & (part == 3)) == 0:
                    continue
                block = 4 * (i * width + j) + part
                for entry in range(starts[block], starts[block + 1]):
                    label_set = label_sets[entry]
                    set_counts[0, label_set] += pixels[entry]
                    total += pixels[entry]
                    if not met[label_set]:
                        met[label_set] = True
                        met_sets[num_met] = label_set
                        num_met += 1
    mask_pixels[:, 0] = total
    for label_set in met_sets[:num_met]:
        met[label_set] = False
        for row in range(1, len(set_counts)):
            set_counts[row, label_set] = set_counts[0, label_set]
    return num_met


@inlined
def _list_block_runs(
    box: tuple[int, int, int, int], active: npt.NDArray[np.uint8], rows: Ints, columns: Ints, scratch: Scratch
) -> None:
    """List the runs of the active blocks, which the rows of pixels of a part of a cell have in common."""
    num_runs, runs, width, count = scratch.num_runs, scratch.runs, columns[len(columns) - 1], np.int64(0)
    for i in range(box[0], box[1]):
        for part in range(2):
            first, last = rows[2 * i + part], rows[2 * i + part + 1]
            if first == last:
                continue
            begin, start, stop = count, np.int64(-1), np.int64(0)
            for j in range(box[2], box[3]):
                left, right = active[i, j] | (active[i + 1, j] & part), active[i, j + 1] | (active[i + 1, j + 1] & part)
                # As in `count_unit`, a run ends at a cell without an active corner, though it may have no pixels.
                corners = left | right | active[i + 1, j] | active[i + 1, j + 1]
                for side in range(2):
                    is_active = left | (right & side)
                    has_pixels = columns[2 * j + side] < columns[2 * j + side + 1]
                    if is_active and has_pixels:
                        start = columns[2 * j + side] if start < 0 else start
                        stop = columns[2 * j + side + 1]
                    elif start >= 0 and (has_pixels or corners == 0):
                        runs[0, count, 0], runs[0, count, 1] = first * width + start, stop - start
                        count, start = count + 1, np.int64(-1)
            if start >= 0:
                runs[0, count, 0], runs[0, count, 1] = first * width + start, stop - start
                count += 1
            end = count
            for row in range(1, last - first):
                for run in range(begin, end):
                    runs[0, count, 0], runs[0, count, 1] = runs[0, run, 0] + row * width, runs[0, run, 1]
                    count += 1
    num_runs[:] = count
    for quantile in range(1, len(num_runs)):
        for run in range(count):
            runs[quantile, run, 0], runs[quantile, run, 1] = runs[0, run, 0], runs[0, run, 1]


@inlined
def _find_labels(num_met: int, labels: ImageArrays, scratch: Scratch, own: MapScratch) -> int:
    """Turn pixels of the label sets that were met into pixels of labels, which are listed in rising order."""
    set_counts, mask_pixels, set_labels, set_ends = (
        scratch.set_counts, scratch.mask_pixels, labels.set_labels, labels.set_ends,
    )  # fmt: skip
    label_pixels, met, met_labels, count = own.label_pixels, own.met, own.met_labels, int(np.int64(0))
    for label_set in scratch.met_sets[:num_met]:
        for label in set_labels[set_ends[label_set - 1] if label_set else 0 : set_ends[label_set]]:
            count = _insert(label, met, met_labels, count)
            for row in range(len(label_pixels)):
                label_pixels[row, label] += set_counts[row, label_set]
        set_counts[:, label_set] = 0
    for label in labels.image_level:
        count = _insert(label, met, met_labels, count)
        for row in range(len(label_pixels)):
            label_pixels[row, label] += mask_pixels[row, 0]
    return count


@inlined
def _insert(label: int, met: npt.NDArray[np.bool_], met_labels: Ints, count: int) -> int:
    """Insert a label into those that were met, in rising order; return their number."""
    if met[label]:
        return count
    met[label] = True
    place = count
    while place > 0 and met_labels[place - 1] > label:
        met_labels[place] = met_labels[place - 1]
        place -= 1
    met_labels[place] = label
    return count + 1


@inlined
def _add_map(
    image: int,
    unit: int,
    num_labels: int,
    labels: ImageArrays,
    counting: Counting,
    counts: CountArrays,
    scratch: Scratch,
    own: MapScratch,
    tables: MaskTables,
) -> None:
    """Add the masks of one map to the counts, and list them and their entries."""
    label_ids, label_pixels, met, met_labels = labels.label_ids, own.label_pixels, own.met, own.met_labels[:num_labels]
    masks, entries, used, mask_pixels = tables.masks, tables.entries, tables.used, scratch.mask_pixels
    for quantile, row in enumerate(counting.order):
        pixels, entry, is_listed = mask_pixels[row, 0], used[1], quantile < counting.record_images_for
        if pixels == 0 or not is_counted(quantile, unit, counting):
            continue
        intersection, activation = counts_of_mask(quantile, unit, counting, counts)
        for label in met_labels:
            count = label_pixels[row, label]
            if count == 0:
                continue
            intersection[label_ids[label]] += count
            if is_listed:
                entries[entry, 0], entries[entry, 1] = label_ids[label], count
                entry += 1
        _add_activation(pixels, label_pixels[row], met_labels, labels, counting, activation)
        if is_listed:
            mask = used[0]
            masks[mask, 0], masks[mask, 1], masks[mask, 2] = image, quantile, unit
            masks[mask, 3], masks[mask, 4] = pixels, entry - used[1]
            used[0], used[1] = mask + 1, entry
    for label in met_labels:
        met[label] = False
        label_pixels[:, label] = 0


@inlined
def _add_activation(
    pixels: int, label_pixels: Ints, met_labels: Ints, labels: ImageArrays, counting: Counting, activation: Ints
) -> None:
    """Add the pixels of a mask in the categories in which it counts."""
    restriction, category_of, label_ids = counting.restriction, counting.category_of, labels.label_ids
    if restriction == NONE:
        for category in range(len(activation)):
            activation[category] += pixels
        return
    for category in labels.categories:
        is_counted = restriction == ANNOTATED
        if restriction == OVERLAP:
            for label in met_labels:
                is_counted |= label_pixels[label] > 0 and category_of[label_ids[label]] == category
        if is_counted:
            activation[category] += pixels
