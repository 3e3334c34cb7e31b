"""What the counts of very many units and concepts take of the memory, beside what the machine has."""

import os
from collections.abc import Sequence

from netdissect.activations.histogram import BINS, BINS_PER_SIGN
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig
from netdissect.counted import counted, size_text
from netdissect.dissect.cost_plan import ACTIVE_UNITS, cells_of
from netdissect.dissect.statistics.layer_counts import HALF_COUNTS
from netdissect.dissect.statistics.measurements import REPLICATED_PIXELS
from netdissect.dissect.statistics.permutation_cost import COUNT_BYTES, MEGABYTE, PermutationCost
from netdissect.errors import ConfigError
from netdissect.models import Layer

STATED_BYTES = 2**29
"""Counts that take less are not mentioned in the line of the plan."""
BEST_CONCEPT_BYTES, MAXIMUM_BYTES = 12, 16
"""Of each mask and permutation: label id and IoU in each category; the largest of these IoUs, and a copy."""
LEADING, LABEL_BYTES = 10, 2
"""Of a unit in each replicate of the bootstrap: candidates beside the best of each category; its label."""
READ_BYTES = 2**28
"""Counts of single images and blocks of scores, at most: they are read again and again, and freed."""
ARRAYS_OF_HALVES = 5
"""Arrays of a number for each unit and label id with a hold-out: counts and IoUs of both halves, and a copy."""


def present_memory() -> int | None:
    """Return the bytes of memory of the machine; None: the system does not tell."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return present if present > 0 else None


def count_bytes(layers: Sequence[Layer], data: ConceptData, config: DissectConfig, memory_mb: int) -> int:
    """Return the most bytes that the counts of all layers take, and what is made of them at a time.

    Counts are a number for each quantile, unit and label id; intervals need those of masks at two more quantiles.
    Further counts are the histogram and the firing map of each unit.
    """
    masks = sum(layer.units * len(config.reported_quantiles) + _further_masks(layer, config) for layer in layers)
    counts = 8 * masks * len(data.category_of)
    for layer in layers:
        bins, cells = BINS_PER_SIGN + 1 if layer.sparse else BINS, cells_of(layer)
        counts += 8 * layer.units * (bins + cells.height * cells.width)
    of_test = _permutation_bytes(layers, data, config, memory_mb)
    widest = max((layer.units for layer in layers), default=0) * len(data.category_of)
    return counts + max(of_test, _statistics_bytes(layers, data, config)) + min(8 * widest, READ_BYTES)


def _permutation_bytes(layers: Sequence[Layer], data: ConceptData, config: DissectConfig, memory_mb: int) -> int:
    """Return the bytes of the permutation test: the counts of some masks, and the best concepts of all."""
    of_layers = tuple(layer.units * len(config.protocol.quantiles) for layer in layers)
    permutations = config.permutations
    if permutations == "auto":  # fewer where there are runs of pixels, whose number is not known yet
        permutations = PermutationCost(0, of_layers, len(data.category_of), len(data)).auto_permutations
    masks = permutations * sum(of_layers)
    counts = min(memory_mb * MEGABYTE, COUNT_BYTES * masks * len(data.category_of))
    return counts + masks * (BEST_CONCEPT_BYTES * len(data.categories) + MAXIMUM_BYTES)


def _statistics_bytes(layers: Sequence[Layer], data: ConceptData, config: DissectConfig) -> int:
    """Return the bytes of the bootstrap of some units of one layer, or of the halves of a hold-out, at a time."""
    units = max((layer.units for layer in layers), default=0)
    label_ids, statistics = len(data.category_of), config.statistics
    # Sums of the ten best concepts, the best and the mask of each category, and the labels of all units.
    sums = units * statistics.bootstrap * (LEADING + 2 * len(data.categories) + 1)
    replicates = 8 * min(sums, REPLICATED_PIXELS) + LABEL_BYTES * units * statistics.bootstrap
    has_halves = statistics.holdout is not None or statistics.moments
    return max(replicates, 8 * ARRAYS_OF_HALVES * min(units * label_ids, HALF_COUNTS) if has_halves else 0)


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


def count_text(layers: Sequence[Layer], data: ConceptData, config: DissectConfig, memory_mb: int) -> str:
    """Return what large counts take, as a part of the plan's line; empty for others."""
    needed = count_bytes(layers, data, config, memory_mb)
    return f"; {_counts(layers, data)} take up to {size_text(needed)} more" if needed >= STATED_BYTES else ""


def check_counts(layers: Sequence[Layer], data: ConceptData, config: DissectConfig, memory_mb: int) -> None:
    """Check that the counts fit into the memory of the machine, where the system tells its size.

    Raises
    ------
    ConfigError
        If they do not.
    """
    needed, present = count_bytes(layers, data, config, memory_mb), present_memory()
    if present is None or needed <= present:
        return
    without = config.statistics.model_copy(
        update={"bootstrap": 0, "permutations": 0, "holdout": None, "moments": False}
    )
    fewer = count_bytes(layers, data, config.model_copy(update={"statistics": without}), memory_mb)
    left_out = f"Leave intervals and permutations out (--bootstrap 0 --permutations 0: {size_text(fewer)}), name"
    of_statistics = left_out if fewer < needed else "Name"
    raise ConfigError(
        f"{_counts(layers, data)} take up to {size_text(needed)} of memory; this machine has "
        f"{size_text(present)}. {of_statistics} fewer layers or bases in one run (--layer, --basis), choose fewer "
        "concepts (--categories), or take a basis of fewer units."
    )


def _counts(layers: Sequence[Layer], data: ConceptData) -> str:
    units = counted(sum(layer.units for layer in layers), "units")
    return f"counts of {units} and {counted(len(data.concepts), 'concepts')} and their statistics"
