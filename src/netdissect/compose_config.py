"""What `netdissect compose` searches and measures, as data: options, keywords and files are made from these fields."""

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from netdissect.config import Fraction, OneOrMore
from netdissect.config_fields import Config, Option
from netdissect.process.cores import available_cores

Operator = Literal["or", "and", "and-not"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)


def _clusters(value: str | None) -> str | None:
    """Refuse what does not name 2 to 99 clusters."""
    if value is not None and not re.fullmatch(r"kmeans:([2-9]|[1-9]\d)", value, re.ASCII):
        raise ValueError("expected kmeans:K with K from 2 to 99, such as kmeans:5")
    return value


class ComposeConfig(Config):
    """Which formulas are searched for which units, and what is measured of them."""

    layers: Annotated[tuple[str, ...] | None, OneOrMore, Option("--layer")] = Field(
        None, description="Only these layers of the run; None: all."
    )
    units: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, OneOrMore, Option("--unit")] = Field(
        None, description="Only these units of each layer; None: all. q-values are over the units of a layer."
    )
    quantile: float | None = Field(None, description="One of the run's quantiles; None: its first.")
    ranges: Annotated[str | None, AfterValidator(_clusters)] = Field(
        None,
        description=(
            "kmeans:K: a formula for each of 2 to 99 ranges of activation of a unit, its clusters, in place of its "
            "masks, as in La Rosa et al. (2023); one more pass through the network."
        ),
    )
    length: int = Field(3, ge=1, le=5, description="Most concepts of a formula; from 4 on its IoU has a bound only.")
    operators: Annotated[tuple[Operator, ...], OneOrMore] = Field(
        OPERATORS, min_length=1, description="Operators between the concepts of a formula: ((a op b) op c)."
    )
    search: Literal["optimal", "beam"] = Field(
        "optimal",
        description="optimal: the formula of the largest IoU, proven. beam: the beam search of Mu and Andreas (2020).",
    )
    beam: int = Field(5, ge=1, le=1000, description="Formulas that the beam keeps after each step.")
    restriction: Literal["none", "annotated"] = Field(
        "none",
        description=(
            "Images that count: all (none), or those annotated in every category that the formula names, negated "
            "concepts included."
        ),
    )
    time_limit: float | None = Field(
        None,
        ge=0,
        description=(
            "Seconds for the search of one unit; then the best formula so far and an upper bound are given. None: "
            "until it is proven. 0: the best single concept and its bound."
        ),
    )
    holdout: Fraction | None = Field(
        0.5,
        description=(
            "Share of the images on which formula and single concept, chosen on the others, are scored for the gain; "
            "None: the gain is that on all images, which favors the formula."
        ),
    )
    bootstrap: int = Field(
        10_000, ge=0, le=100_000, description="Replicates of the bootstrap over images, for intervals and p-values."
    )
    permutations: int = Field(
        0,
        ge=0,
        le=10_000,
        description=(
            "Permutations of the images in which the same search is repeated for at most 32 units of each layer: how "
            "large IoU and gain are under the null."
        ),
    )
    stats_seed: int = Field(0, ge=0, description="Seed of the draw of held-out images, replicates and permutations.")
    workers: int | None = Field(
        None,
        gt=0,
        description="Threads, each of which searches one unit at a time. None: all cores of this process.",
    )

    @property
    def threads(self) -> int:
        """Number of threads."""
        return self.workers or available_cores()

    @property
    def search_inputs(self) -> dict[str, object]:
        """What the result of one unit depends on, apart from run, layer and unit."""
        without = {"layers", "units", "quantile", "workers"} | (set() if self.ranges else {"ranges"})
        return self.model_dump(mode="json", exclude=without)

    @property
    def clusters(self) -> int | None:
        """Ranges of activation of each unit; None: its masks are explained."""
        return int(self.ranges.partition(":")[2]) if self.ranges else None

    @model_validator(mode="after")
    def _no_null_of_ranges(self) -> Self:
        if self.ranges and self.permutations:
            raise ValueError("formulas of ranges have no permutations yet: leave out one of ranges and permutations")
        return self
