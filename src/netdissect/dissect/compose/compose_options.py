"""Options of formulas for type checkers and editors. Written by ``docs/generate.py``: do not edit."""

from collections.abc import Sequence
from typing import Literal, TypedDict


class ComposeOptions(TypedDict, total=False):
    """Keywords of `netdissect.compose`."""

    layer: str | Sequence[str] | None
    """Only these layers of the run; None: all."""

    unit: int | Sequence[int] | None
    """Only these units of each layer; None: all. q-values are over the units of a layer."""

    quantile: float | None
    """One of the run's quantiles; None: its first."""

    ranges: str | None
    """kmeans:K: a formula for each of 2 to 99 ranges of activation of a unit, its clusters, in place of its masks, as
    in La Rosa et al. (2023); one more pass through the network."""

    length: int
    """Most concepts of a formula; from 4 on its IoU has a bound only."""

    operators: Literal["or", "and", "and-not"] | Sequence[Literal["or", "and", "and-not"]]
    """Operators between the concepts of a formula: ((a op b) op c)."""

    search: Literal["optimal", "beam"]
    """optimal: the formula of the largest IoU, proven. beam: the beam search of Mu and Andreas (2020)."""

    beam: int
    """Formulas that the beam keeps after each step."""

    restriction: Literal["none", "annotated"]
    """Images that count: all (none), or those annotated in every category that the formula names, negated concepts
    included."""

    time_limit: float | None
    """Seconds for the search of one unit; then the best formula so far and an upper bound are given. None: until it is
    proven. 0: the best single concept and its bound."""

    holdout: float | None
    """Share of the images on which formula and single concept, chosen on the others, are scored for the gain; None: the
    gain is that on all images, which favors the formula."""

    bootstrap: int
    """Replicates of the bootstrap over images, for intervals and p-values."""

    permutations: int
    """Permutations of the images in which the same search is repeated for at most 32 units of each layer: how large IoU
    and gain are under the null."""

    stats_seed: int
    """Seed of the draw of held-out images, replicates and permutations."""

    workers: int | None
    """Threads, each of which searches one unit at a time. None: all cores of this process."""
