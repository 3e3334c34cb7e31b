"""What people say about the labels of units: whether they accept them, and agree with one another.

A CSV file of ratings, one row for each answer:

    run, layer, unit, label    which label of which unit was shown
    iou                        with which IoU the unit bears it
    rater, rating, time        who answered, yes or no, and when (ISO 8601)

A rater who answers twice about the same label has changed their mind: the later answer counts.

Source: Bau et al. 2017 :cite:p:`bau2017network`, section 3.1.
"""

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field
from scipy import stats

from netdissect.cli_options import Option
from netdissect.config import OneOrMore
from netdissect.errors import ResultError
from netdissect.experiments.effect_sizes import Interval, decide, difference_of_means, quantile_interval
from netdissect.experiments.outcome import Conclusion, ExperimentResult
from netdissect.extras import need
from netdissect.paths import check_regular
from netdissect.result.csv_frames import plain_frame
from netdissect.scoring import passes

krippendorff, metrics = (
    need(module, "experiments", "Agreement of raters") for module in ("krippendorff", "sklearn.metrics")
)

Floats = npt.NDArray[np.float64]

COLUMNS = ("run", "layer", "unit", "label", "iou", "rater", "rating", "time")
_TIME = pl.Datetime("us", "UTC")
ITEM = ("run", "layer", "unit", "label")
ALL = "all layers"
LARGEST = 64 * 2**20
"""Bytes of a file of ratings: a million answers."""

QUESTION = "Do people accept the labels, more so in higher layers?"
PAPER = (
    "On AlexNet-Places, raters accept the method's labels of 37, 56, 54, 59 and 71 % of the interpretable units of "
    "conv1 to conv5: more at the top."
)


class RaterAgreementConfig(BaseModel):
    """How ratings are summed up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: Annotated[tuple[str, ...] | None, OneOrMore, Option("--layer", metavar="LAYER")] = Field(
        None, description="From the first to the last. None: in the order in which the ratings name them."
    )
    min_iou: float = Field(0.04, ge=0, lt=1, description="Labels of at least this IoU are those of detectors.")
    seed: Annotated[int, Option("--stats-seed")] = Field(0, ge=0, description="Seed of the bootstrap.")
    resamples: int = Field(2000, ge=100, description="Resamples of the bootstrap over labels.")


def read_ratings(path: str | Path) -> pl.DataFrame:
    """Read a file of ratings.

    Parameters
    ----------
    path
        CSV, UTF-8, with a header; columns beyond those needed are ignored.

    Returns
    -------
    DataFrame
        run, layer (String), unit (Int64), label (String), iou (Float64), rater (String), accepted (Boolean), time;
        one row for each label and rater, the last answer.

    Raises
    ------
    ResultError
        If it is missing, no such table, empty, too large, or holds a value that cannot be; names the line.
    """
    path = Path(path)
    try:
        check_regular(path)
        if path.stat().st_size > LARGEST:
            raise ResultError(
                f"{path} has {path.stat().st_size:,} bytes. Expected a file of at most {LARGEST:,} bytes; split it."
            )
        text = path.read_text(encoding="utf-8-sig")
        raw = plain_frame(pl.read_csv(io.BytesIO(text.encode()), infer_schema=False, truncate_ragged_lines=False))
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise ResultError(
            f"{path} cannot be read as a table of ratings ({reason}). Expected UTF-8 text with the header "
            f"{','.join(COLUMNS)}, as the explorer exports it."
        ) from error
    missing = [name for name in COLUMNS if name not in raw.columns]
    if missing:
        raise ResultError(
            f"{path} lacks the column {missing[0]!r}; its header is {','.join(raw.columns)[:200]!r}. Expected "
            f"{','.join(COLUMNS)}."
        )
    if raw.is_empty():
        raise ResultError(f"{path} holds no rating. Expected at least one row below the header.")
    return _checked(raw.select(COLUMNS), path)


def rater_agreement(ratings: pl.DataFrame | str | Path, config: RaterAgreementConfig | None = None) -> ExperimentResult:
    """Say which share of labels raters accept, how well they agree, and whether IoU tells.

    Parameters
    ----------
    ratings
        A CSV file, or what `read_ratings` made of it.
    config
        None: layers in the order of the file.

    Returns
    -------
    Outcome
        `table`: one row for each layer, and one for all: layer, labels (that were rated), raters, ratings, accepted
        (labels that more than half of their raters accept), share with low and high (Wilson), detectors (labels
        above the limit) and detectors_share, consistency (share of pairs of raters who answer alike), alpha with
        alpha_low and alpha_high, auroc with auroc_low and auroc_high (of IoU for acceptance). Null where it is not
        defined. `further["labels"]`: run, layer, unit, label, iou, raters, yes, accepted.

    Raises
    ------
    ResultError
        See `read_ratings`; or a layer of the config has no rating.

    Notes
    -----
    Alpha is Krippendorff's for nominal data :cite:p:`krippendorff2011computing`: 1 is full agreement, 0 what chance
    gives. The area under the ROC curve is the chance that an accepted label has a higher IoU than a rejected one.
    Both intervals are percentile bootstraps over labels.
    """
    config = config or RaterAgreementConfig()
    frame = ratings if isinstance(ratings, pl.DataFrame) else read_ratings(ratings)
    layers = _layers(frame, config)
    frame = frame.filter(pl.col("layer").is_in(layers))
    labels = _per_label(frame)
    rows = [_row(layer, frame.filter(layer=layer), labels.filter(layer=layer), config) for layer in layers]
    rows.append(_row(ALL, frame, labels, config))
    made = config.model_dump(mode="json") | {
        "layers": layers,
        "ratings": None if isinstance(ratings, pl.DataFrame) else str(ratings),
    }
    table = pl.DataFrame(rows, infer_schema_length=None)
    further = {"labels": labels}
    return ExperimentResult("rater-agreement", table, conclude(table, config, extra=further), made, {}, further)


def conclude(table: pl.DataFrame, config: RaterAgreementConfig, *, extra: Mapping[str, pl.DataFrame]) -> Conclusion:
    """Compare the share of accepted labels in the last layer with that in the first.

    Parameters
    ----------
    table
        Of `rater_agreement`.
    config
        Seed of the bootstrap.
    extra
        ``labels``, with each one's layer and whether it is accepted.

    Returns
    -------
    Verdict
        Agrees if the interval of the difference lies above 0.
    """
    *rows, whole = table.iter_rows(named=True)
    shares = ", ".join(f"{row['layer']} {row['share']:.0%} of {row['labels']}" for row in rows)
    found = f"Raters accept these labels: {shares}."
    if whole["alpha"] is not None:
        found += (
            f" Krippendorff's alpha is {whole['alpha']:.2f} ({whole['alpha_low']:.2f} to {whole['alpha_high']:.2f}); "
            f"two raters of one label answer alike in {whole['consistency']:.0%}."
        )
    if whole["auroc"] is not None:
        found += (
            f" A label that is accepted has a higher IoU than one that is not in {whole['auroc']:.0%} of pairs "
            f"({whole['auroc_low']:.0%} to {whole['auroc_high']:.0%})."
        )
    if len(rows) < 2:
        return Conclusion(question=QUESTION, paper=PAPER, finding=found, agreement="not compared")
    layers = [row["layer"] for row in (rows[0], rows[-1])]
    first, last = (extra["labels"].filter(layer=name)["accepted"].cast(pl.Float64).to_list() for name in layers)
    rise = difference_of_means(first, last, config.seed)
    found += f" From {layers[0]} to {layers[1]} the share changes by {rise}, bootstrap over labels."
    return Conclusion(question=QUESTION, paper=PAPER, finding=found, agreement=decide(rise, "more"))


def _checked(raw: pl.DataFrame, path: Path) -> pl.DataFrame:
    raw = raw.with_columns(pl.col(*COLUMNS).str.strip_chars().replace("", None))
    numbered = raw.with_row_index("line", offset=2)
    unit, value = pl.col("unit").cast(pl.Int64, strict=False), pl.col("iou").cast(pl.Float64, strict=False)
    # The order of answers has to be one of time, not of text: "12:00+02:00" is before "11:00Z".
    numbered = numbered.with_columns(pl.Series("moment", [_moment(text) for text in numbered["time"]], _TIME))
    rules = {
        "run": (pl.col("run").is_not_null(), "the name of a run"),
        "layer": (pl.col("layer").is_not_null(), "the name of a layer"),
        "unit": (unit >= 0, "a whole number from 0"),
        "label": (pl.col("label").is_not_null(), "the label that was shown"),
        "iou": (value.is_finite() & (value >= 0) & (value <= 1), "a number from 0 to 1"),
        "rater": (pl.col("rater").is_not_null(), "a name or number of the rater"),
        "rating": (pl.col("rating").str.to_lowercase().is_in(["yes", "no"]), "yes or no"),
        "time": (pl.col("moment").is_not_null(), "a time such as 2024-05-01T12:30:00Z"),
    }
    for name, (rule, expected) in rules.items():
        wrong = numbered.filter(~rule.fill_null(value=False))
        if len(wrong):
            seen = wrong[name][0]
            raise ResultError(
                f"{path}, line {wrong['line'][0]}: {name} is {'empty' if seen is None else repr(seen[:80])}. Expected "
                f"{expected}; correct the line, or export the ratings again."
            )
    typed = numbered.select(
        "line", "run", "layer", unit, "label", value, "rater",
        (pl.col("rating").str.to_lowercase() == "yes").alias("accepted"),
        pl.col("moment").alias("time"),
    )  # fmt: skip
    last = typed.sort("time", "line").unique([*ITEM, "rater"], keep="last", maintain_order=True)
    return last.sort("line").drop("line")


def _moment(text: str | None) -> datetime | None:
    """Read a time; one without a zone is taken as UTC."""
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _layers(frame: pl.DataFrame, config: RaterAgreementConfig) -> list[str]:
    found = frame["layer"].unique(maintain_order=True).to_list()
    for name in config.layers or ():
        if name not in found:
            raise ResultError(
                f"no rating is about layer {name!r}; the ratings are about {', '.join(found)}. Name some of these, "
                "from the first to the last."
            )
    return list(config.layers or found)


def _per_label(frame: pl.DataFrame) -> pl.DataFrame:
    grouped = frame.group_by(ITEM, maintain_order=True)
    labels = grouped.agg(pl.col("iou").last(), pl.len().alias("raters"), pl.col("accepted").sum().alias("yes"))
    # Half of the raters are no majority: a tie is not accepted.
    return labels.with_columns(accepted=2 * pl.col("yes") > pl.col("raters"))


def _row(layer: str, frame: pl.DataFrame, labels: pl.DataFrame, config: RaterAgreementConfig) -> dict[str, object]:
    accepted = int(labels["accepted"].sum())
    detectors = labels.filter(passes(pl.col("iou"), "top-label", config.min_iou))
    share = stats.binomtest(accepted, len(labels)).proportion_ci(method="wilson")
    alpha, auroc = _alpha(labels, config), _auroc(labels, config)
    return {
        "layer": layer,
        "labels": len(labels),
        "raters": frame["rater"].n_unique(),
        "ratings": len(frame),
        "accepted": accepted,
        "share": accepted / len(labels),
        "low": float(share.low),
        "high": float(share.high),
        "detectors": len(detectors),
        "detectors_share": float(detectors["accepted"].to_numpy().mean()) if len(detectors) else None,
        "consistency": _consistency(labels),
        **_named("alpha", alpha),
        **_named("auroc", auroc),
    }


def _named(name: str, interval: Interval | None) -> dict[str, float | None]:
    values = (None, None, None) if interval is None else (interval.mean, interval.low, interval.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _consistency(labels: pl.DataFrame) -> float | None:
    """Return the share of pairs of raters of the same label who answer alike; None: no label has two raters."""
    yes, raters = labels["yes"].to_numpy().astype(np.int64), labels["raters"].to_numpy().astype(np.int64)
    no, pairs = raters - yes, (raters * (raters - 1)).sum()
    return float((yes * (yes - 1) + no * (no - 1)).sum() / pairs) if pairs else None


def _alpha(labels: pl.DataFrame, config: RaterAgreementConfig) -> Interval | None:
    yes, raters = labels["yes"].to_numpy().astype(np.float64), labels["raters"].to_numpy().astype(np.float64)
    counts = np.stack([yes, raters - yes], axis=1)[raters >= 2]  # a single answer agrees with nobody
    if len(counts) < 2 or (counts.sum(axis=0) == 0).any():
        return None  # one label tells nothing of others; where all answers are the same, chance agrees as well
    value = float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
    return _interval(value, weighted_alpha(counts, _weights([len(counts)], config)), len(counts))


def _auroc(labels: pl.DataFrame, config: RaterAgreementConfig) -> Interval | None:
    accepted, iou = labels["accepted"].to_numpy(), labels["iou"].to_numpy()
    yes, no = iou[accepted], iou[~accepted]
    if len(yes) == 0 or len(no) == 0:
        return None
    # Accepted and rejected labels are drawn each among themselves: every sample has both.
    left, right = np.split(_weights([len(yes), len(no)], config), [len(yes)], axis=1)
    return _interval(float(metrics.roc_auc_score(accepted, iou)), weighted_auroc(yes, no, left, right), len(iou))


def weighted_alpha(counts: Floats, weights: Floats) -> Floats:
    """Return Krippendorff's alpha of yes and no for many weightings of labels at once.

    Parameters
    ----------
    counts : float64 (N, 2)
        How many raters said yes and no of each label, at least two.
    weights : float64 (R, N)
        How often each label is there.

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
    """Return the chance that a value of `yes` exceeds one of `no` (a tie: half), for many weightings at once.

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
    """Draw how often each place is taken when each group is resampled by itself: float64 (R, sum of sizes)."""
    rng = np.random.default_rng(config.seed)
    drawn = [rng.multinomial(size, np.full(size, 1 / size), size=config.resamples) for size in sizes]
    return np.concatenate(drawn, axis=1).astype(np.float64)


def _interval(value: float, replicates: Floats, number: int) -> Interval:
    return quantile_interval(replicates[np.isfinite(replicates)].tolist())._replace(mean=value, number=number)
