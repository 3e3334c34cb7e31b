"""How detectors emerge over training: from snapshots of the weights, or from runs that a callback made.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.6.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import polars as pl
import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats
from torch import nn

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, NetworkSource, Progress, Rule
from netdissect.dissect import dissect
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError, ResultError
from netdissect.experiments.counts import (
    OVER_IMAGES,
    TOTAL,
    count_rows,
    difference_over_images,
    interval_over_images,
    largest_unique,
    over_images_table,
)
from netdissect.experiments.effect_sizes import Interval, decide, paired_difference
from netdissect.experiments.outcome import Conclusion, ConclusionOutcome, ExperimentResult
from netdissect.models import Network, reload_network
from netdissect.result import Result, load_result
from netdissect.result.files import RUN_FILE, write_whole
from netdissect.scoring import passes
from netdissect.training.scene_net import TrainConfig, preprocessing, random_network
from netdissect.training.workspace import Workspace

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
QUESTION = "How do detectors emerge during training, and do units change what they are for?"
PAPER = (
    "Detectors emerge gradually, objects from about 10,000 iterations on; units do not turn from one category into "
    "another."
)


class Snapshot(NamedTuple):
    """One moment of one training: iterations done, the dissection, and which training it was."""

    step: int
    result: Result
    seed: int = 0


class TrainingDynamicsConfig(BaseModel):
    """What of the snapshots decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str | None = Field(None, description="None: the last of the runs.")
    quantile: float | None = Field(None, gt=0, lt=1, description="None: the first of the runs.")
    rule: Rule = Field("per-category", description="Which published rule the figure and the verdict count by.")


def training_dynamics(moments: Iterable[Snapshot], config: TrainingDynamicsConfig | None = None) -> ExperimentResult:
    """Follow the detectors of one layer over training.

    Parameters
    ----------
    moments
        From `dissected_checkpoints`, `dissected_runs` or a callback such as `netdissect.DissectEvery`.
    config
        Which layer and quantile.

    Returns
    -------
    Outcome
        Its table: seed, step, layer, quantile, rule, category, units, detectors, unique. Beside it ``units``: seed,
        step, unit, label, category, iou, detector; ``changes``: seed, unit, step and next_step, category and
        next_category of every unit that is a detector at two moments that follow each other, of other categories;
        and ``over_images``: the growth of a single training from its first to its last step by the bootstrap over
        images.

    Raises
    ------
    ConfigError
        If there are fewer than two moments, or a run lacks the layer or quantile.
    ResultError
        If the first and the last run of a single training saw different images.
    """
    config = config or TrainingDynamicsConfig()
    ordered = sorted(moments, key=lambda moment: (moment.seed, moment.step))
    if len({moment.step for moment in ordered}) < 2:
        raise ConfigError(
            f"There are {len(ordered)} snapshots. Expected at least two moments of a training to compare."
        )
    first = ordered[0].result
    layer = first.layer(config.layer or list(first.layers)[-1]).info.name
    quantile = config.quantile or first.info.config.protocol.quantiles[0]
    table = pl.concat(
        count_rows(moment.result, [layer], seed=moment.seed, step=moment.step).cast(
            {"seed": pl.Int64, "step": pl.Int64}
        )
        for moment in ordered
    )
    units = pl.concat(_units(moment, layer, quantile) for moment in ordered)
    if units.is_empty():
        raise ConfigError(f"The runs have no quantile {quantile}. Name one that all of them have.")
    config = config.model_copy(update={"layer": layer, "quantile": quantile})
    asked = config.model_dump(mode="json") | {"network": first.info.network.model_dump(mode="json")}
    over_images = _over_images(ordered, layer, quantile, config.rule)
    further = {"units": units, "changes": _changed(_followed(units)), OVER_IMAGES: over_images}
    return ExperimentResult("training-dynamics", table, conclude(table, config, extra=further), asked, {}, further)


def checkpoint_steps(folder: str | Path) -> dict[int, Path]:
    """Return the checkpoints of a folder by iteration: the last number in each file's name.

    Raises
    ------
    ResultError
        If there are none, or two of one iteration.
    """
    files = sorted(path for path in Path(folder).glob("*") if path.suffix in SUFFIXES)
    return _by_step(files, Path(folder), f"checkpoint files ({', '.join(SUFFIXES)})")


def _by_step(paths: Sequence[Path], folder: Path, what: str) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for path in paths:
        numbers = re.findall(r"\d+", path.stem if path.is_file() else path.name)
        if not numbers:
            continue
        step = int(numbers[-1])
        if step in found:
            raise ResultError(
                f"{found[step].name} and {path.name} in {folder} are both of iteration {step}: the last number in a "
                "name is the iteration. Rename or move one of them."
            )
        found[step] = path
    if not found:
        raise ResultError(
            f"{folder} holds no {what} with a number in their names. Expected one for each moment of the training, "
            "such as step-1000.pt."
        )
    return dict(sorted(found.items()))


def dissected_checkpoints(
    source: NetworkSource,
    folder: str | Path,
    concepts: ConceptData | str | Path,
    config: DissectConfig,
    *,
    out: str | Path,
    progress: Progress | None = None,
) -> Iterator[Snapshot]:
    """Dissect a network with the weights of each checkpoint in a folder.

    Parameters
    ----------
    source
        What to load; its weights are those of the checkpoints.
    folder
        See `checkpoint_steps`.
    concepts, config
        What to measure.
    out
        Runs are kept in ``OUT/runs/step-N``.
    progress
        Told of every stage.
    """
    files = checkpoint_steps(folder)
    for done, (step, path) in enumerate(files.items()):
        if progress:
            progress("snapshots", done, len(files))
        network = reload_network(source.model_copy(update={"weights": str(path)}))
        run = Path(out) / "runs" / f"step-{step:08}"
        yield Snapshot(step, dissect(network, concepts, config, out=run, progress=progress))
    if progress:
        progress("snapshots", len(files), len(files))


def dissected_runs(folder: str | Path) -> list[Snapshot]:
    """Open the runs that a callback made: ``FOLDER/step-N``.

    Raises
    ------
    ResultError
        If there are none, or one is damaged.
    """
    runs = sorted(path.parent for path in Path(folder).glob(f"*/{RUN_FILE}"))
    return [Snapshot(step, load_result(path)) for step, path in _by_step(runs, Path(folder), "finished runs").items()]


def training_dynamics_synthetic(bench: Workspace) -> ExperimentResult:
    """Follow the trainings of the bench's network from every seed."""
    seconds: dict[str, float] = {}
    moments: list[Snapshot] = []
    for seed in range(bench.scale.seeds):
        recipe = bench.recipe(seed=seed)
        with timed("train", seconds):
            networks = _watched(bench, recipe)
        with timed("dissect", seconds):
            for step, network in networks.items():
                run = bench.folder("training-dynamics") / "runs" / f"seed-{seed}-step-{step:08}"
                measured = bench.measured(recipe.layers[-1:], replicates=0)
                moments.append(Snapshot(step, dissect(network, bench.data, measured, out=run), seed))
        if bench.progress:
            bench.progress("snapshots: trainings", seed + 1, bench.scale.seeds)
    outcome = training_dynamics(moments)
    outcome.seconds.update(seconds)
    return outcome


def _watched(bench: Workspace, recipe: TrainConfig) -> dict[int, Network]:
    """Train once more, and keep the weights at moments that lie ever further apart."""
    count = bench.scale.snapshots
    steps = sorted({round(recipe.steps * (2.0**place - 1) / (2.0 ** (count - 1) - 1)) for place in range(count)})
    files = {
        step: bench.folder("training-dynamics") / "weights" / f"seed-{recipe.seed}-step-{step}.safetensors"
        for step in steps
    }

    def watch(step: int, module: nn.Module) -> None:
        if step in files:
            weights = {name: value.contiguous() for name, value in module.state_dict().items()}
            write_whole(files[step], lambda file: file.write(safetensors.torch.save(weights)))

    if not all(path.exists() for path in files.values()):
        next(iter(files.values())).parent.mkdir(parents=True, exist_ok=True)
        bench.train(recipe, watch)
    networks: dict[int, Network] = {}
    for step, path in files.items():
        module = random_network(recipe)
        module.load_state_dict(safetensors.torch.load_file(path))
        networks[step] = Network(f"scene network, {step} steps", module, preprocessing(recipe.size))
    return networks


def _units(moment: Snapshot, layer: str, quantile: float) -> pl.DataFrame:
    level = moment.result.info.min_iou(layer)
    passing = passes(pl.col("iou"), "top-label", level) & pl.col("label").is_not_null()
    units = moment.result.layer(layer).units.filter(pl.col("quantile") == quantile)
    return units.select(
        pl.lit(moment.seed, pl.Int64).alias("seed"),
        pl.lit(moment.step, pl.Int64).alias("step"),
        "unit",
        "label",
        "category",
        "iou",
        passing.alias("detector"),
    )


def _over_images(moments: Sequence[Snapshot], layer: str, quantile: float, rule: Rule) -> pl.DataFrame:
    """Measure the growth of a single training over replicates of the images; several are compared over seeds."""
    runs: dict[int, dict[int, Result]] = {}
    for moment in moments:
        runs.setdefault(moment.seed, {})[moment.step] = moment.result
    steps = [moment.step for moment in moments]
    first, last = min(steps), max(steps)
    whole = [run for run in runs.values() if first in run and last in run]
    if len(whole) != 1:
        return over_images_table({})
    ends = whole[0][first], whole[0][last]
    growth = difference_over_images(*ends, [(layer, layer)], quantile=quantile, rule=rule)
    return over_images_table({(str(first), str(last)): growth})


def _followed(units: pl.DataFrame) -> pl.DataFrame:
    """Follow detectors to the next moment: seed, unit, step, next_step, category, next_category."""
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


def conclude(table: pl.DataFrame, config: TrainingDynamicsConfig, *, extra: Mapping[str, pl.DataFrame]) -> Conclusion:
    """Say whether detectors grow over training, and whether units keep their category.

    Parameters
    ----------
    table
        Of `training_dynamics`.
    config
        Of the experiment.
    extra
        Tables beside it: ``units`` and, where a single training is followed, ``over_images``.
    """
    rows = table.filter(quantile=config.quantile or table["quantile"][0], rule=config.rule)
    totals = rows.filter(category=TOTAL).sort("step")
    course = totals.group_by("step", maintain_order=True).agg(pl.col("unique_detectors").mean()).rows()
    told = ", ".join(f"{unique:.3g} at {step:,}" for step, unique in course)
    growth, over = _growth(rows, extra)
    grown: ConclusionOutcome = "not established" if growth is None else decide(growth, "more")
    stay, units = _stability(_followed(extra["units"]))
    text = f"Unique detectors: {told}. From first to last they grow by {growth}, {over}." if growth else f"{told}."
    agreement: ConclusionOutcome = grown if grown == stay else "not established"
    if "disagrees" in (grown, stay):
        agreement = "disagrees"
    return Conclusion(question=QUESTION, paper=PAPER, finding=f"{text} {units}", agreement=agreement)


def _stability(followed: pl.DataFrame) -> tuple[ConclusionOutcome, str]:
    """Say whether units keep their category from one moment to the next."""
    if followed.is_empty():
        return "not established", "No unit was a detector at two moments in a row."
    number, changed = len(followed), len(_changed(followed))
    share = stats.binomtest(changed, number).proportion_ci(method="wilson")
    stay: ConclusionOutcome = "agrees" if share.high < 0.5 else "disagrees" if share.low > 0.5 else "not established"
    return stay, (
        f"Of {number} times that a unit was a detector at two moments in a row, its category changed {changed} "
        f"times ({changed / number:.0%}, interval {share.low:.0%} to {share.high:.0%})."
    )


def _growth(rows: pl.DataFrame, extra: Mapping[str, pl.DataFrame]) -> tuple[Interval | None, str]:
    """Return the growth from the first to the last moment: over seeds, or over the images of a single training."""
    totals, steps = rows.filter(category=TOTAL), rows["step"].unique().sort()
    first, last = (totals.filter(step=step) for step in (steps[0], steps[-1]))
    both = first.join(last, on="seed", suffix="_last").sort("seed")
    if len(both) > 1:
        most = largest_unique(rows)
        growth = paired_difference(both["unique_detectors"].to_list(), both["unique_detectors_last"].to_list())
        return growth.within(-most, most), "over seeds"
    return interval_over_images(extra, str(steps[0]), str(steps[-1])), "by the bootstrap over images"
