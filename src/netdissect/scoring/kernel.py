"""The compiled inner loop: which pixels of the segmentation are on, and what they are labeled.

Only a pixel between cells of which one exceeds the threshold can itself exceed it, so the loop visits
just those: on real layers about 0.2 % of the pixels are on, and more than 95 % are never looked at.

Every function releases the interpreter lock and works on plain arrays; `netdissect.scoring.iou_counter` is the
way in.

A function takes the arrays out of its tuples once, before its loops: within a loop each would be counted as a reference
again, which took up to seven times as long.
"""

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled, inlined
from netdissect.scoring.kernel_arrays import (
    ANNOTATED,
    NONE,
    OVERLAP,
    Counting,
    ImageArrays,
    LabelArrays,
    Room,
    Run,
    TallyArrays,
    UpsamplerArrays,
)
from netdissect.scoring.upsampling import Maps

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]

MARGIN = 1e-6
"""Of the magnitude of cells: by more than an interpolated value can exceed them, rounded as it is."""


@compiled
def any_above(cells: Maps, threshold: np.float32) -> bool:
    """Tell whether any cell of a map, float32 (h, w), exceeds a threshold."""
    above = np.int64(0)
    for value in cells.flat:
        above += value > threshold  # an integer sum: the compiler makes vector code of it
    return bool(above > 0)


@compiled
def tally_batch(
    maps: Maps, cells: Maps, counting: Counting, upsampler: UpsamplerArrays, labels: LabelArrays, tally: TallyArrays
) -> tuple[Ints, Ints]:
    """Count a batch at several quantiles and add it to a tally.

    Parameters
    ----------
    maps
        float32 (B, U, h, w), for where units fire. A cell that cannot matter may hold any value at or below the
        lowest threshold.
    cells
        float32 (B, U, h', w'): the maps at the size that the axes expect; see `Upsampler.prepare`.
    counting
        At which thresholds, and how.
    upsampler
        From cells to pixels.
    labels
        Of the images.
    tally
        Added to.

    Returns
    -------
    masks
        int64 (5, M), by image, quantile and unit, those that are not empty: image, quantile, unit, pixels on, and how
        many of the entries are the mask's.
    entries
        int64 (2, N): label number and pixels on it, mask after mask.
    """
    units = maps.shape[1]
    room = _room(cells, counting, upsampler, labels)
    masks, entries = np.empty((0, 5), np.int64), np.empty((0, 2), np.int64)
    found, used = 0, 0
    for image in range(len(maps)):
        its = _labels_of(labels, image)
        if tally.places.size:
            for unit in range(units):
                _add_places(maps[image, unit], counting.thresholds[counting.order[0], unit], tally.places[unit])
        _count_image(cells[image], counting.thresholds, upsampler, its, room)
        _add_image(room, its, counting, tally)
        most = counting.listed * units
        masks, entries = _enlarged(masks, found, most), _enlarged(entries, used, most * len(its.numbers))
        more, further = _list_masks(image, room, its.numbers, counting, masks[found:], entries[used:])
        found, used = found + more, used + further
    return masks[:found].T.copy(), entries[:used].T.copy()


@compiled
def _room(cells: Maps, counting: Counting, upsampler: UpsamplerArrays, labels: LabelArrays) -> Room:
    quantiles, units = counting.thresholds.shape
    kinds, width = np.diff(labels.starts[4]).max(), len(upsampler.columns.near)
    return Room(
        np.zeros((cells.shape[2] + 1, cells.shape[3] + 1), np.uint8),
        np.empty((2, width), np.float64),
        np.empty(width, np.float32),
        np.zeros((quantiles, kinds), np.int32),
        np.zeros(kinds, np.bool_),
        np.empty(kinds, np.int64),
        np.empty((quantiles, units), np.int64),
        np.empty((quantiles, units, np.diff(labels.starts[0]).max()), np.int32),
    )


@compiled
def _labels_of(labels: LabelArrays, image: int) -> ImageArrays:
    starts, ends = labels.starts[:, image], labels.starts[:, image + 1]
    return ImageArrays(
        labels.kinds[image],
        labels.numbers[starts[0] : ends[0]],
        labels.whole[starts[1] : ends[1]],
        labels.categories[starts[2] : ends[2]],
        labels.borne[starts[3] : ends[3]],
        labels.ends[starts[4] : ends[4]],
    )


@inlined
def _count_image(cells: Maps, thresholds: Maps, upsampler: UpsamplerArrays, labels: ImageArrays, room: Room) -> None:
    """Count the masks of all units, float32 (U, h, w), on one image: `room.mask_pixels` and `room.label_pixels`."""
    room.mask_pixels[:] = 0
    for unit in range(len(cells)):
        if any_above(cells[unit], thresholds[0, unit]):
            met = count_unit(cells[unit], thresholds[:, unit], upsampler, labels.kinds, room, room.mask_pixels[:, unit])
            _add_kinds(room, met, labels, room.label_pixels[:, unit])


@inlined
def _add_kinds(room: Room, met: int, labels: ImageArrays, label_pixels: Counts) -> None:
    """Turn pixels of the kinds that were met into pixels of labels (Q, n)."""
    counts, borne, ends = room.counts, labels.borne, labels.ends
    label_pixels[:, : len(labels.numbers)] = 0
    for kind in room.met[:met]:
        for label in borne[ends[kind - 1] if kind else 0 : ends[kind]]:
            for place in range(len(label_pixels)):
                label_pixels[place, label] += counts[place, kind]
        counts[:, kind] = 0


@inlined
def _add_image(room: Room, labels: ImageArrays, counting: Counting, tally: TallyArrays) -> None:
    """Add the masks of one image to a tally."""
    _, numbers, whole, categories, _, _ = labels
    mask_pixels, label_pixels, category_of = room.mask_pixels, room.label_pixels, counting.category_of
    for quantile, place in enumerate(counting.order):
        intersection, activation = tally.intersection[quantile], tally.activation[quantile]
        for unit in range(mask_pixels.shape[1]):
            pixels, count = mask_pixels[place, unit], label_pixels[place, unit]
            if pixels == 0:
                continue
            for label in whole:
                count[label] += pixels
            for label in range(len(numbers)):
                intersection[unit, numbers[label]] += count[label]
            if counting.restriction == NONE:
                for category in range(activation.shape[1]):
                    activation[unit, category] += pixels
            for category in categories:
                if counting.restriction == ANNOTATED or (
                    counting.restriction == OVERLAP and _touches(count, numbers, category_of, category)
                ):
                    activation[unit, category] += pixels


@inlined
def _touches(counts: Counts, numbers: Ints, category_of: Ints, category: int) -> bool:
    """Tell whether a mask meets a label of a category."""
    found = False
    for place in range(len(numbers)):
        found |= counts[place] > 0 and category_of[numbers[place]] == category
    return found


@inlined
def _list_masks(
    image: int, room: Room, numbers: Ints, counting: Counting, masks: Ints, entries: Ints
) -> tuple[int, int]:
    """Write the masks of one image and their entries, as `tally_batch` returns them, and return how many of each."""
    mask_pixels, label_pixels, found, used = room.mask_pixels, room.label_pixels, 0, 0
    for quantile, place in enumerate(counting.order[: counting.listed]):
        for unit in range(mask_pixels.shape[1]):
            pixels, count = mask_pixels[place, unit], label_pixels[place, unit]
            if pixels == 0:
                continue
            begin = used
            for label in range(len(numbers)):
                if count[label]:
                    entries[used, 0], entries[used, 1] = numbers[label], count[label]
                    used += 1
            mask = masks[found]
            mask[0], mask[1], mask[2], mask[3], mask[4] = image, quantile, unit, pixels, used - begin
            found += 1
    return found, used


@compiled
def _enlarged(table: Ints, used: int, more: int) -> Ints:
    """Return a table with the `used` rows of this one, and room for some more."""
    if used + more <= len(table):
        return table
    larger = np.empty((max(2 * len(table), used + more), table.shape[1]), np.int64)
    larger[:used] = table[:used]
    return larger


@inlined
def _add_places(cells: Maps, threshold: np.float32, places: Ints) -> None:
    """Add 1 to `places` (h, w) where a map (h, w) exceeds a threshold."""
    for i in range(cells.shape[0]):
        if any_above(cells[i], threshold):
            for j in range(cells.shape[1]):
                places[i, j] += cells[i, j] > threshold


@inlined
def count_unit(
    cells: Maps,
    thresholds: npt.NDArray[np.float32],
    upsampler: UpsamplerArrays,
    kinds: Counts,
    room: Room,
    mask_pixels: Ints,
) -> int:
    """Count one map, float32 (h, w), at rising thresholds (Q,).

    Adds pixels to `room.counts` and to `mask_pixels` (Q,), and returns how many kinds were met, `room.met`.
    """
    (height, width), threshold, met = cells.shape, thresholds[0], 0
    hot, start, columns = room.hot, upsampler.rows.start, upsampler.columns.start
    for i in range(height):
        for j in range(width):
            hot[i, j] = cells[i, j] > threshold
    for i in range(height):
        corners = np.uint8(0)
        for j in range(width):
            corners |= hot[i, j] | hot[i + 1, j]
        if corners == 0 or start[i] == start[i + 1]:
            continue
        j = 0
        while j < width:
            end, upper, lower = _interpolate_run(cells, i, j, upsampler, room)
            if columns[j] < columns[end]:
                run = Run(i, columns[j], columns[end], upper, lower)
                met = _count_run(run, thresholds, upsampler, kinds, room, met)
            j = end + 1  # that one has no corner above the threshold
    counts, seen = room.counts, room.seen
    for kind in room.met[:met]:
        seen[kind] = False
        for passed in range(len(thresholds) - 1, -1, -1):
            if passed:
                counts[passed - 1, kind] += counts[passed, kind]
            mask_pixels[passed] += counts[passed, kind]
    return met


@inlined
def _interpolate_run(
    cells: Maps, i: int, j: int, upsampler: UpsamplerArrays, room: Room
) -> tuple[int, np.float32, np.float32]:
    """Interpolate rows i and i + 1 from cell j on, up to the next that has no corner above the threshold.

    Returns
    -------
    end
        That cell.
    upper, lower
        The largest cells of the two rows.
    """
    height, width = cells.shape
    hot, row, below = room.hot, cells[i], cells[min(i + 1, height - 1)]
    (top, bottom), upper, lower = room.across, row[j], below[j]
    while j < width and hot[i, j] | hot[i, j + 1] | hot[i + 1, j] | hot[i + 1, j + 1]:
        right = min(j + 1, width - 1)
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
    run: Run,
    thresholds: npt.NDArray[np.float32],
    upsampler: UpsamplerArrays,
    kinds: Counts,
    room: Room,
    met: int,
) -> int:
    """Count the pixels below a run of cells, of which `met` kinds were met before."""
    start, row_near, row_far = upsampler.rows
    (top, bottom), values, threshold = room.across, room.values, thresholds[0]
    margin = MARGIN * (abs(np.float64(run.upper)) + abs(np.float64(run.lower)))
    for y in range(start[run.row], start[run.row + 1]):
        near, far = row_near[y], row_far[y]
        if run.upper * near + run.lower * far + margin <= threshold:
            continue  # as most rows of pixels
        found = np.int64(0)
        for x in range(run.first, run.last):
            value = np.float32(top[x] * near + bottom[x] * far)
            values[x] = value
            found += value > threshold
        if found:
            met = _count_pixels(found, run.first, thresholds, kinds[y], room, met)
    return met


@inlined
def _count_pixels(
    found: int,
    x: np.uint64,
    thresholds: npt.NDArray[np.float32],
    kinds: Counts,
    room: Room,
    met: int,
) -> int:
    """Count the next `found` pixels of a row above the lowest threshold, from column x on."""
    threshold, higher = thresholds[0], thresholds[1:]
    values, counts, seen, kinds_met = room.values, room.counts, room.seen, room.met
    while found:
        value = values[x]
        if value > threshold:
            found -= 1
            passed = 0
            while passed < len(higher) and value > higher[passed]:  # each is passed only with those before it
                passed += 1
            kind = kinds[x]
            counts[passed, kind] += 1
            if not seen[kind]:
                seen[kind] = True
                kinds_met[met] = kind
                met += 1
        x += np.uint64(1)
    return met


@inlined
def interpolate(row: Maps, j: int, upsampler: UpsamplerArrays, out: Floats) -> None:
    """Interpolate a row of cells (w,) at the pixels from cell j on, in float64 or rounded to float32."""
    start, near, far = upsampler.columns
    left, right = np.float64(row[j]), np.float64(row[min(j + 1, len(row) - 1)])
    first, last = start[j], start[j + 1]
    for x in range(first, last):
        out[x] = left * near[x] + right * far[x]
    if upsampler.round_rows:
        for x in range(first, last):
            out[x] = np.float32(out[x])
