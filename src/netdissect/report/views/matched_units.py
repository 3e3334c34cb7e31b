"""Units of two runs on the same images, matched by their activations.

matched_units(left, left_layer, right, right_layer)    the best match of each unit
matching_view(left tables, right tables)               the best pairs with their top images, for a page
run_matchings(runs)                                    views of the layers that the first run shares with each other
"""

from collections.abc import Sequence
from dataclasses import dataclass

from netdissect.errors import ResultError
from netdissect.plots.matching.unit_matching import match_units
from netdissect.report.layer_tables import LayerTables, NumberedRun
from netdissect.report.views.unit_views import UnitView, unit_view

PAIRS, REPORT_PAIRS, PAIR_IMAGES = 48, 12, 4
"""Pairs of two layers that are shown in the explorer and in a written report, and images of each unit."""


@dataclass(frozen=True)
class UnitPairView:
    """A unit of one run and its best match in another, with their top images."""

    left: UnitView
    right: UnitView
    correlation: float
    mutual: bool


@dataclass(frozen=True)
class MatchingView:
    """Matched units of two layers.

    Attributes
    ----------
    left, right
        Their layers.
    pairs
        Those of highest correlation.
    matched, mutual
        Units of the left layer with a match, and those that are also the best match of theirs.
    units
        Units of the left layer.
    images
        Number of images over which activations are correlated.
    """

    left: LayerTables
    right: LayerTables
    pairs: tuple[UnitPairView, ...]
    matched: int
    mutual: int
    units: int
    images: int


@dataclass(frozen=True)
class RunMatching:
    """Matched units of the layers that two runs share; virtual layers are left out.

    Attributes
    ----------
    left, right
        The runs.
    layers
        The view of each layer.
    problem
        Why there are none; empty: there are.
    """

    left: NumberedRun
    right: NumberedRun
    layers: tuple[MatchingView, ...]
    problem: str = ""


def run_matchings(runs: Sequence[NumberedRun]) -> list[RunMatching]:
    """Match units of the layers that the first run shares with each other one."""
    first, *others = runs
    return [_run_matching(first, run) for run in others]


def _run_matching(left: NumberedRun, right: NumberedRun) -> RunMatching:
    if left.result.info.data.digest != right.result.info.data.digest:
        problem = "the runs used different images. Units are matched by their activations on the same images."
        return RunMatching(left, right, (), problem)
    others = list(right.result.layers)
    shared = [
        (LayerTables(left, index), LayerTables(right, others.index(name)))
        for index, (name, layer) in enumerate(left.result.layers.items())
        if name in others and layer.info.basis_of is None
    ]
    if not shared:
        return RunMatching(left, right, (), "the runs have no layer of the same name.")
    try:
        return RunMatching(left, right, tuple(matching_view(*pair, REPORT_PAIRS) for pair in shared))
    except ResultError as error:
        return RunMatching(left, right, (), str(error))


def matching_view(left: LayerTables, right: LayerTables, pairs: int = PAIRS) -> MatchingView:
    """Return the view of two layers, given with any units, with at most `pairs` of their pairs.

    Raises
    ------
    ResultError
        As `netdissect.plots.matching.unit_matching.match_units`.
    """
    found = match_units(left.run.result, left.name, right.run.result, right.name)
    shown = found.pairs[:pairs]
    left = LayerTables(left.run, left.index, chosen=[pair.left_unit for pair in shown])
    right = LayerTables(right.run, right.index, chosen=sorted({pair.right_unit for pair in shown}))
    views = tuple(
        UnitPairView(
            unit_view(left, pair.left_unit, PAIR_IMAGES), unit_view(right, pair.right_unit, PAIR_IMAGES),
            pair.correlation, pair.mutual,
        )
        for pair in shown
    )  # fmt: skip
    mutual = sum(pair.mutual for pair in found.pairs)
    return MatchingView(left, right, views, len(found.pairs), mutual, left.info.units, found.images)
