"""Linear explanations of the units of one layer, and the label of each unit measured by the same R2.

    labels of each image -> shares of concepts --+-> netdissect.scoring.statistics.linear_explanations
    mean activations of each image             --+-> table ``linear_explanations``, columns of the table ``units``

What is chosen or fitted is chosen or fitted on the selection half, and scored on the held-out images. All images count:
one that is not annotated in a category has share 0 of its concepts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy

from netdissect.activations.image_values import unit_blocks
from netdissect.dissect.statistics.layer_counts import BLOCK, LayerCounts, QuantileCounts
from netdissect.dissect.statistics.layer_moments import LayerMoments
from netdissect.result import statistics_schema as tables
from netdissect.scoring.statistics.holdout import is_held_out
from netdissect.scoring.statistics.linear_explanations import (
    LinearModels,
    ShareMoments,
    Terms,
    UnitMoments,
    fit,
    heldout_scores,
    select_terms,
    standardized_weights,
)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class _Half(NamedTuple):
    """The images of one half, their shares of concepts, and the moments of these."""

    images: Ints
    shares: "scipy.sparse.csr_array"
    moments: ShareMoments

    def units(self, means: npt.NDArray[np.float32]) -> UnitMoments:
        """Return the moments of units with mean activations of all images, float32 (U, N)."""
        return UnitMoments.of(self.shares, means[:, self.images])


def linear_tables(levels: Sequence[QuantileCounts], moments: LayerMoments) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Explain the units of one layer.

    Returns
    -------
    tuple of DataFrame
        Columns of the table ``units`` by quantile and unit; and the table ``linear_explanations``.
    """
    layer_counts = levels[0].layer
    label_ids = np.sort([concept.label_id for concept in layer_counts.data.concepts])
    selection, heldout = _halves(layer_counts, label_ids)
    labels = np.stack([_positions(label_ids, level.holdout.label_ids) for level in levels])
    units: list[pl.DataFrame] = []
    explanations: list[pl.DataFrame] = []
    for first, means in unit_blocks(moments.means):
        chosen, scored = selection.units(means), heldout.units(means)
        terms = select_terms(selection.moments, chosen)
        models = fit(selection.moments, chosen, terms.concepts)
        standardized = standardized_weights(models, selection.moments, chosen)
        explanations.append(_explanation_frame(layer_counts, label_ids, models, terms, standardized, first))
        linear = heldout_scores(models, heldout.moments, scored)
        for level, of_level in zip(levels, labels[:, first : first + len(means)], strict=True):
            concepts = of_level[:, None]
            line = heldout_scores(fit(selection.moments, chosen, concepts), heldout.moments, scored)
            share = LinearModels(concepts, (concepts >= 0).astype(np.float64), np.zeros(len(concepts)))
            columns = {
                "label_correlation": heldout_scores(share, heldout.moments, scored).correlations,
                "label_r2": np.where(of_level >= 0, line.r2, np.nan),
                "linear_correlation": linear.correlations,
                "linear_r2": linear.r2,
            }
            keys = {
                "quantile": np.full(len(means), level.quantile),
                "unit": np.arange(first, first + len(means), dtype=np.int32),
            }
            units.append(pl.DataFrame(keys | columns).with_columns(pl.col(*columns).fill_nan(None)))
    return pl.concat(units), pl.concat(explanations)


def _halves(layer_counts: LayerCounts, label_ids: Ints) -> tuple[_Half, _Half]:
    """Read the shares of the concepts of the selection half and of the held-out images."""
    statistics, images = layer_counts.statistics, np.arange(len(layer_counts.data))
    held_out = is_held_out(statistics.stats_seed, images, statistics.holdout_share)
    rows, columns, values = [], [], []
    for labels, _masks in layer_counts.per_image.blocks(BLOCK):
        concept = _positions(label_ids, labels.label_ids)
        known = concept >= 0
        rows.append(labels.image_index[known])
        columns.append(concept[known])
        values.append((labels.pixels / layer_counts.image_pixels[labels.image_index])[known])
    parts = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    shares = scipy.sparse.csr_array(parts, shape=(len(images), len(label_ids)))
    chosen = [images[~held_out], images[held_out]]
    first, second = (_Half(half, shares[half], ShareMoments.of(shares[half])) for half in chosen)
    return first, second


def _positions(label_ids: Ints, wanted: Ints) -> Ints:
    """Return the positions of label ids in rising `label_ids`; -1 for those that are not there."""
    position = np.searchsorted(label_ids, wanted)
    found = label_ids[np.minimum(position, len(label_ids) - 1)] == wanted
    return np.where(found, position, -1)


def _explanation_frame(
    layer_counts: LayerCounts, label_ids: Ints, models: LinearModels, terms: Terms, standardized: Floats, first: int
) -> pl.DataFrame:
    unit, rank = (terms.concepts >= 0).nonzero()
    of_terms = label_ids[terms.concepts[unit, rank]]
    concepts = [layer_counts.data.by_label_id[int(label_id)] for label_id in of_terms]
    frame = pl.DataFrame(
        {
            "unit": unit + first,
            "rank": rank,
            "label_id": of_terms,
            "concept": pl.Series([concept.name for concept in concepts], dtype=pl.String),
            "category": pl.Series([concept.category for concept in concepts], dtype=pl.String),
            "weight": models.weights[unit, rank],
            "standardized_weight": standardized[unit, rank],
            "intercept": models.intercepts[unit],
            "selection_correlation": terms.correlations[unit, rank],
        }
    )
    return tables.complete(frame, tables.LINEAR_EXPLANATIONS)
