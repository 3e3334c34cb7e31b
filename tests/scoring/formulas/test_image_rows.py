"""The table of label sets image by image, against sets of pixels in plain Python."""

from collections import Counter
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from netdissect.concepts import Labels
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.config import Duplicates
from netdissect.errors import ConceptsError, ResultError
from netdissect.scoring import ImageLabels
from netdissect.scoring.formulas.image_rows import ImageRows, MaskRows, UnitRuns, count_mask_rows, label_sets_of
from netdissect.scoring.formulas.label_set_table import LabelSetTable
from netdissect.scoring.mask_runs import MaskRuns

Key = tuple[frozenset[int], frozenset[int]]
Masks = list[npt.NDArray[np.bool_]]


def rows_by_pixels(
    world: strategies.World, image: int, mask: npt.NDArray[np.bool_]
) -> tuple[Counter[Key], Counter[Key]]:
    """Count the pixels of one image, and its active ones, by their labels and the annotated categories."""
    labels, pixels, active = world.images[image], Counter[Key](), Counter[Key]()
    height, width = labels.size
    whole = {int(number) for number in labels.image_level}
    present = {int(number) for plane in labels.label_channels for number in plane.ravel()} - {0} | whole
    annotated = frozenset(world.category_of[number] for number in present)
    for y in range(height):
        for x in range(width):
            here = {int(plane[y, x]) for plane in labels.label_channels} - {0} | whole
            pixels[frozenset(here), annotated] += 1
            active[frozenset(here), annotated] += int(mask[y, x])
    return [pixels, +active]


def key_of(table: LabelSetTable, row: int) -> Key:
    label_ids = table.label_ids[table.offsets[row] : table.offsets[row + 1]].tolist()
    assert label_ids == sorted(set(label_ids)), "a label stands in a row once"
    return frozenset(label_ids), frozenset(bit for bit in range(64) if int(table.annotated[row]) >> bit & 1)


def in_blocks(
    world: strategies.World, masks: Masks, edges: list[int], duplicates: Duplicates
) -> tuple[ImageRows, MaskRows]:
    """Count the images block by block, and join the blocks."""
    data, parts, mask_parts = world.data(), [], []
    for first, stop in pairwise(edges):
        images = [ImageLabels.of(world.labels(image), data, duplicates) for image in range(first, stop)]
        part, rows_of_sets = ImageRows.of(images, first, data.category_of)
        parts.append(part)
        counted = []
        for index, (labels, rows) in enumerate(zip(images, rows_of_sets, strict=True), first):
            of_image = MaskRuns.of(masks[index])
            units = np.repeat(of_image.masks, of_image.run_counts)
            row_map = rows[labels.label_sets.index_map.ravel()].astype(np.int32)
            runs = UnitRuns(units, of_image.starts, of_image.lengths)
            counted.append(count_mask_rows(runs, row_map, index, len(part.table)))
        mask_parts.append(MaskRows.join(counted))
    joined, new_rows = ImageRows.join(parts)
    moved = [part.moved(rows) for part, rows in zip(mask_parts, new_rows, strict=True)]
    return joined, MaskRows.join(moved)


@given(
    world=strategies.worlds(),
    seed=st.integers(0, 2**31),
    share=st.sampled_from([0.0, 0.1, 0.9]),
    duplicates=st.sampled_from(["once", "each"]),
)
def test_any_images_in_any_blocks_have_the_label_sets_of_their_pixels(
    world: strategies.World, seed: int, share: float, duplicates: Duplicates
) -> None:
    rng, count = np.random.default_rng(seed), len(world.images)
    masks = [rng.random((2, *image.size)) < share for image in world.images]
    cut = int(rng.integers(1, count + 1))
    joined, mask_rows = in_blocks(world, masks, sorted({0, cut, count}), duplicates)
    chosen = rng.random(count) < 0.7
    table, new_rows = joined.of_images(chosen)
    for unit in range(2):
        pixels, active = Counter[Key](), Counter[Key]()
        for image in np.flatnonzero(chosen):
            of_image = rows_by_pixels(world, int(image), masks[image][unit])
            pixels, active = pixels + of_image[0], active + of_image[1]
        assert {key_of(table, row): table.pixels[row] for row in range(len(table))} == pixels
        of_unit = MaskRows(*(array[mask_rows.units == unit] for array in mask_rows))
        summed = of_unit.of_images(chosen, new_rows)
        assert {key_of(table, row): n for row, n in zip(summed.rows, summed.active, strict=True)} == active
    whole = in_blocks(world, masks, [0, count], duplicates)
    for left, right in ((joined, whole[0]), (joined.table, whole[0].table)):
        assert all(np.array_equal(value, vars(right)[name]) for name, value in vars(left).items() if name != "table")
    assert all(map(np.array_equal, mask_rows, whole[1]))


def test_the_pixels_of_covered_rows_are_summed_image_by_image() -> None:
    table = LabelSetTable.of(np.array([-1, 0, 0]), [[], [1], [1, 2]], [1, 1, 1], np.array([3, 4, 5]))
    entries = (np.array(values, np.uint32) for values in ([0, 0, 2, 2], [0, 1, 1, 2], [3, 1, 3, 5]))
    rows = ImageRows(table, *entries)
    assert rows.pixels_by_image(table.has_label(1), 3).tolist() == [1, 0, 8]


@pytest.mark.parametrize(
    "runs", [([2], [0], [1]), ([0], [9], [2]), ([0], [2**32 - 1], [2**32 - 1]), ([1, 0], [0, 0], [1, 1])]
)
def test_masks_of_another_run_are_refused(runs: tuple[list[int], list[int], list[int]]) -> None:
    foreign = UnitRuns(*(np.array(values, np.uint32) for values in runs))
    with pytest.raises(ResultError, match=r"does not fit 2 units and label maps of 10 pixels.*Repeat the run"):
        foreign.check(2, 10)


def test_more_categories_than_bits_are_refused() -> None:
    image = ImageLabels(
        LabelSetMap.of(Labels(np.ones((1, 2, 2), np.int32), np.zeros(0, np.int32))), *4 * [np.array([1])]
    )
    with pytest.raises(ConceptsError, match="has 65 categories, and formulas are searched over at most 64"):
        label_sets_of(image, np.array([-1, 64]))
