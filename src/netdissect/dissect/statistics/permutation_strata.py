"""What the permutation test reads of each stratum: labels, and the masks of all units or of some at a time.

LabelReader -> StrataLabels
MaskFile, an image a record -> MaskBlocks, a stratum and some masks a record -> StratumMasks
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.activations.array_log import AppendOnlyArrayFile
from netdissect.concepts import Size
from netdissect.dissect.label_reader import LabelReader
from netdissect.errors import ResultError
from netdissect.scoring import BatchLabels, ImageLabels
from netdissect.scoring.kernel_arrays import LabelArrays
from netdissect.scoring.mask_runs import MaskRuns
from netdissect.scoring.statistics.permutation import StratumMasks

Ints = npt.NDArray[np.int64]

MOST_RUNS = 2**22
"""Runs of mask pixels that are divided at a time, which takes 30 bytes each: 500 images of latents have 46 million."""


class StrataLabels:
    """The labels of strata of images, which can be read repeatedly.

    Parameters
    ----------
    reader
        Reads the labels of any images.
    strata, sizes
        Images of each stratum, and the size of the label maps with which their masks were counted.
    hold
        Whether labels stay in memory after they were read once.

    Raises
    ------
    ResultError
        While they are read, if label maps have another size.
    """

    def __init__(self, reader: LabelReader, strata: Sequence[Ints], sizes: Sequence[Size], *, hold: bool) -> None:
        self._reader, self.strata, self._sizes, self._hold = reader, strata, sizes, hold
        self._held: list[LabelArrays] = []

    def __iter__(self) -> Iterator[LabelArrays]:
        if self._held:
            yield from self._held
            return
        images = map(_with_small_map, self._reader.read(np.concatenate(self.strata).tolist()))
        for stratum, size in zip(self.strata, self._sizes, strict=True):
            if self._hold:
                self._held.append(_joined(list(islice(images, len(stratum))), size))
                yield self._held[-1]
            else:  # without a name that would keep them in memory
                yield _joined(list(islice(images, len(stratum))), size)


def _joined(images: Sequence[ImageLabels], size: Size) -> LabelArrays:
    """Join the labels of a stratum; the loop that counts uses the pixels of masks as indices of their maps."""
    arrays = BatchLabels.of(images).arrays
    found = Size(*arrays.index_map.shape[1:])
    if found != size:
        raise ResultError(
            f"masks were counted on label maps of {size.height} x {size.width} pixels, but those of the data set have "
            f"{found.height} x {found.width}: a file of the run's folder 'work', or of a shard, is damaged. Remove "
            "that folder, and run again."
        )
    return arrays


def _with_small_map(image: ImageLabels) -> ImageLabels:
    """Return the labels of an image in less memory: hundreds of images are held together."""
    label_sets = image.label_sets
    if len(label_sets.set_sizes) > np.iinfo(np.uint16).max:
        return image
    return replace(image, label_sets=replace(label_sets, index_map=label_sets.index_map.astype(np.uint16)))


class MaskSlice(NamedTuple):
    """Some neighboring masks of one layer.

    Attributes
    ----------
    layer
        Name of the layer.
    masks
        Their indices, quantile * units + unit.
    read
        Returns those on the images of a stratum, of which the first has index 0.
    """

    layer: str
    masks: range
    read: Callable[[int], StratumMasks]


class MaskBlocks:
    """The masks of one layer in a file that holds them block by block of neighboring masks, some images at a time.

    Parameters
    ----------
    path
        The file; it is new.
    num_masks, block_size
        Number of masks on each image, and those of a block.
    """

    def __init__(self, path: Path, num_masks: int, block_size: int) -> None:
        self._file = AppendOnlyArrayFile(path)
        self.ranges = [range(num_masks)[first : first + block_size] for first in range(0, num_masks, block_size)]
        self._parts: list[range] = []

    def append_stratum(self, images: Iterable[MaskRuns]) -> None:
        """Append the masks of the images of one stratum."""
        begin, some, runs = self._num_parts, list[MaskRuns](), 0
        for image in images:
            some.append(image)
            runs += len(image.starts)
            if runs >= MOST_RUNS:
                self._append(some)
                some, runs = [], 0
        if some:
            self._append(some)
        self._parts.append(range(begin, self._num_parts))

    @property
    def _num_parts(self) -> int:
        return self._file.records // len(self.ranges)

    def _append(self, images: Sequence[MaskRuns]) -> None:
        """Append the masks of some images, a record for each block."""
        masks, run_counts, starts, lengths = (np.concatenate(arrays) for arrays in zip(*images, strict=True))
        image = np.arange(len(images)).repeat([len(of_image.masks) for of_image in images])
        block = masks // len(self.ranges[0])
        order = np.argsort(block, kind="stable")
        run_order = np.argsort(block.repeat(run_counts), kind="stable")
        starts, lengths = starts[run_order], lengths[run_order]
        ends = np.searchsorted(block[order], np.arange(len(self.ranges) + 1))
        run_ends = np.append(0, run_counts[order].cumsum(dtype=np.int64))[ends]
        for index, masks_of_block in enumerate(self.ranges):
            chosen, runs = order[slice(*ends[index : index + 2])], slice(*run_ends[index : index + 2])
            counts = np.bincount(image[chosen], minlength=len(images))
            self._file.append(
                (counts, masks[chosen] - masks_of_block.start, run_counts[chosen], starts[runs], lengths[runs])
            )

    def read(self, block: int, stratum: int) -> StratumMasks:
        """Return the masks of a block on the images of a stratum; the first mask of the block has index 0."""
        parts = [self._file.read(part * len(self.ranges) + block) for part in self._parts[stratum]]
        counts, *columns = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        joined = MaskRuns(*(column.astype(np.uint32) for column in columns))
        return StratumMasks.joined(joined, counts.astype(np.int64))
