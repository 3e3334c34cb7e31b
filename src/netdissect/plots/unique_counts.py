"""Unique detectors of each layer of a run, with interval and null, for the figures that compare layers."""

from typing import NamedTuple

from netdissect.config import Rule
from netdissect.result import LayerCount, Result
from netdissect.result.queries import run_quantile
from netdissect.result.summary import measured_count


class LayerRow(NamedTuple):
    """The counts of one layer.

    Attributes
    ----------
    entry
        Its detectors, by category.
    interval, null
        95 % confidence interval of its unique detectors and their mean under the permutation null; None: not measured,
        as at another limit than the run's.
    basis_of
        The layer of which it is another basis; None: it is a layer of the network.
    """

    entry: LayerCount
    interval: tuple[float, float] | None
    null: float | None
    basis_of: str | None

    @property
    def unique(self) -> int:
        """Its unique detectors."""
        return self.entry.count.unique_detectors["total"]


def unique_counts(
    result: Result, rule: Rule, quantile: float | None = None, min_iou: float | None = None
) -> list[LayerRow]:
    """Return the counts of all layers of a run at one quantile, in order of execution.

    Parameters
    ----------
    result
        A finished run.
    rule
        How detectors are counted.
    quantile, min_iou
        None: the run's own.
    """
    quantile = run_quantile(result, quantile)
    rows = []
    for entry in result.detectors(rule, min_iou):
        if entry.quantile == quantile:
            own = entry.count.min_iou == result.info.min_iou(entry.layer)
            measured = measured_count(result, entry.layer, quantile, rule) if own else None
            interval, null = (measured.interval, measured.null) if measured else (None, None)
            rows.append(LayerRow(entry, interval, null, result.layer(entry.layer).info.basis_of))
    return rows
