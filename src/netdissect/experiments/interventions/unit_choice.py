"""The units of an intervention, and the sets of other units with which they are compared."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.close_matches import did_you_mean
from netdissect.errors import ConfigError
from netdissect.experiments.interventions.intervene_config import UNITS
from netdissect.result import Result

Floats = npt.NDArray[np.float64]
Units = tuple[int, ...]


class UnitSets(NamedTuple):
    """Sets of units that are changed, one after the other.

    Attributes
    ----------
    chosen
        The units of the intervention; several sets where each unit is changed alone.
    random
        Sets of as many other units.
    matched
        For each chosen set, other units of the most similar mean activation.
    """

    chosen: tuple[Units, ...]
    random: tuple[Units, ...]
    matched: tuple[Units, ...]


def choose_units(text: str, result: Result, layer: str, concept: str) -> tuple[Units, ...]:
    """Return the sets of units that a text names: one set, or one for each unit.

    Raises
    ------
    ConfigError
        If the text names no units, or no unit matches the concept.
    """
    count = result.layer(layer).info.units
    if text == "each":
        return tuple((unit,) for unit in range(count))
    best = number_of(text, "top")
    if best is not None:
        return (_best(result, layer, concept, best),)
    parts = [part.strip() for part in text.split(",")]
    units = tuple(int(part) for part in parts if part.isdecimal())
    if len(units) < len(parts) or len(set(units)) < len(units):
        raise ConfigError(f"the units of an intervention are {text!r}. Expected {UNITS}.")
    if max(units) >= count:
        raise ConfigError(
            f"the units of an intervention name unit {max(units)}, but layer {layer!r} has the units 0 to {count - 1}."
        )
    return (units,)


def number_of(text: str, kind: str) -> int | None:
    """Return N of ``kind:N``, from 1; None: it is something else."""
    found = re.fullmatch(rf"{kind}:([1-9][0-9]{{0,8}})", text)
    return int(found[1]) if found else None


def overlapping_units(result: Result, layer: str, concept: str) -> pl.DataFrame:
    """Return unit and iou of the units that overlap with a concept, best first, at the run's first quantile.

    Raises
    ------
    ConfigError
        If the run has no such concept.
    """
    scores = result.layer(layer).lazy_scores.filter(pl.col("quantile") == result.info.config.protocol.quantiles[0])
    known = scores.select("concept", "category").unique().collect()["concept"].cast(pl.String).to_list()
    if concept not in known:
        raise ConfigError(
            f"the run has no concept {concept!r} by which units could be ranked.{did_you_mean(concept, known)} "
            "Expected a concept that its samples show; 'netdissect show RUN --concepts' lists them."
        )
    own = scores.filter((pl.col("concept").cast(pl.String) == concept) & (pl.col("iou") > 0))
    return own.sort("iou", "unit", descending=[True, False]).select("unit", "iou").collect()


def _best(result: Result, layer: str, concept: str, count: int) -> Units:
    ranked = overlapping_units(result, layer, concept)["unit"].to_list()
    if len(ranked) < count:
        raise ConfigError(
            f"{len(ranked)} units of layer {layer!r} overlap with {concept!r}, but the best {count} are asked for. "
            "Expected fewer, such as top:1, or unit numbers."
        )
    return tuple(ranked[:count])


def check_others(size: int, units: int) -> None:
    """Refuse to change more than half of the units of a layer: there would be too few others to compare them with."""
    if 2 * size > units:
        raise ConfigError(
            f"{size} of {units} units are changed, so that there are too few others to compare them with. "
            "Expected at most half of the layer."
        )


def control_sets(chosen: Sequence[Units], means: Floats, count: int, seed: int) -> UnitSets:
    """Draw the sets with which units are compared.

    Parameters
    ----------
    chosen
        The units of the intervention; of one size.
    means : float64 (U,)
        Mean activation of each unit.
    count
        Number of random sets.
    seed
        Of the draw.

    Raises
    ------
    ConfigError
        If the layer has too few other units.
    """
    size, rng = len(chosen[0]), np.random.default_rng(seed)
    check_others(size, len(means))
    excluded = {unit for units in chosen for unit in units} if len(chosen) == 1 else set()
    others = np.array([unit for unit in range(len(means)) if unit not in excluded])
    random = tuple(tuple(sorted(rng.choice(others, size, replace=False).tolist())) for _ in range(count))
    return UnitSets(tuple(chosen), random, tuple(_matched(units, means) for units in chosen))


def _matched(units: Units, means: Floats) -> Units:
    """Return, for each unit in turn, the unit outside the set whose mean activation is nearest and not taken yet."""
    left = [unit for unit in range(len(means)) if unit not in units]
    found = []
    for unit in units:
        nearest = min(left, key=lambda other: (abs(means[other] - means[unit]), other))
        left.remove(nearest)
        found.append(nearest)
    return tuple(sorted(found))
