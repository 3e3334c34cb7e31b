"""What follows the two looks: how sure the labels are.

    Looked (what both looks left of one layer) -> a frame of each measurement -> tables of `netdissect.result.evidence`

Each measurement is a function of `Looked` that returns a frame with a table's key columns; `evidence_of` joins them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig
from netdissect.dissect.beside import Beside, counts_beside, scores_beside
from netdissect.dissect.chance import Chance, counts_by_chance, units_by_chance
from netdissect.dissect.collect import Found
from netdissect.dissect.image_files import LayerImages
from netdissect.result.evidence import COUNTS, SCORES, UNITS, complete
from netdissect.score import Tally, Truth

SCHEMAS = {"units": UNITS, "scores": SCORES, "counts": COUNTS}
KEYS = {
    "units": ["quantile", "unit"],
    "scores": ["quantile", "unit", "number"],
    "counts": ["quantile", "rule", "category"],
}


@dataclass(frozen=True)
class Looked:
    """What both looks left of one layer.

    Attributes
    ----------
    config
        What to measure.
    data
        The data set.
    found
        Thresholds and top images.
    tally
        Counts at `DissectConfig.quantiles`: the protocol's first.
    truth
        Pixels and images of each label.
    images
        Labels and masks image by image, at the protocol's quantiles; no files unless `Evidence.needs_images`.
    min_iou
        From which IoU on a unit is a detector.
    chance
        What chance gives in this layer; None: not asked for.
    beside
        What its activations say beside IoU; None: not asked for.
    """

    config: DissectConfig
    data: ConceptData
    found: Found
    tally: Tally
    truth: Truth
    images: LayerImages
    min_iou: float
    chance: Chance | None
    beside: Beside | None


def evidence_of(looked: Looked) -> dict[str, pl.LazyFrame]:
    """Make the tables of evidence of one layer: none unless something was asked for."""
    parts: dict[str, list[pl.DataFrame]] = {name: [] for name in KEYS}
    if looked.chance is not None:
        parts["units"].append(units_by_chance(looked.chance))
        parts["counts"].append(counts_by_chance(looked.chance, looked.min_iou))
    if looked.beside is not None:
        parts["scores"].append(_beside(looked, looked.beside))
    return {name: _joined(name, frames).lazy() for name, frames in parts.items() if frames}


def _beside(looked: Looked, beside: Beside) -> pl.DataFrame:
    quantiles = looked.config.protocol.quantiles
    counted = counts_beside(looked.data, looked.tally.first(len(quantiles)), looked.truth, quantiles)
    return counted.join(scores_beside(looked.data, beside), on=["unit", "number"], how="left")


def _joined(name: str, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = reduce(lambda left, right: left.join(right, on=KEYS[name], how="full", coalesce=True), frames)
    return complete(whole, SCHEMAS[name]).sort(KEYS[name], maintain_order=True)
