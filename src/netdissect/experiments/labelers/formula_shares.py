"""Formulas of the units of one layer, as predictions of their mean activation: the share of the pixels they cover."""

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.experiments.labelers.simulations import SimulatedImages, Simulation
from netdissect.result.formulas.formula_result import Formulas
from netdissect.scoring.formulas.formula import Formula
from netdissect.scoring.formulas.image_rows import ImageRows

Floats = npt.NDArray[np.float64]


def formula_labels(images: SimulatedImages, formulas: Formulas, rows: ImageRows) -> Simulation:
    """Simulate each unit by the formula that was chosen on the selection half.

    Parameters
    ----------
    images
        Of the layer.
    formulas
        Of its units, with the same selection half.
    rows
        Label sets of the images.
    """
    count, units = images.activations.shape
    texts: list[str | None] = [None] * units
    concepts, predicted = [frozenset[str]()] * units, np.zeros((count, units))
    pixels = np.bincount(rows.image_index, rows.pixels, count)
    names = dict(images.result.concepts.select("label_id", pl.col("concept").cast(pl.String)).rows())
    chosen = formulas.units.filter(pl.col("layer") == images.layer, pl.col("selected_formula").is_not_null())
    for row in chosen.iter_rows(named=True):
        formula = Formula(tuple(row["selected_label_ids"]), tuple(row["selected_operators"]))
        unit, covered = row["unit"], formula.covers(rows.table)
        texts[unit] = row["selected_formula"]
        if set(formula.operators) <= {"or"}:
            concepts[unit] = frozenset(names[label_id] for label_id in formula.label_ids)
        predicted[:, unit] = rows.pixels_by_image(covered, count) / pixels
    return Simulation(texts, concepts, predicted)
