"""Counts of single images, whose sums are the counts of the data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.concepts import Size
from netdissect.scoring import BatchLabels, ImageIntersections, ImageLabels, IoUCounter, make_upsampler
from netdissect.scoring.iou_counter import LeadingQuantiles
from netdissect.scoring.iou_counter_torch import TorchIoUCounter
from netdissect.scoring.per_image_counts import read_intersections


def intersections_of(
    world: strategies.World,
    definition: strategies.Definition,
    limits: strategies.Floats,
    *,
    tensor: bool,
    record_images_for: int = 2,
) -> ImageIntersections:
    """Count each image of a world, one after the other, at thresholds (Q, U)."""
    data, protocol, leading = world.data(), definition.protocol, LeadingQuantiles(record_images_for=record_images_for)
    counter: IoUCounter | TorchIoUCounter
    if tensor:
        counter = TorchIoUCounter(data, limits, protocol.restriction, torch.device("cpu"), leading)
    else:
        counter = IoUCounter(data, limits, protocol.restriction, leading)
    parts = []
    for index in range(len(world.maps)):
        labels = world.labels(index)
        if protocol.segmentation_size is not None:
            labels = labels.resized(Size(protocol.segmentation_size, protocol.segmentation_size))
        upsampler = make_upsampler(world.cells(), labels.size, Size(*world.source), world.field(), protocol.anchor)
        image = ImageLabels.of(labels, data, protocol.duplicates)
        maps = world.maps[index][None]
        found = counter.update_batch(
            torch.from_numpy(maps) if tensor else maps, BatchLabels.of([image]), upsampler
        ).intersections
        parts.append(found._replace(image_index=found.image_index + index))
    return ImageIntersections.join(parts)


@pytest.mark.parametrize("tensor", [False, True])
@given(world=strategies.worlds(), definition=strategies.definitions())
def test_each_image_has_the_counts_of_a_data_set_of_that_image_alone(
    world: strategies.World, definition: strategies.Definition, tensor: bool
) -> None:
    limits = oracle.thresholds(world.maps, definition.rules)
    found = intersections_of(world, definition, limits[None], tensor=tensor)
    for index in range(len(world.maps)):
        expected = oracle.count(
            world.maps[index : index + 1], world.images[index : index + 1], world.category_of, definition.rules,
            world.source, world.fields, limits,
        )  # fmt: skip
        for unit in range(world.maps.shape[1]):
            here = (found.image_index == index) & (found.units == unit)
            assert here.sum() <= 1
            entries = here[found.mask_index]
            counts = dict(zip(found.label_ids[entries].tolist(), found.intersections[entries].tolist(), strict=True))
            wanted = {label_id: expected.intersection[unit, label_id] for label_id in world.category_of}
            assert counts == {label_id: count for label_id, count in wanted.items() if count}
            if definition.protocol.restriction == "none":
                assert (
                    found.mask_pixels[here].sum() == expected.activation[unit, next(iter(world.category_of.values()))]
                )


@given(world=strategies.worlds(), definition=strategies.definitions(), record_images_for=st.integers(0, 2))
def test_a_batch_is_counted_as_its_images_one_by_one(
    world: strategies.World, definition: strategies.Definition, record_images_for: int
) -> None:
    data, protocol = world.data(), definition.protocol
    limits = np.stack([np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.5, 0.9)])
    size = Size(7, 6)
    images = [
        ImageLabels.of(world.labels(index).resized(size), data, protocol.duplicates) for index in range(len(world.maps))
    ]
    upsampler = make_upsampler(world.cells(), size, Size(*world.source), world.field(), protocol.anchor)
    leading = LeadingQuantiles(record_images_for=record_images_for)
    together, alone = (IoUCounter(data, limits, protocol.restriction, leading) for _ in range(2))
    found = together.update_batch(world.maps, BatchLabels.of(images), upsampler).intersections
    parts = []
    for index, image in enumerate(images):
        part = alone.update_batch(world.maps[index][None], BatchLabels.of([image]), upsampler).intersections
        parts.append(part._replace(image_index=part.image_index + index))
    for name, array in vars(together.counts).items():
        np.testing.assert_array_equal(array, getattr(alone.counts, name))
    for left, right in zip(found, ImageIntersections.join(parts), strict=True):
        np.testing.assert_array_equal(left, right)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_appended_records_are_read_back_and_a_torn_record_is_truncated(
    tmp_path_factory: pytest.TempPathFactory, seed: int, batches: int
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("file") / "masks.images"
    file, written = AppendOnlyArrayFile(path), []
    for _ in range(batches):
        labels = rng.integers(0, 4, rng.integers(0, 6))
        most = int(rng.choice([200, 60_000, 2**33]))
        masks = rng.integers(0, most, (4, len(labels)))
        written.append(ImageIntersections(*masks, labels, *rng.integers(0, most, (2, labels.sum()))))
        file.append(written[-1])
    offsets = list(file.offsets)
    path.write_bytes(path.read_bytes() + b"torn")
    again = AppendOnlyArrayFile(path)
    again.truncate(offsets)
    assert path.stat().st_size == offsets[-1]
    again.append(written[0])
    for found, expected in zip(read_intersections(again), [*written, written[0]], strict=True):
        for left, right in zip(found, expected, strict=True):
            np.testing.assert_array_equal(left, right)


@given(strategies.worlds(), strategies.definitions())
def test_both_counters_return_the_same_masks(world: strategies.World, definition: strategies.Definition) -> None:
    limits = np.stack([np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.99, 0.5)])
    left, right = (intersections_of(world, definition, limits, tensor=tensor) for tensor in (False, True))
    for quantile in range(2):
        for one, other in zip(left.at(quantile), right.at(quantile), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("tensor", [False, True])
@given(world=strategies.worlds(), definition=strategies.definitions())
def test_only_masks_of_the_first_quantiles_are_returned(
    world: strategies.World, definition: strategies.Definition, tensor: bool
) -> None:
    limits = np.stack([np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.5, 0.99)])
    every = intersections_of(world, definition, limits, tensor=tensor)
    for one, other in zip(
        intersections_of(world, definition, limits, tensor=tensor, record_images_for=1), every.at(0), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert not len(intersections_of(world, definition, limits, tensor=tensor, record_images_for=0).image_index)
