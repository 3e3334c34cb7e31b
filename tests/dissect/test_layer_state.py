"""Both passes over random data, without a network: each collector gives the counts of the oracle."""

from dataclasses import replace
from pathlib import Path
from random import Random
from threading import current_thread
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import oracle
import strategies
from netdissect.activations import ActivationStore, topk
from netdissect.activations.image_values import ImageValues
from netdissect.activations.sparse.sparse_store import SparseStore
from netdissect.concepts import Size
from netdissect.config import DissectConfig, Protocol, ProtocolName, StatisticsConfig
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.layer_state import AnyCollector, Collector, DeviceCollector, SparseCollector
from netdissect.models import Layer, ReceptiveField, ReceptiveFieldAxis
from netdissect.scoring import BatchLabels, ConceptTotals, ImageLabels, IoUCounts, iou

HOW = ("sparse", "dense", "threads", "spilled", "tensor", "active cells", "active blocks")

pytestmark = pytest.mark.usefixtures("tight")


def plan_of(world: strategies.World, protocol: Protocol, how: str) -> LayerPlan:
    """Describe the world's layer as a traced network would; blocks are counted where no mask is listed."""
    field = ReceptiveField(*(ReceptiveFieldAxis(*axis) for axis in world.fields))
    layer = Layer("layer", "Random", world.maps.shape[1], world.cells(), field)
    statistics = StatisticsConfig(bootstrap=0, permutations=0) if how == "active blocks" else StatisticsConfig()
    config = DissectConfig(layers=("layer",), protocol=protocol, top_images=3, statistics=statistics)
    return LayerPlan(layer, Size(*world.source), len(world.maps), config)


def collector(plan: LayerPlan, how: str, folder: Path) -> AnyCollector:
    maxima = ImageValues(folder / "maxima", plan.layer.units)
    if how == "tensor":
        return DeviceCollector(plan, maxima, torch.device("cpu"))
    (folder / "maps").unlink(missing_ok=True)
    units, cells = plan.layer.units, plan.layer.grid
    assert cells is not None
    if how.startswith("active"):
        return SparseCollector(plan, maxima, SparseStore(folder / "maps", units, cells), None)
    store = ActivationStore(folder / "maps", units, cells, dense=how == "dense" or plan.needs_dense)
    return Collector(
        plan, maxima, store, folder / "top" if how == "spilled" else None, threads=3 if how == "threads" else 1
    )


def allowed(world: strategies.World, how: str) -> strategies.World:
    """Return the world without negative activations where only active cells are kept."""
    return replace(world, maps=np.maximum(world.maps, 0)) if how.startswith("active") else world


def dissected(
    world: strategies.World, protocol: Protocol, how: str, size: int, folder: Path
) -> tuple[strategies.Floats, IoUCounts, ConceptTotals, list[list[int]]]:
    """Look twice, in batches of `size` images."""
    plan, data = plan_of(world, protocol, how), world.data()
    made = collector(plan, how, folder)
    starts = range(0, len(world.maps), size)
    for start in starts:
        batch = world.maps[start : start + size]
        rows = np.arange(start, start + len(batch))
        if isinstance(made, SparseCollector):
            made.update(strategies.sparse_maps(batch), rows)
        else:
            made.update(torch.from_numpy(batch.copy()), rows)
    counter, totals = made.counter(data, made.thresholds()), ConceptTotals.zeros(data)
    for start in starts:
        count = len(world.maps[start : start + size])
        kept: Any = world.maps[start : start + size].copy()
        if made.store is not None:
            kept = made.store.read(start // size, count)
        kept = torch.from_numpy(kept) if isinstance(kept, np.ndarray) else kept
        for index in range(count):
            labels = world.labels(start + index)
            if protocol.segmentation_size is not None:
                labels = labels.resized(Size(protocol.segmentation_size, protocol.segmentation_size))
            image = ImageLabels.of(labels, data, protocol.duplicates)
            totals.update(image)
            counter.update_batch(kept[index : index + 1], BatchLabels.of([image]), plan.grid_to(labels.size))
    rows = [[int(row) for row in unit if row >= 0] for unit in made.top_images.ranked()[0]]
    return made.thresholds(), counter.counts, totals, rows


def rare(name: ProtocolName) -> tuple[strategies.World, strategies.Definition]:
    """Make a world of units that are dead, active on one cell, on fewer cells than the quantile asks, and on more."""
    maps = np.zeros((4, 4, 6, 6), np.float32)
    maps[2, 1, 3, 3] = 1
    maps[1:3, 2, 2:4, 5] = np.arange(4).reshape(2, 2)
    maps[:, 3, :2] = 1 + np.arange(12).reshape(2, 6)
    rng = np.random.default_rng(0)
    images = tuple(strategies.labeled_image(rng, 3, (6, 6)) for _ in range(4))
    world = strategies.World(maps, images, {1: 0, 2: 1, 3: 0}, ("a", "b"), (12, 12), (oracle.Field(0, 1, 2),) * 2)
    return world, strategies.definition(name, 0.05, 9)


def trend(name: ProtocolName, step: float) -> tuple[strategies.World, strategies.Definition]:
    """Make a world in which each image is a little brighter than the one before it, or far darker."""
    rng = np.random.default_rng(0)
    maps = (rng.random((4, 2, 6, 6)) + step * np.arange(4)[:, None, None, None]).astype(np.float32)
    images = tuple(strategies.labeled_image(rng, 3, (6, 6)) for _ in range(4))
    world = strategies.World(maps, images, {1: 0, 2: 1, 3: 0}, ("a", "b"), (12, 12), (oracle.Field(0, 1, 2),) * 2)
    return world, strategies.definition(name, 0.02, 9)


@given(strategies.worlds(), strategies.definitions(), st.sampled_from(HOW), st.integers(1, 4))
@example(*rare("paper"), "active cells", 3)
@example(*rare("paper"), "active blocks", 3)
@example(*rare("lite"), "active cells", 3)
@example(*rare("lite"), "active blocks", 3)
@example(*rare("pnas2020"), "active cells", 3)
@example(*rare("pnas2020"), "active blocks", 3)
@example(*trend("paper", -9.0), "sparse", 1)
@example(*trend("pnas2020", 0.1), "sparse", 1)
@example(*trend("pnas2020", -9.0), "sparse", 1)
@example(*trend("pnas2020", -9.0), "tensor", 1)
@settings(suppress_health_check=list(HealthCheck), max_examples=100)
def test_two_passes_over_any_data_give_the_counts_of_the_oracle(
    tmp_path_factory: pytest.TempPathFactory,
    world: strategies.World,
    definition: strategies.Definition,
    how: str,
    size: int,
) -> None:
    folder, world = tmp_path_factory.getbasetemp(), allowed(world, how)
    limits, tally, totals, rows = dissected(world, definition.protocol, how, size, folder)
    expected = oracle.count(world.maps, world.images, world.category_of, definition.rules, world.source, world.fields)
    assert limits[0].tolist() == expected.thresholds.tolist()
    assert rows == oracle.top_images(world.maps, 3)
    for label_id, place in world.category_of.items():
        assert totals.pixels[label_id] == expected.concept_pixels[label_id]
        for unit in range(expected.units):
            pair = tally.intersection[0, unit, label_id], tally.activation[0, unit, place]
            assert pair == (expected.intersection[unit, label_id], expected.activation[unit, place])
            score = iou(*(np.array([count]) for count in (*pair, totals.pixels[label_id])))[0]
            assert score == pytest.approx(float(expected.iou(unit, label_id)), abs=1e-12)


@given(
    strategies.worlds(),
    strategies.definitions(),
    st.lists(st.sampled_from(strategies.FRACTIONS), min_size=2, max_size=4, unique=True),
    st.sampled_from(("sparse", "active blocks")),
)
@example(*rare("paper"), [0.05, 0.1], "active blocks")
@settings(suppress_health_check=list(HealthCheck), max_examples=25)
def test_several_quantiles_share_one_store(
    tmp_path_factory: pytest.TempPathFactory,
    world: strategies.World,
    definition: strategies.Definition,
    fractions: list[float],
    how: str,
) -> None:
    folder, world = tmp_path_factory.getbasetemp(), allowed(world, how)
    changes: dict[str, Any] = {"quantiles": tuple(fractions)}
    limits, tally, _, _ = dissected(world, definition.protocol.model_copy(update=changes), how, 2, folder)
    for index, fraction in enumerate(fractions):
        rules = oracle.Rules(**{**vars(definition.rules), "fraction": fraction})
        expected = oracle.count(world.maps, world.images, world.category_of, rules, world.source, world.fields)
        assert limits[index].tolist() == expected.thresholds.tolist()
        for unit in range(expected.units):
            for label_id, place in world.category_of.items():
                assert tally.intersection[index, unit, label_id] == expected.intersection[unit, label_id]
                assert tally.activation[index, unit, place] == expected.activation[unit, place]


@given(strategies.worlds(), strategies.definitions(), st.sampled_from(HOW), st.randoms(use_true_random=False))
@settings(suppress_health_check=list(HealthCheck), max_examples=25)
def test_the_order_of_the_images_changes_no_count(
    tmp_path_factory: pytest.TempPathFactory,
    world: strategies.World,
    definition: strategies.Definition,
    how: str,
    random: Random,
) -> None:
    folder, world = tmp_path_factory.getbasetemp(), allowed(world, how)
    order = random.sample(range(len(world.maps)), len(world.maps))
    other = replace(world, maps=world.maps[order], images=tuple(world.images[row] for row in order))
    limits, tally, totals, _ = dissected(world, definition.protocol, how, 2, folder)
    other_limits, other_counts, other_totals, _ = dissected(other, definition.protocol, how, 2, folder)
    assert limits.tolist() == other_limits.tolist()
    for one, two in ((tally, other_counts), (totals, other_totals)):
        for name, array in vars(one).items():
            np.testing.assert_array_equal(array, vars(two)[name])


def test_several_threads_collect_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    _, definition = rare("paper")
    world = replace(trend("paper", 0.1)[0], maps=rng.standard_normal((9, 7, 6, 6)).astype(np.float32))
    threads, states, contents = set[str](), [], []
    keep = topk._keep_largest
    monkeypatch.setattr(topk, "_keep_largest", lambda *given: (threads.add(current_thread().name), keep(*given)))
    for how in ("sparse", "threads"):
        made = collector(plan_of(world, definition.protocol, how), how, tmp_path)
        for start in range(0, len(world.maps), 3):
            made.update(torch.from_numpy(world.maps[start : start + 3]), np.arange(start, start + 3))
        states.append(made.state())
        contents.append((tmp_path / "maps").read_bytes())
    assert len(threads) > 1
    assert contents[0] == contents[1]
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])
