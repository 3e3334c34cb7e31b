"""Tables of evidence beside IoU: which there are, and what their columns are called.

A run holds, for each layer, those that it was asked for; a column that was not asked for is null. Whoever reads
them, reads `LayerResult.evidence`; whoever measures, makes frames with the key columns of a table and joins them.

    units        of each quantile and unit: how sure its label is
    scores       of each quantile, unit and one of its ten leading concepts
    counts       of each quantile, rule and category: detectors with intervals
    replicates   the same counts in each replicate of the bootstrap: two runs are paired by their difference
    sensitivity  detectors as a function of quantile and IoU
    images       pixels of masks and intersections, image by image, for leading concepts; number 0: a mask without any
    labels       pixels of labels, image by image
    histogram    how the activations of each unit are distributed over all places, bin by bin (every run has it)
    firing_map   in how many images each cell of a unit's map is above its first threshold (every run has it)
"""

from collections.abc import Mapping

import polars as pl

from netdissect.scoring.metrics import METRICS

Schema = Mapping[str, type[pl.DataType]]

UNITS: Schema = {
    "quantile": pl.Float64,
    "unit": pl.Int32,
    "label": pl.String,
    "category": pl.String,
    "iou": pl.Float64,
    "iou_ci_low": pl.Float64,  # 95 % interval of the label's IoU
    "iou_ci_high": pl.Float64,
    "stability": pl.Float64,  # share of replicates in which the unit has this label
    "selection_iou": pl.Float64,  # of the label chosen on one part of the images, there
    "heldout_iou": pl.Float64,  # and on the held-out part
    "p_value": pl.Float64,
    "q_value_bh": pl.Float64,
    "q_value_by": pl.Float64,
    "null_iou_p95": pl.Float64,
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
    "null_unique_detectors": pl.Float64,
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
    "mask_pixels": pl.UInt32,  # pixels of the whole mask on this image
}
HISTOGRAM: Schema = {
    "unit": pl.Int32,
    "bin_low": pl.Float64,  # the bin holds magnitudes from the end nearer to zero on; both 0: the bin of zeros
    "bin_high": pl.Float64,
    "count": pl.Int64,
}
FIRING_MAP: Schema = {
    "unit": pl.Int32,
    "y": pl.Int32,
    "x": pl.Int32,
    "count": pl.Int64,
}
LABELS: Schema = {
    "image_index": pl.UInt32,
    "label_id": pl.UInt32,
    "pixels": pl.UInt32,
}


def complete(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Bring a frame to a table's columns: their order and types, null where nothing was measured."""
    present = set(frame.columns)
    return frame.select(
        pl.col(name).cast(kind) if name in present else pl.lit(None, dtype=kind).alias(name)
        for name, kind in schema.items()
    )
