"""Sums over cells, and the correlation that follows from them, against lists of cells."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
import strategies
from netdissect.concepts import Size
from netdissect.errors import ActivationError
from netdissect.scoring import ImageLabels, make_upsampler
from netdissect.scoring.cell_moments import CellMoments, CellSums

Floats = npt.NDArray[np.float64]


def summed(world: strategies.World, definition: strategies.Definition, rows: list[int]) -> CellMoments:
    """Sum up the images `rows` with the library; those of odd index are held out."""
    data, protocol = world.data(), definition.protocol
    moments = CellMoments.zeros(world.maps.shape[1], data)
    for row in rows:
        labels = world.labels(row)
        if protocol.segmentation_size is not None:
            labels = labels.resized(Size(protocol.segmentation_size, protocol.segmentation_size))
        image = ImageLabels.of(labels, data, protocol.duplicates)
        upsampler = make_upsampler(world.cells(), labels.size, Size(*world.source), world.field(), protocol.anchor)
        moments.update(world.maps[row], image, upsampler, held_out=row % 2 == 1)
    return moments


def cells_of_pixels(world: strategies.World, size: tuple[int, int], kind: str) -> list[npt.NDArray[np.int64]]:
    """For each axis, the cell of the largest weight at each pixel; of equal weights the first."""
    found = []
    for axis, count in enumerate(world.cells()):
        own = (size[0], 1) if axis == 0 else (1, size[1])
        one_hot = np.eye(count, dtype=np.float32)
        maps = one_hot[:, :, None] if axis == 0 else one_hot[:, None, :]
        weights = [oracle.upsample(each, own, world.source, world.fields, kind).ravel() for each in maps]
        found.append(np.array([np.flatnonzero(at >= at.max() - 1e-5)[0] for at in np.stack(weights, axis=1)]))
    return found


class Cell(NamedTuple):
    """A cell of an image: whether the image is held out, activations of the units, and shares of its labels."""

    held_out: bool
    activations: Floats
    shares: dict[int, float]
    categories: set[int]


def listed(world: strategies.World, definition: strategies.Definition) -> list[Cell]:
    """List the cells that have pixels, of all images."""
    rules, cells = definition.rules, []
    for row, (maps, given_image) in enumerate(zip(world.maps, world.images, strict=True)):
        image = given_image if rules.segmentation is None else given_image.resized(rules.segmentation)
        rows, columns = cells_of_pixels(world, image.size, rules.anchor)
        categories = {world.category_of[label_id] for label_id in image.label_ids()}
        for y in set(rows.tolist()):
            for x in set(columns.tolist()):
                pixels = [channel[np.ix_(rows == y, columns == x)] for channel in image.channels()]
                shares = {
                    label_id: float(np.mean(np.any([channel == label_id for channel in pixels], axis=0)))
                    for label_id in image.label_ids()
                }
                cells.append(Cell(row % 2 == 1, maps[:, y, x].astype(np.float64), shares, categories))
    return cells


def assert_sums(found: CellSums, half: int, unit: int, values: list[float], shares: list[float]) -> None:
    """Compare the sums of one unit and one concept with those of its cells."""
    products = [a * m for a, m in zip(values, shares, strict=True)]
    terms = (values, [a * a for a in values], shares, [m * m for m in shares], products)
    assert found.cells[half, 0, 0] == len(values)
    for sums, each in zip(found[1:], terms, strict=True):
        of_unit = np.broadcast_to(sums, found.products.shape)[half, 0, unit]
        assert of_unit == pytest.approx(math.fsum(each), rel=1e-12, abs=1e-12)


@settings(max_examples=25)
@given(strategies.worlds(), strategies.definitions())
def test_sums_and_correlations_are_those_of_all_cells(
    world: strategies.World, definition: strategies.Definition
) -> None:
    moments, cells = summed(world, definition, list(range(len(world.maps)))), listed(world, definition)
    for label_id, category in world.category_of.items():
        found = moments.of_concepts(np.array([label_id]), world.data().category_of)
        correlations = found.correlations()
        for half in (0, 1):
            counted = [cell for cell in cells if cell.held_out == half and category in cell.categories]
            shares = [cell.shares.get(label_id, 0.0) for cell in counted]
            for unit in range(world.maps.shape[1]):
                values = [float(cell.activations[unit]) for cell in counted]
                assert_sums(found, half, unit, values, shares)
                if len(set(values)) < 2 or len(set(shares)) < 2:
                    assert np.isnan(correlations[half, 0, unit])
                else:
                    expected = np.corrcoef(values, shares)[0, 1]
                    assert correlations[half, 0, unit] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=15)
@given(strategies.worlds(), strategies.definitions(), st.randoms(use_true_random=False))
def test_any_split_adds_up_to_the_whole_bit_for_bit(
    world: strategies.World, definition: strategies.Definition, shuffled: st.DataObject
) -> None:
    rows = list(range(len(world.maps)))
    whole = summed(world, definition, rows)
    shuffled.shuffle(rows)  # type: ignore[attr-defined]
    cut = len(rows) // 2
    parts = [summed(world, definition, part) for part in (rows[:cut], rows[cut:])]
    for name, sums in vars(parts[0] + parts[1]).items():
        np.testing.assert_array_equal(sums, getattr(whole, name), name)


def test_masks_are_told_from_labels_of_the_whole_image() -> None:
    drawn = np.random.default_rng(0).normal(size=(2, 1, 2, 2)).astype(np.float32)
    masked = oracle.OracleImage((np.array([[1, 1], [0, 0]]),), (2,), (2, 2))
    plain = oracle.OracleImage((np.array([[0, 0], [0, 0]]),), (1, 2), (2, 2))
    fields = (oracle.Field(0, 1, 1), oracle.Field(0, 1, 1))
    world = strategies.World(drawn, (masked, plain), {1: 0, 2: 0}, ("object",), (2, 2), fields)
    moments = summed(world, strategies.definition("paper"), [0, 1])
    assert moments.mask_images.tolist() == [0, 1, 0]
    shares = moments.of_concepts(np.array([1, 2]), world.data().category_of).share[:, :, 0]
    assert shares.tolist() == [[2.0, 4.0], [4.0, 4.0]]


def test_activations_whose_squares_cannot_be_summed_are_refused() -> None:
    fields = (oracle.Field(0, 1, 1), oracle.Field(0, 1, 1))
    image = oracle.OracleImage((np.array([[1, 1], [0, 0]]),), (), (2, 2))
    huge = np.full((1, 1, 2, 2), 1e8, np.float32)
    world = strategies.World(huge, (image,), {1: 0}, ("object",), (2, 2), fields)
    with pytest.raises(ActivationError, match=r"squares .* sum up to more than 9\.01e\+15"):
        summed(world, strategies.definition("paper"), [0])
