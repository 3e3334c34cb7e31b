"""The whole paper in miniature: every experiment on one bench.

`EXPERIMENTS` names them in the order of the paper; each takes a `Bench` and returns its `Outcome`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic

from netdissect.experiments.bench import Bench
from netdissect.experiments.comparison import compare_in_miniature
from netdissect.experiments.layerwise import layers_in_miniature
from netdissect.experiments.names import VARIANTS
from netdissect.experiments.outcome import Outcome
from netdissect.experiments.rotations import rotate_in_miniature
from netdissect.experiments.timeline import snapshots_in_miniature
from netdissect.experiments.variants import variants

EXPERIMENTS: dict[str, Callable[[Bench], Outcome]] = {
    "rotate": rotate_in_miniature,
    "layers": layers_in_miniature,
    "compare": compare_in_miniature,
    "snapshots": snapshots_in_miniature,
    **{name: partial(variants, name) for name in VARIANTS},
}
"""Name -> experiment; it keeps its runs below ``bench.folder(name)``."""


def paper(bench: Bench) -> Iterator[Outcome]:
    """Run every experiment, one after the other; what is done is taken up.

    Parameters
    ----------
    bench
        The folder, and how large.

    Yields
    ------
    Outcome
        With the wall time of the whole experiment as ``seconds["all"]``.
    """
    for done, (_, experiment) in enumerate(EXPERIMENTS.items()):
        if bench.progress:
            bench.progress("experiments", done, len(EXPERIMENTS))
        started = monotonic()
        outcome = experiment(bench)
        outcome.seconds["all"] = round(monotonic() - started, 1)
        yield outcome
    if bench.progress:
        bench.progress("experiments", len(EXPERIMENTS), len(EXPERIMENTS))
