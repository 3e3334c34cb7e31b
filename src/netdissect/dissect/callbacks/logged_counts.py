"""What a dissection during a training reports to a logger."""

from collections.abc import Callable

from netdissect.result import Result
from netdissect.result.summary import measured_count

Log = Callable[[dict[str, float], int], object]
"""Called as ``log(values, step)``, as loggers of all kinds are."""


def logged_counts(result: Result) -> dict[str, float]:
    """Return the numbers of a run that a logger records over the steps of a training.

    Parameters
    ----------
    result
        A finished run.

    Returns
    -------
    dict of str to float
        For each layer, at the first quantile and under the rule top-label: ``netdissect/LAYER/unique_detectors``, and
        with a permutation null its mean ``.../null_unique_detectors`` and the difference of both,
        ``.../unique_detectors_above_null``.
    """
    values: dict[str, float] = {}
    quantile = result.info.config.protocol.quantiles[0]
    for layer in result.layers:
        measured, prefix = measured_count(result, layer, quantile), f"netdissect/{layer}"
        values[f"{prefix}/unique_detectors"] = float(measured.count)
        if measured.null is not None:
            values[f"{prefix}/null_unique_detectors"] = measured.null
            values[f"{prefix}/unique_detectors_above_null"] = measured.count - measured.null
    return values
