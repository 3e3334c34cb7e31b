"""What follows the two looks: how sure the labels are.

    Looked (what both looks left of one layer) -> a frame of each measurement -> tables of `netdissect.result.evidence`

Each measurement is a function of `Looked` that returns a frame with a table's key columns; `evidence_of` joins them.
"""

from dataclasses import dataclass

import polars as pl

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig
from netdissect.dissect.collect import Found
from netdissect.dissect.image_files import LayerImages
from netdissect.score import Tally, Truth


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
    """

    config: DissectConfig
    data: ConceptData
    found: Found
    tally: Tally
    truth: Truth
    images: LayerImages


def evidence_of(looked: Looked) -> dict[str, pl.LazyFrame]:
    """Make the tables of evidence of one layer: none unless something was asked for."""
    del looked
    return {}
