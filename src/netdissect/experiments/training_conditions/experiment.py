"""Train one configuration under several conditions: seeds, dropout, batch normalization, widths, depths.

All conditions of an experiment see the same images for equally many steps, and each is trained from the same seeds, so
that differences are paired.

Source: Bau et al. 2017 :cite:p:`bau2017network`, sections 3.4 to 3.7.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import polars as pl
from pydantic import Field

from netdissect.config import Progress, Rule
from netdissect.config_fields import Config
from netdissect.dissect.work_dir.run_log import timed
from netdissect.experiments.counts import count_rows, null_note
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded, join_sentences
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import Cost, ReproduceJob, ScheduledExperiment
from netdissect.experiments.training_conditions.conditions import CONDITIONS, ConditionCounts
from netdissect.result import Result
from netdissect.scoring import passes
from netdissect.training.choices import ConditionName, ScaleName
from netdissect.training.scene_net import random_network
from netdissect.training.train import training_seconds
from netdissect.training.workspace import SCALES, Scale, Workspace


class TrainingConditionsConfig(Config):
    """Which conditions are compared, and at which scale."""

    condition: ConditionName = Field(description="What is changed.")
    scale: Scale = Field(description="Base configuration, seeds and quantiles; the first quantile decides.")
    rule: Rule = Field("per-category", description="Published rule by which the figure and the conclusion count.")


class TrainingConditionsInputs(Config):
    """Inputs of the commands."""

    scale: ScaleName = Field("small", description="Size of the synthetic data set and the networks.")
    seeds: int | None = Field(None, ge=1, description="Networks of each condition. None: those of the scale.")
    steps: int | None = Field(None, ge=1, description="Optimizer steps, equal for all. None: those of the scale.")

    def workspace(self, out: Path, progress: Progress | None) -> Workspace:
        """Return the workspace of these networks."""
        scale = SCALES[self.scale]
        train_config = scale.train_config.model_copy(update={"steps": self.steps or scale.train_config.steps})
        changed = scale.model_copy(update={"train_config": train_config, "seeds": self.seeds or scale.seeds})
        return Workspace(out, changed, progress)


def training_conditions(name: ConditionName, workspace: Workspace) -> ExperimentResult:
    """Train under several conditions, and compare the detectors of the last convolutions.

    Parameters
    ----------
    name
        What is changed.
    workspace
        Images, base configuration, seeds; networks and runs that are there are reused.

    Returns
    -------
    ExperimentResult
        `table`: condition, seed, accuracy (share of held-out images whose scene is classified correctly), layer,
        quantile, rule, category, units, detectors, unique_detectors.

        `extra_tables["pairs"]`: for each two seeds of a condition, concepts (that both detect, as a share of those
        that either does) and units (share that detect the same concept).
    """
    scale, seconds = workspace.scale, dict[str, float]()
    rows: list[pl.DataFrame] = []
    pairs: list[dict[str, object]] = []
    conditions = CONDITIONS[name].changes(scale.train_config)
    done, total = 0, len(conditions) * scale.seeds
    for condition, changes in conditions.items():
        results: dict[int, Result] = {}
        for seed in range(scale.seeds):
            with timed("train", seconds):
                trained = workspace.trained(workspace.train_config(**changes, seed=seed))
            with timed("dissect", seconds):
                results[seed] = workspace.dissected(trained)
            rows.append(count_rows(results[seed], condition=condition, seed=seed, accuracy=trained.accuracy))
            done += 1
            if workspace.progress:
                workspace.progress(f"{name}: networks", done, total)
        pairs += [{"condition": condition} | pair for pair in _pairs(results, scale.quantiles[0])]
    context = {
        "quantile": scale.quantiles[0],
        "conditions": {condition: dict(changes) for condition, changes in conditions.items()},
    }
    config, extra = (
        TrainingConditionsConfig(condition=name, scale=scale),
        {"pairs": pl.DataFrame(pairs, schema=_PAIRS)},
    )
    return concluded(name, config, pl.concat(rows), conclude, context=context, extra_tables=extra, seconds=seconds)


def conclude(
    table: pl.DataFrame, config: TrainingConditionsConfig, *, extra: Mapping[str, pl.DataFrame] = NO_TABLES
) -> Conclusion:
    """Conclude whether the conditions differ as the paper found.

    Parameters
    ----------
    table
        Of `training_conditions`.
    config
        Of the experiment.
    extra
        ``pairs``, by which seeds are compared.
    """
    condition, scale = CONDITIONS[config.condition], config.scale
    deciding = table.filter(quantile=scale.quantiles[0], rule=config.rule)
    finding, outcome = condition.decide(ConditionCounts(deciding, extra))
    accuracies = deciding.group_by("condition", maintain_order=True).agg(pl.col("accuracy").mean()).rows()
    listed = ", ".join(f"{name} {accuracy:.0%}" for name, accuracy in accuracies)
    return Conclusion(
        question=condition.question,
        paper=condition.paper,
        finding=join_sentences(
            finding,
            null_note(deciding),
            f"Accuracy: {listed}. {scale.seeds} seeds each, {scale.train_config.steps} steps.",
        ),
        outcome=outcome,
    )


_PAIRS = {"condition": pl.String, "left": pl.Int64, "right": pl.Int64, "concepts": pl.Float64, "units": pl.Float64}


def _pairs(results: Mapping[int, Result], quantile: float) -> list[dict[str, object]]:
    """Compare each two seeds: which concepts they share, and whether the same units detect them."""
    pairs: list[dict[str, object]] = []
    labels = {seed: _labels(result, quantile) for seed, result in results.items()}
    for left, right in combinations(labels, 2):
        first, second = labels[left], labels[right]
        either = set(first.values()) | set(second.values())
        both = set(first.values()) & set(second.values())
        units = set(first) | set(second)
        same = sum(first.get(unit) == second.get(unit) for unit in units)
        pairs.append(
            {
                "left": left,
                "right": right,
                "concepts": len(both) / len(either) if either else None,
                "units": same / len(units) if units else None,
            }
        )
    return pairs


def _labels(result: Result, quantile: float) -> dict[int, str]:
    """Return the label of each unit that is a detector, by top label."""
    (layer,) = result.layers
    units = result.layer(layer).units.filter(
        pl.col("quantile") == quantile,
        passes(pl.col("iou"), "top-label", result.info.min_iou(layer)),
        pl.col("label").is_not_null(),
    )
    return dict(units.select("unit", "label").rows())


def _requirements(name: ConditionName, job: ReproduceJob) -> ScheduledExperiment:
    if job.config.train is None:
        return ScheduledExperiment.without("needs --train small, to train networks on the synthetic data set")
    scale = SCALES[job.config.train]
    configs = CONDITIONS[name].train_configs(scale.train_config)
    seconds = sum(training_seconds(random_network(config), config) for config in configs.values())
    words = (
        f"{', '.join(configs)}: {len(configs) * scale.seeds} networks of {scale.train_config.steps} steps on synthetic "
        f"images, each dissected on {scale.images:,} more; what several conditions share is trained once"
    )
    return ScheduledExperiment(
        (Cost(words, 0, scale.seeds * seconds),), lambda: training_conditions(name, job.workspace)
    )


def _experiment(name: ConditionName) -> Experiment:
    def run(inputs: TrainingConditionsInputs, out: Path, progress: Progress | None) -> ExperimentResult:
        return training_conditions(name, inputs.workspace(out, progress))

    return Experiment(
        question=CONDITIONS[name].question,
        paper=CONDITIONS[name].paper,
        config=TrainingConditionsConfig,
        inputs=TrainingConditionsInputs,
        run=run,
        conclude=conclude,
        requirements=lambda job: _requirements(name, job),
        run_synthetic=lambda workspace: training_conditions(name, workspace),
        extra_tables=("pairs",),
        in_subfolder=True,
    )


SEEDS, DROPOUT, BATCHNORM, WIDTH, DEPTH = map(_experiment, CONDITIONS)
