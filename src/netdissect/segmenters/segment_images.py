"""Segment images, and keep a file of label maps for each, named by the digest of what made it.

    images -> read and stretched by threads -> Segmenter, a batch at a time -> FOLDER/DIGEST.png

A file holds the channels of an image below each other. What is there is not made again, so that an interrupted command
resumes; at most two batches of images are read ahead.
"""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from netdissect.activations.image_batches import prefetch
from netdissect.concepts import Size
from netdissect.concepts.broden_files import LARGEST_LABEL, read_label_map
from netdissect.concepts.build.render import encode_label_map
from netdissect.concepts.image_io import open_image
from netdissect.config import Progress
from netdissect.counted import size_text
from netdissect.errors import SegmenterError, SourceError
from netdissect.process.cores import available_cores
from netdissect.segmenters.segmenter import Images, LabelMaps, Segmenter

logger = logging.getLogger(__name__)

STAGE = "segmenting"
PROBLEMS_SHOWN = 10

ReadImage = Callable[[Path], Image.Image]


@dataclass(frozen=True)
class MachineLabelJob:
    """What is done with each image.

    Attributes
    ----------
    segmenter
        Labels it.
    folder
        Of the files.
    size
        Height and width of the label maps.
    read
        Reads an image.
    input_size
        Images are stretched to this size for a segmenter that states none.
    batch_size
        Images in one pass.
    """

    segmenter: Segmenter
    folder: Path
    size: Size
    read: ReadImage
    input_size: Size
    batch_size: int = 8

    def file(self, image: Path) -> Path:
        """Return the file of an image: named by the segmenter, the size and the image's path, size and times."""
        try:
            facts = image.stat()
            stamp = f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"
        except (OSError, ValueError):
            stamp = "missing"  # reading it says why
        inputs = f"{self.segmenter.digest} {tuple(self.size)} {tuple(self.input_size)} {image.absolute()} {stamp}"
        return self.folder / f"{hashlib.sha256(inputs.encode(errors='surrogateescape')).hexdigest()[:32]}.png"

    def pixels(self, image: Path) -> Images:
        """Return an image as the segmenter takes it, uint8 (H, W, 3)."""
        height, width = self.segmenter.input_size or self.input_size
        shown = self.read(image)
        if shown.size != (width, height):
            shown = shown.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(shown)


def segment_images(images: Sequence[Path], job: MachineLabelJob, progress: Progress | None = None) -> list[Path]:
    """Segment those images of which there is no file yet.

    Parameters
    ----------
    images
        Files.
    job
        What is done with them.
    progress
        Called with the number of images that have a file (``segmenting``).

    Returns
    -------
    list of Path
        The file of label maps of each image.

    Raises
    ------
    SourceError
        If images cannot be read; the message names the first ten. The files of the others are kept.
    SegmenterError
        If the segmenter fails, or the disk is too small.
    """
    if len(job.segmenter.labels) > LARGEST_LABEL:
        raise SegmenterError(
            f"the segmenter {job.segmenter.spec!r} has {len(job.segmenter.labels):,} labels. Expected at most "
            f"{LARGEST_LABEL:,}; choose some with --words FILE."
        )
    files = [job.file(image) for image in images]
    left = [(image, file) for image, file in zip(images, files, strict=True) if not file.is_file()]
    done = len(images) - len(left)
    if done and left:
        logger.info("going on with %d of %d images that were segmented before", done, len(images))
    problems: list[str] = []
    estimate = _Estimate(job, len(left), left=len(left))
    for batch in _batches(left, job, problems):
        maps = job.segmenter.segment(np.stack([pixels for _, pixels in batch]), job.size)
        for (file, _), one in zip(batch, maps, strict=True):
            write_maps(one, file)
        done += len(batch)
        estimate.after(batch[0][0], len(batch))
        if progress:
            progress(STAGE, done, len(images))
    if problems:
        listing = "".join(f"\n  - {problem}" for problem in problems[:PROBLEMS_SHOWN])
        more = f"\n  ... and {len(problems) - PROBLEMS_SHOWN} more." if len(problems) > PROBLEMS_SHOWN else ""
        raise SourceError(
            f"{len(problems)} of {len(images)} images cannot be read, so no data set was written; the others are "
            f"segmented and kept. Mend or remove them and run again:{listing}{more}"
        )
    return files


@dataclass
class _Estimate:
    """States time and disk after the first batch, whose own time is not counted: libraries warm up in it."""

    job: MachineLabelJob
    images: int
    left: int
    started: float = 0.0
    batches: int = 0

    def after(self, file: Path, count: int) -> None:
        self.left -= count
        self.batches += 1
        if self.batches == 1:
            self.started = time.perf_counter()
        elif self.batches == 2:
            self._state((time.perf_counter() - self.started) / count, file.stat().st_size)

    def _state(self, seconds: float, bytes_an_image: int) -> None:
        needed, free = bytes_an_image * self.left, shutil.disk_usage(self.job.folder).free
        logger.info(
            "segmenting %d images with %s, %.2g s each: about %d min; label maps take about %s (%s are free)",
            self.images, self.job.segmenter.spec, seconds, max(1, round(seconds * self.left / 60)), size_text(needed),
            size_text(free),
        )  # fmt: skip
        if needed > free:
            raise SegmenterError(
                f"{self.job.folder.parent} has {size_text(free)} free, but the label maps of {self.left} images take "
                f"about {size_text(needed)}. Make room or choose another disk."
            )


def _batches(
    left: Sequence[tuple[Path, Path]], job: MachineLabelJob, problems: list[str]
) -> Iterator[list[tuple[Path, Images]]]:
    """Yield batches of (file, pixels); threads read at most two batches ahead."""
    batch: list[tuple[Path, Images]] = []
    for file, pixels in prefetch(partial(_read, job), left, available_cores(), 2 * job.batch_size - 1):
        if isinstance(pixels, SourceError):
            problems.append(str(pixels))
            continue
        batch.append((file, pixels))
        if len(batch) == job.batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(job: MachineLabelJob, one: tuple[Path, Path]) -> tuple[Path, Images | SourceError]:
    """Return the file of label maps of an image, and its pixels or why it cannot be read."""
    image, file = one
    try:
        return file, job.pixels(image)
    except SourceError as error:
        return file, error


def write_maps(maps: LabelMaps, file: Path) -> None:
    """Write the label maps of an image, int32 (L, h, w), whole or not at all."""
    part = file.with_suffix(".part")
    part.write_bytes(encode_label_map(maps.reshape(-1, maps.shape[2]), compression=1))
    part.replace(file)


def read_maps(file: Path, size: Size) -> LabelMaps:
    """Read what `write_maps` wrote, int32 (L, h, w).

    Raises
    ------
    ConceptsError
        If the file is missing or damaged.
    """
    with open_image(file) as image:
        height = image.height
    return read_label_map(file, Size(height, size.width)).reshape(-1, *size)
