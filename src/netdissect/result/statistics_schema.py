"""The tables of statistics of a layer, and their columns.

A run holds the tables that its configuration requested, in `LayerResult.statistics`; columns that were not requested
are null. `netdissect.dissect.statistics` makes them.

    units        each quantile and unit: confidence interval and stability of its label, held-out IoU, p- and q-values
    scores       each quantile, unit and one of its ten leading concepts: confidence interval and extra metrics
    counts       each quantile, rule and category: detectors with confidence intervals and their mean under the null
    null_counts  the same counts in each permutation; differences of two runs are paired by permutation
    replicates   the same counts in each bootstrap replicate; differences of two runs are paired by replicate
    sensitivity  detectors as a function of quantile and IoU
    images       per image: pixels of masks and intersections of leading concepts; label_id 0: a mask without any
    labels       per image: pixels of each label
    masks        per image: the pixels of each mask, as runs of neighboring pixels of one row
    error_images false positives and false negatives of each unit, with the scored mask
    histogram    distribution of the activations of each unit over all cells, bin by bin (in every run)
    firing_map   number of images on which each cell of a unit is above its first threshold (in every run)
    activation_range   images over the range of each unit's activation, with their maps (in every run)
    image_maxima       largest activation of each unit in a sample of the images (in every run)
    image_means        mean activation of each unit on every image
    linear_explanations   each unit and concept of its linear explanation
    iqr                threshold and label of the highest information quality ratio of each unit that has one
    moments            each unit, concept with masks and half: sums over cells, from which their correlation follows
"""

from collections.abc import Mapping

import polars as pl

from netdissect.scoring.metrics import METRICS

Schema = Mapping[str, type[pl.DataType] | pl.DataType]

UNITS: Schema = {
    "quantile": pl.Float64,
    "unit": pl.Int32,
    "label": pl.String,
    "category": pl.String,
    "iou": pl.Float64,
    "iou_ci_low": pl.Float64,  # 95 % confidence interval of the IoU of the label
    "iou_ci_high": pl.Float64,
    "stability": pl.Float64,  # share of replicates in which the unit has this label
    "selection_iou": pl.Float64,  # of the label chosen without the held-out images, on the other images
    "heldout_iou": pl.Float64,  # on the held-out images
    "p_value": pl.Float64,
    "q_value_bh": pl.Float64,
    "q_value_by": pl.Float64,
    "null_iou_p95": pl.Float64,
    "label_correlation": pl.Float64,  # of mean activation and share of the label chosen without the held-out images
    "label_r2": pl.Float64,  # of the line from this share, on the held-out images
    "linear_correlation": pl.Float64,  # of mean activation and linear explanation, on the held-out images
    "linear_r2": pl.Float64,
}
SCORES: Schema = {
    "quantile": pl.Float64,
    "unit": pl.Int32,
    "rank": pl.Int32,
    "label_id": pl.Int32,
    "concept": pl.String,
    "category": pl.String,
    "iou": pl.Float64,
    "iou_ci_low": pl.Float64,
    "iou_ci_high": pl.Float64,
    **{metric.name: pl.Float64 for metric in METRICS},
}
COUNTS: Schema = {
    "quantile": pl.Float64,
    "rule": pl.String,
    "category": pl.String,  # or "total"
    "detectors": pl.Int64,
    "detectors_ci_low": pl.Float64,
    "detectors_ci_high": pl.Float64,
    "unique_detectors": pl.Int64,
    "unique_detectors_ci_low": pl.Float64,
    "unique_detectors_ci_high": pl.Float64,
    "null_detectors": pl.Float64,
    "null_detectors_se": pl.Float64,
    "null_unique_detectors": pl.Float64,
    "null_unique_detectors_se": pl.Float64,
}
NULL_COUNTS: Schema = {
    "quantile": pl.Float64,
    "rule": pl.String,
    "category": pl.String,
    "permutation": pl.Int32,
    "detectors": pl.Int32,
    "unique_detectors": pl.Int32,
}
REPLICATES: Schema = {
    "quantile": pl.Float64,
    "rule": pl.String,
    "category": pl.String,
    "replicate": pl.Int32,
    "detectors": pl.Int32,
    "unique_detectors": pl.Int32,
}
SENSITIVITY: Schema = {
    "quantile": pl.Float64,
    "min_iou": pl.Float64,
    "rule": pl.String,
    "category": pl.String,
    "detectors": pl.Int64,
    "unique_detectors": pl.Int64,
}
IMAGES: Schema = {
    "image_index": pl.UInt32,  # of the run's images, in index order
    "quantile": pl.Float64,
    "unit": pl.UInt32,
    "label_id": pl.UInt32,
    "intersection": pl.UInt32,
    "mask_pixels": pl.UInt32,  # pixels of the mask on this image
}
MASKS: Schema = {
    "image_index": pl.UInt32,
    "quantile": pl.Float64,
    "unit": pl.UInt32,
    "start": pl.UInt32,  # y * width + x of the first pixel
    "length": pl.UInt32,  # pixels of the run
}
HISTOGRAM: Schema = {
    "unit": pl.Int32,
    "bin_low": pl.Float64,  # the end nearer to zero belongs to the bin; both 0: the bin of zeros
    "bin_high": pl.Float64,
    "count": pl.Int64,
}
FIRING_MAP: Schema = {
    "unit": pl.Int32,
    "y": pl.Int32,
    "x": pl.Int32,
    "count": pl.Int64,
}
ACTIVATION_RANGE: Schema = {
    "unit": pl.Int32,
    "percentile": pl.Float64,  # of the image maxima of the unit; null: images at random
    "rank": pl.Int32,  # within the percentile: descending maximum; or of the images at random, in index order
    "image_index": pl.Int64,
    "image": pl.String,
    "max_activation": pl.Float32,
    "label_height": pl.Int32,  # pixels of the label maps of the image
    "label_width": pl.Int32,
    "cells": pl.List(pl.UInt32),  # of the activation map, row by row: those on which masks depend
    "activations": pl.List(pl.Float32),  # of these cells; all others are below every threshold
}
IMAGE_MAXIMA: Schema = {
    "unit": pl.Int32,
    "image_index": pl.UInt32,
    "max_activation": pl.Float32,
}
IMAGE_MEANS: Schema = {
    "unit": pl.Int32,
    "mean_activation": pl.List(pl.Float32),  # over the cells of the map, of every image of the run in index order
}
MOMENTS: Schema = {
    "unit": pl.Int32,
    "label_id": pl.Int32,
    "half": pl.String,  # selection or heldout
    "cells": pl.Int64,  # of the images that are annotated in the category of the concept
    "sum_activation": pl.Float64,
    "sum_activation_squares": pl.Float64,
    "sum_share": pl.Float64,
    "sum_share_squares": pl.Float64,
    "sum_products": pl.Float64,
}
LINEAR_EXPLANATIONS: Schema = {
    "unit": pl.Int32,
    "rank": pl.Int32,  # order in which concepts were chosen
    "label_id": pl.Int32,
    "concept": pl.String,
    "category": pl.String,
    "weight": pl.Float64,  # activation for a share of 1
    "standardized_weight": pl.Float64,  # standard deviations of the activation for one of the share
    "intercept": pl.Float64,  # of the unit
    "selection_correlation": pl.Float64,  # of the fit of this concept and those before it
}
IQR: Schema = {
    "unit": pl.Int32,
    "label_id": pl.Int32,
    "label": pl.String,
    "category": pl.String,
    "quantile": pl.Float64,  # fraction of the unit's activations above the threshold
    "threshold": pl.Float32,
    "iqr": pl.Float64,
    "iou": pl.Float64,  # at this threshold
    "agreement": pl.Float64,  # share of the pixels that mask and label both have, or both have not
}
LABELS: Schema = {
    "image_index": pl.UInt32,
    "label_id": pl.UInt32,
    "pixels": pl.UInt32,
    "image_pixels": pl.UInt32,  # of the label maps of the image
}
ERROR_IMAGES: Schema = {
    "quantile": pl.Float64,
    "unit": pl.Int32,
    "type": pl.String,  # false positive or false negative
    "image_index": pl.UInt32,
    "pixels": pl.UInt32,  # of the mask; of a false negative, of the label
    "label_height": pl.Int32,
    "label_width": pl.Int32,
    "mask": pl.String,  # see netdissect.scoring.mask_runs.read_mask; empty: the unit is active nowhere
}

ROW_GROUPS: Mapping[str, int] = {"image_means": 16}
"""Rows of a row group in the file of a table whose rows are long: writer and reader hold a few groups in memory."""

TABLES: Mapping[str, Schema] = {
    "units": UNITS,
    "scores": SCORES,
    "counts": COUNTS,
    "null_counts": NULL_COUNTS,
    "replicates": REPLICATES,
    "sensitivity": SENSITIVITY,
    "images": IMAGES,
    "labels": LABELS,
    "masks": MASKS,
    "error_images": ERROR_IMAGES,
    "histogram": HISTOGRAM,
    "firing_map": FIRING_MAP,
    "activation_range": ACTIVATION_RANGE,
    "image_maxima": IMAGE_MAXIMA,
    "image_means": IMAGE_MEANS,
    "moments": MOMENTS,
    "linear_explanations": LINEAR_EXPLANATIONS,
    "iqr": IQR,
}


def complete(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Return a frame with the columns of a table in order and type; columns that were not measured are null.

    Raises
    ------
    ValueError
        If the frame has a column that the table does not have: a misspelled name must not become a column of nulls.
    """
    present = set(frame.columns)
    unknown = sorted(present - schema.keys())
    if unknown:
        raise ValueError(f"the columns {', '.join(unknown)} are not in the table, which has {', '.join(schema)}")
    return frame.select(
        pl.col(name).cast(dtype) if name in present else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in schema.items()
    )
