"""Images of a data set as a network takes them: decoded, or as an earlier run packed them.

ImageReader.read(rows)          uint8 (B, C, H, W)
ImageReader.batches(starts)     the same, some batches ahead
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL
from PIL import features

from netdissect.activations.image_batches import PREFETCHED_BATCHES, Batch, InputFormat, Pixels, prefetch, read_image
from netdissect.activations.packed_images import PackedImages
from netdissect.caches.cache_folder import IMAGES, is_readable, mark_used
from netdissect.caches.cache_note import CacheNote
from netdissect.concepts import ConceptData

DECODERS = ("libjpeg_turbo", "jpg", "jpg_2000", "webp", "avif")
"""Libraries of lossy formats: other versions may round to other pixels."""


@dataclass(frozen=True)
class ImageReader:
    """The images of a data set in the format of a network's input.

    Attributes
    ----------
    data
        The data set.
    input_format
        The network's preprocessing.
    cache_folder
        Where decoded images stay packed; None: they are decoded each time.
    """

    data: ConceptData
    input_format: InputFormat
    cache_folder: Path | None = None

    def batches(self, starts: range, *, workers: int = 2) -> Iterator[Batch]:
        """Yield batches in order; the next ones are read meanwhile.

        Parameters
        ----------
        starts
            First images, from `batch_starts`; its step is the batch size.
        workers
            Number of reading threads.

        Raises
        ------
        ConceptsError
            If an image is missing or cannot be decoded whole.
        """
        _ = self.packed  # before the threads begin

        def read(start: int) -> Batch:
            return Batch(start, self.read(range(start, min(start + starts.step, len(self.data)))))

        return prefetch(read, starts, workers, PREFETCHED_BATCHES)

    def read(self, rows: Sequence[int]) -> Pixels:
        """Read the images `rows` as uint8 (B, C, H, W), channels last in memory; see `read_image`."""
        kept = None if self.packed is None else self.packed.read(rows)
        if kept is None:
            return self._decoded(rows).transpose(0, 3, 1, 2)
        if not kept.whole.all():
            kept.images[~kept.whole] = self._decoded(
                [row for row, whole in zip(rows, kept.whole, strict=True) if not whole]
            )
        return kept.images.transpose(0, 3, 1, 2)

    @property
    def bytes_to_pack(self) -> int:
        """Bytes of the images that are not packed yet; 0 if none are to be."""
        return 0 if self.packed is None else (len(self.data) - self.packed.count()) * self.packed.image_bytes

    @cached_property
    def packed(self) -> PackedImages | None:
        """The file of packed images; None: nothing is packed."""
        if self.cache_folder is None:
            return None
        _ = self._file_facts  # before the digest: a file that is the same after it was decoded is the one of the digest
        size, channels = self.input_format.size, self.input_format.channels
        how = (*size, channels, self.input_format.interpolation)
        versions = (PIL.__version__, *map(features.version, DECODERS))
        path = IMAGES.path(self.cache_folder, (self.data.digest, *how, *versions))
        detail = f"{size.height} x {size.width} x {channels}, {self.input_format.interpolation}"
        note = CacheNote(data=str(self.data.root.resolve()), images=len(self.data), detail=detail)
        packed = PackedImages(path, (len(self.data), *size, channels), note)
        if is_readable(path, "images are decoded instead"):
            packed.remove_foreign()
            mark_used(path)
        elif os.path.exists(path):  # noqa: PTH110 - False where a folder may not be searched
            return None
        return packed

    @cached_property
    def _file_facts(self) -> list[object]:
        return [self._facts_of(row) for row in range(len(self.data))]

    def _facts_of(self, row: int) -> object:
        """Return what changes when an image file does."""
        try:
            facts = os.stat(f"{self.data.root}/images/{self.data.rows[row].image}")  # noqa: PTH116 - paths take longer
        except OSError:
            return None
        return hash((facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino))

    def _decoded(self, rows: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Decode images, uint8 (B, H, W, C), and pack those whose files are still those of the digest."""
        images = np.stack([read_image(self.data.image_path(row), self.input_format) for row in rows])
        if self.packed is not None:
            same = [index for index, row in enumerate(rows) if self._facts_of(row) == self._file_facts[row]]
            self.packed.write([rows[index] for index in same], images[same])
        return images
