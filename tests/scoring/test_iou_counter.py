"""Counts of the compiled kernel and of the torch backend against sets of pixels."""

import functools
import operator
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
import strategies
from netdissect.concepts import Labels, Size
from netdissect.config import PROTOCOLS, Anchor, Protocol, ProtocolName
from netdissect.errors import ShapeError
from netdissect.scoring import (
    BatchLabels,
    ConceptTotals,
    FieldSpan,
    FieldSpans,
    ImageLabels,
    IoUCounter,
    IoUCounts,
    concept_counts,
    iou,
    make_upsampler,
)
from netdissect.scoring.iou_counter import LeadingQuantiles
from netdissect.scoring.iou_counter_torch import TorchIoUCounter
from netdissect.scoring.sparse.count_rows import CountRows


def count_images(
    world: strategies.World, protocol: Protocol, thresholds: strategies.Floats, rows: list[int] | None = None
) -> tuple[IoUCounts, ConceptTotals]:
    """Count the images `rows` at thresholds (Q, U) with the library."""
    data = world.data()
    counter, totals = IoUCounter(data, thresholds, protocol.restriction), ConceptTotals.zeros(data)
    for row in range(len(world.maps)) if rows is None else rows:
        image = labels_of(world, protocol, row)
        totals.update(image)
        upsampler = make_upsampler(world.cells(), image.size, Size(*world.source), world.field(), protocol.anchor)
        counter.update_batch(world.maps[row][None], BatchLabels.of([image]), upsampler)
    return counter.counts, totals


def labels_of(world: strategies.World, protocol: Protocol, row: int) -> ImageLabels:
    """Labels of one image under the protocol."""
    labels, side = world.labels(row), protocol.segmentation_size
    labels = labels if side is None else labels.resized(Size(side, side))
    return ImageLabels.of(labels, world.data(), protocol.duplicates)


def assert_counts(
    world: strategies.World, found: tuple[IoUCounts, ConceptTotals], expected: oracle.Counts, quantile: int = 0
) -> None:
    """Compare every unit with every concept: counts to the integer, IoU to 1e-12."""
    counts, totals = found
    for label_id, category in world.category_of.items():
        assert totals.pixels[label_id] == expected.concept_pixels[label_id]
        for unit in range(expected.units):
            pair = counts.intersection[quantile, unit, label_id], counts.activation[quantile, unit, category]
            assert pair == (expected.intersection[unit, label_id], expected.activation[unit, category])
            score = iou(*(np.array([n]) for n in (*pair, totals.pixels[label_id])))[0]
            assert score == pytest.approx(float(expected.iou(unit, label_id)), abs=1e-12)


@given(strategies.worlds(), strategies.definitions())
def test_counts_are_those_of_sets_of_pixels(world: strategies.World, definition: strategies.Definition) -> None:
    limits = oracle.thresholds(world.maps, definition.rules)
    expected = oracle.count(world.maps, world.images, world.category_of, definition.rules, world.source, world.fields)
    assert_counts(world, count_images(world, definition.protocol, limits[None]), expected)


@given(strategies.worlds(), strategies.definitions(), st.integers(0, 2**32 - 1))
def test_counts_at_thresholds_equal_to_activations_are_strict(
    world: strategies.World, definition: strategies.Definition, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = world.maps.transpose(1, 0, 2, 3).reshape(world.maps.shape[1], -1)
    limits = np.array([rng.choice(row) for row in values], dtype=np.float32)
    expected = oracle.count(
        world.maps, world.images, world.category_of, definition.rules, world.source, world.fields, limits
    )
    assert_counts(world, count_images(world, definition.protocol, limits[None]), expected)


@given(strategies.worlds(), strategies.definitions())
def test_several_quantiles_are_counted_as_each_alone(
    world: strategies.World, definition: strategies.Definition
) -> None:
    limits = np.stack([np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.99, 0.5, 0.8)])
    together, _ = count_images(world, definition.protocol, limits)
    for index, row in enumerate(limits):
        alone, _ = count_images(world, definition.protocol, row[None])
        np.testing.assert_array_equal(together.intersection[index], alone.intersection[0])
        np.testing.assert_array_equal(together.activation[index], alone.activation[0])


@given(strategies.worlds(), strategies.definitions(), st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=20)
def test_any_split_of_the_data_in_any_order_adds_up_to_the_whole(
    world: strategies.World, definition: strategies.Definition, random: object, parts: int
) -> None:
    limits = oracle.thresholds(world.maps, definition.rules)[None]
    order = list(range(len(world.maps)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shards = [count_images(world, definition.protocol, limits, order[part::parts]) for part in range(parts)]
    data = world.data()
    counts = functools.reduce(operator.add, (t for t, _ in shards), IoUCounts.zeros(1, world.maps.shape[1], data))
    totals = functools.reduce(operator.add, (t for _, t in shards), ConceptTotals.zeros(data))
    counts_of_all, totals_of_all = count_images(world, definition.protocol, limits)
    for left, right in ((counts, counts_of_all), (totals, totals_of_all)):
        for name, array in vars(left).items():
            assert array.dtype == np.int64
            np.testing.assert_array_equal(array, getattr(right, name))


def one_pixel_world(channels: list[int], image_level: tuple[int, ...], categories: dict[int, int]) -> strategies.World:
    """One image of one cell and one pixel, at which the one unit is active."""
    return strategies.World(
        np.ones((1, 1, 1, 1), np.float32),
        (oracle.OracleImage(tuple(np.array([[n]]) for n in channels), image_level, (1, 1)),),
        categories,
        tuple(f"category{i}" for i in range(1 + max(categories.values()))),
        (1, 1),
        (oracle.Field(0, 1, 1),) * 2,
    )


@pytest.mark.parametrize(
    ("channels", "image_level", "times"),
    [([1, 1], (), 2), ([1], (1,), 2), ([], (1, 1), 2), ([1, 1, 1], (1,), 4), ([1], (), 1)],
)
@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_a_label_in_two_channels_counts_once_or_twice_as_the_protocol_says(
    name: ProtocolName, channels: list[int], image_level: tuple[int, ...], times: int
) -> None:
    world = one_pixel_world(channels, image_level, {1: 0})
    protocol = PROTOCOLS[name].model_copy(update={"segmentation_size": None})
    counts, totals = count_images(world, protocol, np.zeros((1, 1), np.float32))
    times_counted = 1 if name in ("paper", "pnas2020") else times
    assert (counts.intersection[0, 0, 1], totals.pixels[1], counts.activation[0, 0, 0]) == (
        times_counted,
        times_counted,
        1,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("paper", [1, 1, 0]), ("original", [1, 1, 0]), ("lite", [0, 1, 0]), ("pnas2020", [1, 1, 1])],
)
def test_each_protocol_has_its_own_images_in_the_union(name: ProtocolName, expected: list[int]) -> None:
    # One pixel of two is active. Category 0 labels the other pixel, category 1 the whole image, category 2 nothing.
    world = strategies.World(
        np.array([[[[0, 1]]]], np.float32),
        (oracle.OracleImage((np.array([[1, 0]]),), (2,), (1, 2)),),
        {1: 0, 2: 1, 3: 2},
        ("a", "b", "c"),
        (1, 2),
        (oracle.Field(0, 1, 1),) * 2,
    )
    protocol = PROTOCOLS[name].model_copy(update={"segmentation_size": None})
    counts, _ = count_images(world, protocol, np.full((1, 1), 0.5, np.float32))
    assert counts.activation[0, 0].tolist() == expected


def test_a_label_counts_in_its_primary_category_whatever_the_others_are() -> None:
    world = one_pixel_world([2], (), {1: 0, 2: 1})
    counts, totals = count_images(world, PROTOCOLS["paper"], np.zeros((1, 1), np.float32))
    intersection, activation = concept_counts(np.array([1, 2]), counts, world.data().category_of)
    assert intersection.tolist() == [[[0, 1]]]
    assert activation.tolist() == [[[0, 1]]]
    assert totals.annotated.tolist() == [0, 1]
    assert totals.images.tolist() == [0, 0, 1]


@given(strategies.worlds())
def test_deduplicated_labels_are_resized_as_all_labels_are(world: strategies.World) -> None:
    for row, image in enumerate(world.images):
        once, twice = world.labels(row).deduplicated(), world.labels(row)
        assert once.deduplicated().label_channels.tolist() == once.label_channels.tolist()
        resized = twice.resized(Size(5, 5))
        for channel, expected in zip(resized.label_channels, image.resized(5).label_channels, strict=True):
            np.testing.assert_array_equal(channel, expected)
        for label_id in range(1, 8):
            held = (twice.label_channels == label_id).any(axis=0) | (label_id in twice.image_level)
            kept = (once.label_channels == label_id).sum(axis=0) + (once.image_level == label_id).sum()
            np.testing.assert_array_equal(kept, held)


def test_label_maps_of_another_size_than_the_upsampler_s_are_refused() -> None:
    world = one_pixel_world([1], (), {1: 0})
    data = world.data()
    labels = ImageLabels.of(Labels(np.ones((1, 2, 3), np.int32), np.empty(0, np.int32)), data, "once")
    upsampler = make_upsampler(Size(1, 1), Size(3, 2), Size(6, 4), None, "half-pixel")
    with pytest.raises(ShapeError, match=r"leads to 3 x 2 .* maps are 2 x 3"):
        IoUCounter(data, np.zeros((1, 1), np.float32), "none").update_batch(
            world.maps, BatchLabels.of([labels]), upsampler
        )


@pytest.mark.parametrize("kind", ["dense", "sparse", "tensor"])
@given(world=strategies.worlds(), definition=strategies.definitions(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_masks_that_equal_those_at_a_reported_quantile_are_counted_once(
    world: strategies.World, definition: strategies.Definition, seed: int, kind: str
) -> None:
    world = replace(world, maps=np.maximum(world.maps, 0))
    rng, data, protocol = np.random.default_rng(seed), world.data(), definition.protocol
    reported = [np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.9, 0.6)]
    higher = np.quantile(world.maps, 0.95, axis=(0, 2, 3)).astype(np.float32)
    differs = rng.random((2, len(higher))) < 0.5
    limits = np.stack([*reported, *(np.where(own, higher, reported[0]) for own in differs)])
    leading = LeadingQuantiles(reported=2)
    counter: IoUCounter | TorchIoUCounter = (
        TorchIoUCounter(data, limits, protocol.restriction, torch.device("cpu"), leading)
        if kind == "tensor"
        else IoUCounter(data, limits, protocol.restriction, leading)
    )
    convert: Any = {"dense": np.asarray, "sparse": strategies.sparse_maps, "tensor": torch.from_numpy}[kind]
    for row in range(len(world.maps)):
        image = labels_of(world, protocol, row)
        upsampler = make_upsampler(world.cells(), image.size, Size(*world.source), world.field(), protocol.anchor)
        counter.update_batch(convert(world.maps[row][None]), BatchLabels.of([image]), upsampler)
    masks, counts = CountRows.of(limits, 2), counter.counts
    own = (limits[2:, None] != limits[:2]).all(axis=1)
    assert len(counts.further_intersection) == len(counts.further_activation) == own.sum()
    ids, categories = (np.array(part) for part in zip(*world.category_of.items(), strict=True))
    for quantile, of_quantile in enumerate(limits):
        expected = oracle.count(
            world.maps, world.images, world.category_of, definition.rules, world.source, world.fields, of_quantile
        )
        for unit in range(len(of_quantile)):
            found = counts.at(quantile, masks, (np.full(len(ids), unit), ids, categories))
            assert found[0].tolist() == [expected.intersection[unit, label_id] for label_id in ids.tolist()]
            assert found[1].tolist() == [expected.activation[unit, category] for category in categories.tolist()]


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 2, 1, 1), (0, 1, 1, 1), (1, 1, 1)])
def test_maps_of_other_images_or_units_than_announced_are_refused(shape: tuple[int, ...]) -> None:
    data = one_pixel_world([1], (), {1: 0}).data()
    labels = ImageLabels.of(Labels(np.ones((1, 2, 3), np.int32), np.empty(0, np.int32)), data, "once")
    upsampler = make_upsampler(Size(1, 1), Size(2, 3), Size(4, 6), None, "half-pixel")
    counter = IoUCounter(data, np.zeros((1, 1), np.float32), "none")
    with pytest.raises(ShapeError, match=r"labels of 1 image and thresholds of 1 unit"):
        counter.update_batch(np.ones(shape, np.float32), BatchLabels.of([labels]), upsampler)
    assert not counter.counts.activation.any()


@pytest.mark.parametrize("tensor", [False, True])
@pytest.mark.parametrize("anchor", get_args(Anchor))
@pytest.mark.parametrize("cells", [(9, 5), (5, 14), (40, 21)])
@pytest.mark.parametrize("spread", [0, 1])
def test_both_counters_threshold_the_upsampled_maps_to_the_last_bit(
    anchor: Anchor, cells: tuple[int, int], spread: float, tensor: bool
) -> None:
    # One map under many thresholds, each of them the value of some pixel or just below: one bit off is counted wrong.
    # Where all cells are equal, no pixel is below the largest cell around it.
    rng = np.random.default_rng(5)
    data = one_pixel_world([1], (), {1: 0}).data()
    labels = ImageLabels.of(Labels(np.ones((1, 31, 17), np.int32), np.empty(0, np.int32)), data, "once")
    upsampler = make_upsampler(
        Size(*cells), Size(31, 17), Size(62, 34), FieldSpans(FieldSpan(-3, 7, 7), FieldSpan(1, 4, 5)), anchor
    )
    maps = rng.normal(0.1, spread, cells).astype(np.float32)
    pixels = upsampler.upsample(maps)
    values = np.unique(pixels)
    limits = np.concatenate([values, np.nextafter(values, np.float32(-np.inf))])
    repeated = np.repeat(maps[None, None], len(limits), axis=1)
    if tensor:
        on_device = TorchIoUCounter(data, limits[None], "none", torch.device("cpu"))
        on_device.update_batch(torch.from_numpy(repeated), BatchLabels.of([labels]), upsampler)
        counts = on_device.counts
    else:
        counter = IoUCounter(data, limits[None], "none")
        counter.update_batch(repeated, BatchLabels.of([labels]), upsampler)
        counts = counter.counts
    expected = (pixels.ravel() > limits[:, None]).sum(axis=1)
    np.testing.assert_array_equal(counts.activation[0, :, 0], expected)
    np.testing.assert_array_equal(counts.intersection[0, :, 1], expected)
