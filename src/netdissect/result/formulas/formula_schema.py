"""The tables of formulas below RUN/formulas, and their columns.

label_sets        each label set and combination of annotated categories, with its pixels in all images
image_label_sets  the pixels of each of these rows on each image
mask_rows         the active pixels of each unit of one layer by row and image
ranges            the ranges of activation of each unit of one layer, where they take the place of masks
formulas          the formula of each unit, with its statistics
range_formulas    the formula of each range of activation of each unit, with its statistics
permuted          the best formula of drawn units in each permutation of the images
"""

from collections.abc import Mapping

import polars as pl

Schema = Mapping[str, pl.DataType]

LABEL_SETS: Schema = {
    "row": pl.UInt32(),
    "label_ids": pl.List(pl.Int32()),
    "annotated": pl.List(pl.String()),
    "pixels": pl.Int64(),
}
IMAGE_LABEL_SETS: Schema = {
    "image_index": pl.UInt32(),
    "row": pl.UInt32(),
    "pixels": pl.UInt32(),
}
MASK_ROWS: Schema = {
    "unit": pl.UInt32(),
    "image_index": pl.UInt32(),
    "row": pl.UInt32(),
    "active": pl.UInt32(),
}
RANGES: Schema = {
    "unit": pl.Int32(),
    "range": pl.Int32(),
    "range_low": pl.Float64(),
    "range_high": pl.Float64(),
}
FORMULAS: Schema = {
    "layer": pl.String(),
    "quantile": pl.Float64(),
    "unit": pl.Int32(),
    "formula": pl.String(),
    "iou": pl.Float64(),
    "iou_ci_low": pl.Float64(),
    "iou_ci_high": pl.Float64(),
    "optimal": pl.Boolean(),
    "iou_upper_bound": pl.Float64(),
    "length": pl.Int32(),
    "label_ids": pl.List(pl.Int32()),
    "operators": pl.List(pl.String()),
    "concept": pl.String(),
    "concept_iou": pl.Float64(),
    "run_label": pl.String(),
    "run_iou": pl.Float64(),
    "selected_formula": pl.String(),
    "selected_length": pl.Int32(),
    "selected_label_ids": pl.List(pl.Int32()),
    "selected_operators": pl.List(pl.String()),
    "selection_iou": pl.Float64(),
    "heldout_iou": pl.Float64(),
    "selected_concept": pl.String(),
    "heldout_concept_iou": pl.Float64(),
    "gain": pl.Float64(),
    "gain_ci_low": pl.Float64(),
    "gain_ci_high": pl.Float64(),
    "p_value": pl.Float64(),
    "q_value": pl.Float64(),
    "gain_established": pl.Boolean(),
    "mask_pixels": pl.Int64(),
    "seconds": pl.Float64(),
}
RANGE_FORMULAS: Schema = {**{name: FORMULAS[name] for name in ("layer", "quantile")}, **RANGES, **FORMULAS}
PERMUTED: Schema = {
    "layer": pl.String(),
    "quantile": pl.Float64(),
    "unit": pl.Int32(),
    "permutation": pl.Int32(),
    "iou": pl.Float64(),
    "concept_iou": pl.Float64(),
}
