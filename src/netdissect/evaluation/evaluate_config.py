"""What `netdissect evaluate` measures, as data: options, keywords and files are made from these fields."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from netdissect.config import Fraction, OneOrMore
from netdissect.config_fields import Config, Option

ACTIVE_SHARE = 0.005
REPLICATES = 10_000


class EvaluateConfig(Config):
    """Which labels of which layers are scored, and how."""

    layers: Annotated[tuple[str, ...] | None, OneOrMore, Option("--layer")] = Field(
        None, description="Only these layers of the run, also if the files label others; None: all."
    )
    mapping: Path | None = Field(
        None,
        description=(
            "CSV table with the columns label and concept: the concept of a label, before any name is compared. An "
            "empty concept: the label is none of the run's. None: labels are matched by name, synonym and spelling."
        ),
    )
    cosy: Path | None = Field(
        None,
        description=(
            "Folder that holds a folder of images for each label, on which the network is run: CoSy. None: not "
            "measured."
        ),
    )
    quantile: float | None = Field(
        None, description="Of the masks, for the metrics on pixels: one of the run's; None: its first."
    )
    active_share: Fraction = Field(
        ACTIVE_SHARE,
        description=(
            "Share of the images on which a unit counts as active, for IoU, F1 and average precision on images: those "
            "of its largest mean activations."
        ),
    )
    replicates: int = Field(
        REPLICATES, ge=100, le=100_000, description="Replicates of the bootstrap over units, for intervals."
    )
