"""What a run knows of its units and concepts: pixels of masks and concepts, and activations and labels of images."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.evaluation.evaluate_config import ACTIVE_SHARE
from netdissect.evaluation.image_scores import ImageLevel
from netdissect.result import Result, concept_shares, image_means
from netdissect.scoring.statistics.holdout import is_held_out

Ints = npt.NDArray[np.int64]

MEANS = "image_means"


def has_image_means(result: Result) -> bool:
    """Tell whether a run kept the mean activation of each unit on each image, in all layers."""
    return all(MEANS in layer.statistics for layer in result.layers.values())


def layer_images(result: Result, layer: str, active_share: float = ACTIVE_SHARE) -> ImageLevel:
    """Read the activations and labels of the images of a layer.

    Raises
    ------
    ResultError
        If the run did not keep them.
    """
    chosen = result.info.config.statistics
    held_out = is_held_out(chosen.stats_seed, np.arange(result.info.data.images), chosen.holdout_share)
    return ImageLevel(image_means(result, layer), concept_shares(result, layer), held_out, active_share)


def pixel_scores(result: Result, layer: str, quantile: float) -> pl.LazyFrame:
    """Return the pixels and scores of each unit and concept of a layer: unit, concept, pixels_iou, pixels_f1."""
    scores = result.layer(layer).lazy_scores.filter(pl.col("quantile") == quantile)
    return scores.select(
        "unit", pl.col("concept").cast(pl.String), pl.col("iou").alias("pixels_iou"), pl.col("f1").alias("pixels_f1")
    )


class PairPixels(NamedTuple):
    """Pixels of P pairs of a unit and a concept, int64 (P,) each.

    Attributes
    ----------
    intersection, mask, concept
        Of both, of the mask, and of the concept.
    counted
        Of all images that count for the concept.
    """

    intersection: Ints
    mask: Ints
    concept: Ints
    counted: Ints


def best_counts(result: Result, layer: str, quantile: float) -> PairPixels:
    """Return the pixels of each unit and the concept of its highest IoU; units that intersect none are left out."""
    best = (
        result.layer(layer)
        .lazy_scores.filter(pl.col("quantile") == quantile, pl.col("iou") > 0)
        .sort("iou", "label_id", descending=[True, False])
        .group_by("unit", maintain_order=True)
        .first()
        .sort("unit")
        .collect()
    )
    pixels = counted_pixels(result)
    both, mask, concept = (
        best[name].to_numpy().astype(np.int64) for name in ("intersection", "mask_pixels", "concept_pixels")
    )
    return PairPixels(both, mask, concept, best["label_id"].replace_strict(pixels, return_dtype=pl.Int64).to_numpy())


def concept_counts(result: Result) -> PairPixels:
    """Return the pixels of perfect units, whose masks are the concepts; a concept without a pixel has none."""
    counted = counted_pixels(result)
    concept = result.concepts.filter(pl.col("label_id").is_in(list(counted)))["concept_pixels"]
    pixels = concept.to_numpy().astype(np.int64)
    return PairPixels(pixels, pixels, pixels, np.array(list(counted.values()), np.int64))


def counted_pixels(result: Result) -> dict[int, int]:
    """Return the pixels of the images that count for each concept with a pixel, by label id."""
    table = result.concepts.filter(pl.col("concept_pixels") > 0)
    pixels = (table["concept_pixels"] / table["pixel_share"]).round().cast(pl.Int64)
    return dict(zip(table["label_id"], pixels, strict=True))
