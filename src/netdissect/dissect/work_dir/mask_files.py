"""The masks of single images on disk, and what the permutation test needs to know of their labels.

    RUN/work/<layer>.masks    the runs of pixels of all masks of a layer, one record an image

Written by the counting pass batch by batch, and synced with its checkpoints. A run that keeps its masks copies them
into its table `masks`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.scoring import ImageLabels
from netdissect.scoring.mask_runs import MaskRuns

Ints = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[Any]]


class MaskFile(AppendOnlyArrayFile):
    """The masks of one layer at the quantiles of the protocol, image by image: about three bytes for each run."""

    disk_full_remedy = ", or keep no masks: --permutations 0 --bootstrap 0, without --keep-masks"

    def read(self, image_index: int) -> MaskRuns:
        """Return the masks of one image."""
        return MaskRuns(*(array.astype(np.uint32) for array in super().read(image_index)))


@dataclass(frozen=True)
class LayerMasks:
    """The masks of one layer.

    Attributes
    ----------
    files
        The file of each shard, by ascending image index; none: masks are not kept.
    """

    files: tuple[MaskFile, ...]

    @property
    def folder(self) -> Path:
        """Folder of the first file."""
        return self.files[0].path.parent

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(file.records for file in self.files)

    def read(self, image_index: int) -> MaskRuns:
        """Return the masks of one image."""
        for file in self.files:
            if image_index < file.records:
                return file.read(image_index)
            image_index -= file.records
        raise IndexError(image_index)


@dataclass(frozen=True)
class MaskFiles:
    """The masks of every layer, and the annotation stratum of each of N images.

    Attributes
    ----------
    files
        By layer: the file of each shard, by ascending image index. Empty: masks are not kept.
    num_runs
        int64 (layers,): runs of all masks of each layer.
    strata
        int64 (N, 2 + K): height and width of the label maps of each image, and whether each category is annotated.
    image_level
        bool (C,): concepts that are image-level labels of some image.
    """

    files: Mapping[str, Sequence[MaskFile]]
    num_runs: Ints
    strata: Ints
    image_level: npt.NDArray[np.bool_]

    @classmethod
    def at(cls, work: WorkDir, layers: Sequence[str], images: int, data: ConceptData, config: DissectConfig) -> Self:
        """Return the files of a run or of one shard of it, before the first image; none if nothing needs masks."""
        needed = layers if config.mask_quantiles else ()
        return cls(
            {layer: (MaskFile(work.file(layer, "masks")),) for layer in needed},
            np.zeros(len(needed), np.int64),
            np.zeros((images, 2 + len(data.categories)), np.int64),
            np.zeros(len(data.category_of), np.bool_),
        )

    def append(self, start: int, labels: Sequence[ImageLabels], runs: Mapping[str, Sequence[MaskRuns]]) -> None:
        """Append one batch; its first image is image `start` of these."""
        for index, image in enumerate(labels, start) if self.files else ():
            self.strata[index, :2], self.strata[index, 2 + image.categories] = image.size, 1
            self.image_level[image.image_level] = True
        for layer, ((file,), masks) in enumerate((self.files[name], runs[name]) for name in self.files):
            for of_image in masks:
                file.append(of_image)
                self.num_runs[layer] += len(of_image.starts)

    def of_layer(self, layer: str) -> "LayerMasks":
        """Return the masks of one layer."""
        return LayerMasks(tuple(self.files.get(layer, ())))

    def state(self) -> Arrays:
        """Return the arrays of a checkpoint; the files are synced first."""
        for (file,) in self.files.values():
            file.sync()
        offsets = {f"offsets{index}": np.array(file.offsets) for index, (file,) in enumerate(self.files.values())}
        return {"num_runs": self.num_runs, "strata": self.strata, "image_level": self.image_level} | offsets

    def restore(self, arrays: Arrays) -> None:
        """Restore a `state`."""
        for name in ("num_runs", "strata", "image_level"):
            getattr(self, name)[:] = arrays[name]
        for index, (file,) in enumerate(self.files.values()):
            file.truncate(arrays[f"offsets{index}"].tolist())
