"""The gain of a formula, held against images that are repeated as often as their weight says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdissect.compose_config import ComposeConfig
from netdissect.scoring.formulas import Formula, LabelSetTable
from netdissect.scoring.formulas.image_rows import ImageRows, MaskRows
from netdissect.scoring.statistics.formula_gain import FormulaPixels, paired_gain

CATEGORY_OF = np.array([-1, 0, 0, 1])
FORMULAS = [
    (Formula((1,)), lambda labels: 1 in labels),
    (Formula((1, 2), ("or",)), lambda labels: 1 in labels or 2 in labels),
    (Formula((1, 2, 3), ("or", "and-not")), lambda labels: (1 in labels or 2 in labels) and 3 not in labels),
    (Formula((2, 3), ("and",)), lambda labels: 2 in labels and 3 in labels),
]


def pixels_of_images(rng: np.random.Generator, images: int) -> list[list[tuple[frozenset[int], int, bool]]]:
    """Draw, for each pixel of each image, its labels, the annotated categories as bits, and whether it is active."""
    found = []
    for _ in range(images):
        annotated = int(rng.integers(0, 4))
        allowed = [number for number in (1, 2, 3) if annotated >> CATEGORY_OF[number] & 1]
        chosen = rng.random((12, len(allowed))) < 0.5
        labels = [frozenset(np.array(allowed, int)[row].tolist()) for row in chosen]
        found.append([(one, annotated, bool(rng.random() < 0.4)) for one in labels])
    return found


def tables(pixels: list[list[tuple[frozenset[int], int, bool]]]) -> tuple[ImageRows, MaskRows]:
    keys = sorted({(tuple(sorted(labels)), bits) for image in pixels for labels, bits, _ in image})
    table = LabelSetTable.of(CATEGORY_OF, [key[0] for key in keys], [key[1] for key in keys], np.ones(len(keys), int))
    row_of = {}
    for row in range(len(table)):
        labels = tuple(table.label_ids[table.offsets[row] : table.offsets[row + 1]].tolist())
        row_of[labels, int(table.annotated[row])] = row
    entries = {}
    for index, image in enumerate(pixels):
        for labels, bits, active in image:
            counts = entries.setdefault((index, row_of[tuple(sorted(labels)), bits]), [0, 0])
            counts[0] += 1
            counts[1] += active
    columns = np.array([(*key, *counts) for key, counts in sorted(entries.items())], np.uint32).T
    some = columns[3] > 0
    unit = np.zeros(int(some.sum()), np.uint32)
    return ImageRows(table, *columns[:3]), MaskRows(unit, *columns[[0, 1, 3]][:, some])


@given(seed=st.integers(0, 2**31), restriction=st.sampled_from(["none", "annotated"]), which=st.integers(0, 3))
def test_a_replicate_has_the_iou_of_images_repeated_by_their_weights(seed: int, restriction: str, which: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = pixels_of_images(rng, 5)
    weights = rng.integers(0, 4, (5, 3)).astype(np.uint8)
    (formula, holds), config = FORMULAS[which], ComposeConfig(restriction=restriction)
    counted = FormulaPixels.of(*tables(pixels), formula, config, 5)
    named = {int(CATEGORY_OF[number]) for number in formula.label_ids}
    for replicate in range(3):
        intersection = union = 0
        for image, weight in zip(pixels, weights[:, replicate], strict=True):
            for labels, bits, active in image:
                if restriction == "none" or all(bits >> category & 1 for category in named):
                    intersection += int(weight) * (active and holds(labels))
                    union += int(weight) * (active or holds(labels))
        assert counted.replicates(weights)[replicate] == pytest.approx(intersection / union if union else 0, rel=1e-15)
    assert counted.of_images(np.zeros(5, bool)).iou == 0


def test_a_formula_that_is_the_concept_gains_nothing_and_is_never_established() -> None:
    rng = np.random.default_rng(0)
    counted = FormulaPixels.of(*tables(pixels_of_images(rng, 5)), FORMULAS[0][0], ComposeConfig(), 5)
    gain = paired_gain(counted, counted, rng.integers(0, 4, (5, 99)).astype(np.uint8))
    assert gain == (0, 0, 0, 1)


def test_without_replicates_there_is_a_gain_and_no_interval() -> None:
    counted = FormulaPixels(*(np.array([2, 1]),) * 3)
    assert paired_gain(counted, counted, np.zeros((2, 0), np.uint8)) == (0, None, None, None)
