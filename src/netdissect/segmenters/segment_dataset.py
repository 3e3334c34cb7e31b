"""Write a data set from images without labels: the common code behind ``netdissect concepts segment``.

    folder of images -> segment_images -> SegmentedSource -> build_dataset -> data set, with segmenter.json
    data set with human masks -> compare_masks -> the agreement in segmenter.json

Segmenting takes most of the time. Its files are kept in a hidden folder beside the target until the data set is
complete, so that an interrupted command resumes.
"""

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from netdissect.concepts import ConceptData, Size
from netdissect.concepts.build.atomic_dir import check_target, staging_dir
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.image_io import read_upright
from netdissect.concepts.machine_masks import FILE, MachineMasks
from netdissect.concepts.sources.source import find_files, find_folder
from netdissect.config_fields import Config
from netdissect.errors import SegmenterError, SourceError
from netdissect.progress import ShowProgress, shown
from netdissect.segmenters.mask_comparison import compare_masks, job_of_data
from netdissect.segmenters.segment_images import MachineLabelJob, read_maps, segment_images
from netdissect.segmenters.segmented_source import SegmentedSource
from netdissect.segmenters.segmenter import Segmenter


class MachineLabelOptions(Config):
    """How images without labels become a data set."""

    write: WriteOptions = Field(WriteOptions(colors=True), description="Sizes, colors, and which labels are dropped.")
    quadrants: bool = Field(
        False,
        description="Label the top, bottom, left and right half of each connected component of an object as parts.",
    )
    compare: Path | None = Field(None, description="Data set with human masks, with which the segmenter is compared.")
    batch_size: int = Field(8, ge=1, description="Images in one pass of the segmenter.")


class MachineLabeledData(BaseModel):
    """A data set that was written from images without labels."""

    model_config = ConfigDict(frozen=True)

    out: str = Field(description="Folder of the data set.")
    images: int
    concepts: dict[str, int] = Field(description="Number of concepts of each category.")
    masks: MachineMasks = Field(description="The segmenter, and its agreement with human masks.")
    seconds: float = Field(description="Wall time.")


def segment_dataset(
    out: str | Path,
    images: str | Path,
    segmenter: Segmenter,
    options: MachineLabelOptions | None = None,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ShowProgress = None,
) -> MachineLabeledData:
    """Segment the images of a folder, and write them as a data set that `ConceptData.open` reads.

    Parameters
    ----------
    out
        The new folder.
    images
        Folder of images, at any depth.
    segmenter
        From `load_segmenter`. It runs in this process, on as many threads as torch has.
    options
        None: 224 pixels, with colors.
    overwrite, workers, progress
        As for `netdissect.build_dataset`.

    Raises
    ------
    SourceError
        If there is no image, or images cannot be read.
    SegmenterError
        If the segmenter fails or labels no pixel, or none of its labels is a concept of the data set it is compared
        with.
    ConceptsError
        If `out` must not be replaced, or the disk cannot be written.
    """
    out, folder, options = Path(out), Path(images), options or MachineLabelOptions()
    started = time.perf_counter()
    check_target(out, overwrite=overwrite)
    human = None if options.compare is None else ConceptData.open(options.compare)
    paths = find_files(find_folder(folder, "a folder of images"))
    if not paths:
        raise SourceError(f"{folder} holds no image. Expected at least one, at any depth; correct the folder.")
    side = options.write.map_size * (1 if options.write.resize == "stretch" else 2)
    size, image_size = Size(side, side), Size(options.write.size, options.write.size)
    with staging_dir(out, "segmenting", overwrite=overwrite, keep=True) as work, shown(progress) as display:
        job = MachineLabelJob(
            segmenter, work, size, lambda path: read_upright(path).image, image_size, options.batch_size
        )
        files = segment_images(paths, job, display)
        _check_labeled(files, size, segmenter)
        agreement = None
        if human is not None:
            agreement = compare_masks(human, segmenter, lambda size: job_of_data(job, size), display)
        masks = MachineMasks(
            segmenter=segmenter.spec,
            segmenter_digest=segmenter.digest,
            quadrants=options.quadrants,
            agreement=agreement,
        )
        source = SegmentedSource(folder, f"segmented:{folder}", paths, files, segmenter.labels, size, options.quadrants)
        build_dataset(
            out, [source], options.write, files={FILE: masks.written()}, overwrite=overwrite, workers=workers,
            progress=display,
        )  # fmt: skip
    data = ConceptData.open(out)
    counts = {name: sum(concept.category == name for concept in data.concepts) for name in data.categories}
    return MachineLabeledData(
        out=str(out), images=len(paths), concepts=counts, masks=masks, seconds=time.perf_counter() - started
    )


def _check_labeled(files: list[Path], size: Size, segmenter: Segmenter) -> None:
    """Raise an error if no pixel of any image is labeled: colors alone would hide it."""
    if not any(read_maps(file, size).any() for file in files):
        raise SegmenterError(
            f"the segmenter {segmenter.spec!r} labels no pixel of the {len(files)} images. Expected masks of some of "
            f"its {len(segmenter.labels)} labels; lower --min-score, name other words, or check what the segmenter was "
            "trained on."
        )
