"""Segment images by the detectors of a finished run: each pixel gets the concept of its most active detector."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import polars as pl
import torch

from netdissect.checksums import json_digest
from netdissect.concepts import ConceptData
from netdissect.concepts.build.render import encode_label_map
from netdissect.concepts.dataset_folder import is_image_folder
from netdissect.concepts.image_io import read_upright
from netdissect.concepts.sources.source import find_files
from netdissect.config import DissectConfig, Execution
from netdissect.dissect.image_maps import checked_network, image_maps, network_pixels, run_layers
from netdissect.dissect.image_sample import sample_images
from netdissect.dissect.reload import network_of
from netdissect.dissect.segment.detector_composer import DetectorComposer
from netdissect.dissect.segment.segment_options import SegmentOptions
from netdissect.dissect.segment.segment_scores import SegmentScores
from netdissect.dissect.segment.segmented_data import (
    STAGE,
    WORK,
    SegmentedData,
    draw,
    evenly_spread,
    label_map_names,
    write_file,
)
from netdissect.errors import ResultError
from netdissect.keywords import read_fields, takes_fields
from netdissect.models import Layer, Network
from netdissect.paths import writing
from netdissect.plots.example_images import image_folder
from netdissect.progress import Display, ShowProgress, shown
from netdissect.result import Result
from netdissect.result.files import digest_of_file, write_whole
from netdissect.result.folder_lock import lock_folder
from netdissect.result.formulas.formula_result import run_digest
from netdissect.result.result import check_is_run
from netdissect.result.segmentation.composed_segmentation import (
    CONCEPTS,
    FIGURES,
    IMAGES,
    LABEL_MAPS,
    REMEDY,
    SUMMARY,
    ComposedSegmentation,
    SegmentationSummary,
)
from netdissect.segment_config import SegmentConfig

FORMAT = 1
INPUTS = "inputs.sha256"


@takes_fields(SegmentConfig, SegmentOptions)
def segment(
    result: Result,
    source: ConceptData | str | Path,
    *,
    out: str | Path,
    config: SegmentConfig | None = None,
    network: Network | torch.nn.Module | None = None,
    data_root: str | Path | None = None,
    execution: Execution | None = None,
    progress: ShowProgress = None,
    **options: Unpack[SegmentOptions],
) -> ComposedSegmentation:
    """Segment an image, or each image of a folder or data set, by the detectors of a layer of a finished run.

    Each pixel gets the concept of its most active detector; see
    `netdissect.scoring.segmentation.most_active.most_active`.

    Parameters
    ----------
    result
        The run.
    source
        File of an image; a folder of images alone, of which `max_images` takes the first; or a data set in Broden's
        layout, whose labels the segments are compared with. It need not be that of the run: concepts are the same if
        they have the same name.
    out
        Folder of label maps, tables and figures. Finished segmentations there are returned, and interrupted ones
        resumed.
    config
        Options as an object; single options below override its fields.
    network
        The network of the run, or its module, if the run cannot load it again.
    data_root
        Folder of the run's data set, if it was moved: `network` is compared on some of its images.
    execution
        Its caches and threads are used.
    progress
        As for `netdissect.dissect`: None shows the images that are done on a terminal or in a notebook.

    Returns
    -------
    ComposedSegmentation
        Label maps, their legend, and mean IoU with labels.

    Raises
    ------
    NetdissectError
        Of the kind that `netdissect.errors` names.
    """
    config = read_fields(segment, SegmentConfig, config, options)
    check_is_run(result)
    composer, out = DetectorComposer.of(result, config), Path(out)
    images = _opened(source, config)
    inputs = _inputs(result, composer, images, config)
    if (out / SUMMARY).exists():
        return _finished(out, inputs)
    with ExitStack() as stack:
        display = stack.enter_context(shown(progress))
        opened = _network(result, network, data_root)
        _claim(out, inputs, stack)
        job = SegmentJob(result, opened, composer, out, config, inputs)
        if isinstance(images, ConceptData):
            data = SegmentedData(result, opened, images, composer, out, config, execution or Execution(), display)
            made = job.of_data(data)
        else:
            made = job.of_images(images, display)
        shutil.rmtree(out / WORK, ignore_errors=True)
    return made


@dataclass(frozen=True)
class ImageFiles:
    """Images without labels.

    Attributes
    ----------
    source
        One file, or the folder of all.
    paths
        Their files.
    """

    source: Path
    paths: tuple[Path, ...]

    @property
    def names(self) -> list[str]:
        """Of the files, below the folder."""
        folder = self.source if self.source.is_dir() else self.source.parent
        return [path.relative_to(folder).as_posix() for path in self.paths]

    @property
    def digest(self) -> str:
        """SHA-256 of the names and contents."""
        return json_digest({name: digest_of_file(path) for name, path in zip(self.names, self.paths, strict=True)})


def _opened(source: ConceptData | str | Path, config: SegmentConfig) -> ConceptData | ImageFiles:
    """Open a data set, a folder of images alone, or an image: a path of anything but a folder."""
    if not isinstance(source, ConceptData):
        path = Path(source)
        if path.is_file():
            read_upright(path)  # refused before the network is loaded
            return ImageFiles(path, (path,))
        if config.split is None and is_image_folder(path):
            return ImageFiles(path, tuple(find_files(path)[: config.max_images]))
    fields = {name: getattr(config, name) for name in ("categories", "split", "max_images", "sample_seed")}
    return sample_images(source, DissectConfig(layers=("*",), **fields))[0]


def _network(result: Result, network: Network | torch.nn.Module | None, data_root: str | Path | None) -> Network:
    if network is None:
        return network_of(result.info, folder=result.folder)
    return checked_network(result, image_folder(result.info.data.root, data_root), network)


def _inputs(result: Result, composer: DetectorComposer, images: ConceptData | ImageFiles, config: SegmentConfig) -> str:
    """Return the digest of what is segmented."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "run": run_digest(result),
        "layer": composer.layer,
        "images": images.digest,
        "config": config.model_dump(mode="json", exclude={"layer"}),
    }
    return json_digest(content)


def _finished(out: Path, inputs: str) -> ComposedSegmentation:
    made = ComposedSegmentation.open(out)
    if made.summary.inputs != inputs:
        raise _other(out)
    return made


def _claim(out: Path, inputs: str, stack: ExitStack) -> None:
    """Lock the folder of an unfinished segmentation, and note what it is.

    Raises
    ------
    ResultError
        If the folder holds another one.
    """
    path = out / WORK / INPUTS
    with writing(path, REMEDY):
        path.parent.mkdir(parents=True, exist_ok=True)
        stack.callback(lock_folder(path.parent).release)
        if path.exists() and path.read_text(encoding="utf-8") != inputs:
            raise _other(out)
        path.write_text(inputs, encoding="utf-8")


def _other(out: Path) -> ResultError:
    return ResultError(
        f"{out} holds segmentations of other images, of another run or with other options. Name another folder with "
        "--out, or remove this one."
    )


@dataclass(frozen=True)
class SegmentJob:
    """One call of `segment`.

    Attributes
    ----------
    result, network
        The run, and its network.
    composer
        Composes label maps.
    out
        Folder of all files.
    config
        Options.
    inputs
        Digest of what is segmented.
    """

    result: Result
    network: Network
    composer: DetectorComposer
    out: Path
    config: SegmentConfig
    inputs: str

    def of_images(self, files: ImageFiles, display: Display) -> ComposedSegmentation:
        """Segment images one by one; the whole of each is stretched to the input of the network."""
        layers = [layer for layer in run_layers(self.network, self.result.info) if layer.name == self.composer.layer]
        names, total = label_map_names(files.names), len(files.paths)
        drawn, rows = evenly_spread(self.config.figures, total), []
        for index, (path, own, name) in enumerate(zip(files.paths, files.names, names, strict=True)):
            kept = self.out / WORK / f"{index}.json"  # written after the files of the image
            if not kept.exists():
                _keep(kept, self._segmented(path, layers, name, drawn=index in drawn))
            rows.append((index, own, name, *json.loads(kept.read_bytes())))
            display(STAGE, index + 1, total)
        return self._saved(str(files.source), pl.DataFrame(rows, schema=IMAGES, orient="row"), None)

    def _segmented(self, path: Path, layers: Sequence[Layer], name: str, *, drawn: bool) -> tuple[int, int, float]:
        """Write the label map of an image, and its figure; return height, width and the covered share."""
        image, info = read_upright(path).image, self.result.info
        pixels = network_pixels(image, info.network, str(path))[None]
        maps = image_maps(self.network, layers, pixels, info.config)[self.composer.layer][0]
        units = self.composer.active(maps, None).units
        write_file(self.out / LABEL_MAPS, name, encode_label_map(self.composer.label_map(units)))
        if drawn:
            draw(image, self.composer, (maps, None), self.out / FIGURES, name, self.config.figure_format)
        height, width = units.shape
        return height, width, float((units >= 0).mean())

    def of_data(self, data: SegmentedData) -> ComposedSegmentation:
        """Segment each image of a data set, and compare the segments with its labels."""
        counts = data.run()
        images = data.images(counts)
        pixels = (images["height"] * images["width"]).to_numpy()
        ids = {concept.name: concept.label_id for concept in data.data.concepts}
        label_of = np.zeros(self.composer.units, np.int64)
        for unit, label in self.composer.detectors.select("unit", "label").iter_rows():
            label_of[unit] = ids.get(label, 0)
        scores = SegmentScores(data.data, counts.labels, counts.segments, pixels, label_of, self.config)
        return self._saved(str(data.data.root), images, scores)

    def _saved(self, source: str, images: pl.DataFrame, scores: SegmentScores | None) -> ComposedSegmentation:
        """Write the tables and the summary."""
        composer, pixels = self.composer, (images["height"] * images["width"]).to_numpy()
        summary = SegmentationSummary(
            inputs=self.inputs,
            network=self.result.info.network.name,
            layer=composer.layer,
            quantile=composer.quantile,
            detectors=len(composer.detectors),
            detected_concepts=composer.detectors["label"].n_unique(),
            source=source,
            images=len(images),
            covered=float((images["covered"].to_numpy() * pixels).sum() / pixels.sum()),
            same_images=scores is not None and self._chosen_here(scores.data),
            miou=() if scores is None else scores.mean_ious(),
        )
        concepts = pl.DataFrame(schema=CONCEPTS)
        if scores is not None:
            own = self.result.concepts.select(pl.col("concept").cast(pl.String), pl.col("label_id").alias("own_id"))
            found = scores.concepts().join(own, on="concept", how="left", maintain_order="left")
            concepts = found.with_columns(pl.col("own_id").alias("label_id")).select(list(CONCEPTS))
        saved = ComposedSegmentation(self.out, summary, composer.legend, images, concepts)
        saved.save()
        return saved

    def _chosen_here(self, data: ConceptData) -> bool:
        """Return whether the labels of the units were chosen on images of this data set."""
        info = self.result.info
        splits = {info.config.split, data.rows[0].split if self.config.split else None}
        return Path(info.data.root).resolve() == data.root.resolve() and (None in splits or len(splits) == 1)


def _keep(path: Path, measured: tuple[int, int, float]) -> None:
    content = json.dumps(measured).encode()
    with writing(path, REMEDY):
        write_whole(path, lambda file: file.write(content))
