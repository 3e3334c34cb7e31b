"""What the counts of very many units and concepts take of the memory, beside what the machine has."""

import os
from collections.abc import Sequence

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig
from netdissect.counted import counted
from netdissect.dissect.cost_plan import size_text
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
    """Return the bytes of the counts of all layers, and of those of the halves of the widest.

    Counts are a number for each quantile, unit and label id; intervals need two more quantiles.
    """
    of_unit = 8 * len(data.category_of)
    counts = sum(layer.units for layer in layers) * of_unit * len(config.quantiles)
    if config.statistics.holdout is None and not config.statistics.moments:
        return counts
    return counts + max((layer.units for layer in layers), default=0) * of_unit * ARRAYS_OF_HALVES


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
