"""Options of segmentations for type checkers and editors. Written by ``docs/generate.py``: do not edit."""

from collections.abc import Sequence
from typing import Literal, TypedDict


class SegmentOptions(TypedDict, total=False):
    """Keywords of `netdissect.segment`."""

    layer: str | None
    """A layer of the run. None: the one with the most unique detectors."""

    quantile: float | None
    """Of labels and masks: one of the run's quantiles. None: its first."""

    categories: str | Sequence[str] | None
    """Only detectors and labels of these categories of concepts. None: all."""

    split: Literal["train", "val"] | None
    """Only this split of a data set. None: both."""

    max_images: int | None
    """Segment this many images: of a data set drawn at random, of a folder the first. None: all."""

    sample_seed: int
    """Seed of the draw of the images."""

    bootstrap: int
    """Replicates of the bootstrap over images, for intervals. 0: no intervals."""

    stats_seed: int
    """Seed of the replicates, and of the shuffled labels."""

    figures: int
    """Images that are drawn with their segments, at most: evenly spread over a data set."""

    figure_format: Literal["png", "svg", "pdf"]
    """Format of these figures."""
