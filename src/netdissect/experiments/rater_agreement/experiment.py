"""Labels that raters accept, and agreement between the raters.

    read_ratings(CSV) -> rater_agreement -> share of accepted labels, agreement, and IoU as a predictor, by layer

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.1.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy
from pydantic import Field, InstanceOf

from netdissect.config import OneOrMore, Progress
from netdissect.config_fields import Config, Option
from netdissect.errors import ResultError
from netdissect.experiments.effect_sizes import Interval, decide, difference_of_means, quantile_interval
from netdissect.experiments.outcome import NO_TABLES, Conclusion, ExperimentResult, concluded
from netdissect.experiments.rater_agreement.rating_tables import ITEM, read_ratings
from netdissect.experiments.registry import Experiment
from netdissect.experiments.reproduce.schedule import Cost, ReproduceJob, ScheduledExperiment
from netdissect.extras import need
from netdissect.scoring import passes

krippendorff, metrics = (
    need(module, "experiments", "Agreement of raters") for module in ("krippendorff", "sklearn.metrics")
)

Floats = npt.NDArray[np.float64]

ALL = "all layers"

QUESTION = "Do people accept the labels, more so in higher layers?"
PAPER = (
    "On AlexNet-Places, raters accept the method's labels of 37, 56, 54, 59 and 71 % of the interpretable units of "
    "conv1 to conv5: more at the top."
)


class RaterAgreementConfig(Config):
    """How ratings are summarized."""

    layers: Annotated[tuple[str, ...] | None, OneOrMore, Option("--layer")] = Field(
        None, description="Layers from the first to the last; repeats. None: in the order of the file."
    )
    min_iou: float = Field(0.04, ge=0, lt=1, description="Labels of at least this IoU are those of detectors.")
    seed: Annotated[int, Option("--stats-seed")] = Field(0, ge=0, description="Seed of the bootstrap.")
    resamples: int = Field(2000, ge=100, description="Replicates of the bootstrap over labels.")


class RaterAgreementInputs(Config):
    """Inputs of the command."""

    ratings: Annotated[InstanceOf[pl.DataFrame] | Path, Option(argument=True, metavar="CSV")] = Field(
        description="Ratings, as the explorer exports them."
    )
    config: RaterAgreementConfig = Field(default_factory=RaterAgreementConfig)


def rater_agreement(ratings: pl.DataFrame | str | Path, config: RaterAgreementConfig | None = None) -> ExperimentResult:
    """Measure the share of labels that raters accept, their agreement, and how well IoU predicts acceptance.

    Parameters
    ----------
    ratings
        A CSV file, or the result of `read_ratings`.
    config
        None: layers in the order of the file.

    Returns
    -------
    ExperimentResult
        `table`: one row for each layer, and one for all: layer, labels (that were rated), raters, ratings, accepted
        (labels that more than half of their raters accept), accepted_share with its Wilson interval, detectors (labels
        above the limit) and detectors_accepted_share, percent_agreement (share of pairs of raters who answer alike),
        alpha, and auroc (of IoU for acceptance), both with intervals. Null where it is not defined.

        `extra_tables["labels"]`: run, layer, unit, label, iou, raters, yes, accepted.

    Raises
    ------
    ResultError
        See `read_ratings`; or a layer of the config has no rating.

    Notes
    -----
    Alpha is Krippendorff's for nominal data :cite:p:`krippendorff2011computing`: 1 is full agreement, 0 the
    agreement of random answers. The area under the ROC curve is the probability that an accepted label has a higher
    IoU than a rejected one. Both intervals are percentile bootstraps over labels.
    """
    config = config or RaterAgreementConfig()
    frame = ratings if isinstance(ratings, pl.DataFrame) else read_ratings(ratings)
    layers = _layers(frame, config)
    frame = frame.filter(pl.col("layer").is_in(layers))
    labels = _per_label(frame)
    rows = [_row(layer, frame.filter(layer=layer), labels.filter(layer=layer), config) for layer in layers]
    rows.append(_row(ALL, frame, labels, config))
    context = {"layers": layers, "ratings": None if isinstance(ratings, pl.DataFrame) else str(ratings)}
    table = pl.DataFrame(rows, infer_schema_length=None)
    extra = {"labels": labels}
    return concluded("rater-agreement", config, table, conclude, context=context, extra_tables=extra)


def conclude(
    table: pl.DataFrame, config: RaterAgreementConfig, *, extra: Mapping[str, pl.DataFrame] = NO_TABLES
) -> Conclusion:
    """Compare the share of accepted labels in the last layer with that in the first.

    Parameters
    ----------
    table
        Of `rater_agreement`.
    config
        Seed of the bootstrap.
    extra
        ``labels``, with the layer of each and whether it is accepted.

    Returns
    -------
    Conclusion
        Agrees if the interval of the difference lies above 0.
    """
    *rows, whole = table.iter_rows(named=True)
    shares = ", ".join(f"{row['layer']} {row['accepted_share']:.0%} of {row['labels']}" for row in rows)
    finding = f"Raters accept these labels: {shares}."
    if whole["alpha"] is not None:
        finding += (
            f" Krippendorff's alpha is {whole['alpha']:.2f} "
            f"({whole['alpha_ci_low']:.2f} to {whole['alpha_ci_high']:.2f}); "
            f"two raters of one label answer alike in {whole['percent_agreement']:.0%}."
        )
    if whole["auroc"] is not None:
        finding += (
            f" A label that is accepted has a higher IoU than one that is not in {whole['auroc']:.0%} of pairs "
            f"({whole['auroc_ci_low']:.0%} to {whole['auroc_ci_high']:.0%})."
        )
    if len(rows) < 2:
        return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome="not compared")
    layers = [row["layer"] for row in (rows[0], rows[-1])]
    first, last = (extra["labels"].filter(layer=name)["accepted"].cast(pl.Float64).to_list() for name in layers)
    rise = difference_of_means(first, last, config.seed)
    finding += f" From {layers[0]} to {layers[1]} the share changes by {rise}, bootstrap over labels."
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, outcome=decide(rise, "more"))


def _layers(frame: pl.DataFrame, config: RaterAgreementConfig) -> list[str]:
    rated = frame["layer"].unique(maintain_order=True).to_list()
    for name in config.layers or ():
        if name not in rated:
            raise ResultError(
                f"no rating is about layer {name!r}; the ratings are about {', '.join(rated)}. Name some of these, "
                "from the first to the last."
            )
    return list(config.layers or rated)


def _per_label(frame: pl.DataFrame) -> pl.DataFrame:
    grouped = frame.group_by(ITEM, maintain_order=True)
    labels = grouped.agg(pl.col("iou").last(), pl.len().alias("raters"), pl.col("accepted").sum().alias("yes"))
    # A tie is no majority: the label is not accepted.
    return labels.with_columns(accepted=2 * pl.col("yes") > pl.col("raters"))


def _row(layer: str, frame: pl.DataFrame, labels: pl.DataFrame, config: RaterAgreementConfig) -> dict[str, object]:
    accepted = int(labels["accepted"].sum())
    detectors = labels.filter(passes(pl.col("iou"), "top-label", config.min_iou))
    share = scipy.stats.binomtest(accepted, len(labels)).proportion_ci(method="wilson")
    alpha, auroc = _alpha(labels, config), _auroc(labels, config)
    return {
        "layer": layer,
        "labels": len(labels),
        "raters": frame["rater"].n_unique(),
        "ratings": len(frame),
        "accepted": accepted,
        "accepted_share": accepted / len(labels),
        "accepted_share_ci_low": float(share.low),
        "accepted_share_ci_high": float(share.high),
        "detectors": len(detectors),
        "detectors_accepted_share": float(detectors["accepted"].to_numpy().mean()) if len(detectors) else None,
        "percent_agreement": _percent_agreement(labels),
        **_named("alpha", alpha),
        **_named("auroc", auroc),
    }


def _named(name: str, interval: Interval | None) -> dict[str, float | None]:
    values = (None, None, None) if interval is None else (interval.mean, interval.low, interval.high)
    return dict(zip((name, f"{name}_ci_low", f"{name}_ci_high"), values, strict=True))


def _percent_agreement(labels: pl.DataFrame) -> float | None:
    """Return the share of pairs of raters of the same label who answer alike; None: no label has two raters."""
    yes, raters = labels["yes"].to_numpy().astype(np.int64), labels["raters"].to_numpy().astype(np.int64)
    no, pairs = raters - yes, (raters * (raters - 1)).sum()
    return float((yes * (yes - 1) + no * (no - 1)).sum() / pairs) if pairs else None


def _alpha(labels: pl.DataFrame, config: RaterAgreementConfig) -> Interval | None:
    yes, raters = labels["yes"].to_numpy().astype(np.float64), labels["raters"].to_numpy().astype(np.float64)
    counts = np.stack([yes, raters - yes], axis=1)[raters >= 2]  # a single answer has no pair
    if len(counts) < 2 or (counts.sum(axis=0) == 0).any():
        return None  # not defined for one label, or if all answers are the same
    value = float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
    return _interval(value, weighted_alpha(counts, _weights([len(counts)], config)), len(counts))


def _auroc(labels: pl.DataFrame, config: RaterAgreementConfig) -> Interval | None:
    accepted, iou = labels["accepted"].to_numpy(), labels["iou"].to_numpy()
    yes, no = iou[accepted], iou[~accepted]
    if len(yes) == 0 or len(no) == 0:
        return None
    # Accepted and rejected labels are resampled separately, so that every sample has both.
    left, right = np.split(_weights([len(yes), len(no)], config), [len(yes)], axis=1)
    return _interval(float(metrics.roc_auc_score(accepted, iou)), weighted_auroc(yes, no, left, right), len(iou))


def weighted_alpha(counts: Floats, weights: Floats) -> Floats:
    """Return Krippendorff's alpha of yes and no for many weightings of labels at once.

    Parameters
    ----------
    counts : float64 (N, 2)
        How many raters said yes and no of each label, at least two.
    weights : float64 (R, N)
        Weight of each label.

    Returns
    -------
    float64 (R,)
        NaN where all answers are the same.

    Notes
    -----
    With two values, ``1 - (n - 1) sum(yes no / (raters - 1)) / (sum(yes) sum(no))`` over labels, n answers in all.
    """
    raters = counts.sum(axis=1)
    apart = weights @ (counts.prod(axis=1) / (raters - 1))
    totals = weights @ counts
    expected = totals.prod(axis=1)
    ratio = np.divide((totals.sum(axis=1) - 1) * apart, expected, out=np.full(len(weights), np.nan), where=expected > 0)
    return np.asarray(1 - ratio)


def weighted_auroc(yes: Floats, no: Floats, left: Floats, right: Floats) -> Floats:
    """Return the probability that a value of `yes` exceeds one of `no` (a tie: half), for many weightings at once.

    Parameters
    ----------
    yes, no : float64 (Y,), (N,)
        Values.
    left, right : float64 (R, Y), (R, N)
        Their weights.
    """
    order = np.sort(no)
    below, upto = (np.searchsorted(order, yes, side=side) for side in ("left", "right"))
    sums = np.concatenate([np.zeros((len(right), 1)), right[:, np.argsort(no)].cumsum(axis=1)], axis=1)
    won = (left * (sums[:, below] + sums[:, upto])).sum(axis=1) / 2
    return np.asarray(won / (left.sum(axis=1) * right.sum(axis=1)))


def _weights(sizes: Sequence[int], config: RaterAgreementConfig) -> Floats:
    """Draw how often each index is taken if each group is resampled by itself: float64 (R, sum of sizes)."""
    rng = np.random.default_rng(config.seed)
    drawn = [rng.multinomial(size, np.full(size, 1 / size), size=config.resamples) for size in sizes]
    return np.concatenate(drawn, axis=1).astype(np.float64)


def _interval(value: float, replicates: Floats, number: int) -> Interval:
    return quantile_interval(replicates[np.isfinite(replicates)].tolist())._replace(mean=value, number=number)


def requirements(job: ReproduceJob) -> ScheduledExperiment:
    """Summarize a file of ratings."""
    path = job.config.ratings
    if path is None:
        return ScheduledExperiment.without("needs --ratings CSV, the ratings that the explorer exports")
    return ScheduledExperiment((Cost(f"{len(read_ratings(path)):,} ratings"),), lambda: rater_agreement(path))


def _run(inputs: RaterAgreementInputs, _out: Path, _progress: Progress | None) -> ExperimentResult:
    return rater_agreement(inputs.ratings, inputs.config)


RATER_AGREEMENT = Experiment(
    question=QUESTION,
    paper=PAPER,
    config=RaterAgreementConfig,
    inputs=RaterAgreementInputs,
    run=_run,
    conclude=conclude,
    requirements=requirements,
    run_synthetic=None,
    extra_tables=("labels",),
)
