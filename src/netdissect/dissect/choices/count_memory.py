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
# Arrays of a number for each unit and label id that the statistics of one layer hold at a time: IoU and index of the
# candidates at each quantile (measured: 2.03), what detectors are counted from, and with a hold-out both halves.
ARRAYS_OF_QUANTILE, ARRAYS_OF_LAYER, ARRAYS_OF_HALVES = 2, 2, 3


def present_memory() -> int | None:
    """Return the bytes of memory of the machine; None: the system does not tell."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return present if present > 0 else None


def count_bytes(layers: Sequence[Layer], data: ConceptData, config: DissectConfig) -> int:
    """Return the bytes of the counts of all layers, and of the statistics of the widest, which are computed from them.

    Counts are a number for each quantile, unit and label id; intervals need two more quantiles.
    """
    of_unit = 8 * len(data.category_of)
    counts = sum(layer.units for layer in layers) * of_unit * len(config.quantiles)
    if not config.statistics.needs_images:
        return counts
    arrays = ARRAYS_OF_QUANTILE * len(config.protocol.quantiles) + ARRAYS_OF_LAYER
    arrays += ARRAYS_OF_HALVES if config.statistics.holdout is not None else 0
    return counts + max((layer.units for layer in layers), default=0) * of_unit * arrays


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
