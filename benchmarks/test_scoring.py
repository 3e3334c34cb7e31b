"""What thresholds and tallies cost beside the network, on real activations and one core.

The other side is a plain vectorized loop in torch: skip units below the threshold, upsample with two small
matrix products, count with bincount over the pixels that are on. Both must give the same integers.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.process import interleaved
from netdissect.activations import ActivationStore, StreamingTopK, ranks
from netdissect.activations.histogram import Histogram
from netdissect.concepts import ConceptData, Size
from netdissect.scoring import (
    BatchLabels,
    FieldSpan,
    FieldSpans,
    ImageLabels,
    IoUCounter,
    IoUCounts,
    Upsampler,
    make_upsampler,
)
from netdissect.scoring.upsampling import UpsamplingAxis

Maps = npt.NDArray[np.float32]
QUANTILE = 0.005
BATCH = 32
PAIRS = 5
FIELDS = {"_blocks.10": FieldSpan(-154, 339, 16), "_blocks.15": FieldSpan(-394, 851, 32)}


def wide(maps: Maps, units: int) -> Maps:
    """Return as many units as wanted, each a real one under a gain of its own."""
    times = -(-units // maps.shape[1])
    gains = np.repeat(1 + 0.01 * np.arange(times, dtype=np.float32), maps.shape[1])
    return np.ascontiguousarray((np.tile(maps, (1, times, 1, 1)) * gains[None, :, None, None])[:, :units])


def ours(maps: Maps, labels: list[ImageLabels], data: ConceptData, to: Upsampler, path: Path) -> IoUCounts:
    """Find histograms and thresholds, keep what can matter, read it back and count."""
    images, units, height, width = maps.shape
    total = images * height * width
    keep = ranks(QUANTILE, total, "exact")[1]
    top, histogram = StreamingTopK(units, keep, total), Histogram(units)
    store = ActivationStore(path, units, Size(height, width), dense=False)
    for start in range(0, images, BATCH):
        batch = maps[start : start + BATCH]
        histogram.update(batch)
        top.update(batch.reshape(len(batch), units, -1), histogram.floor(keep))
        store.append(batch, top.bound)
    counter = IoUCounter(data, top.thresholds([QUANTILE], "exact"), "annotated")
    for index, start in enumerate(range(0, images, BATCH)):
        part = labels[start : start + BATCH]
        counter.update_batch(store.read(index, len(part)), BatchLabels.of(part), to)
    return counter.counts


def matrix(axis: UpsamplingAxis) -> npt.NDArray[np.float64]:
    """Return an axis as a matrix, float64 (pixels, cells)."""
    lower = np.repeat(np.arange(axis.cells), np.diff(axis.start))
    weights = np.zeros((axis.pixels, axis.cells))
    weights[np.arange(axis.pixels), lower] += axis.lower_weight
    weights[np.arange(axis.pixels), np.minimum(lower + 1, axis.cells - 1)] += axis.upper_weight
    return weights


def plain(maps: Maps, labels: list[ImageLabels], data: ConceptData, to: Upsampler) -> torch.Tensor:
    """Count intersections in the obvious vectorized way."""
    units = maps.shape[1]
    values = torch.from_numpy(maps).transpose(0, 1).reshape(units, -1)
    rank = ranks(QUANTILE, values.shape[1], "exact")[1]
    thresholds = values.topk(rank, dim=1).values[:, -1]
    rows, columns = torch.from_numpy(matrix(to.rows)), torch.from_numpy(matrix(to.columns))
    numbers = len(data.category_of)
    counts = torch.zeros(units * numbers, dtype=torch.int64)
    for index, image in enumerate(labels):
        cells = torch.from_numpy(maps[index])
        on = (cells.amax(dim=(1, 2)) > thresholds).nonzero()[:, 0]
        masks = rows @ cells[on].double() @ columns.T
        unit, y, x = (masks.float() > thresholds[on, None, None]).nonzero(as_tuple=True)
        for channel in torch.from_numpy(image.label_channels):
            counts += torch.bincount(on[unit] * numbers + channel[y, x], minlength=len(counts))
    return counts.reshape(units, numbers)


@pytest.mark.parametrize(
    ("layer", "units"), [("_blocks.10", 112), ("_blocks.15", 320), ("_blocks.10", 512), ("_blocks.15", 2048)]
)
@pytest.mark.usefixtures("one_thread")
def test_scoring(
    activations: dict[str, Maps],
    street: ConceptData,
    tmp_path: Path,
    layer: str,
    units: int,
    tell: Callable[[str], None],
) -> None:
    maps = wide(activations[layer], units)
    side = maps.shape[2]
    of_pixels = [replace(street.labels(row), image_level=np.empty(0, np.int32)) for row in range(len(street))]
    labels = [ImageLabels.of(image, street, "once") for image in of_pixels]
    to = make_upsampler(
        Size(side, side), Size(112, 112), Size(224, 224), FieldSpans(FIELDS[layer], FIELDS[layer]), "receptive-field"
    )
    path = tmp_path / "store.bin"
    found = ours(maps, labels, street, to, path)
    expected = plain(maps, labels, street, to).numpy()
    # The plain loop rounds its matrix products otherwise in the last bit: a pixel in a million may differ.
    assert np.abs(found.intersection[0][:, 1:] - expected[:, 1:]).sum() <= 1e-5 * expected.sum() + 2
    share = path.stat().st_size / maps.nbytes
    pairs = interleaved(lambda: ours(maps, labels, street, to, path), lambda: plain(maps, labels, street, to), PAIRS)
    images = len(street)
    tell(
        f"scoring {units} units of {side} x {side}: {1e3 * pairs.left / images:.2f} ms an image, plain torch loop "
        f"{1e3 * pairs.right / images:.2f} ms (ratio {pairs.ratio:.3f}); store {share:.1%} of dense float32"
    )
    assert share <= 0.4
