"""Counts image by image: the parts of which a tally is the sum."""

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
from netdissect.scoring.iou_counter_torch import TorchIoUCounter
from netdissect.scoring.per_image_counts import read_intersections


def overlaps_of(
    world: strategies.World,
    definition: strategies.Definition,
    limits: strategies.Floats,
    *,
    tensor: bool,
    listed: int | None = None,
) -> ImageIntersections:
    """Count every image of a world, one after the other, at thresholds (Q, U)."""
    data, protocol = world.data(), definition.protocol
    tallier: IoUCounter | TorchIoUCounter
    if tensor:
        tallier = TorchIoUCounter(data, limits, protocol.restriction, torch.device("cpu"), listed)
    else:
        tallier = IoUCounter(data, limits, protocol.restriction, listed)
    parts = []
    for row in range(len(world.maps)):
        labels = world.labels(row)
        if protocol.segmentation_size is not None:
            labels = labels.resized(Size(protocol.segmentation_size, protocol.segmentation_size))
        made = make_upsampler(world.cells(), labels.size, Size(*world.source), world.field(), protocol.anchor)
        image = ImageLabels.of(labels, data, protocol.duplicates)
        maps = world.maps[row][None]
        found = tallier.update_batch(torch.from_numpy(maps) if tensor else maps, BatchLabels.of([image]), made)
        parts.append(found._replace(image_index=found.image_index + row))
    return ImageIntersections.join(parts)


@pytest.mark.parametrize("tensor", [False, True])
@given(world=strategies.worlds(), definition=strategies.definitions())
def test_each_image_has_the_counts_of_a_data_set_of_that_image_alone(
    world: strategies.World, definition: strategies.Definition, tensor: bool
) -> None:
    limits = oracle.thresholds(world.maps, definition.rules)
    found = overlaps_of(world, definition, limits[None], tensor=tensor)
    for row in range(len(world.maps)):
        expected = oracle.count(
            world.maps[row : row + 1], world.images[row : row + 1], world.category_of, definition.rules,
            world.source, world.fields, limits,
        )  # fmt: skip
        for unit in range(world.maps.shape[1]):
            here = (found.image_index == row) & (found.units == unit)
            assert here.sum() <= 1
            entries = here[found.mask_index]
            counts = dict(zip(found.label_ids[entries].tolist(), found.intersections[entries].tolist(), strict=True))
            wanted = {number: expected.intersection[unit, number] for number in world.category_of}
            assert counts == {number: count for number, count in wanted.items() if count}
            if definition.protocol.restriction == "none":
                assert (
                    found.mask_pixels[here].sum() == expected.activation[unit, next(iter(world.category_of.values()))]
                )


@given(world=strategies.worlds(), definition=strategies.definitions(), listed=st.integers(0, 2))
def test_a_batch_is_counted_as_its_images_one_by_one(
    world: strategies.World, definition: strategies.Definition, listed: int
) -> None:
    data, protocol = world.data(), definition.protocol
    limits = np.stack([np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.5, 0.9)])
    size = Size(7, 6)
    images = [
        ImageLabels.of(world.labels(row).resized(size), data, protocol.duplicates) for row in range(len(world.maps))
    ]
    made = make_upsampler(world.cells(), size, Size(*world.source), world.field(), protocol.anchor)
    together, alone = (IoUCounter(data, limits, protocol.restriction, listed) for _ in range(2))
    found = together.update_batch(world.maps, BatchLabels.of(images), made)
    parts = []
    for row, image in enumerate(images):
        part = alone.update_batch(world.maps[row][None], BatchLabels.of([image]), made)
        parts.append(part._replace(image_index=part.image_index + row))
    for name, array in vars(together.counts).items():
        np.testing.assert_array_equal(array, getattr(alone.counts, name))
    for left, right in zip(found, ImageIntersections.join(parts), strict=True):
        np.testing.assert_array_equal(left, right)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_what_was_appended_is_read_back_and_a_torn_batch_is_cut_off(
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
def test_both_talliers_find_the_same_masks(world: strategies.World, definition: strategies.Definition) -> None:
    limits = np.stack([np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.99, 0.5)])
    left, right = (overlaps_of(world, definition, limits, tensor=tensor) for tensor in (False, True))
    for quantile in range(2):
        for one, other in zip(left.at(quantile), right.at(quantile), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("tensor", [False, True])
@given(world=strategies.worlds(), definition=strategies.definitions())
def test_only_masks_of_the_listed_quantiles_are_returned(
    world: strategies.World, definition: strategies.Definition, tensor: bool
) -> None:
    limits = np.stack([np.quantile(world.maps, q, axis=(0, 2, 3)).astype(np.float32) for q in (0.5, 0.99)])
    every = overlaps_of(world, definition, limits, tensor=tensor)
    for one, other in zip(overlaps_of(world, definition, limits, tensor=tensor, listed=1), every.at(0), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not len(overlaps_of(world, definition, limits, tensor=tensor, listed=0).image_index)
