"""Segment all images of a data set, block by block: an interrupted command resumes with the next block.

activations of the network, labels of the images -> DetectorComposer -> label maps, counts of each block
"""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

from netdissect.activations import batch_starts
from netdissect.checksums import strip_checksum
from netdissect.concepts import ConceptData, Size
from netdissect.concepts.build.render import encode_label_map
from netdissect.concepts.image_io import read_as_stored
from netdissect.config import Execution
from netdissect.counted import size_text
from netdissect.dissect.forward import Activations, DissectionInputs, forward
from netdissect.dissect.image_maps import run_layers
from netdissect.dissect.label_reader import LabelReader
from netdissect.dissect.segment.detector_composer import DetectorComposer
from netdissect.dissect.work_dir.run_log import RunLog
from netdissect.errors import ResultError
from netdissect.models import Network
from netdissect.paths import contained, writing
from netdissect.plots.image_segmentation import segmented_image
from netdissect.plots.style import rendered
from netdissect.progress import Display
from netdissect.result import Result
from netdissect.result.files import write_whole
from netdissect.result.segmentation.composed_segmentation import FIGURES, IMAGES, LABEL_MAPS, REMEDY
from netdissect.scoring import ImageIntersections, ImageLabelCounts, ImageLabels
from netdissect.scoring.segmentation.most_active import segment_pixels
from netdissect.segment_config import SegmentConfig

Ints = npt.NDArray[np.int64]
Maps = npt.NDArray[np.float32]

BLOCK = 128  # images, at least, that are segmented again after an interruption
FIRST_IMAGES = 64  # by which the time of the others is estimated
LABEL_MAP_BYTES = 1500  # of 112 x 112 pixels, on average
STAGE = "segments"
WORK = "work"
"""Folder of what an interrupted command resumes from."""


class SegmentedBlock:
    """The counts of some images; see `SegmentedData`."""

    def __init__(self, labels: ImageLabelCounts, segments: ImageIntersections) -> None:
        self.labels = labels
        self.segments = segments

    @classmethod
    def join(cls, blocks: Sequence["SegmentedBlock"]) -> "SegmentedBlock":
        """Join blocks in the order of their images."""
        labels = ImageLabelCounts.join([block.labels for block in blocks])
        return cls(labels, ImageIntersections.join([block.segments for block in blocks]))

    def write(self, path: Path) -> None:
        """Write them: complete, or not at all."""
        arrays = {
            f"{kind}.{name}": values for kind, counts in vars(self).items() for name, values in counts._asdict().items()
        }
        with writing(path, REMEDY):
            write_whole(path, lambda file: np.savez(file, **arrays), checksum=True)

    @classmethod
    def read(cls, path: Path) -> "SegmentedBlock":
        """Read them.

        Raises
        ------
        ResultError
            If the file is damaged.
        """
        try:
            with np.load(io.BytesIO(strip_checksum(path.read_bytes())), allow_pickle=False) as file:
                labels = ImageLabelCounts(*(file[f"labels.{name}"] for name in ImageLabelCounts._fields))
                return cls(
                    labels, ImageIntersections(*(file[f"segments.{name}"] for name in ImageIntersections._fields))
                )
        except (OSError, ValueError, KeyError) as error:
            raise ResultError(
                f"{path} is damaged ({error}): it holds counts of before an interruption. Remove this file, and run "
                "the same command again."
            ) from error


@dataclass(frozen=True)
class SegmentedData:
    """The pass over the images of a data set.

    Attributes
    ----------
    result, network
        The run, and its network.
    data
        The images, whose labels need not be those of the run.
    composer
        Composes label maps.
    folder
        Of all files.
    config, execution
        Options.
    display
        Shows progress.
    """

    result: Result
    network: Network
    data: ConceptData
    composer: DetectorComposer
    folder: Path
    config: SegmentConfig
    execution: Execution
    display: Display

    @cached_property
    def names(self) -> list[str]:
        """File of the label map of each image."""
        return label_map_names([row.image for row in self.data.rows])

    @cached_property
    def drawn(self) -> set[int]:
        """Indices of the images that are drawn."""
        return evenly_spread(self.config.figures, len(self.data))

    @property
    def block(self) -> int:
        """Images of a block: a multiple of the batch size."""
        batch = self.result.info.config.images_per_batch
        return batch * -(-BLOCK // batch)

    def run(self) -> SegmentedBlock:
        """Segment the images that an interrupted command did not, and return the counts of all."""
        work, images = self.folder / WORK, len(self.data)
        with writing(work, REMEDY):
            work.mkdir(parents=True, exist_ok=True)
        paths = [work / f"{start}.block" for start in range(0, images, self.block)]
        done = next((index for index, path in enumerate(paths) if not path.exists()), len(paths))
        if done < len(paths):
            self._announce(done * self.block)
        for path, block in zip(paths[done:], self._blocks(done * self.block), strict=True):
            block.write(path)
        return SegmentedBlock.join([SegmentedBlock.read(path) for path in paths])

    def _announce(self, done: int) -> None:
        left, units = len(self.data) - done, len(self.composer.detectors)
        resumed = f" (resumed after {done:,})" if done else ""
        self.display.line(
            f"{left:,} images{resumed} through {self.result.info.network.name!r} and {units:,} detectors of "
            f"{self.composer.layer}; label maps take about {size_text(LABEL_MAP_BYTES * left)} on disk"
        )

    def _blocks(self, first: int) -> Iterator[SegmentedBlock]:
        """Segment the images from the index `first` on."""
        if first >= len(self.data):
            return
        stamp = self.data.stamp()
        # Label maps are sets here: a pixel that has a label twice counts once, whatever the protocol of the run.
        protocol = self.result.info.config.protocol.model_copy(update={"duplicates": "once"})
        size = self.result.info.config.images_per_batch
        reader = LabelReader(self.data, protocol, self.execution.cache_folder, size, stamp, RunLog(None))
        labels, begin = reader.read(range(first, len(self.data))), time.monotonic()
        pending: list[SegmentedBlock] = []
        for batch in self._activations(first):
            pending.append(self._segmented(batch, labels))
            done = int(batch.rows[-1]) + 1
            self.display(STAGE, done, len(self.data))
            if done - first <= FIRST_IMAGES < done - first + len(batch.rows):
                seconds = (time.monotonic() - begin) / (done - first) * (len(self.data) - done)
                self.display.line(f"about {seconds / 60:.1f} min for the other {len(self.data) - done:,} images")
            if done % self.block == 0 or done == len(self.data):
                yield SegmentedBlock.join(pending)
                pending = []
        reader.refuse_changed(self.data.digest)

    def _activations(self, first: int) -> Iterator[Activations]:
        info = self.result.info
        layers = [layer for layer in run_layers(self.network, info) if layer.name == self.composer.layer]
        source = DissectionInputs.of(self.network, self.data, layers, info.config, self.execution)
        starts = batch_starts(len(self.data), info.config.images_per_batch)
        return forward(source, starts[first // starts.step :])

    def _segmented(self, batch: Activations, labels: Iterator[ImageLabels]) -> SegmentedBlock:
        """Segment one batch: write its label maps, and count."""
        maps = batch.dense(self.composer.layer).cpu().numpy()
        images, segments = list(islice(labels, len(batch.rows))), []
        for index, image in zip(batch.rows.tolist(), images, strict=True):
            active = self.composer.active(maps[index - batch.start], image.size)
            self._write(index, encode_label_map(self.composer.label_map(active.units)))
            segments.append(segment_pixels(active.units, image, index))
            if index in self.drawn:
                self._draw(index, maps[index - batch.start], image.size)
        return SegmentedBlock(ImageLabelCounts.of(batch.start, images), ImageIntersections.join(segments))

    def _write(self, index: int, content: bytes) -> None:
        write_file(self.folder / LABEL_MAPS, self.names[index], content)

    def _draw(self, index: int, maps: Maps, size: Size) -> None:
        image, _ = read_as_stored(self.data.image_path(index))
        draw(image, self.composer, (maps, size), self.folder / FIGURES, self.names[index], self.config.figure_format)

    def images(self, counts: SegmentedBlock) -> pl.DataFrame:
        """Return one row for each image."""
        sizes = [self.composer.masks.size(row.size) for row in self.data.rows]
        covered = np.bincount(counts.segments.image_index, counts.segments.mask_pixels, len(self.data))
        return pl.DataFrame(
            {
                "image_index": range(len(self.data)),
                "image": [row.image for row in self.data.rows],
                "label_map": self.names,
                "height": [size.height for size in sizes],
                "width": [size.width for size in sizes],
                "covered": covered / [size.height * size.width for size in sizes],
            },
            schema=IMAGES,
        )


def label_map_names(images: Sequence[str]) -> list[str]:
    """Return the file of the label map of each image: its name with another suffix, if no two have one name."""
    paths = [PurePosixPath(image) for image in images]
    short = [path.with_suffix(".png").as_posix() for path in paths]
    return short if len(set(short)) == len(short) else [f"{path.as_posix()}.png" for path in paths]


def evenly_spread(most: int, count: int) -> set[int]:
    """Return at most `most` indices of `count` images, from the first to the last."""
    return set(np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist())


def write_file(folder: Path, name: str, content: bytes) -> None:
    """Write a file whose name an index gives, below a folder.

    Raises
    ------
    ResultError
        If it cannot be written, or leads out of the folder.
    """
    path = contained(folder, name, "the data set", ResultError)
    with writing(path, REMEDY):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def draw(
    image: Image.Image, composer: DetectorComposer, maps: tuple[Maps, Size | None], folder: Path, name: str, form: str
) -> None:
    """Draw an image with its segments, and a legend.

    Parameters
    ----------
    image
        RGB.
    composer
        Composes segments.
    maps
        float32 (U, h, w): activation maps, and the size of the label maps of the image; None: it has none.
    folder, name
        Where the figure is written; the suffix of the name is replaced.
    form
        One of `netdissect.plots.style.FORMATS`.
    """
    figure = segmented_image(image, {composer.layer: composer.segmentation(*maps)})
    write_file(folder, PurePosixPath(name).with_suffix(f".{form}").as_posix(), rendered(figure, form))
