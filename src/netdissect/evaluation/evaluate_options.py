"""Options of scores of labels for type checkers and editors. Written by ``docs/generate.py``: do not edit."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict


class EvaluateOptions(TypedDict, total=False):
    """Keywords of `netdissect.evaluate` and `netdissect.sanity_checks`."""

    layer: str | Sequence[str] | None
    """Only these layers of the run, also if the files label others; None: all."""

    mapping: str | Path | None
    """CSV table with the columns label and concept: the concept of a label, before any name is compared. An empty
    concept: the label is none of the run's. None: labels are matched by name, synonym and spelling."""

    cosy: str | Path | None
    """Folder that holds a folder of images for each label, on which the network is run: CoSy. None: not measured."""

    quantile: float | None
    """Of the masks, for the metrics on pixels: one of the run's; None: its first."""

    active_share: float
    """Share of the images on which a unit counts as active, for IoU, F1 and average precision on images: those of its
    largest mean activations."""

    replicates: int
    """Replicates of the bootstrap over units, for intervals."""
