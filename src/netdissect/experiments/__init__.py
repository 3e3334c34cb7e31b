"""The experiments of the paper: a config in, a table and a verdict out.

    rotate(network, concepts, config, out=..., progress=...) -> Outcome ->
    netdissect.experiments.outcome_files.save_outcome

outcome.py     what every experiment returns
counts.py      detectors of runs as tidy rows
intervals.py   means, differences and their intervals; what an interval decides
bench.py       a drawn world, and scene networks trained on it, kept in one folder
miniature.py   all experiments on a bench
full.py        those that need only networks and data, on one's own

Each experiment keeps its runs below its folder, and a second call takes up what is there. A module has another
name than its function. Names are loaded when they are first used, so that reading an outcome never waits for torch.
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
