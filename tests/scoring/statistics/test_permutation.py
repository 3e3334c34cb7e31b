"""Counts of permutations against sets of pixels, and p-values of units with a known answer."""

from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

import oracle
import strategies
from netdissect.concepts import Concept, ConceptData, Labels, Size
from netdissect.config import Duplicates, NullModel
from netdissect.scoring import BatchLabels, ConceptTotals, ImageLabels, IoUCounter, IoUCounts, make_upsampler
from netdissect.scoring.iou_counter import LeadingQuantiles
from netdissect.scoring.mask_runs import MaskRuns
from netdissect.scoring.statistics.multiple_testing import p_values
from netdissect.scoring.statistics.permutation import (
    PermutationCounts,
    StratumMasks,
    annotation_strata,
    find_best_concepts,
)


def masks_of(world: strategies.World, definition: strategies.Definition, limits: strategies.Floats) -> list[MaskRuns]:
    """List the masks of each image of a world, at thresholds (Q, U)."""
    found = []
    for row, maps in enumerate(world.maps):
        size = labels_of(world, definition, row).label_channels.shape[1:]
        upsampler = make_upsampler(
            world.cells(), Size(*size), Size(*world.source), world.field(), definition.protocol.anchor
        )
        counter = IoUCounter(
            world.data(), limits, "none", LeadingQuantiles(record_images_for=0, list_runs_for=len(limits))
        )
        image = labels_of(world, definition, row)
        found += counter.update_batch(maps[None], BatchLabels.of([image]), upsampler).runs
    return found


def labels_of(world: strategies.World, definition: strategies.Definition, row: int) -> ImageLabels:
    """Labels of one image under the protocol."""
    labels, side = world.labels(row), definition.protocol.segmentation_size
    labels = labels if side is None else labels.resized(Size(side, side))
    return ImageLabels.of(labels, world.data(), definition.protocol.duplicates)


def shuffled(
    world: strategies.World, definition: strategies.Definition, limits: strategies.Floats, null: NullModel
) -> PermutationCounts:
    """Count three permutations."""
    data, images = world.data(), [labels_of(world, definition, row) for row in range(len(world.maps))]
    masks = masks_of(world, definition, limits)
    counts = PermutationCounts.zeros(
        range(3), limits.size, data, seed=5, null=null, restriction=definition.protocol.restriction
    )  # fmt: skip
    for rows in annotation_strata([tuple(image.categories) for image in images], 3, 0):
        of_rows = StratumMasks.of([masks[row] for row in rows]), BatchLabels.of([images[row] for row in rows]).arrays
        counts.update(*of_rows, int(rows[0]), data.category_of, 2)
    return counts


def drawn(
    world: strategies.World, definition: strategies.Definition, permutation: int, null: NullModel
) -> list[oracle.OracleImage]:
    """The labels with which each image is compared in a permutation, by plain loops."""
    images = [labels_of(world, definition, row) for row in range(len(world.maps))]
    side = definition.protocol.segmentation_size
    repeated = [drawn_image if side is None else drawn_image.resized(side) for drawn_image in world.images]
    met = list(repeated)
    for rows in annotation_strata([tuple(image.categories) for image in images], 3, 0):
        rng = np.random.default_rng((5, permutation, int(rows[0])))
        if null == "images":
            for row, partner in zip(rows, rows[rng.permutation(len(rows))], strict=True):
                met[row] = repeated[partner]
            continue
        for row, (down, right) in zip(rows, rng.integers((0, 0), repeated[0].size, (len(rows), 2)), strict=True):
            channels = tuple(np.roll(channel, (down, right), (0, 1)) for channel in repeated[row].label_channels)
            met[row] = oracle.OracleImage(channels, repeated[row].image_level, repeated[row].size)
    return met


@given(strategies.worlds(), strategies.definitions(), st.sampled_from(["images", "locations"]))
@settings(max_examples=60)
def test_a_permutation_counts_as_sets_of_pixels_do(
    world: strategies.World, definition: strategies.Definition, null: NullModel
) -> None:
    limits = oracle.thresholds(world.maps, definition.rules)
    counts = shuffled(world, definition, limits[None], null)
    rules = oracle.Rules(**{**vars(definition.rules), "segmentation": None})
    original = oracle.count(
        world.maps, drawn_images(world, definition), world.category_of, rules, world.source, world.fields, limits
    )
    for permutation in range(3):
        repeated = drawn(world, definition, permutation, null)
        expected = oracle.count(world.maps, repeated, world.category_of, rules, world.source, world.fields, limits)
        assert expected.concept_pixels == original.concept_pixels
        for unit, label_id in product(range(len(limits)), world.category_of):
            assert counts.intersection[permutation, unit, label_id] == expected.intersection[unit, label_id]
        for unit, category in product(range(len(limits)), range(len(world.categories))):
            if rules.activation_over == "overlap":
                assert counts.activation[permutation, unit, category] == expected.activation[unit, category]
            else:
                assert original.activation[unit, category] == expected.activation[unit, category]


def drawn_images(world: strategies.World, definition: strategies.Definition) -> list[oracle.OracleImage]:
    """The images of a world at the size of the protocol."""
    side = definition.protocol.segmentation_size
    return [drawn_image if side is None else drawn_image.resized(side) for drawn_image in world.images]


@given(strategies.worlds(), strategies.definitions())
def test_mask_pixels_are_those_of_the_upsampled_maps(
    world: strategies.World, definition: strategies.Definition
) -> None:
    limits = np.stack([np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.9, 0.5)])
    for maps, masks, row in zip(world.maps, masks_of(world, definition, limits), range(99), strict=False):
        size = labels_of(world, definition, row).label_channels.shape[1:]
        on = [
            oracle.upsample(cells, (size[0], size[1]), world.source, world.fields, definition.rules.anchor) > limit
            for quantile in limits
            for cells, limit in zip(maps, quantile, strict=True)
        ]
        listed: list[list[int]] = [[] for _ in on]
        runs = zip(np.repeat(masks.masks, masks.run_counts), masks.starts, masks.lengths, strict=True)
        for mask, start, length in runs:
            assert 0 < length <= size[1] - start % size[1]
            listed[mask] += range(start, start + length)
        assert [sorted(pixels) for pixels in listed] == [np.flatnonzero(mask).tolist() for mask in on]


@given(strategies.worlds(), strategies.definitions(), st.integers(1, 3))
@settings(max_examples=20)
def test_parts_of_the_strata_add_up_whatever_the_threads(
    world: strategies.World, definition: strategies.Definition, cut: int
) -> None:
    data, images = world.data(), [labels_of(world, definition, row) for row in range(len(world.maps))]
    limits = oracle.thresholds(world.maps, definition.rules)
    masks = masks_of(world, definition, limits[None])
    blocks = list(annotation_strata([tuple(image.categories) for image in images], 2, 7))
    assert sorted(np.concatenate(blocks).tolist()) == list(range(len(images)))

    def counted(some: list[npt.NDArray[np.int64]], threads: int) -> PermutationCounts:
        counts = PermutationCounts.zeros(range(2, 5), len(limits), data, seed=1, null="images", restriction="overlap")
        for rows in some:
            of_rows = (
                StratumMasks.of([masks[row] for row in rows]),
                BatchLabels.of([images[row] for row in rows]).arrays,
            )
            counts.update(*of_rows, int(rows[0]), data.category_of, threads)
        return counts

    whole, parts = counted(blocks, 1), counted(blocks[:cut], 2) + counted(blocks[cut:], 3)
    np.testing.assert_array_equal(parts.intersection, whole.intersection)
    np.testing.assert_array_equal(parts.activation, whole.activation)


def test_images_of_different_annotations_are_never_permuted() -> None:
    strata = ["a", "b", "a", "a", "b", "a", "a"]
    for rows in annotation_strata(strata, 2, 3):
        assert len(rows) <= 2
        assert len({strata[row] for row in rows}) == 1


@pytest.mark.parametrize("most", [12, 40])  # more than two blocks of labels are counted by label set
@pytest.mark.parametrize("null", ["images", "locations"])
@pytest.mark.parametrize(("size", "duplicates"), [((3, 85), "once"), ((3, 86), "each"), ((4, 300), "once")])
def test_counts_are_exact_whatever_the_bits_that_they_take(
    size: tuple[int, int], duplicates: Duplicates, null: NullModel, most: int
) -> None:
    # Three channels of one label count a pixel up to three times: 85 pixels of a row fit into 8 bits, 86 do not.
    rng = np.random.default_rng(4)
    concepts = tuple(Concept(label_id, str(label_id), "object", 1, 1.0) for label_id in range(1, most + 1))
    data = ConceptData(Path("nowhere"), ("object",), concepts, ())
    drawn_labels = rng.integers(0, most + 1, (5, 3, *size))
    drawn_labels[:, :, 0] = 7
    drawn_labels[0, :, 1] = rng.integers(0, 2, size[1])
    images = [
        ImageLabels.of(Labels(channels.astype(np.int32), np.array([9, most], np.int32)), data, duplicates)
        for channels in drawn_labels
    ]
    active = rng.random((5, 6, *size)) < 0.7
    active[:, 0], active[:, 1] = True, False
    counts = PermutationCounts.zeros(range(4), 6, data, seed=0, null=null, restriction="overlap")
    masks = StratumMasks.of(list(map(MaskRuns.of, active)))
    counts.update(masks, BatchLabels.of(images).arrays, 17, data.category_of, 3)
    for permutation in range(4):
        rng = np.random.default_rng((0, permutation, 17))
        partners = rng.permutation(5) if null == "images" else range(5)
        shifts = np.zeros((5, 2), int) if null == "images" else rng.integers((0, 0), size, (5, 2))
        expected = np.zeros((6, most + 1), int)
        for masks_of_image, partner, shift in zip(active, partners, shifts, strict=True):
            channels = np.roll(images[partner].label_channels, shift, (1, 2))
            for unit, label_id in product(range(6), range(1, most + 1)):
                expected[unit, label_id] += (channels[:, masks_of_image[unit]] == label_id).sum()
                expected[unit, label_id] += (
                    list(images[partner].image_level).count(label_id) * masks_of_image[unit].sum()
                )
        np.testing.assert_array_equal(counts.intersection[permutation], expected)
        np.testing.assert_array_equal(counts.activation[permutation, :, 0], active.sum((0, 2, 3)))


@given(strategies.worlds())
@settings(max_examples=30)
def test_the_best_concepts_are_the_oracle_s(world: strategies.World) -> None:
    definition = strategies.definition("paper", 0.1)
    limits = oracle.thresholds(world.maps, definition.rules)
    expected = oracle.count(world.maps, world.images, world.category_of, definition.rules, world.source, world.fields)
    data = world.data()
    counts, totals = IoUCounts.zeros(1, len(limits), data), np.zeros(len(data.category_of), np.int64)
    for (unit, label_id), count in expected.intersection.items():
        counts.intersection[0, unit, label_id] = count
    for (unit, category), count in expected.activation.items():
        counts.activation[0, unit, category] = count
    for label_id, count in expected.concept_pixels.items():
        totals[label_id] = count
    best = find_best_concepts(data, totals, counts.intersection, counts.activation, np.ones(len(totals), np.bool_))
    for unit, category in product(range(len(limits)), range(len(world.categories))):
        label_id = expected.best(unit, category)
        assert best.label_ids[unit, category] == (label_id or 0)
        assert best.scores[unit, category] == pytest.approx(
            0 if label_id is None else float(expected.iou(unit, label_id))
        )


def test_random_units_have_uniform_p_values_and_planted_units_small_ones() -> None:
    rng = np.random.default_rng(6)
    images, noise, planted = 80, 150, 6
    concepts = tuple(Concept(label_id, str(label_id), "object", 1, 1.0) for label_id in range(1, 7))
    data = ConceptData(Path("nowhere"), ("object",), concepts, ())
    blocks = rng.integers(0, 7, (images, 3, 3)).repeat(4, 1).repeat(4, 2)
    labels = [
        ImageLabels.of(Labels(channel[None].astype(np.int32), np.empty(0, np.int32)), data, "once")
        for channel in blocks
    ]
    on = (rng.random((images, noise + planted, 6, 6)) < 0.02).repeat(2, 2).repeat(2, 3)
    for unit in range(planted):  # a third of the concept's pixels beside the noise
        on[:, noise + unit] |= (blocks == unit + 1) & (rng.random(blocks.shape) < 0.3)
    totals = np.bincount(blocks.ravel(), minlength=7)
    activation = on.sum((0, 2, 3))[None, :, None]
    hits = np.stack([(on & (blocks == label_id)[:, None]).sum((0, 2, 3)) for label_id in range(7)], axis=-1)
    everything = np.ones(7, np.bool_)
    observed = find_best_concepts(data, totals, hits, activation, everything).scores[:, 0]
    counts = PermutationCounts.zeros(range(200), len(observed), data, seed=0, null="images", restriction="annotated")
    counts.update(StratumMasks.of(list(map(MaskRuns.of, on))), BatchLabels.of(labels).arrays, 0, data.category_of, 2)
    zeros = np.zeros(0, np.int64)
    best = counts.best_concepts(data, ConceptTotals(totals, zeros, zeros), activation[0], everything, 2)
    found = p_values(observed, np.stack([permutation.scores[:, 0] for permutation in best]))
    assert kstest(found[:noise], "uniform").pvalue > 0.01
    assert found[noise:].max() < 1e-6
