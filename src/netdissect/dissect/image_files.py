"""Counts of the second look, image by image, on disk.

    RUN/work/labels.images    which labels each image bears, and on how many pixels
    RUN/work/<layer>.images   which units of a layer are on in each image, and on which labels

Append-only files, written batch by batch with the checkpoints of the look.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.config import DissectConfig
from netdissect.dissect.folder import WorkFolder
from netdissect.score import ImageLabels, Overlaps, Presence
from netdissect.score.overlaps import read_overlaps, read_presence
from netdissect.sweep.array_log import AppendOnlyArrayFile

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class ImageFiles:
    """The files of one run; none if nothing was asked for that needs them.

    Attributes
    ----------
    labels
        Labels of the images; None: nothing is kept.
    masks
        Masks of each layer by name, at the protocol's quantiles.
    """

    labels: AppendOnlyArrayFile | None
    masks: Mapping[str, AppendOnlyArrayFile]

    @classmethod
    def at(cls, work: WorkFolder, layers: Sequence[str], config: DissectConfig) -> Self:
        """Name the files of a run."""
        if not config.statistics.needs_images:
            return cls(None, {})
        masks = {name: AppendOnlyArrayFile(work.file(name, "images")) for name in layers}
        return cls(AppendOnlyArrayFile(work.path / "labels.images"), masks)

    def append(self, row: int, labels: Sequence[ImageLabels], masks: Mapping[str, Sequence[Overlaps]]) -> None:
        """Keep one batch that begins at the image `row`."""
        if self.labels is None:
            return
        images = np.arange(row, row + len(labels))
        rows = np.repeat(images, [len(image.numbers) for image in labels])
        numbers, pixels = (np.concatenate([getattr(image, name) for image in labels]) for name in ("numbers", "pixels"))
        self.labels.append(Presence(images, rows, numbers, pixels))
        for name, file in self.masks.items():
            file.append(Overlaps.join(masks[name]))

    def of(self, layer: str) -> "LayerImages":
        """Return what was kept of one layer."""
        return LayerImages(() if self.labels is None else ((self.labels, self.masks[layer]),))

    def state(self) -> Arrays:
        """Return everything needed to go on later; the files are brought to the disk first."""
        offsets = {}
        for name, file in self.files():
            file.sync()
            offsets[name] = np.array(file.offsets)
        return offsets

    def restore(self, arrays: Arrays) -> None:
        """Go on from a `state`."""
        for name, file in self.files():
            file.cut(arrays[name].tolist())

    def files(self) -> Iterator[tuple[str, AppendOnlyArrayFile]]:
        """Yield all files, with the names that `state` gives their offsets."""
        if self.labels is not None:
            yield "labels", self.labels
        for index, file in enumerate(self.masks.values()):
            yield f"masks{index}", file


@dataclass(frozen=True)
class LayerImages:
    """Labels of the images and masks of one layer, image by image.

    Attributes
    ----------
    files
        Of each shard, by rising rows: its labels and its masks.
    """

    files: tuple[tuple[AppendOnlyArrayFile, AppendOnlyArrayFile], ...]

    def blocks(self, images: int) -> Iterator[tuple[Presence, Overlaps]]:
        """Read them back in blocks of at least so many images, but for the last."""
        labels: list[Presence] = []
        masks: list[Overlaps] = []
        for batch, found in self._batches():
            labels.append(batch)
            masks.append(found)
            if batch.images[-1] - labels[0].images[0] + 1 >= images:
                yield Presence.join(labels), Overlaps.join(masks)
                labels, masks = [], []
        if labels:
            yield Presence.join(labels), Overlaps.join(masks)

    def _batches(self) -> Iterator[tuple[Presence, Overlaps]]:
        for labels, masks in self.files:
            yield from zip(read_presence(labels), read_overlaps(masks), strict=True)
