"""Labels of images, read ahead of counting; packed in a file for the next run on the same data.

    label maps -> read -> ImageLabels, block after block -> Packer -> file in the cache
                                         file in the cache -> packed -> ImageLabels

Decoding a label map and telling its kinds of pixels takes five times as long as unpacking the result. A file is named
by the digest of what made it, is complete or absent, and may be deleted at any time.
"""

import hashlib
import io
import struct
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, chain, groupby, pairwise
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from netdissect.activations import PREFETCHED_BATCHES, prefetch
from netdissect.concepts import ConceptData
from netdissect.concepts.label_sets import LabelSetMap
from netdissect.config import Protocol
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import ConceptsError
from netdissect.paths import check_regular
from netdissect.scoring import ImageLabels

Ints = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.int32]

BLOCK = 8  # images: one of them alone, as chance wants it, takes twice as long as its label maps
FORMAT = 1
LARGEST = 4 * 2**30  # bytes of all files: those used longest ago give way
FAST = 1  # the level of deflate: the others take several times as long for a tenth of the size
TYPES = (np.int64, np.int32, np.int64, np.int32, np.int32, np.int64, np.int64, np.int64, np.int64)
# RuntimeError: a flipped bit makes a member encrypted, or packed in a way that is not known.
DAMAGES = (OSError, ValueError, EOFError, LookupError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
DAY = 24 * 60 * 60.0


def packed_name(data: ConceptData, protocol: Protocol) -> str:
    """Name the file of the labels of all images as a protocol counts them."""
    made_of = (FORMAT, BLOCK, data.digest, protocol.duplicates, protocol.segmentation_size)
    return f"labels-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:32]}.zip"


def is_readable(path: Path) -> bool:
    """Tell whether a packed file is there for this user; warn if it is somebody else's alone."""
    try:
        check_regular(path)
        with path.open("rb"):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        warnings.warn(
            f"{path} cannot be read ({error.strerror}): label maps are decoded as without it. Name a cache folder of "
            "your own (XDG_CACHE_HOME, Execution.label_cache), or run without one (--label-cache none).",
            stacklevel=2,
        )
        return False


def packed(path: Path, rows: Sequence[int], data: ConceptData) -> Iterator[ImageLabels]:
    """Read labels of the images `rows` of a data set from a packed file, some blocks ahead.

    Raises
    ------
    ConceptsError
        If the file is not what was written.
    """
    try:
        with zipfile.ZipFile(path) as file:

            def read(block: tuple[int, list[int]]) -> list[ImageLabels]:
                number, wanted = block
                images = _unpacked(file.read(str(number)))
                found = [images[row % BLOCK] for row in wanted]
                for image in found:
                    _check(image, data)
                return found

            blocks = ((number, list(wanted)) for number, wanted in groupby(rows, key=lambda row: row // BLOCK))
            yield from chain.from_iterable(prefetch(read, blocks, 1, PREFETCHED_BATCHES))
        with suppress(OSError):  # where others may read it only
            path.touch()  # used just now
    except DAMAGES as error:
        raise ConceptsError(
            f"{path} is damaged ({error}). Expected label maps that an earlier run packed: delete this file, which is "
            "no more than a cache, and run the same command again."
        ) from error


def packing(
    path: Path, images: Iterable[ImageLabels], total: int, unchanged: Callable[[], bool], log: RunLog
) -> Iterator[ImageLabels]:
    """Pass the labels of all `total` images on, and pack them, provided that the data are `unchanged` at the end."""
    with LabelCacheWriter(path) as packer:
        if packer.failure is not None:
            warnings.warn(
                f"{path.parent} cannot be written ({packer.failure.strerror}): label maps are not kept packed for the "
                "next run. Name a cache folder of your own (XDG_CACHE_HOME, Execution.label_cache), or say "
                "--label-cache none.",
                stacklevel=2,
            )
        for number, image in enumerate(images, 1):
            packer.add(image)
            if number == total and unchanged():
                packer.finish()
            if number == total and packer.failure is not None:
                log.event("labels were not packed", path=str(path), reason=str(packer.failure))
            yield image


class LabelCacheWriter:
    """Writes a packed file; where it cannot, because the disk is full or read-only, it stops and says why.

    Parameters
    ----------
    path
        The file. It is there once all images of the data set were added and `finish` was called.

    Attributes
    ----------
    failure
        Why there will be no file; None: nothing stands against it so far.
    """

    def __init__(self, path: Path) -> None:
        self.failure: OSError | None = None
        self._path = path
        self._waiting: list[ImageLabels] = []
        self._blocks = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=path.parent, prefix=path.stem, suffix=".part", delete=False) as file:
                self._part = Path(file.name)
            self._file = zipfile.ZipFile(self._part, "w", zipfile.ZIP_DEFLATED, compresslevel=FAST)
        except OSError as error:
            self.failure = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind that was not finished."""
        if self.failure is None:
            self._give_up(None)

    def add(self, image: ImageLabels) -> None:
        """Add the labels of the next image."""
        if self.failure is not None:
            return
        self._waiting.append(image)
        if len(self._waiting) == BLOCK:
            self._write()

    def finish(self) -> None:
        """Put the file in its place, and make room where all files together are too large."""
        if self._waiting:
            self._write()
        if self.failure is not None:
            return
        try:
            self._file.close()
            self._part.replace(self._path)
            for left in self._path.parent.glob("labels-*.part"):
                if left.stat().st_mtime < time.time() - DAY:  # of a process that was killed
                    left.unlink()
            files = sorted(self._path.parent.glob("labels-*.zip"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path, size in zip(files, accumulate(path.stat().st_size for path in files), strict=True):
                if size > LARGEST:
                    path.unlink()
        except OSError as error:
            self._give_up(error)

    def _write(self) -> None:
        try:
            self._file.writestr(str(self._blocks), _packed(self._waiting))
        except OSError as error:
            self._give_up(error)
        self._blocks += 1
        self._waiting = []

    def _give_up(self, error: OSError | None) -> None:
        self.failure = error
        with suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


def _packed(images: Sequence[ImageLabels]) -> bytes:
    """Write the arrays of some images one after the other: first how long each is, in every image."""
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


def _unpacked(content: bytes) -> list[ImageLabels]:
    file = io.BytesIO(content)
    lengths = np.load(file, allow_pickle=False)
    ends = np.pad(lengths.cumsum(axis=0), ((1, 0), (0, 0)))
    parts = []
    for column, kind in zip(ends.T, TYPES, strict=True):
        joined = np.load(file, allow_pickle=False).astype(kind)
        parts.append([joined[start:stop] for start, stop in pairwise(column)])
    return [_image(*arrays) for arrays in zip(*parts, strict=True)]


def _image(size: Ints, places: Numbers, area: Ints, borne: Numbers, whole: Numbers, *rest: Ints) -> ImageLabels:
    return ImageLabels(LabelSetMap(places.reshape(size), area, borne.reshape(len(area), -1), whole), *rest)


def _check(image: ImageLabels, data: ConceptData) -> None:
    """See that kinds, labels and categories are some that there are: compiled loops take them as indices."""
    kinds, categories, label_ids = image.label_sets, len(data.categories), len(data.category_of)
    indices: list[tuple[npt.NDArray[Any], int]] = [
        (kinds.index_map, len(kinds.set_sizes)),
        (image.categories, categories),
        (image.image_level_categories, categories),
        (image.label_ids, label_ids),
        (kinds.image_level, label_ids),
    ]
    for values, stop in indices:
        if values.size and not 0 <= values.min() <= values.max() < stop:
            raise ValueError(f"it holds {values.min()} and {values.max()} where 0 to {stop - 1} were expected")
    if (
        not np.isin(kinds.label_ids, np.append(image.label_ids, 0)).all()
        or not np.isin(kinds.image_level, image.label_ids).all()
    ):
        raise ValueError("pixels bear labels that the image does not have")
