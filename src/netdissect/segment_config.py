"""What `netdissect segment` composes, and what is measured of it, as data: options and keywords are made from it."""

from typing import Annotated, Literal

from pydantic import Field

from netdissect.config import OneOrMore, Split
from netdissect.config_fields import Config, Option


class SegmentConfig(Config):
    """Which detectors segment which images, and what is measured and drawn of the segments."""

    layer: Annotated[str | None, Option("--layer")] = Field(
        None, description="A layer of the run. None: the one with the most unique detectors."
    )
    quantile: float | None = Field(
        None, description="Of labels and masks: one of the run's quantiles. None: its first."
    )
    categories: Annotated[tuple[str, ...] | None, OneOrMore] = Field(
        None, description="Only detectors and labels of these categories of concepts. None: all."
    )
    split: Split | None = Field(None, description="Only this split of a data set. None: both.")
    max_images: int | None = Field(
        None,
        gt=0,
        description="Segment this many images: of a data set drawn at random, of a folder the first. None: all.",
    )
    sample_seed: int = Field(0, ge=0, description="Seed of the draw of the images.")
    bootstrap: int = Field(
        1000, ge=0, le=100_000, description="Replicates of the bootstrap over images, for intervals. 0: no intervals."
    )
    stats_seed: int = Field(0, ge=0, description="Seed of the replicates, and of the shuffled labels.")
    figures: int = Field(
        12, ge=0, description="Images that are drawn with their segments, at most: evenly spread over a data set."
    )
    figure_format: Literal["png", "svg", "pdf"] = Field("png", description="Format of these figures.")
