"""Segmentations composed from the detectors of a layer, as files.

OUT/label_maps/NAME.png     R + 256 * G of a pixel is the label id of its concept; 0: no detector is active there
OUT/legend.csv              label_id, concept, category, units (the detectors of the concept)
OUT/images.csv              image_index, image, label_map, height, width, covered
OUT/concepts.csv            IoU with the labels, where the data set has labels
OUT/figures/NAME.png        some images with their segments
OUT/segmentation.json       the summary, written last: it marks finished segmentations
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.concepts import Size
from netdissect.concepts.broden_files import read_label_map
from netdissect.errors import ResultError
from netdissect.paths import contained, writing
from netdissect.result.csv_frames import escaped_frame, plain_frame
from netdissect.result.files import write_whole

SUMMARY, LABEL_MAPS, FIGURES = "segmentation.json", "label_maps", "figures"
REMEDY = "Free space and run the same command again: what was finished is kept."

LEGEND = {"label_id": pl.Int64, "concept": pl.String, "category": pl.String, "units": pl.String}
IMAGES = {
    "image_index": pl.Int64, "image": pl.String, "label_map": pl.String, "height": pl.Int64, "width": pl.Int64,
    "covered": pl.Float64,
}  # fmt: skip
CONCEPTS = {
    "label_id": pl.Int64, "concept": pl.String, "category": pl.String, "detectors": pl.Int64,
    "intersection": pl.Int64, "segment_pixels": pl.Int64, "label_pixels": pl.Int64,
    "iou": pl.Float64, "iou_ci_low": pl.Float64, "iou_ci_high": pl.Float64,
}  # fmt: skip
TABLES: Mapping[str, Mapping[str, Any]] = {"legend": LEGEND, "images": IMAGES, "concepts": CONCEPTS}


class MeanIoU(BaseModel):
    """Mean IoU of one kind of segments over some concepts, with 95 % intervals of the bootstrap over images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segments: Literal["detectors", "most frequent concept", "shuffled labels"] = Field(
        description=(
            "detectors: of this segmentation. most frequent concept: every pixel has the detected concept with the "
            "most labeled pixels. shuffled labels: the same segments, but the labels are shuffled among the detectors; "
            "mean over 20 permutations."
        )
    )
    concepts: Literal["detected", "all"] = Field(
        description="Concepts over which the mean is taken: those with a detector, or all. Both are labeled here."
    )
    number: int = Field(description="Number of these concepts.")
    miou: float
    ci_low: float | None = Field(description="None: no intervals were asked for.")
    ci_high: float | None
    difference: float | None = Field(
        description="Mean IoU of the detectors less this one, on the same images. None: for the detectors."
    )
    difference_ci_low: float | None
    difference_ci_high: float | None


class SegmentationSummary(BaseModel):
    """What was composed, and how well it agrees with the labels; `netdissect segment --json` prints it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: str = Field(description="SHA-256 of run, layer, images and options.")
    network: str
    layer: str
    quantile: float
    detectors: int = Field(description="Units of the layer that compose segments.")
    detected_concepts: int = Field(description="Distinct labels of these units.")
    source: str = Field(description="The image, or the folder of the data set.")
    images: int
    covered: float = Field(description="Share of all pixels on which a detector is active.")
    same_images: bool = Field(
        description="Whether the labels of the units were chosen on these images: their IoU is then too large."
    )
    miou: tuple[MeanIoU, ...] = Field((), description="Mean IoU with the labels; empty: there are no labels.")


@dataclass(frozen=True, repr=False)
class ComposedSegmentation:
    """Segmentations composed from the detectors of a layer.

    Attributes
    ----------
    folder
        Where they are.
    summary
        What was composed, and the mean IoU.
    legend
        label_id, concept, category, units (of its detectors, separated by spaces): the concepts of the label maps.
    images
        image_index, image, label_map (its file below ``label_maps``), height, width, covered (share of the pixels on
        which a detector is active).
    concepts
        label_id (null: the run does not have the concept), concept, category, detectors (number), intersection,
        segment_pixels (of images annotated in the category), label_pixels, iou, iou_ci_low, iou_ci_high; empty: there
        are no labels.
    """

    folder: Path
    summary: SegmentationSummary
    legend: pl.DataFrame
    images: pl.DataFrame
    concepts: pl.DataFrame

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Read finished segmentations.

        Raises
        ------
        ResultError
            If the folder holds none, or damaged ones.
        """
        folder = Path(folder)
        try:
            summary = SegmentationSummary.model_validate_json((folder / SUMMARY).read_bytes())
            frames = {
                name: plain_frame(pl.read_csv(folder / f"{name}.csv", schema=dict(schema)))
                for name, schema in TABLES.items()
            }
        except (OSError, ValueError, ValidationError, pl.exceptions.PolarsError) as error:
            raise ResultError(
                f"{folder} holds no finished segmentations ({type(error).__name__}: {error}). Expected the folder that "
                "'netdissect segment' wrote with --out; run it again with another one."
            ) from error
        return cls(folder, summary, **frames)

    def save(self) -> None:
        """Write the tables, and the summary last.

        Raises
        ------
        ResultError
            If the folder cannot be written.
        """
        with writing(self.folder, REMEDY):
            for name, schema in TABLES.items():
                frame: pl.DataFrame = getattr(self, name)
                write_whole(self.folder / f"{name}.csv", escaped_frame(frame.select(list(schema))).write_csv)
            text = self.summary.model_dump_json(indent=2).encode()
            write_whole(self.folder / SUMMARY, lambda file: file.write(text))

    def label_map(self, image_index: int) -> npt.NDArray[np.int32]:
        """Read the segmentation of one image, int32 (height, width): label ids of `legend`; 0: no detector is active.

        Raises
        ------
        ResultError
            If there is no such image.
        """
        rows = self.images.filter(image_index=image_index).select("label_map", "height", "width").rows()
        if not rows:
            raise ResultError(
                f"there is no image {image_index}: {self.folder} holds {len(self.images):,} segmented images, from 0."
            )
        name, height, width = rows[0]
        path = contained(self.folder / LABEL_MAPS, name, self.folder / "images.csv", ResultError)
        return read_label_map(path, Size(height, width))

    def __repr__(self) -> str:
        """Return what was composed, and the mean IoU of the detectors."""
        summary = self.summary
        first = (
            f"{summary.images:,} images of {summary.source}, segmented by {summary.detectors} units of {summary.layer}"
        )
        means = [f"mean IoU of {each.number} {each.concepts} concepts: {each.miou:.3f}" for each in summary.miou
                 if each.segments == "detectors"]  # fmt: skip
        return "\n".join([first, *means])
