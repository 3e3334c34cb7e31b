"""On a device nothing waits for the host: how often it is asked does not hang on images or units."""

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
from netdissect.activations.image_maxima import ImageMaxima
from netdissect.activations.topk_torch import TorchTopImages
from netdissect.concepts import Size
from netdissect.config import PROTOCOL_NAMES, DissectConfig, ProtocolName
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.layer_state import DeviceCollector
from netdissect.models import Layer, ReceptiveField, ReceptiveFieldAxis
from netdissect.scoring import BatchLabels, ImageLabels

BATCHES = 3
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")


class Calls(TorchDispatchMode):
    """Count operations, and apart those whose result the host must wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.all: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[-1]
        self.all[name] += 1
        if name.startswith("index") and any(
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


def counted(
    monkeypatch: pytest.MonkeyPatch, folder: Path, name: ProtocolName, images: int, units: int
) -> tuple[Calls, Counter[str]]:
    """Look twice at batches of `images` images and `units` units."""
    made = world(BATCHES * images, units)
    definition = strategies.definition(name, 0.1, 9)
    layer = Layer(
        "layer", "Random", units, made.cells(), ReceptiveField(*(ReceptiveFieldAxis(*axis) for axis in made.fields))
    )
    config = DissectConfig(layers=("layer",), protocol=definition.protocol, top_images=3)
    plan, data = LayerPlan(layer, Size(*made.source), len(made.maps), config), made.data()
    labels = [
        ImageLabels.of(made.labels(row).resized(Size(6, 6)), data, definition.protocol.duplicates)
        for row in range(len(made.maps))
    ]
    copies: Counter[str] = Counter()
    for method in ("cpu", "numpy", "tolist"):
        real = getattr(torch.Tensor, method)

        def noted(self: Any, *args: Any, real: Any = real, method: str = method, **kwargs: Any) -> Any:
            copies[method] += 1
            return real(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, method, noted)
    collector = DeviceCollector(plan, ImageMaxima(folder / "maxima", units), torch.device("cpu"))
    with Calls() as calls:
        for start in range(0, len(made.maps), images):
            batch = torch.from_numpy(made.maps[start : start + images].copy())
            collector.update(batch, np.arange(start, start + images))
        assert not copies, "the threshold pass copies nothing to the host"
        assert not calls.waits
        counter = collector.counter(data, collector.thresholds())
        for start in range(0, len(made.maps), images):
            batch = torch.from_numpy(made.maps[start : start + images].copy())
            counter.update_batch(batch, BatchLabels.of(labels[start : start + images]), plan.grid_to(Size(6, 6)))
    return calls, copies


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_the_host_asks_equally_often_whatever_the_images_and_units(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: ProtocolName
) -> None:
    with monkeypatch.context() as once:
        few, few_copies = counted(once, tmp_path, name, 2, 2)
    many, many_copies = counted(monkeypatch, tmp_path, name, 8, 16)
    # Of each batch: for the active pixels, and for the two ends of their runs.
    assert many.waits == few.waits <= 3 * BATCHES
    assert many_copies == few_copies
    # Each copy counts twice, as cpu and numpy; two of a batch are the runs of its masks.
    assert sum(few_copies.values()) <= 10 * BATCHES + 6
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
