"""Per-image counts of the counting pass on disk.

    RUN/work/labels.images    labels of each image, with their pixels
    RUN/work/<layer>.images   active units of a layer on each image, with their mask pixels and intersections

Append-only files, written batch by batch and synced with the checkpoints of the pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.config import DissectConfig
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.scoring import ImageIntersections, ImageLabelCounts, ImageLabels
from netdissect.scoring.per_image_counts import read_intersections, read_label_counts

Arrays = Mapping[str, npt.NDArray[Any]]

MOST_ENTRIES = 2**21
"""Labels of masks that are read at a time: an eighth of a gigabyte with what is made of them."""


@dataclass(frozen=True)
class PerImageFiles:
    """The files of one run; none if no requested statistic needs them.

    Attributes
    ----------
    files
        ``labels`` of the images, and ``masks0``, ``masks1``, ... of each layer at the protocol's quantiles; empty:
        no statistic needs them.
    layers
        Names of the layers.
    """

    files: Mapping[str, AppendOnlyArrayFile]
    layers: Sequence[str]

    @classmethod
    def at(cls, work: WorkDir, layers: Sequence[str], config: DissectConfig) -> Self:
        """Return the files of a run, which may not exist yet."""
        paths = {"labels": work.path / "labels.images"}
        paths |= {f"masks{index}": work.file(name, "images") for index, name in enumerate(layers)}
        needed = paths if config.statistics.needs_images else {}
        return cls({name: AppendOnlyArrayFile(path) for name, path in needed.items()}, layers)

    def append(
        self, row: int, labels: Sequence[ImageLabels], masks: Mapping[str, Sequence[ImageIntersections]]
    ) -> None:
        """Append one batch that begins at the image `row`."""
        if not self.files:
            return
        self.files["labels"].append(ImageLabelCounts.of(row, labels))
        for index, layer in enumerate(self.layers):
            self.files[f"masks{index}"].append(ImageIntersections.join(masks[layer]))

    def of_layer(self, layer: str) -> "LayerImages":
        """Return the files of one layer."""
        masks = f"masks{self.layers.index(layer)}"
        return LayerImages(((self.files["labels"], self.files[masks]),) if self.files else ())

    def state(self) -> Arrays:
        """Return the arrays of a checkpoint; the files are synced first."""
        for file in self.files.values():
            file.sync()
        return {name: np.array(file.offsets) for name, file in self.files.items()}

    def restore(self, arrays: Arrays) -> None:
        """Restore a `state`."""
        for name, file in self.files.items():
            file.truncate(arrays[name].tolist())


@dataclass(frozen=True)
class LayerImages:
    """Per-image labels, and per-image masks of one layer.

    Attributes
    ----------
    files
        Of each shard, by ascending image index: its labels and its masks.
    """

    files: tuple[tuple[AppendOnlyArrayFile, AppendOnlyArrayFile], ...]

    def blocks(self, images: int) -> Iterator[tuple[ImageLabelCounts, ImageIntersections]]:
        """Read them in blocks of at least `images` images, or of fewer that fill the memory, and the last block."""
        labels: list[ImageLabelCounts] = []
        masks: list[ImageIntersections] = []
        for batch, of_layer in self._batches():
            labels.append(batch)
            masks.append(of_layer)
            entries = sum(len(part.label_ids) for part in masks)
            if batch.images[-1] - labels[0].images[0] + 1 >= images or entries >= MOST_ENTRIES:
                yield ImageLabelCounts.join(labels), ImageIntersections.join(masks)
                labels, masks = [], []
        if labels:
            yield ImageLabelCounts.join(labels), ImageIntersections.join(masks)

    def _batches(self) -> Iterator[tuple[ImageLabelCounts, ImageIntersections]]:
        for labels, masks in self.files:
            yield from zip(read_label_counts(labels), read_intersections(masks), strict=True)
