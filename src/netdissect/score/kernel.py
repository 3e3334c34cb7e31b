"""The compiled inner loop: which pixels of the segmentation are on, and what they are labeled.

Only a pixel between cells of which one exceeds the threshold can itself exceed it, so the loop visits
just those: on real layers about 0.2 % of the pixels are on, and more than 95 % are never looked at.

Every function releases the interpreter lock and works on plain arrays; `netdissect.score.tally` is the
way in.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.score.grid import Axis, Maps
from netdissect.sweep.compiling import compiled

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
AxisArrays = tuple[npt.NDArray[np.uint64], Floats, Floats]
"""Those of an axis. Pixels are counted without a sign: where no index can be negative, loops become vector code."""

MARGIN = 1e-6
"""Of the magnitude of cells: by more than an interpolated value can exceed them, rounded as it is."""

NONE, ANNOTATED, OVERLAP = range(3)
"""In which categories a mask counts; see `netdissect.config.Protocol`."""


class LabelArrays(NamedTuple):
    """Labels of a batch of B images, one image after the other.

    Attributes
    ----------
    kinds
        int32 (B, sh, sw): of which kind each pixel is; see `netdissect.sweep.kinds`.
    numbers
        int64 (n,): the labels that occur.
    whole
        int64 (W,): where among its image's labels those of the whole image stand.
    categories
        int64 (k,): the primary categories of each image's labels.
    borne
        int64 (b,): where among its image's labels those stand that a pixel of each kind bears, kind after kind.
    ends
        int64 (K,): where in its image's `borne` the labels of each kind end.
    starts
        int64 (5, B + 1): where each image begins in these five arrays, and where the last ends.
    """

    kinds: npt.NDArray[np.int32]
    numbers: Ints
    whole: Ints
    categories: Ints
    borne: Ints
    ends: Ints
    starts: Ints


class Room(NamedTuple):
    """Arrays to work in.

    Attributes
    ----------
    hot
        uint8 (h + 1, w + 1): which cells are above the threshold; the last row and column are 0.
    across
        float64 (2, sw): two rows of cells, interpolated.
    values
        float32 (sw,): one row of pixels.
    counts
        int32 (Q, K): pixels of each kind; 0 between calls.
    seen
        bool (K,): which kinds were met on a map; False between calls.
    met
        int64 (K,): these kinds.
    """

    hot: npt.NDArray[np.uint8]
    across: Floats
    values: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int32]
    seen: npt.NDArray[np.bool_]
    met: Ints


class TallyArrays(NamedTuple):
    """The arrays of a `netdissect.score.Tally` that a batch adds to."""

    intersection: Ints
    activation: Ints
    places: Ints


def axis_arrays(axis: Axis) -> AxisArrays:
    """Return what the compiled loops need of an axis."""
    return axis.start.astype(np.uint64), axis.near, axis.far


@compiled
def any_above(cells: Maps, threshold: np.float32) -> bool:
    """Tell whether any cell of a map, float32 (h, w), exceeds a threshold."""
    above = np.int64(0)
    for value in cells.flat:
        above += value > threshold  # an integer sum: the compiler makes vector code of it
    return bool(above > 0)


@compiled
def tally_batch(
    maps: Maps,
    cells: Maps,
    thresholds: npt.NDArray[np.float32],
    quantiles: Ints,
    listed: int,
    rows: AxisArrays,
    columns: AxisArrays,
    round_rows: bool,
    labels: LabelArrays,
    category_of: Ints,
    restriction: int,
    tally: TallyArrays,
) -> tuple[Ints, Ints]:
    """Count a batch at several quantiles and add it to a tally.

    Parameters
    ----------
    maps
        float32 (B, U, h, w), for where units fire. A cell that cannot matter may hold any value at or below the
        lowest threshold.
    cells
        float32 (B, U, h', w'): the maps at the size that the axes expect; see `Grid.prepare`.
    thresholds
        float32 (Q, U), rising along Q; a pixel is on when its interpolated value is above, strictly.
    quantiles
        int64 (Q,): where in the tally each of them stands.
    listed
        At how many quantiles of the tally, the first ones, masks are returned.
    rows, columns
        Arrays of the two axes of a `Grid`.
    round_rows
        See `Grid`.
    labels
        Of the images.
    category_of
        int64 (C,): each label's primary category.
    restriction
        `NONE`, `ANNOTATED` or `OVERLAP`.
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
    order = np.argsort(quantiles)
    most = np.diff(labels.starts[0]).max()
    on = np.empty((len(quantiles), units), np.int64)
    counts = np.empty((len(quantiles), units, most), np.int32)
    kinds = np.diff(labels.starts[4]).max()
    room = Room(
        np.zeros((cells.shape[2] + 1, cells.shape[3] + 1), np.uint8),
        np.empty((2, len(columns[1])), np.float64),
        np.empty(len(columns[1]), np.float32),
        np.zeros((len(quantiles), kinds), np.int32),
        np.zeros(kinds, np.bool_),
        np.empty(kinds, np.int64),
    )
    masks, entries = np.empty((units, 5), np.int64), np.empty((units, 2), np.int64)
    found, used = 0, 0
    for image in range(len(maps)):
        numbers = labels.numbers[labels.starts[0, image] : labels.starts[0, image + 1]]
        whole = labels.whole[labels.starts[1, image] : labels.starts[1, image + 1]]
        categories = labels.categories[labels.starts[2, image] : labels.starts[2, image + 1]]
        borne = labels.borne[labels.starts[3, image] : labels.starts[3, image + 1]]
        ends = labels.ends[labels.starts[4, image] : labels.starts[4, image + 1]]
        on[:] = 0
        for unit in range(units):
            if tally.places.size and any_above(maps[image, unit], thresholds[order[0], unit]):
                add_places(maps[image, unit], thresholds[order[0], unit], tally.places[unit])
            if any_above(cells[image, unit], thresholds[0, unit]):
                met = count_unit(
                    cells[image, unit], thresholds[:, unit], rows, columns, round_rows, labels.kinds[image], room,
                    on[:, unit],
                )  # fmt: skip
                counts[:, unit, : len(numbers)] = 0
                for kind in room.met[:met]:
                    for label in borne[ends[kind - 1] if kind else 0 : ends[kind]]:
                        for place in range(len(quantiles)):
                            counts[place, unit, label] += room.counts[place, kind]
                    room.counts[:, kind] = 0
        for place in order:
            quantile = quantiles[place]
            for unit in range(units):
                pixels, count = on[place, unit], counts[place, unit]
                if pixels == 0:
                    continue
                for label in whole:
                    count[label] += pixels
                for label in range(len(numbers)):
                    tally.intersection[quantile, unit, numbers[label]] += count[label]
                activation = tally.activation[quantile, unit]
                if restriction == NONE:
                    activation += pixels
                for category in categories:
                    if restriction == ANNOTATED or (
                        restriction == OVERLAP and _touches(count, numbers, category_of, category)
                    ):
                        activation[category] += pixels
                if quantile < listed:
                    masks, entries = _room(masks, found, 1), _room(entries, used, len(numbers))
                    begin = used
                    for label in range(len(numbers)):
                        if count[label]:
                            entries[used, 0], entries[used, 1] = numbers[label], count[label]
                            used += 1
                    mask = masks[found]
                    mask[0], mask[1], mask[2], mask[3], mask[4] = image, quantile, unit, pixels, used - begin
                    found += 1
    return masks[:found].T.copy(), entries[:used].T.copy()


@compiled
def count_unit(
    cells: Maps,
    thresholds: npt.NDArray[np.float32],
    rows: AxisArrays,
    columns: AxisArrays,
    round_rows: bool,
    kinds: npt.NDArray[np.int32],
    room: Room,
    pixels_on: Ints,
) -> int:
    """Count one map, float32 (h, w), at rising thresholds (Q,).

    Adds pixels to `room.counts` and to `pixels_on` (Q,), and returns how many kinds were met, `room.met`.
    """
    row_start, row_near, row_far = rows
    column_start, column_near, column_far = columns
    height, width = cells.shape
    hot, values, counts, seen, met = room.hot, room.values, room.counts, room.seen, 0
    threshold, higher = thresholds[0], thresholds[1:]
    top, bottom = room.across
    for i in range(height):
        for j in range(width):
            hot[i, j] = cells[i, j] > threshold
    for i in range(height):
        corners = np.uint8(0)
        for j in range(width):
            corners |= hot[i, j] | hot[i + 1, j]
        if corners == 0 or row_start[i] == row_start[i + 1]:
            continue
        below, j = min(i + 1, height - 1), 0
        while j < width:
            begin = j
            upper, lower = cells[i, j], cells[below, j]  # the largest of these rows
            while j < width and hot[i, j] | hot[i, j + 1] | hot[i + 1, j] | hot[i + 1, j + 1]:
                right, first, last = min(j + 1, width - 1), column_start[j], column_start[j + 1]
                if cells[i, right] > upper:
                    upper = cells[i, right]
                if cells[below, right] > lower:
                    lower = cells[below, right]
                between(cells[i, j], cells[i, right], column_near, column_far, first, last, round_rows, top)
                between(cells[below, j], cells[below, right], column_near, column_far, first, last, round_rows, bottom)
                j += 1
            first, last = column_start[begin], column_start[j]
            j += 1  # this one has no corner above the threshold
            if first == last:
                continue
            margin = MARGIN * (abs(np.float64(upper)) + abs(np.float64(lower)))
            for y in range(row_start[i], row_start[i + 1]):
                near, far = row_near[y], row_far[y]
                if upper * near + lower * far + margin <= threshold:
                    continue  # as most rows of pixels
                found = np.int64(0)
                for x in range(first, last):
                    value = np.float32(top[x] * near + bottom[x] * far)
                    values[x] = value
                    found += value > threshold
                if found == 0:
                    continue
                pixels_on[0] += found
                x = first
                while found:
                    value = values[x]
                    if value > threshold:
                        found -= 1
                        # Above the lowest threshold first; each further one is passed only with those before it.
                        passed = 0
                        while passed < len(higher) and value > higher[passed]:
                            passed += 1
                            pixels_on[passed] += 1
                        kind = kinds[y, x]
                        counts[passed, kind] += 1
                        if not seen[kind]:
                            seen[kind] = True
                            room.met[met] = kind
                            met += 1
                    x += np.uint64(1)
    for kind in room.met[:met]:
        seen[kind] = False
        for passed in range(len(higher), 0, -1):
            counts[passed - 1, kind] += counts[passed, kind]
    return met


@compiled
def add_places(cells: Maps, threshold: np.float32, places: Ints) -> None:
    """Add 1 to `places` (h, w) where a map (h, w) exceeds a threshold."""
    for i in range(cells.shape[0]):
        if any_above(cells[i], threshold):
            for j in range(cells.shape[1]):
                places[i, j] += cells[i, j] > threshold


@compiled
def _touches(counts: npt.NDArray[np.int32], numbers: Ints, category_of: Ints, category: int) -> bool:
    """Tell whether a mask meets a label of a category."""
    found = False
    for place in range(len(numbers)):
        found |= counts[place] > 0 and category_of[numbers[place]] == category
    return found


@compiled
def _room(table: Ints, used: int, more: int) -> Ints:
    """Return a table with the `used` rows of this one, and room for some more."""
    if used + more <= len(table):
        return table
    larger = np.empty((max(2 * len(table), used + more), table.shape[1]), np.int64)
    larger[:used] = table[:used]
    return larger


@compiled
def between(
    left: np.float32,
    right: np.float32,
    near: Floats,
    far: Floats,
    first: np.uint64,
    last: np.uint64,
    round_rows: bool,
    out: Floats,
) -> None:
    """Interpolate one row of cells at the pixels `first` to `last`, in float64 or rounded to float32."""
    for x in range(first, last):
        out[x] = np.float64(left) * near[x] + np.float64(right) * far[x]
    if round_rows:
        for x in range(first, last):
            out[x] = np.float32(out[x])
