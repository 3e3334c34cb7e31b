"""Thresholds and counts on a device: equal to those of the compiled loops, and compared in time with the forward pass.

    PYTHONPATH=src python -m benchmarks.device --device cuda
    PYTHONPATH=src python -m benchmarks.device --device cpu --small

Needs Python 3.11, torch, torchvision, timm, numba, numpy and pillow; neither polars nor pydantic nor a network. Takes
under six minutes on a GPU. Networks have random weights of seed 0, images and label maps are drawn at random: blobs of
labels, six concepts on most pixels.

Each network runs to its end; a convolution of 1 x 1 and a ReLU make its last 14 x 14 cells into 2,048 units. What runs
is what ``netdissect run`` runs on a device: `forward.recorded`, `DeviceCollector` and `TorchIoUCounter`.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netdissect.activations import Batch, StreamingTopK
from netdissect.activations.histogram import Histogram
from netdissect.activations.image_values import ImageValues
from netdissect.activations.transfers import uploaded
from netdissect.concepts import Labels, Size
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.devices import number_format
from netdissect.dissect.forward import DissectionInputs, FiniteCheck, recorded
from netdissect.dissect.layer_state import DeviceCollector
from netdissect.models.network import Network
from netdissect.models.preprocessing import Preprocessing
from netdissect.models.receptive_field.axis import ReceptiveField, ReceptiveFieldAxis
from netdissect.models.receptive_field.axis_layout import Layout
from netdissect.models.run_module import is_out_of_memory
from netdissect.models.structure.layer import Layer
from netdissect.scoring import BatchLabels, ImageLabels, IoUCounter
from netdissect.scoring.iou_counter import FURTHER, LeadingQuantiles

CELLS, LABEL_SIDE, INPUT_SIDE = 14, 112, 224
CATEGORIES = ("object", "part", "color", "material", "texture", "scene")
QUANTILE = 0.005


class Sizes(NamedTuple):
    """How much is measured."""

    units: int
    concepts: int
    images: int
    batch_sizes: tuple[int, ...]
    rounds: int


FULL = Sizes(2048, 1197, 1024, (32, 64, 128, 256, 512), 3)
SMALL = Sizes(64, 1197, 16, (4, 8), 1)


class WithUnits(nn.Module):
    """A network that runs to its end, and units made of its last 14 x 14 cells."""

    def __init__(self, network: nn.Module, source: str, channels: int, units: int) -> None:
        super().__init__()
        self.network = network
        self.mixture = nn.Conv2d(channels, units, 1)
        nn.init.normal_(self.mixture.weight, std=channels**-0.5)
        nn.init.zeros_(self.mixture.bias)
        self.units = nn.ReLU()
        self._cells: Tensor | None = None
        network.get_submodule(source).register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if output.ndim == 3:  # tokens of a ViT, after that of the class
            output = output[:, 1:].transpose(1, 2).unflatten(2, (CELLS, CELLS))
        self._cells = output

    def forward(self, images: Tensor) -> Tensor:
        """Run to the end, then compute the units."""
        self.network(images)
        return self.units(self.mixture(self._cells))


def networks() -> dict[str, tuple[Callable[[], nn.Module], str, int]]:
    """Return how each network is made, the module whose cells are taken, and its channels."""
    import timm
    import torchvision

    return {
        "EfficientNet-Lite0": (lambda: timm.create_model("efficientnet_lite0", pretrained=False), "blocks.4", 112),
        "ResNet-50": (lambda: torchvision.models.resnet50(weights=None), "layer3", 1024),
        "ViT-B/16": (lambda: torchvision.models.vit_b_16(weights=None), "encoder.ln", 768),
    }


class World(NamedTuple):
    """Images and labels drawn at random."""

    pixels: npt.NDArray[np.uint8]
    labels: list[ImageLabels]
    data: Any


def draw_world(images: int, concepts: int) -> World:
    """Draw images, and label maps of blobs in five channels and an image-level scene."""
    rng = np.random.default_rng(0)
    category_of = np.append(0, np.arange(concepts) % len(CATEGORIES)).astype(np.int64)
    data = SimpleNamespace(category_of=category_of, categories=CATEGORIES)
    pixels = rng.integers(0, 256, (images, INPUT_SIDE, INPUT_SIDE, 3), dtype=np.uint8).transpose(0, 3, 1, 2)
    of_category = [1 + np.flatnonzero(category_of[1:] == category) for category in range(len(CATEGORIES))]
    labels = []
    for _ in range(images):
        channels = []
        for ids in of_category[:-1]:
            blobs = rng.choice(np.append(0, rng.choice(ids, 7)), (7, 7)).astype(np.int32)
            channels.append(blobs.repeat(LABEL_SIDE // 7, axis=0).repeat(LABEL_SIDE // 7, axis=1))
        scene = rng.choice(of_category[-1], 1).astype(np.int32)
        labels.append(ImageLabels.of(Labels(np.stack(channels), scene), data, "once"))
    return World(pixels, labels, data)


def inputs_of(module: nn.Module, units: int, device: torch.device, precision: str, batch_size: int) -> DissectionInputs:
    """Return what a forward pass of netdissect takes; of configurations only the fields that it reads."""
    preprocessing = Preprocessing((INPUT_SIDE, INPUT_SIDE), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    field = ReceptiveFieldAxis(-8, 31, 16)
    layer = Layer("units", "ReLU", units, Size(CELLS, CELLS), ReceptiveField(field, field), Layout(0, 1))
    protocol = SimpleNamespace(
        threshold="exact", threshold_grid=None, anchor="receptive-field", restriction="annotated", segmentation_size=112
    )
    config = SimpleNamespace(
        device=str(device), precision=precision, backend="eager", images_per_batch=batch_size, protocol=protocol,
        quantiles=(QUANTILE,), reported_quantiles=(QUANTILE,), top_images=10, listed=0, mask_quantiles=0,
        statistics=SimpleNamespace(stats_seed=0, iqr=False),
    )  # fmt: skip
    execution: Any = SimpleNamespace(cache_folder=None, threads=2)
    chosen: Any = config
    return DissectionInputs(Network("random", module, preprocessing), None, [layer], chosen, execution, None)  # type: ignore[arg-type]


class Passes:
    """Both passes of one network over the drawn images."""

    def __init__(self, source: DissectionInputs, world: World, folder: Path) -> None:
        self.source, self.world = source, world
        self.device = torch.device(source.config.device)
        self.plan = LayerPlan(source.layers[0], Size(INPUT_SIDE, INPUT_SIDE), len(world.labels), source.config)
        self._maxima = folder / "maxima"

    def batches(self) -> Iterator[Batch]:
        """Yield the images, decoded."""
        size = self.source.config.images_per_batch
        for start in range(0, len(self.world.labels), size):
            yield Batch(start, self.world.pixels[start : start + size])

    def maps(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the first image and the activations of each batch, which are tested for NaN."""
        check = FiniteCheck(self.source)
        for batch, maps in recorded(self.source, self.batches()):
            check.add(maps, batch.start)
            yield batch.start, maps["units"]
        check.refuse()

    def collector(self) -> DeviceCollector:
        """Return the empty state of the threshold pass."""
        self._maxima.unlink(missing_ok=True)
        return DeviceCollector(self.plan, ImageValues(self._maxima, self.plan.layer.units), self.device)

    def labels(self) -> list[BatchLabels]:
        """Return the labels of each batch."""
        size, labels = self.source.config.images_per_batch, self.world.labels
        return [BatchLabels.of(labels[start : start + size]) for start in range(0, len(labels), size)]

    def threshold_pass(self) -> npt.NDArray[np.float32]:
        """Run the threshold pass and return T."""
        collector = self.collector()
        for start, maps in self.maps():
            collector.update(maps, np.arange(start, start + len(maps)))
        return collector.thresholds()

    def counting_pass(self, thresholds: npt.NDArray[np.float32], labels: list[BatchLabels]) -> Any:
        """Run the counting pass and return its counts."""
        counter = self.collector().counter(self.world.data, thresholds)
        upsampler = self.plan.grid_to(Size(LABEL_SIDE, LABEL_SIDE))
        for (_, maps), of_batch in zip(self.maps(), labels, strict=True):
            counter.update_batch(maps, of_batch, upsampler)
        return counter.counts


def wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """Return how long a function takes until the device has done all its work."""
    wait(device)
    start = time.perf_counter()
    function()
    wait(device)
    return time.perf_counter() - start


def check_equal(passes: Passes) -> dict[str, Any]:
    """Compare device and compiled loops on the same activations, and labels after a forward pass of each."""
    collector = passes.collector()
    batches = [(start, maps) for start, maps in passes.maps()]
    top = StreamingTopK(passes.plan.layer.units, passes.plan.keep, passes.plan.total)
    histogram = Histogram(passes.plan.layer.units)
    for start, maps in batches:
        collector.update(maps, np.arange(start, start + len(maps)))
        on_host = maps.cpu().numpy()
        top.update(on_host.reshape(*on_host.shape[:2], -1))
        histogram.update(on_host)
    thresholds = collector.thresholds()
    expected = top.thresholds(passes.source.config.quantiles, "exact")
    np.testing.assert_array_equal(thresholds, expected)
    np.testing.assert_array_equal(collector.histogram.counts, histogram.counts)
    counter = collector.counter(passes.world.data, thresholds)
    leading = LeadingQuantiles(len(passes.source.config.reported_quantiles), 0)
    compiled = IoUCounter(passes.world.data, expected, "annotated", leading)
    upsampler = passes.plan.grid_to(Size(LABEL_SIDE, LABEL_SIDE))
    for (_, maps), of_batch in zip(batches, passes.labels(), strict=True):
        counter.update_batch(maps, of_batch, upsampler)
        compiled.update_batch(maps.cpu().numpy(), of_batch, upsampler)
    counts = counter.counts
    for name in ("intersection", "activation", *FURTHER):
        np.testing.assert_array_equal(getattr(counts, name), getattr(compiled.counts, name))
    assert counts.intersection.any(), "nothing was counted"
    return {"counted": int(counts.intersection.sum()), "labels": best_labels(counts)}


def best_labels(counts: Any) -> npt.NDArray[np.int64]:
    """Return the label of the largest intersection of each unit."""
    return np.asarray(counts.intersection[0].argmax(axis=1))


def rate(run: Callable[[], object], passes: Passes, rounds: int) -> float:
    """Return images per second, the median of some rounds after one that is not counted."""
    run()
    return len(passes.world.labels) / statistics.median(seconds(run, passes.device) for _ in range(rounds))


def bare_forward(passes: Passes) -> Callable[[], object]:
    """Return the forward pass alone, with normalized images already on the device."""
    network, device, config = passes.source.network, passes.device, passes.source.config
    images = [network.preprocessing.normalize(pixels) for _, pixels in uploaded(passes.batches(), device)]

    def run() -> None:
        with network.prepared(device), torch.no_grad(), number_format(device, config):
            for batch in images:
                network.forward(batch)

    return run


def shares(passes: Passes, thresholds: npt.NDArray[np.float32], labels: list[BatchLabels]) -> dict[str, float]:
    """Return the share of each part of both passes, each part by itself."""
    device = passes.device
    network, config = passes.source.network, passes.source.config
    copied = [pixels for _, pixels in uploaded(passes.batches(), device)]
    maps = [maps for _, maps in passes.maps()]
    upsampler = passes.plan.grid_to(Size(LABEL_SIDE, LABEL_SIDE))

    def forward() -> None:
        with network.prepared(device), torch.no_grad(), number_format(device, config):
            for pixels in copied:
                network.forward(network.preprocessing.normalize(pixels))

    def threshold() -> None:
        collector = passes.collector()
        for batch, values in zip(passes.batches(), maps, strict=True):
            collector.update(values, np.arange(batch.start, batch.start + len(values)))

    def count() -> None:
        counter = passes.collector().counter(passes.world.data, thresholds)
        for values, of_batch in zip(maps, labels, strict=True):
            counter.update_batch(values, of_batch, upsampler)
        counter._finish(0)

    parts = {"transfer": lambda: list(uploaded(passes.batches(), device)), "forward": forward}
    taken = {name: 2 * seconds(part, device) for name, part in parts.items()}  # once in each pass
    taken |= {name: seconds(part, device) for name, part in (("thresholds", threshold), ("counting", count))}
    return {name: round(value / sum(taken.values()), 3) for name, value in taken.items()}


def peak_memory(device: torch.device) -> float | None:
    """Return the largest memory of the device so far, in GB; None on a CPU."""
    if device.type == "cpu":
        return None
    return round(torch.get_device_module(device).max_memory_allocated() / 1e9, 2)


def measure(make: Callable[[str, int], Passes], sizes: Sizes, precision: str, until: float) -> dict[str, object]:
    """Measure one network in one number format: the best batch size, then everything there."""
    rates: dict[int, float] = {}
    for size in sizes.batch_sizes:
        try:
            passes = make(precision, size)
            rates[size] = rate(bare_forward(passes), passes, 1)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if time.monotonic() > until or rates[size] < 1.03 * rates.get(size // 2, 0):
            break
    best = max(rates, key=rates.__getitem__)
    passes = make(precision, best)
    labels, device = passes.labels(), passes.device
    bare = rate(bare_forward(passes), passes, sizes.rounds)
    if device.type != "cpu":
        torch.get_device_module(device).reset_peak_memory_stats()
    thresholds = passes.threshold_pass()
    first = rate(passes.threshold_pass, passes, sizes.rounds)
    second = rate(lambda: passes.counting_pass(thresholds, labels), passes, sizes.rounds)
    memory = peak_memory(device)
    both = 2 / (1 / first + 1 / second)
    return {
        "batch size": best, "bare images/s": round(bare, 1), "threshold pass images/s": round(first, 1),
        "counting pass images/s": round(second, 1), "ratio to bare": round(bare / both, 3),
        "shares": shares(passes, thresholds, labels), "peak GB": memory,
    }  # fmt: skip


def main() -> None:
    """Read the command line, check, measure, and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="few units and images: does the script run?")
    parser.add_argument("--seconds", type=float, default=330, help="no further network is begun after this time")
    chosen = parser.parse_args()
    device, sizes = torch.device(chosen.device), SMALL if chosen.small else FULL
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    begun = time.monotonic()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    print(json.dumps({"device": name, "torch": torch.__version__, "python": sys.version.split()[0]} | sizes._asdict()))
    world = draw_world(sizes.images, sizes.concepts)
    with tempfile.TemporaryDirectory() as folder:
        for title, (make_network, source, channels) in networks().items():
            torch.manual_seed(0)
            module = WithUnits(make_network(), source, channels, sizes.units).eval().to(device)

            def make(
                precision: str, size: int, module: nn.Module = module, world: World = world, folder: str = folder
            ) -> Passes:
                return Passes(inputs_of(module, sizes.units, device, precision, size), world, Path(folder))

            few = min(sizes.images, 32)
            part = World(world.pixels[:few], world.labels[:few], world.data)
            equal = check_equal(make("float32", min(8, few), world=part))
            host = inputs_of(module, sizes.units, torch.device("cpu"), "float32", 8)
            on_host = check_equal(Passes(host, part, Path(folder)))
            changed = int((equal["labels"] != on_host["labels"]).sum())
            of_check = {"same integers": True, "counted": equal["counted"], "labels unlike the CPU's": changed}
            print(json.dumps({"network": title} | of_check), flush=True)
            for precision in ("float32", "bfloat16"):
                if time.monotonic() - begun > chosen.seconds:
                    print(json.dumps({"network": title, "precision": precision, "left out": "no time"}))
                    continue
                found = measure(make, sizes, precision, begun + chosen.seconds)
                print(json.dumps({"network": title, "precision": precision} | found), flush=True)
    print(json.dumps({"seconds": round(time.monotonic() - begun, 1)}))


if __name__ == "__main__":
    main()
