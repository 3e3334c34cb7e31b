"""The experiments of the paper: a configuration in, a table and a conclusion out.

    REGISTRY[name] -> load_experiment(name) -> run(inputs, out, progress) -> ExperimentResult -> save_experiment_result

registry.py      the registry, what an experiment offers, and its figure
outcome.py       what every experiment returns
result_files.py  its files
counts.py        detectors of runs as tidy rows
effect_sizes.py  means, differences, their intervals, and what an interval decides
inputs.py        inputs that several commands share
figure_parts.py  what several figures share
reproduce/       all experiments at synthetic scale, or on one's own networks and data
NAME/            experiment.py and figure.py of one experiment, or of several that differ in one word

Each experiment keeps its runs below its folder, and a second call reuses them. Names are loaded at their first use, so
that reading a result needs no torch.
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
