"""Cost of thresholds and counts on real activations and one core, against a plain vectorized loop in torch.

The torch loop skips units below the threshold, upsamples with two small matrix products, and counts active pixels with
bincount. Both must give the same integers.
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
    """Return `units` units, each a real one with its own gain."""
    times = -(-units // maps.shape[1])
    gains = np.repeat(1 + 0.01 * np.arange(times, dtype=np.float32), maps.shape[1])
    return np.ascontiguousarray((np.tile(maps, (1, times, 1, 1)) * gains[None, :, None, None])[:, :units])


def ours(maps: Maps, labels: list[ImageLabels], data: ConceptData, upsampler: Upsampler, path: Path) -> IoUCounts:
    """Compute histograms and thresholds, write and read the activation cache, and count."""
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
        counter.update_batch(store.read(index, len(part)), BatchLabels.of(part), upsampler)
    return counter.counts


def matrix(axis: UpsamplingAxis) -> npt.NDArray[np.float64]:
    """Return an axis as a matrix, float64 (pixels, cells)."""
    lower = np.repeat(np.arange(axis.cells), np.diff(axis.start))
    weights = np.zeros((axis.pixels, axis.cells))
    weights[np.arange(axis.pixels), lower] += axis.lower_weight
    weights[np.arange(axis.pixels), np.minimum(lower + 1, axis.cells - 1)] += axis.upper_weight
    return weights


def plain(maps: Maps, labels: list[ImageLabels], data: ConceptData, upsampler: Upsampler) -> torch.Tensor:
    """Count intersections with a vectorized torch loop."""
    units = maps.shape[1]
    values = torch.from_numpy(maps).transpose(0, 1).reshape(units, -1)
    rank = ranks(QUANTILE, values.shape[1], "exact")[1]
    thresholds = values.topk(rank, dim=1).values[:, -1]
    rows, columns = torch.from_numpy(matrix(upsampler.rows)), torch.from_numpy(matrix(upsampler.columns))
    num_labels = len(data.category_of)
    counts = torch.zeros(units * num_labels, dtype=torch.int64)
    for index, image in enumerate(labels):
        cells = torch.from_numpy(maps[index])
        active = (cells.amax(dim=(1, 2)) > thresholds).nonzero()[:, 0]
        masks = rows @ cells[active].double() @ columns.T
        unit, y, x = (masks.float() > thresholds[active, None, None]).nonzero(as_tuple=True)
        for channel in torch.from_numpy(image.label_channels):
            counts += torch.bincount(active[unit] * num_labels + channel[y, x], minlength=len(counts))
    return counts.reshape(units, num_labels)


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
    upsampler = make_upsampler(
        Size(side, side), Size(112, 112), Size(224, 224), FieldSpans(FIELDS[layer], FIELDS[layer]), "receptive-field"
    )
    path = tmp_path / "store.bin"
    found = ours(maps, labels, street, upsampler, path)
    expected = plain(maps, labels, street, upsampler).numpy()
    # The torch loop rounds the last bit of its matrix products differently: a pixel in a million may differ.
    assert np.abs(found.intersection[0][:, 1:] - expected[:, 1:]).sum() <= 1e-5 * expected.sum() + 2
    share = path.stat().st_size / maps.nbytes
    pairs = interleaved(
        lambda: ours(maps, labels, street, upsampler, path), lambda: plain(maps, labels, street, upsampler), PAIRS
    )
    images = len(street)
    tell(
        f"scoring {units} units of {side} x {side}: {1e3 * pairs.left / images:.2f} ms an image, plain torch loop "
        f"{1e3 * pairs.right / images:.2f} ms (ratio {pairs.ratio:.3f}); store {share:.1%} of dense float32"
    )
    assert share <= 0.4
