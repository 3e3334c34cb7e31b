"""The compiled inner loop: which pixels of the label map are active, and which labels they have.

A pixel can exceed the threshold only if one of the cells around it does. The loop visits only such pixels: on real
layers about 0.2 % of the pixels are active, and more than 95 % are never visited.

All functions release the interpreter lock and work on plain arrays. `netdissect.scoring.iou_counter` calls them.

A function unpacks its tuples once, before its loops. Within a loop each access would update a reference count, which
took up to seven times as long.
"""

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled_in_place, inlined
from netdissect.scoring.kernel_arrays import (
    ANNOTATED,
    NONE,
    OVERLAP,
    AxisArrays,
    CellRun,
    CountArrays,
    Counting,
    ImageArrays,
    LabelArrays,
    MaskTables,
    Scratch,
    UpsamplerArrays,
)
from netdissect.scoring.upsampling import Maps

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]

MARGIN = 1e-6
"""Bound on the rounding error of an interpolated value, relative to the magnitude of its cells."""


def count_batch(
    maps: Maps, cells: Maps, counting: Counting, upsampler: UpsamplerArrays, labels: LabelArrays, counts: CountArrays
) -> tuple[Ints, Ints, Ints, Ints]:
    """Count a batch at several quantiles and add it to the counts.

    Parameters
    ----------
    maps
        float32 (B, U, h, w), for the firing map. A cell that cannot matter may hold any value at or below the lowest
        threshold.
    cells
        float32 (B, U, h', w'): the maps at the size that the axes expect; see `Upsampler.resample`.
    counting
        At which thresholds, and how.
    upsampler
        From cells to pixels.
    labels
        Of the images.
    counts
        Added to.

    Returns
    -------
    masks
        int64 (5, M), non-empty masks by image, quantile and unit: image, quantile, unit, mask pixels, and the number
        of entries of the mask.
    entries
        int64 (2, N): label id and intersection in pixels, mask after mask.
    run_masks, runs
        int64 (4, m) and (2, n): masks at the first `list_runs_for` quantiles, as `MaskRuns.split` takes them.
    """
    scratch, tables = Scratch.of(cells.shape, counting, upsampler, labels), MaskTables.empty()
    most = tables.most_rows(maps.shape[1], counting, scratch, labels)
    while tables.next_map[0] < len(maps):
        tables = tables.with_capacity(most)
        _count_images(maps, cells, counting, upsampler, labels, counts, scratch, tables)
    masks, entries, run_masks, runs = (table.T.copy() for table in tables.rows())
    return masks, entries, run_masks, runs


@compiled_in_place
def _count_images(
    maps: Maps,
    cells: Maps,
    counting: Counting,
    upsampler: UpsamplerArrays,
    labels: LabelArrays,
    counts: CountArrays,
    scratch: Scratch,
    tables: MaskTables,
) -> None:
    """Count from `tables.next_map` on, up to the end of the batch or of the capacity of a table."""
    used, next_map = tables.used, tables.next_map
    for image in range(next_map[0], len(cells)):
        image_labels = labels_of_image(labels, image)
        if not _count_units(image, cells[image], counting, upsampler, image_labels, scratch, tables):
            return
        most = counting.record_images_for * cells.shape[1]
        if used[0] + most > len(tables.masks) or used[1] + most * len(image_labels.label_ids) > len(tables.entries):
            return
        pixels_of = (scratch.mask_pixels, scratch.label_pixels)
        _add_image(pixels_of, image_labels, counting, counts)
        _list_masks(image, pixels_of, image_labels.label_ids, counting, tables)
        if counts.firing_map.size:
            _add_firing(maps[image], counting.thresholds[counting.order[0]], counts.firing_map)
        next_map[0], next_map[1] = image + 1, 0


@inlined
def labels_of_image(labels: LabelArrays, image: int) -> ImageArrays:
    """Select the labels of one image of a batch."""
    starts = labels.starts
    return ImageArrays(
        labels.index_map[image],
        _part(labels.label_ids, starts[0], image)[0],
        _part(labels.image_level, starts[1], image)[0],
        _part(labels.categories, starts[2], image)[0],
        _part(labels.set_labels, starts[3], image)[0],
        _part(labels.set_ends, starts[4], image)[0],
    )


@inlined
def _part(values: Ints, starts: Ints, image: int) -> tuple[Ints]:
    """Select the values of one image; in a tuple, as what counts no references cannot return an array."""
    return (values[starts[image] : starts[image + 1]],)


@compiled_in_place
def any_above(cells: Maps, threshold: np.float32) -> bool:
    """Tell whether any cell of a map, float32 (h, w), exceeds a threshold."""
    above = np.int64(0)
    for value in cells.flat:
        above += value > threshold  # an integer sum, which the compiler vectorizes
    return bool(above > 0)


@inlined
def _count_units(
    image: int,
    cells: Maps,
    counting: Counting,
    upsampler: UpsamplerArrays,
    labels: ImageArrays,
    scratch: Scratch,
    tables: MaskTables,
) -> bool:
    """Count the masks of the remaining units, float32 (U, h, w), into `scratch.mask_pixels` and `label_pixels`.

    Lists the runs of these masks. Returns False where the tables have no capacity for those of the next unit.
    """
    thresholds, mask_pixels, label_pixels = counting.thresholds, scratch.mask_pixels, scratch.label_pixels
    used, next_map, (listed, most_runs, _) = tables.used, tables.next_map, scratch.runs.shape
    for unit in range(next_map[1], len(cells)):
        mask_pixels[:, unit] = 0
        if any_above(cells[unit], thresholds[0, unit]):
            if used[2] + listed > len(tables.run_masks) or used[3] + listed * most_runs > len(tables.runs):
                next_map[1] = unit
                return False
            num_met = count_unit(
                cells[unit], thresholds[:, unit], upsampler, labels.index_map, scratch, mask_pixels[:, unit]
            )
            _add_label_sets(scratch.set_counts, scratch.met_sets, num_met, labels, label_pixels[:, unit])
            add_runs(image, unit, scratch.num_runs, scratch.runs, tables)
    next_map[1] = len(cells)
    return True


@inlined
def add_runs(image: int, unit: int, num_runs: Ints, unit_runs: Ints, tables: MaskTables) -> None:
    """List the runs of one unit; see `Scratch`."""
    run_masks, runs, used = tables.run_masks, tables.runs, tables.used
    for quantile in range(len(num_runs)):
        count, row, first = num_runs[quantile], used[2], used[3]
        if count:
            run_masks[row, 0], run_masks[row, 1] = image, quantile
            run_masks[row, 2], run_masks[row, 3] = unit, count
            for run in range(count):
                runs[first + run, 0], runs[first + run, 1] = unit_runs[quantile, run, 0], unit_runs[quantile, run, 1]
            used[2], used[3] = row + 1, first + count


@inlined
def _add_label_sets(
    set_counts: Counts, met_sets: Ints, num_met: int, labels: ImageArrays, label_pixels: Counts
) -> None:
    """Turn pixels of the label sets that were met into pixels of labels (Q, n)."""
    set_labels, set_ends = labels.set_labels, labels.set_ends
    for row in range(len(label_pixels)):
        for label in range(len(labels.label_ids)):
            label_pixels[row, label] = 0
    for met in range(num_met):
        label_set = met_sets[met]
        for index in range(set_ends[label_set - 1] if label_set else 0, set_ends[label_set]):
            for row in range(len(label_pixels)):
                label_pixels[row, set_labels[index]] += set_counts[row, label_set]
        for row in range(len(label_pixels)):
            set_counts[row, label_set] = 0


@inlined
def is_counted(quantile: int, unit: int, counting: Counting) -> bool:
    """Tell whether a mask has counts of its own: whether it differs from those at the first quantiles."""
    first = len(counting.order) - len(counting.further_rows)
    return bool(quantile < first or counting.further_rows[quantile - first, unit] >= 0)


@inlined
def counts_of_mask(quantile: int, unit: int, counting: Counting, counts: CountArrays) -> tuple[Ints, Ints]:
    """Return the counts of a mask by label id and by category."""
    first = len(counting.order) - len(counting.further_rows)
    if quantile < first:
        return counts.intersection[quantile, unit], counts.activation[quantile, unit]
    row = counting.further_rows[quantile - first, unit]
    return counts.further_intersection[row], counts.further_activation[row]


@inlined
def _add_image(pixels_of: tuple[Ints, Counts], labels: ImageArrays, counting: Counting, counts: CountArrays) -> None:
    """Add the masks of one image, of so many pixels and pixels of labels, to the counts."""
    label_ids, image_level, categories = labels.label_ids, labels.image_level, labels.categories
    (mask_pixels, label_pixels), category_of = pixels_of, counting.category_of
    for quantile, row in enumerate(counting.order):
        for unit in range(mask_pixels.shape[1]):
            pixels, count = mask_pixels[row, unit], label_pixels[row, unit]
            if pixels == 0 or not is_counted(quantile, unit, counting):
                continue
            intersection, activation = counts_of_mask(quantile, unit, counting, counts)
            for label in image_level:
                count[label] += pixels
            for label in range(len(label_ids)):
                intersection[label_ids[label]] += count[label]
            if counting.restriction == NONE:
                for category in range(len(activation)):
                    activation[category] += pixels
            for category in categories:
                if counting.restriction == ANNOTATED or (
                    counting.restriction == OVERLAP and _overlaps_category(count, label_ids, category_of, category)
                ):
                    activation[category] += pixels


@inlined
def _overlaps_category(counts: Counts, label_ids: Ints, category_of: Ints, category: int) -> bool:
    """Tell whether a mask overlaps a label of a category."""
    overlaps = False
    for label in range(len(label_ids)):
        overlaps |= counts[label] > 0 and category_of[label_ids[label]] == category
    return overlaps


@inlined
def _list_masks(
    image: int, pixels_of: tuple[Ints, Counts], label_ids: Ints, counting: Counting, tables: MaskTables
) -> None:
    """List the masks of one image and their entries."""
    (mask_pixels, label_pixels), order = pixels_of, counting.order
    masks, entries, mask, entry = tables.masks, tables.entries, tables.used[0], tables.used[1]
    for quantile in range(counting.record_images_for):
        row = order[quantile]
        for unit in range(mask_pixels.shape[1]):
            if mask_pixels[row, unit] == 0:
                continue
            begin = entry
            for label in range(len(label_ids)):
                count = label_pixels[row, unit, label]
                if count:
                    entries[entry, 0], entries[entry, 1] = label_ids[label], count
                    entry += 1
            masks[mask, 0], masks[mask, 1], masks[mask, 2] = image, quantile, unit
            masks[mask, 3], masks[mask, 4] = mask_pixels[row, unit], entry - begin
            mask += 1
    tables.used[0], tables.used[1] = mask, entry


@inlined
def _add_firing(maps: Maps, thresholds: npt.NDArray[np.float32], firing_map: Ints) -> None:
    """Add 1 to `firing_map` (U, h, w) where a map, float32 (U, h, w), exceeds the threshold of its unit, (U,)."""
    for unit in range(len(maps)):
        if any_above(maps[unit], thresholds[unit]):
            for i in range(maps.shape[1]):
                for j in range(maps.shape[2]):
                    firing_map[unit, i, j] += maps[unit, i, j] > thresholds[unit]


@inlined
def count_unit(
    cells: Maps,
    thresholds: npt.NDArray[np.float32],
    upsampler: UpsamplerArrays,
    index_map: Counts,
    scratch: Scratch,
    mask_pixels: Ints,
) -> int:
    """Count one map, float32 (h, w), at rising thresholds (Q,).

    Adds pixels to `scratch.set_counts` and to `mask_pixels` (Q,). Returns the number of label sets met; they are listed
    in `scratch.met_sets`.
    """
    (height, width), threshold = cells.shape, thresholds[0]
    num_met: int = np.int64(0)  # type: ignore[assignment] # a literal 0 would compile twice what takes it
    above, start, columns = scratch.above, upsampler.rows.start, upsampler.columns.start
    scratch.num_runs[:] = 0
    for i in range(height):
        for j in range(width):
            above[i, j] = cells[i, j] > threshold
    for i in range(height):
        corners = np.uint8(0)
        for j in range(width):
            corners |= above[i, j] | above[i + 1, j]
        if corners == 0 or start[i] == start[i + 1]:
            continue
        j = np.int64(0)  # type: ignore[assignment]
        while j < width:
            end, upper, lower = _interpolate_run(cells, i, j, upsampler, above, scratch.wide_rows)
            if columns[j] < columns[end]:
                run = CellRun(i, columns[j], columns[end], upper, lower)
                num_met = _count_run(run, thresholds, upsampler.rows, index_map, scratch, num_met)
            j = end + 1  # the cell at `end` has no corner above the threshold
    set_counts, met = scratch.set_counts, scratch.met
    for label_set in scratch.met_sets[:num_met]:
        met[label_set] = False
        for passed in range(len(thresholds) - 1, -1, -1):
            if passed:
                set_counts[passed - 1, label_set] += set_counts[passed, label_set]
            mask_pixels[passed] += set_counts[passed, label_set]
    return num_met


@inlined
def _interpolate_run(
    cells: Maps, i: int, j: int, upsampler: UpsamplerArrays, above: npt.NDArray[np.uint8], wide_rows: Floats
) -> tuple[int, np.float32, np.float32]:
    """Interpolate rows i and i + 1 from cell j to the next cell that has no corner above the threshold.

    Returns
    -------
    end
        Column of that cell.
    upper, lower
        Largest cells of the two rows.
    """
    height, width = cells.shape
    row, below = cells[i], cells[i + 1 if i + 1 < height else i]
    (top, bottom), upper, lower = wide_rows, row[j], below[j]
    while j < width and above[i, j] | above[i, j + 1] | above[i + 1, j] | above[i + 1, j + 1]:
        right = j + 1 if j + 1 < width else j
        if row[right] > upper:
            upper = row[right]
        if below[right] > lower:
            lower = below[right]
        interpolate(row, j, upsampler, top)
        interpolate(below, j, upsampler, bottom)
        j += 1
    return j, upper, lower


@inlined
def _count_run(
    run: CellRun,
    thresholds: npt.NDArray[np.float32],
    rows: AxisArrays,
    index_map: Counts,
    scratch: Scratch,
    num_met: int,
) -> int:
    """Count the pixels of a run of cells; `num_met` label sets were met before."""
    start, row_lower_weight, row_upper_weight = rows
    (top, bottom), values, threshold = scratch.wide_rows, scratch.values, thresholds[0]
    row_sets = (values, scratch.set_counts, scratch.met, scratch.met_sets)
    run_rows, num_runs, runs = scratch.run_rows, scratch.num_runs, scratch.runs
    margin = MARGIN * (abs(np.float64(run.upper)) + abs(np.float64(run.lower)))
    for y in range(start[run.row], start[run.row + 1]):
        lower_weight, upper_weight = row_lower_weight[y], row_upper_weight[y]
        if run.upper * lower_weight + run.lower * upper_weight + margin <= threshold:
            continue  # most rows of pixels
        active = np.int64(0)
        for x in range(run.first, run.last):
            value = np.float32(top[x] * lower_weight + bottom[x] * upper_weight)
            values[x] = value
            active += value > threshold
        if active:
            num_met = _count_pixels(active, run.first, thresholds, index_map[y], row_sets, num_met)
            for quantile in range(len(run_rows)):
                num_runs[quantile] = _list_runs(
                    thresholds[run_rows[quantile]], y * np.uint64(len(values)), run, values, runs[quantile],
                    num_runs[quantile],
                )  # fmt: skip
    return num_met


@inlined
def _list_runs(
    threshold: np.float32, row_start: np.uint64, run: CellRun, values: Maps, runs: Ints, num_runs: int
) -> int:
    """List the runs of pixels above a threshold in a row of pixels, whose first pixel is `row_start`."""
    x = run.first
    while x < run.last:
        begin = x
        while x < run.last and values[x] > threshold:
            x += np.uint64(1)
        if x > begin:
            runs[num_runs, 0], runs[num_runs, 1] = row_start + begin, x - begin
            num_runs += 1
        x += np.uint64(1)
    return num_runs


@inlined
def _count_pixels(
    active: int,
    x: np.uint64,
    thresholds: npt.NDArray[np.float32],
    index_row: Counts,
    row_sets: tuple[Maps, Counts, npt.NDArray[np.bool_], Ints],
    num_met: int,
) -> int:
    """Count the next `active` pixels of a row above the lowest threshold, from column x on.

    Reads the values of the row, and counts by label set; see `Scratch`.
    """
    threshold, higher = thresholds[0], thresholds[1:]
    values, set_counts, met, met_sets = row_sets
    while active:
        value = values[x]
        if value > threshold:
            active -= 1
            passed = 0
            while passed < len(higher) and value > higher[passed]:  # a threshold is passed only with all lower ones
                passed += 1
            label_set = index_row[x]
            set_counts[passed, label_set] += 1
            if not met[label_set]:
                met[label_set] = True
                met_sets[num_met] = label_set
                num_met += 1
        x += np.uint64(1)
    return num_met


@inlined
def interpolate(row: Maps, j: int, upsampler: UpsamplerArrays, out: Floats) -> None:
    """Interpolate a row of cells (w,) at the pixels from cell j on, in float64 or rounded to float32."""
    start, lower_weight, upper_weight = upsampler.columns
    left, right = np.float64(row[j]), np.float64(row[j + 1 if j + 1 < len(row) else j])
    first, last = start[j], start[j + 1]
    for x in range(first, last):
        out[x] = left * lower_weight[x] + right * upper_weight[x]
    if upsampler.round_rows:
        for x in range(first, last):
            out[x] = np.float32(out[x])
