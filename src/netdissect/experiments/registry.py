"""The registry of experiments: what each is called, where it is, and what it offers.

    REGISTRY[name] -> load_experiment(name) -> Experiment: the command, both scales of `reproduce`, docs and tests
                   -> draw_figure(result)

An entry names the `Experiment` in ``FOLDER/experiment.py``; the figure is the function `draw` in ``FOLDER/figure.py``.
Reading the registry imports neither torch nor polars, and drawing figures no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from netdissect.close_matches import did_you_mean
from netdissect.config import Progress
from netdissect.errors import ConfigError, ResultError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from netdissect.experiments.outcome import Conclusion, ExperimentResult
    from netdissect.experiments.reproduce.schedule import ReproduceJob, ScheduledExperiment
    from netdissect.training.workspace import Workspace


class Entry(NamedTuple):
    """Where an experiment is (``folder.module:name``), and what its command does, in one line."""

    path: str
    summary: str


REGISTRY: dict[str, Entry] = {
    "rotate": Entry("rotate.experiment:ROTATE", "Rotate the units of one layer, step by step, and dissect each step."),
    "layer-profile": Entry(
        "layer_profile.experiment:LAYER_PROFILE", "Count detectors by category over the convolutions of one network."
    ),
    "compare": Entry("compare.experiment:COMPARE", "Compare the detectors of networks, runs and published counts."),
    "training-dynamics": Entry(
        "training_dynamics.experiment:TRAINING_DYNAMICS", "Follow the detectors of one layer over a training."
    ),
    "seeds": Entry("training_conditions.experiment:SEEDS", "Train one configuration from several seeds."),
    "dropout": Entry("training_conditions.experiment:DROPOUT", "Train with and without dropout."),
    "batchnorm": Entry("training_conditions.experiment:BATCHNORM", "Train with and without batch normalization."),
    "width": Entry("training_conditions.experiment:WIDTH", "Train with a narrower and a wider last convolution."),
    "depth": Entry("training_conditions.experiment:DEPTH", "Train with fewer and with more convolutions."),
    "supervision": Entry(
        "supervision.experiment:SUPERVISION", "Train one network on supervised and self-supervised tasks, and compare."
    ),
    "linear-probe": Entry(
        "linear_probe.experiment:LINEAR_PROBE", "Compare the accuracy of linear SVMs on layers with their detectors."
    ),
    "rater-agreement": Entry(
        "rater_agreement.experiment:RATER_AGREEMENT", "Count which labels raters accept, and how well they agree."
    ),
    "attribution": Entry(
        "attribution.experiment:ATTRIBUTION", "Split the scores of a classifier into contributions of its units."
    ),
    "formulas": Entry(
        "formulas.experiment:FORMULAS", "Find formulas of concepts, and what they gain on held-out images, over depth."
    ),
    "labelers": Entry(
        "labelers.experiment:LABELERS", "Compare how well labels of several methods predict units on held-out images."
    ),
    "concept-vectors": Entry(
        "concept_vectors.experiment:CONCEPT_VECTORS", "Ask whether a concept lies in one unit or in several, by layer."
    ),
    "bases": Entry("bases.experiment:BASES_OF_LAYERS", "Compare the units of layers with other bases of them."),
    "ablate": Entry("ablate.experiment:ABLATE", "Ablate units alone and in sets, and measure the loss of accuracy."),
    "causes": Entry("causes.experiment:CAUSES", "Ask whether units of a generator that match a concept also cause it."),
}
"""Name of the command -> experiment, in the order of the paper."""


@dataclass(frozen=True)
class Experiment:
    """One experiment, as everything that follows from the registry uses it.

    Attributes
    ----------
    question
        What the experiment asks.
    paper
        The published finding.
    config
        Its configuration, which the result saves.
    inputs
        What its command takes: networks, files, and the configuration. Its fields are the options.
    run
        From the inputs, the folder of ``--out`` and a progress callback to the result.
    conclude
        From the table, the configuration and the extra tables to the conclusion. Pure.
    requirements
        What it takes on one's own networks and data (`reproduce --scale full`), or what is missing for it.
    run_synthetic
        Runs it at synthetic scale in a workspace; None: it needs what only people can give.
    extra_tables
        Names of the tables that are saved beside ``table``.
    defaults
        Of the command, in place of those of the fields.
    in_subfolder
        Whether the result is saved in ``OUT/NAME``: what is below OUT is shared by several experiments.
    """

    question: str
    paper: str
    config: type[BaseModel]
    inputs: type[BaseModel]
    run: Callable[[Any, Path, Progress | None], "ExperimentResult"]
    conclude: Callable[..., "Conclusion"]
    requirements: Callable[["ReproduceJob"], "ScheduledExperiment"]
    run_synthetic: Callable[["Workspace"], "ExperimentResult"] | None
    extra_tables: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    in_subfolder: bool = False


def load_experiment(name: str) -> Experiment:
    """Import an experiment of the registry.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    if name not in REGISTRY:
        raise ConfigError(
            f"there is no experiment {name!r}.{did_you_mean(name, REGISTRY)} Expected one of {', '.join(REGISTRY)}."
        )
    module, _, attribute = REGISTRY[name].path.partition(":")
    experiment: Experiment = getattr(import_module(f"{__package__}.{module}"), attribute)
    return experiment


def draw_figure(result: "ExperimentResult", width: float = 6.8) -> "Figure":
    """Draw the figure of an experiment.

    Parameters
    ----------
    result
        Of the experiment.
    width
        Inches; type has the same size at any width.

    Raises
    ------
    ResultError
        If there is no experiment of this name.
    """
    if result.name not in REGISTRY:
        raise ResultError(
            f"there is no figure for an experiment {result.name!r}. Expected one of {', '.join(REGISTRY)}."
        )
    folder = REGISTRY[result.name].path.partition(".")[0]
    figure: Figure = import_module(f"{__package__}.{folder}.figure").draw(result, width)
    return figure
