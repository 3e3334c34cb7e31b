"""How detectors emerge over training, from checkpoints or from runs that a callback made.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.6.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import scipy
from pydantic import Field, InstanceOf

from netdissect.config import DissectConfig, LoadOptions, Progress, Rule
from netdissect.config_fields import Config, Option
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.counts import (
    NO_NULL,
    OVER_IMAGES,
    TOTAL,
    count_rows,
    decide_over_images,
    difference_over_images,
    has_null,
    largest_unique,
    mean_text,
    measured_text,
    null_note,
    over_images_table,
    read_over_images,
    with_excess,
)
from netdissect.experiments.effect_sizes import decide, paired_difference
from netdissect.experiments.inputs import Data, Inputs, at_quantile
from netdissect.experiments.outcome import (
    NO_TABLES,
    Conclusion,
    ConclusionOutcome,
    ExperimentResult,
    concluded,
    join_sentences,
)
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import ReproduceJob, ScheduledExperiment
from netdissect.experiments.training_dynamics.snapshots import (
    Snapshot,
    checkpoint_steps,
    dissected_checkpoints,
    dissected_runs,
    trained_snapshots,
)
from netdissect.models import Network, load_checkpoint, reload_network
from netdissect.result import Result, difference_sentence
from netdissect.scoring import passes
from netdissect.training.load_trained import open_network
from netdissect.training.workspace import Workspace

QUESTION = "How do detectors emerge during training, and do units change what they are for?"
PAPER = (
    "Detectors emerge gradually, objects from about 10,000 iterations on; units do not turn from one category into "
    "another."
)


class TrainingDynamicsConfig(Config):
    """Which layer and counts are followed."""

    layer: str | None = Field(None, description="Layer to follow; None: the last of the runs.")
    quantile: float | None = Field(None, gt=0, lt=1, description="At which is counted; None: the first of the runs.")
    rule: Rule = Field("per-category", description="Published rule by which the figure and the conclusion count.")


class TrainingDynamicsInputs(Inputs):
    """Inputs of the command."""

    loading: Annotated[LoadOptions, Option(panel="Network", without=("weights", "weights_seed"))] = Field(
        default_factory=LoadOptions, description="How the network of the checkpoints is loaded."
    )
    snapshots: Annotated[tuple[InstanceOf[Snapshot], ...] | Path, Option(argument=True, metavar="SNAPSHOTS")] = Field(
        description="Folder of checkpoints, or of the runs that a callback made; with iterations in the names."
    )
    data: Data = Field(None, description="Data set in Broden's layout, for checkpoints.")
    network: Annotated[Any, Option(metavar="NETWORK")] = Field(
        None, description="Network of the checkpoints; runs need none."
    )
    dissect: Annotated[DissectConfig, Option(panel="Dissection", without=("layers", "quantiles"))]
    config: TrainingDynamicsConfig = Field(default_factory=TrainingDynamicsConfig)

    def at_checkpoint(self) -> Callable[[Path], Network]:
        """Return what makes the network with the weights of a file."""
        key = self.loading.state_dict
        if isinstance(self.network, str):
            return lambda path: open_network(self.network, self.loading.model_copy(update={"weights": str(path)}))
        bare = self.loading.model_copy(update={"state_dict": None})
        network = self.model_copy(update={"loading": bare}).open(self.network)

        def load(path: Path) -> Network:
            module = copy.deepcopy(network.module)
            load_checkpoint(module, path, key)
            return replace(network, name=f"{network.name}, weights of {path.name}", module=module, source=None)

        return load


def training_dynamics(snapshots: Iterable[Snapshot], config: TrainingDynamicsConfig | None = None) -> ExperimentResult:
    """Follow the detectors of one layer over training.

    Parameters
    ----------
    snapshots
        From `dissected_checkpoints`, `dissected_runs` or a callback such as `netdissect.DissectEvery`.
    config
        Which layer and quantile.

    Returns
    -------
    ExperimentResult
        `table`: seed, step, layer, quantile, rule, category, units, detectors, unique_detectors.

        `extra_tables["units"]`: seed, step, unit, label, category, iou, detector.

        `extra_tables["changes"]`: seed, unit, step, next_step, category, next_category of every unit that is a
        detector of different categories at two successive snapshots.

        `extra_tables["over_images"]`: the growth of a single training from its first to its last step by the bootstrap
        over images.

    Raises
    ------
    ConfigError
        If there are fewer than two snapshots, or a run lacks the layer or quantile.
    ResultError
        If the first and the last run of a single training saw different images.
    """
    config = config or TrainingDynamicsConfig()
    ordered = sorted(snapshots, key=lambda snapshot: (snapshot.seed, snapshot.step))
    if len({snapshot.step for snapshot in ordered}) < 2:
        raise ConfigError(f"There are {len(ordered)} snapshots. Expected at least two steps of a training to compare.")
    first = ordered[0].result
    layer = first.layer(config.layer or list(first.layers)[-1]).info.name
    quantile = config.quantile or first.info.config.protocol.quantiles[0]
    table = pl.concat(
        count_rows(snapshot.result, [layer], seed=snapshot.seed, step=snapshot.step).cast(
            {"seed": pl.Int64, "step": pl.Int64}
        )
        for snapshot in ordered
    )
    units = pl.concat(_units(snapshot, layer, quantile) for snapshot in ordered)
    if units.is_empty():
        raise ConfigError(f"The runs have no quantile {quantile}. Name one that all of them have.")
    config = config.model_copy(update={"layer": layer, "quantile": quantile})
    context = {"quantile": quantile, "network": first.info.network.model_dump(mode="json")}
    over_images = _over_images(ordered, layer, quantile, config.rule)
    extra = {"units": units, "changes": _changed(_followed(units)), OVER_IMAGES: over_images}
    return concluded("training-dynamics", config, table, conclude, context=context, extra_tables=extra)


def _units(snapshot: Snapshot, layer: str, quantile: float) -> pl.DataFrame:
    level = snapshot.result.info.min_iou(layer)
    passing = passes(pl.col("iou"), "top-label", level) & pl.col("label").is_not_null()
    units = snapshot.result.layer(layer).units.filter(pl.col("quantile") == quantile)
    return units.select(
        pl.lit(snapshot.seed, pl.Int64).alias("seed"),
        pl.lit(snapshot.step, pl.Int64).alias("step"),
        "unit",
        "label",
        "category",
        "iou",
        passing.alias("detector"),
    )


def _over_images(snapshots: Sequence[Snapshot], layer: str, quantile: float, rule: Rule) -> pl.DataFrame:
    """Measure the growth of a single training over replicates of the images; several are compared over seeds."""
    runs: dict[int, dict[int, Result]] = {}
    for snapshot in snapshots:
        runs.setdefault(snapshot.seed, {})[snapshot.step] = snapshot.result
    steps = [snapshot.step for snapshot in snapshots]
    first, last = min(steps), max(steps)
    whole = [run for run in runs.values() if first in run and last in run]
    if len(whole) != 1:
        return over_images_table({})
    ends = whole[0][first], whole[0][last]
    growth = difference_over_images(*ends, [(layer, layer)], quantile=quantile, rule=rule)
    return over_images_table({(str(first), str(last)): growth})


def _followed(units: pl.DataFrame) -> pl.DataFrame:
    """Join detectors with the next snapshot: seed, unit, step, next_step, category, next_category."""
    steps = units["step"].unique().sort()
    following = dict(pairwise(steps))
    detectors = units.filter("detector").select("seed", "step", "unit", "category")
    here = detectors.filter(pl.col("step").is_in(list(following))).with_columns(
        pl.col("step").replace_strict(following, return_dtype=pl.Int64).alias("next_step")
    )
    after = detectors.rename({"step": "next_step", "category": "next_category"})
    both = here.join(after, on=["seed", "next_step", "unit"], how="inner", maintain_order="left")
    return both.select("seed", "unit", "step", "next_step", "category", "next_category")


def _changed(followed: pl.DataFrame) -> pl.DataFrame:
    return followed.filter(pl.col("category") != pl.col("next_category"))


def conclude(
    table: pl.DataFrame, config: TrainingDynamicsConfig, *, extra: Mapping[str, pl.DataFrame] = NO_TABLES
) -> Conclusion:
    """Conclude whether detectors grow over training, and whether units keep their category.

    Parameters
    ----------
    table
        Of `training_dynamics`.
    config
        Of the experiment.
    extra
        ``units`` and, for a single training, ``over_images``.
    """
    rows = table.filter(quantile=config.quantile or table["quantile"][0], rule=config.rule)
    totals = rows.filter(category=TOTAL).sort("step")
    course = [(step, part) for (step,), part in totals.group_by("step", maintain_order=True)]
    counts = ", ".join(f"{_counted(part)} at {step:,}" for step, part in course)
    grown, growth = _growth(rows, extra)
    stay, units = _stability(_followed(extra["units"]))
    outcome: ConclusionOutcome = grown if grown == stay else "inconclusive"
    if "disagrees" in (grown, stay):
        outcome = "disagrees"
    finding = join_sentences(f"Unique detectors: {counts}.", growth, units)
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome=outcome)


def _counted(part: pl.DataFrame) -> str:
    """Write the count of a single training at one step, or the mean of several."""
    return measured_text(part.row(0, named=True)) if len(part) == 1 else mean_text(part)


def _stability(followed: pl.DataFrame) -> tuple[ConclusionOutcome, str]:
    """Return whether units keep their category from one snapshot to the next."""
    if followed.is_empty():
        return "inconclusive", "No unit was a detector at two snapshots in a row."
    number, changed = len(followed), len(_changed(followed))
    share = scipy.stats.binomtest(changed, number).proportion_ci(method="wilson")
    stay: ConclusionOutcome = "agrees" if share.high < 0.5 else "disagrees" if share.low > 0.5 else "inconclusive"
    return stay, (
        f"Of {number} times that a unit was a detector at two snapshots in a row, its category changed {changed} "
        f"times ({changed / number:.0%}, interval {share.low:.0%} to {share.high:.0%})."
    )


def _growth(rows: pl.DataFrame, extra: Mapping[str, pl.DataFrame]) -> tuple[ConclusionOutcome, str]:
    """Return whether counts grow beyond their null: over seeds, or over the images of a single training."""
    totals, steps = rows.filter(category=TOTAL), rows["step"].unique().sort()
    first, last = (totals.filter(step=step) for step in (steps[0], steps[-1]))
    both = with_excess(first.join(last, on="seed", how="semi")), with_excess(last.join(first, on="seed", how="semi"))
    if len(both[0]) > 1:
        return _growth_over_seeds(both[0].sort("seed"), both[1].sort("seed"), largest_unique(rows))
    growth = read_over_images(extra, str(steps[0]), str(steps[-1]))
    if growth is None:
        return "inconclusive", null_note(totals)
    sentence = f"From first to last, over the same images: {difference_sentence(growth)}"
    return decide_over_images(growth, "more"), sentence


def _growth_over_seeds(first: pl.DataFrame, last: pl.DataFrame, most: int) -> tuple[ConclusionOutcome, str]:
    counts, excess = ([part[name].to_list() for part in (first, last)] for name in ("unique_detectors", "excess"))
    growth = paired_difference(*counts).within(-most, most)
    text = f"From first to last they grow by {growth}, over seeds"
    if not (has_null(first) and has_null(last)):
        return decide(growth, "more"), f"{text}. {NO_NULL}"
    beyond = paired_difference(*excess)
    return decide(beyond, "more"), f"{text}; beyond the permutation null by {beyond}."


def run_synthetic(workspace: Workspace) -> ExperimentResult:
    """Follow the trainings of the workspace's network from every seed."""
    seconds: dict[str, float] = {}
    snapshots: list[Snapshot] = []
    for seed in range(workspace.scale.seeds):
        train_config = workspace.train_config(seed=seed)
        with timed("train", seconds):
            networks = trained_snapshots(workspace, train_config)
        with timed("dissect", seconds):
            for step, network in networks.items():
                run = workspace.folder("training-dynamics") / "runs" / f"seed-{seed}-step-{step:08}"
                config = workspace.dissect_config(train_config.layers[-1:], replicates=0)
                snapshots.append(Snapshot(step, workspace.dissect(network, config, run), seed))
        if workspace.progress:
            workspace.progress("snapshots: trainings", seed + 1, workspace.scale.seeds)
    found = training_dynamics(snapshots)
    found.seconds.update(seconds)
    return found


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Dissect the first network with the weights of each checkpoint."""
    folder, source = job.config.checkpoints, job.first.source
    if folder is None:
        return ScheduledExperiment.without("needs --checkpoints FOLDER, the first network's weights over its training")
    if source is None:
        return ScheduledExperiment.without(
            f"{job.first.name} was not loaded by a name to which a checkpoint can be given"
        )
    files = list(checkpoint_steps(folder).values())

    def load(path: Path) -> Network:
        return reload_network(source.model_copy(update={"weights": str(path)}))

    for path in {files[0], files[-1]}:
        load(path)

    def run() -> ExperimentResult:
        config, out = job.config.dissect_config([job.layer]), job.out / "training-dynamics"
        snapshots = dissected_checkpoints(load, folder, job.concepts, config, out=out, progress=job.progress)
        return training_dynamics(snapshots, TrainingDynamicsConfig(layer=job.layer))

    return ScheduledExperiment((job.dissection(job.first, [job.layer], len(files)),), run)


def _run(inputs: TrainingDynamicsInputs, out: Path, progress: Progress | None) -> ExperimentResult:
    config = inputs.config
    if not isinstance(inputs.snapshots, Path):
        return training_dynamics(inputs.snapshots, config)
    if inputs.network is None:
        return training_dynamics(dissected_runs(inputs.snapshots), config)
    if inputs.data is None or config.layer is None:
        raise ConfigError("checkpoints are to be dissected: name a data set with --concepts, and --layer.")
    dissection = at_quantile(inputs.dissect, (config.layer,), config.quantile)
    snapshots = dissected_checkpoints(
        inputs.at_checkpoint(), inputs.snapshots, inputs.data, dissection, out=out, progress=progress
    )
    return training_dynamics(snapshots, config)


TRAINING_DYNAMICS = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=TrainingDynamicsConfig,
    inputs=TrainingDynamicsInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=run_synthetic,
    extra_tables=("units", "changes", OVER_IMAGES),
    defaults={"dissect": {"batch_size": 32, "layers": ("last",)}},
)
