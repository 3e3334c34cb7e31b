"""Device and host do not wait for each other: what the host reads was computed before the newest batch."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import oracle
import strategies
from netdissect.activations import TopImages
from netdissect.activations.image_values import ImageValues
from netdissect.activations.topk_torch import TorchRangeMaps, TorchTopImages
from netdissect.activations.transfers import PendingNumber
from netdissect.concepts import Size
from netdissect.config import PROTOCOL_NAMES, DissectConfig, ProtocolName, StatisticsConfig
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.layer_state import DeviceCollector
from netdissect.models import Layer, ReceptiveField, ReceptiveFieldAxis
from netdissect.scoring import BatchLabels, ImageLabels

BATCHES = 3
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "unique_consecutive")


class Calls(TorchDispatchMode):
    """Count operations, and apart those whose result the host must wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.all: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[-1]
        self.all[name] += 1
        if name in ("index", "index_put", "index_put_") and any(
            part is not None and part.dtype == torch.bool for part in (args[1] if len(args) > 1 else ())
            if isinstance(part, torch.Tensor | None)
        ):  # fmt: skip
            self.all["nonzero"] += 1
        return func(*args, **(kwargs or {}))

    @property
    def waits(self) -> int:
        """How often the host waited for the device."""
        return sum(self.all[name] for name in WAITING)


def world(images: int, units: int) -> strategies.World:
    rng = np.random.default_rng(0)
    maps = rng.random((images, units, 6, 6)).astype(np.float32)
    source_images = tuple(oracle.OracleImage(tuple(rng.integers(0, 4, (2, 6, 6))), (1,), (6, 6)) for _ in range(images))
    return strategies.World(maps, source_images, {1: 0, 2: 1, 3: 0}, ("a", "b"), (12, 12), (oracle.Field(0, 1, 2),) * 2)


class Reads:
    """Numbers that the host reads: after how many batches each was computed, and after how many it is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
        self.batches = 0
        self.early: list[int] = []
        begin, read, born = PendingNumber.__init__, PendingNumber.read, dict[int, int]()

        def noted_begin(number: PendingNumber, value: torch.Tensor) -> None:
            begin(number, value)
            born[id(number)] = self.batches

        def noted_read(number: PendingNumber) -> int:
            if born[id(number)] >= self.batches:
                self.early.append(self.batches)
            before = calls.all.copy()
            found = read(number)
            calls.all = before
            return found

        monkeypatch.setattr(PendingNumber, "__init__", noted_begin)
        monkeypatch.setattr(PendingNumber, "read", noted_read)


def counted(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: ProtocolName, images: int, units: int, *, single: bool
) -> tuple[Calls, Counter[str], Reads]:
    """Compute thresholds, and count `BATCHES` batches of `images` images and `units` units."""
    made = world(BATCHES * images, units)
    definition = strategies.definition(name, 0.1, 9)
    layer = Layer(
        "layer", "Random", units, made.cells(), ReceptiveField(*(ReceptiveFieldAxis(*axis) for axis in made.fields))
    )
    statistics = StatisticsConfig() if single else StatisticsConfig(bootstrap=0, permutations=0)
    config = DissectConfig(layers=("layer",), protocol=definition.protocol, top_images=3, statistics=statistics)
    plan, data = LayerPlan(layer, Size(*made.source), len(made.maps), config), made.data()
    labels = [
        ImageLabels.of(made.labels(row).resized(Size(6, 6)), data, definition.protocol.duplicates)
        for row in range(len(made.maps))
    ]
    copies: Counter[str] = Counter()
    for method in ("cpu", "numpy", "tolist", "item"):
        real = getattr(torch.Tensor, method)

        def noted(self: Any, *args: Any, real: Any = real, method: str = method, **kwargs: Any) -> Any:
            copies[method] += 1
            return real(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, method, noted)
    collector = DeviceCollector(plan, ImageValues(folder / "maxima", units), torch.device("cpu"))
    with Calls() as calls:
        reads = Reads(monkeypatch, calls)
        for start in range(0, len(made.maps), images):
            batch = torch.from_numpy(made.maps[start : start + images].copy())
            collector.update(batch, np.arange(start, start + images))
        assert not copies, "the threshold pass copies nothing to the host"
        assert not calls.waits
        result = collector.threshold_result()
        counter = collector.counter(data, result.thresholds)
        chosen = TorchRangeMaps(result.range_index, made.cells(), torch.device("cpu"))
        copies.clear()
        calls.all.clear()
        for start in range(0, len(made.maps), images):
            batch = torch.from_numpy(made.maps[start : start + images].copy())
            reads.batches += 1
            chosen.update(batch, start)
            counter.update_batch(batch, BatchLabels.of(labels[start : start + images]), plan.grid_to(Size(6, 6)))
    return calls, copies, reads


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_the_host_waits_for_no_batch_that_it_has_just_handed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: ProtocolName
) -> None:
    calls, copies, reads = counted(monkeypatch, tmp_path, name, 4, 5, single=False)
    assert not calls.waits
    assert not copies
    assert not reads.early


def test_counts_of_single_images_make_the_host_wait_equally_often_whatever_the_images_and_units(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as once:
        few, few_copies, reads = counted(once, tmp_path, "paper", 2, 2, single=True)
    many, many_copies, _ = counted(monkeypatch, tmp_path, "paper", 8, 16, single=True)
    assert reads.early, "the numbers of active pieces and pixels are read at once"
    # Of each batch: for masks, their labels, pixels at the quantile, and runs, which are also grouped by mask.
    assert many.waits == few.waits <= 5 * BATCHES
    assert many_copies == few_copies
    # Each copy counts twice, as cpu and numpy: masks and their labels, and masks and their runs.
    assert sum(few_copies.values()) <= 8 * BATCHES
    # Nor is there a loop over images or units.
    assert sum(many.all.values()) <= sum(few.all.values()) + BATCHES


def test_top_images_of_equal_maxima_are_ordered_by_image_index_on_a_device() -> None:
    rng = np.random.default_rng(5)
    maps = rng.integers(0, 3, (60, 4, 2, 2)).astype(np.float32)  # many ties
    host, device = TopImages(4, Size(2, 2), 9), TorchTopImages(4, Size(2, 2), 9, torch.device("cpu"))
    for start in range(0, 60, 20):
        rows = np.arange(start, start + 20)
        batch = maps[start : start + 20]
        host.update(batch, batch.max(axis=(2, 3)), rows)
        device.update(torch.from_numpy(batch), rows)
    assert host.ranked()[0].tolist() == [unit[:9] for unit in oracle.top_images(maps, 9)]
    for ours, theirs in zip(device.ranked(), host.ranked(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
