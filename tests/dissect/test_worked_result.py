"""The worked result on real images: thresholds and counts equal to the integer, from the given activations."""

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from netdissect.activations import ActivationStore
from netdissect.activations.image_values import ImageValues
from netdissect.concepts import ConceptData, Size
from netdissect.config import PROTOCOLS, DissectConfig, ProtocolName
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.layer_state import AnyCollector, Collector, DeviceCollector
from netdissect.models import Layer, ReceptiveField, ReceptiveFieldAxis
from netdissect.scoring import BatchLabels, ConceptTotals, ImageLabels, IoUCounts, iou

STEM = "reference/camvid-efficientnet_lite0_blocks.10"
WORKED: tuple[ProtocolName, ...] = ("paper", "original", "lite")
BATCH = 32

pytestmark = pytest.mark.real


@cache
def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@cache
def maps_of(shared: Path) -> np.ndarray:
    return np.asarray(np.load(shared / f"{STEM}-activations.npy"), dtype=np.float32)


@cache
def data_of(shared: Path) -> ConceptData:
    return ConceptData.open(shared / "data/broden-camvid")


def plan_of(shared: Path, name: ProtocolName) -> LayerPlan:
    axis = ReceptiveFieldAxis(-154, 339, 16)
    layer = Layer("_blocks.10", "MBConvBlock", 32, Size(14, 14), ReceptiveField(axis, axis))
    config = DissectConfig(layers=("_blocks.10",), protocol=PROTOCOLS[name])
    return LayerPlan(layer, Size(224, 224), len(data_of(shared)), config)


def dissected(shared: Path, name: ProtocolName, how: str, folder: Path) -> tuple[np.ndarray, IoUCounts, ConceptTotals]:
    """Stream the given activations through both passes."""
    plan, data, maps = plan_of(shared, name), data_of(shared), maps_of(shared)
    collector: AnyCollector
    maxima = ImageValues(folder / "maxima", 32)
    if how == "tensor":
        collector = DeviceCollector(plan, maxima, torch.device("cpu"))
    else:
        store = ActivationStore(folder / "maps", 32, Size(14, 14), dense=plan.needs_dense)
        collector = Collector(plan, maxima, store, folder / "top" if how == "spilled" else None)
    starts = range(0, len(maps), BATCH)
    for start in starts:
        batch = np.ascontiguousarray(maps[start : start + BATCH])
        collector.update(torch.from_numpy(batch), np.arange(start, start + len(batch)))
    counter, totals = collector.counter(data, collector.thresholds()), ConceptTotals.zeros(data)
    grid = plan.grid_to(Size(112, 112))
    for start in starts:
        count = len(maps[start : start + BATCH])
        kept = torch.from_numpy(maps[start : start + BATCH].copy())
        if collector.store is not None:
            kept = torch.from_numpy(collector.store.read(start // BATCH, count))
        images = []
        for row in range(start, start + count):
            images.append(ImageLabels.of(data.labels(row), data, PROTOCOLS[name].duplicates))
            totals.update(images[-1])
        counter.update_batch(kept, BatchLabels.of(images), grid)
    if collector.store is not None and not plan.needs_dense:
        assert collector.store.offsets[-1] < maps.nbytes / 2
    return collector.thresholds(), counter.counts, totals


@pytest.mark.parametrize(("name", "how"), [*((name, "sparse") for name in WORKED), ("paper", "spilled")])
def test_every_threshold_and_count_of_the_worked_result_is_met(
    shared: Path, tmp_path: Path, name: ProtocolName, how: str
) -> None:
    data = data_of(shared)
    limits, tally, totals = dissected(shared, name, how, tmp_path)
    for row in rows_of(shared / f"{STEM}-{name}-thresholds.csv")[:32]:
        assert limits[0, int(row["unit"])] == np.float32(row["threshold"])
    numbers = {concept.name: concept.label_id for concept in data.concepts}
    rows = [row for row in rows_of(shared / f"{STEM}-{name}.csv") if int(row["unit"]) < 32]
    assert len(rows) == 32 * len(data.concepts) == 32 * 25
    for row in rows:
        unit, number = int(row["unit"]), numbers[row["concept"]]
        place = data.category_of[number]
        assert data.categories[place] == row["category"]
        found = tally.intersection[0, unit, number], tally.activation[0, unit, place], totals.pixels[number]
        assert found == tuple(int(row[part]) for part in ("intersection", "activation", "truth")), row
        assert iou(*(np.array([count]) for count in found))[0] == float(row["iou"]), row


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKED)
def test_tensor_code_counts_the_worked_result_too(shared: Path, tmp_path: Path, name: ProtocolName) -> None:
    compiled, tensor = (dissected(shared, name, how, tmp_path) for how in ("sparse", "tensor"))
    np.testing.assert_array_equal(tensor[0], compiled[0])
    for left, right in zip(tensor[1:], compiled[1:], strict=True):
        for part, array in vars(left).items():
            np.testing.assert_array_equal(array, getattr(right, part), err_msg=part)
