"""Compose label maps from the activation maps of one layer of a run."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import Size
from netdissect.errors import ConfigError, ResultError
from netdissect.plots.image_segmentation import Segmentation, detector_levels, detectors, segment_image
from netdissect.plots.outlines import MaskGrid
from netdissect.result import Result
from netdissect.result.queries import detected_concepts, run_min_iou, run_quantile
from netdissect.scoring.segmentation.most_active import NOWHERE, ActiveDetectors, most_active
from netdissect.segment_config import SegmentConfig

Maps = npt.NDArray[np.float32]
LabelIds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class DetectorComposer:
    """The detectors of one layer, which compose segmentations of any image.

    Attributes
    ----------
    layer, quantile
        Of the run.
    detectors
        unit, label, category, threshold, max_activation, label_id (of the run); by unit.
    masks
        How the run makes masks.
    units
        Units of the layer.
    """

    layer: str
    quantile: float
    detectors: pl.DataFrame
    masks: MaskGrid
    units: int

    @classmethod
    def of(cls, result: Result, config: SegmentConfig) -> Self:
        """Choose the detectors that a configuration names.

        Raises
        ------
        ResultError
            If the run has no such layer or quantile, or no detector.
        ConfigError
            If the run did not read a category.
        """
        quantile = run_quantile(result, config.quantile)
        for name in config.categories or ():
            if name not in result.info.data.categories:
                raise ConfigError(
                    f"the run has no category {name!r}; it has {', '.join(result.info.data.categories)}. Name one of "
                    "these."
                )
        layer = result.layer(_layer_of_most(result, quantile) if config.layer is None else config.layer)
        found = detectors(result, layer.info.name, quantile)
        if config.categories:
            found = found.filter(pl.col("category").is_in(config.categories))
        if found.is_empty():
            of = f" of {', '.join(config.categories)}" if config.categories else ""
            raise ResultError(
                f"the layer {layer.info.name} has no detector{of} at the quantile {quantile:g}, and segments are those "
                "of detectors. Name another layer (--layer), or repeat the run with a lower --min-iou."
            )
        ids = result.concepts.select(pl.col("concept").cast(pl.String).alias("label"), "label_id")
        found = found.join(ids, on="label", how="left", maintain_order="left")
        return cls(layer.info.name, quantile, found, MaskGrid.of(result.info, layer), layer.info.units)

    @property
    def legend(self) -> pl.DataFrame:
        """The concepts: label_id, concept, category, units (text); by label id."""
        units = pl.col("unit").cast(pl.String).str.join(" ").alias("units")
        grouped = self.detectors.group_by("label_id", pl.col("label").alias("concept"), "category").agg(units)
        return grouped.sort("label_id")

    def active(self, maps: Maps, label_size: Size | None) -> ActiveDetectors:
        """Find the most active detector of each pixel; maps float32 (U, h, w)."""
        return most_active(maps, detector_levels(self.detectors), self.masks.upsampler(label_size))

    def label_map(self, units: LabelIds) -> LabelIds:
        """Return the label id of each pixel, int32 (sh, sw), of the unit that decides it; 0: none."""
        label_of = np.zeros(self.units, np.int32)
        label_of[self.detectors["unit"].to_numpy()] = self.detectors["label_id"].to_numpy()
        return np.where(units == NOWHERE, 0, label_of[units])

    def segmentation(self, maps: Maps, label_size: Size | None) -> Segmentation:
        """Return segments with their outlines, for a figure."""
        return segment_image(maps, self.detectors, self.masks, label_size)


def _layer_of_most(result: Result, quantile: float) -> str:
    """Return the layer with the most unique detectors; of equals the later one."""
    counts = {
        name: detected_concepts(result, name, quantile, run_min_iou(result, name)).height for name in result.layers
    }
    return max(reversed(counts), key=counts.__getitem__)
