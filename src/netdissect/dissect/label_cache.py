"""The label cache: decoded labels of all images in one file, for the next run on the same data.

    label maps -> ImageLabels -> write_through (LabelCacheWriter) -> file in the cache
    file in the cache -> read_cached_labels -> ImageLabels

Decoding a label map and finding its label sets takes five times as long as reading the cache. A file is named by the
digest of its inputs, is complete or absent, and may be deleted at any time.
"""

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations import PREFETCHED_BATCHES, prefetch
from netdissect.caches.cache_folder import LABELS, OTHER_FOLDER, make_room, mark_used, new_part
from netdissect.caches.cache_note import CacheNote
from netdissect.concepts import ConceptData
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.config import Protocol
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import ConceptsError
from netdissect.scoring import ImageLabels

Ints = npt.NDArray[np.int64]
LabelIds = npt.NDArray[np.int32]

BLOCK = 8  # images; reading a single image, as the permutation test does, takes twice as long as its label maps
FORMAT = 1
COMPRESSION_LEVEL = 1  # level of deflate; higher levels take several times as long and save a tenth of the size
DTYPES = (np.int64, np.int32, np.int64, np.int32, np.int32, np.int64, np.int64, np.int64, np.int64)
# RuntimeError: after a flipped bit a member seems encrypted or of an unknown compression.
DAMAGE_ERRORS = (OSError, ValueError, EOFError, LookupError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)


def cache_file(folder: Path, data: ConceptData, protocol: Protocol) -> Path:
    """Return the file of the labels of all images under a protocol."""
    return LABELS.path(folder, (FORMAT, BLOCK, data.digest, protocol.duplicates, protocol.segmentation_size))


def read_cached_labels(path: Path, rows: Sequence[int], data: ConceptData) -> Iterator[ImageLabels]:
    """Read the labels of the images `rows` from a cache file, some blocks ahead.

    Raises
    ------
    ConceptsError
        If the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:

            def read(block: tuple[int, list[int]]) -> list[ImageLabels]:
                number, requested = block
                images = _unpack(file.read(str(number)))
                selected = [images[row % BLOCK] for row in requested]
                for image in selected:
                    _check(image, data)
                return selected

            blocks = ((number, list(requested)) for number, requested in groupby(rows, key=lambda row: row // BLOCK))
            yield from chain.from_iterable(prefetch(read, blocks, 1, PREFETCHED_BATCHES))
        mark_used(path)
    except DAMAGE_ERRORS as error:
        raise ConceptsError(f"{path} is damaged ({error})") from error


def write_through(
    path: Path, images: Iterable[ImageLabels], note: CacheNote, unchanged: Callable[[], bool], log: RunLog
) -> Iterator[ImageLabels]:
    """Yield the labels of all images and write them to the cache if the data are `unchanged` at the end."""
    with LabelCacheWriter(path, note) as writer:
        if writer.failure is not None:
            warnings.warn(
                f"{path.parent} cannot be written ({writer.failure.strerror}): labels are not cached for the next "
                f"run. {OTHER_FOLDER}",
                stacklevel=2,
            )
        for number, image in enumerate(images, 1):
            writer.add(image)
            if number == note.images and unchanged():
                writer.finish()
            if number == note.images and writer.failure is not None:
                log.event("labels were not cached", path=str(path), reason=str(writer.failure))
            yield image


class LabelCacheWriter:
    """Writes a cache file; if the disk is full or read-only, it stops and records the error.

    Parameters
    ----------
    path
        The file. It exists once all images of the data set were added and `finish` was called.
    note
        What lists of the cache show.

    Attributes
    ----------
    failure
        Why there will be no file; None: no error so far.
    """

    def __init__(self, path: Path, note: CacheNote) -> None:
        self.failure: OSError | None = None
        self._path = path
        self._waiting: list[ImageLabels] = []
        self._blocks = 0
        try:
            self._part = new_part(path)
            self._file = zipfile.ZipFile(self._part, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL)
            self._file.comment = note.written()
        except OSError as error:
            self.failure = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, dtype: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the file if it was not finished."""
        if self.failure is None:
            self._abandon(None)

    def add(self, image: ImageLabels) -> None:
        """Add the labels of the next image."""
        if self.failure is not None:
            return
        self._waiting.append(image)
        if len(self._waiting) == BLOCK:
            self._write()

    def finish(self) -> None:
        """Rename the file to its final name; delete the least recently used files if all are too large together."""
        if self._waiting:
            self._write()
        if self.failure is not None:
            return
        try:
            self._file.close()
            self._part.replace(self._path)
            make_room(LABELS, self._path.parent)
        except OSError as error:
            self._abandon(error)

    def _write(self) -> None:
        try:
            self._file.writestr(str(self._blocks), _pack(self._waiting))
        except OSError as error:
            self._abandon(error)
        self._blocks += 1
        self._waiting = []

    def _abandon(self, error: OSError | None) -> None:
        self.failure = error
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


def _pack(images: Sequence[ImageLabels]) -> bytes:
    """Serialize the arrays of some images: first their lengths in every image, then their content."""
    parts = [
        (
            np.array(image.size), sets.index_map.ravel(), sets.set_sizes, sets.label_ids.ravel(), sets.image_level,
            image.label_ids, image.pixels, image.categories, image.image_level_categories,
        )
        for image, sets in ((image, image.label_sets) for image in images)
    ]  # fmt: skip
    content = io.BytesIO()
    np.save(content, np.array([[len(part) for part in image] for image in parts]), allow_pickle=False)
    for arrays in zip(*parts, strict=True):
        joined = np.concatenate(arrays)
        np.save(content, joined.astype(np.min_scalar_type(int(joined.max(initial=0)))), allow_pickle=False)
    return content.getvalue()


def _unpack(content: bytes) -> list[ImageLabels]:
    file = io.BytesIO(content)
    lengths = np.load(file, allow_pickle=False)
    ends = np.pad(lengths.cumsum(axis=0), ((1, 0), (0, 0)))
    parts = []
    for column, dtype in zip(ends.T, DTYPES, strict=True):
        joined = np.load(file, allow_pickle=False).astype(dtype)
        parts.append([joined[start:stop] for start, stop in pairwise(column)])
    return [_image(*arrays) for arrays in zip(*parts, strict=True)]


def _image(
    size: Ints, index_map: LabelIds, set_sizes: Ints, label_ids: LabelIds, image_level: LabelIds, *rest: Ints
) -> ImageLabels:
    return ImageLabels(
        LabelSetMap(index_map.reshape(size), set_sizes, label_ids.reshape(len(set_sizes), -1), image_level), *rest
    )


def _check(image: ImageLabels, data: ConceptData) -> None:
    """Check that label sets, labels and categories are in range: compiled loops use them as indices."""
    label_sets, categories, label_ids = image.label_sets, len(data.categories), len(data.category_of)
    indices: list[tuple[npt.NDArray[Any], int]] = [
        (label_sets.index_map, len(label_sets.set_sizes)),
        (image.categories, categories),
        (image.image_level_categories, categories),
        (image.label_ids, label_ids),
        (label_sets.image_level, label_ids),
    ]
    for values, stop in indices:
        if values.size and not 0 <= values.min() <= values.max() < stop:
            raise ValueError(f"it holds {values.min()} and {values.max()} where 0 to {stop - 1} are expected")
    if (
        not np.isin(label_sets.label_ids, np.append(image.label_ids, 0)).all()
        or not np.isin(label_sets.image_level, image.label_ids).all()
    ):
        raise ValueError("pixels have labels that the image does not have")
