"""What the counts of very many units and concepts take of the memory, beside what the machine has."""

import os
from collections.abc import Sequence

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig
from netdissect.counted import counted
from netdissect.dissect.cost_plan import ACTIVE_UNITS, size_text
from netdissect.dissect.statistics.layer_counts import HALF_COUNTS
from netdissect.errors import ConfigError
from netdissect.models import Layer

STATED_BYTES = 2**29
"""Counts that take less are not mentioned in the line of the plan."""
ARRAYS_OF_HALVES = 5
"""Arrays of a number for each unit and label id with a hold-out: counts and IoUs of both halves, and a copy."""


def present_memory() -> int | None:
    """Return the bytes of memory of the machine; None: the system does not tell."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return present if present > 0 else None


def count_bytes(layers: Sequence[Layer], data: ConceptData, config: DissectConfig) -> int:
    """Return the most bytes that the counts of all layers take, and those of the halves of some units.

    Counts are a number for each quantile, unit and label id; intervals need those of masks at two more quantiles.
    """
    masks = sum(layer.units * len(config.reported_quantiles) + _further_masks(layer, config) for layer in layers)
    counts = 8 * masks * len(data.category_of)
    if config.statistics.holdout is None and not config.statistics.moments:
        return counts
    widest = max((layer.units for layer in layers), default=0) * len(data.category_of)
    return counts + 8 * ARRAYS_OF_HALVES * min(widest, HALF_COUNTS)


def _further_masks(layer: Layer, config: DissectConfig) -> int:
    """Return the largest expected number of masks at further quantiles that differ from those at the reported ones.

    They differ only where a threshold is above 0. Of a sparse layer whose units are active on a share a of the cells on
    average, at most a / q of the units are active on a share of q (Markov's inequality).
    """
    further = config.quantiles[len(config.reported_quantiles) :]
    if not layer.sparse or not further:
        return layer.units * len(further)
    active = (layer.most_active or ACTIVE_UNITS) / min(further)
    return len(further) * min(layer.units, round(active))


def count_text(layers: Sequence[Layer], data: ConceptData, config: DissectConfig) -> str:
    """Return what large counts take, as a part of the plan's line; empty for others."""
    needed = count_bytes(layers, data, config)
    return f"; {_counts(layers, data)} take about {size_text(needed)} more" if needed >= STATED_BYTES else ""


def check_counts(layers: Sequence[Layer], data: ConceptData, config: DissectConfig) -> None:
    """Check that the counts fit into the memory of the machine, where the system tells its size.

    Raises
    ------
    ConfigError
        If they do not.
    """
    needed, present = count_bytes(layers, data, config), present_memory()
    if present is None or needed <= present:
        return
    without = config.statistics.model_copy(update={"bootstrap": 0, "holdout": None, "moments": False})
    fewer = count_bytes(layers, data, config.model_copy(update={"statistics": without}))
    of_statistics = f"Leave intervals out (--bootstrap 0: {size_text(fewer)}), name" if fewer < needed else "Name"
    raise ConfigError(
        f"{_counts(layers, data)} and their statistics take about {size_text(needed)} of memory; this machine has "
        f"{size_text(present)}. {of_statistics} fewer layers or bases in one run (--layer, --basis), choose fewer "
        "concepts (--categories), or take a basis of fewer units."
    )


def _counts(layers: Sequence[Layer], data: ConceptData) -> str:
    units = counted(sum(layer.units for layer in layers), "units")
    return f"counts of {units} and {counted(len(data.concepts), 'concepts')}"
