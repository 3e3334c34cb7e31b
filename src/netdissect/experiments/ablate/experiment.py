"""Switch units off and see what it costs a classifier.

    single units -> which matter for a class -> the best n, the worst n, all but the best n, n at random

Units are ranked on one half of the pictures and measured on the other, so that chance does not count twice.

Source: Bau et al. 2020 :cite:p:`bau2020understanding`, on the role of units in a scene classifier. Random sets of the
same size are not theirs: they say what it costs to switch so many units off, whichever they are.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from netdissect.cli_options import Option
from netdissect.config import Progress
from netdissect.dissect.work_dir.run_log import timed
from netdissect.errors import ConfigError
from netdissect.experiments.ablate.predictions import Classifier, Predictions, Units, answers
from netdissect.experiments.effect_sizes import Interval, decide, quantile_interval
from netdissect.experiments.outcome import Conclusion, ConclusionOutcome, ExperimentResult
from netdissect.models import Network, resolve_layers
from netdissect.models.surgery.unit_ablation import unit_ablator
from netdissect.result import Result
from netdissect.synthetic import SCENE_NAMES
from netdissect.training.classification_data import LabeledImages, balanced_halves, labeled_by
from netdissect.training.workspace import Workspace

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Kind = Literal["best", "worst", "others", "random"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FEWEST = 5  # pictures of a class below which a bootstrap over them is too narrow to decide
QUESTION = "Do the few units that matter most for a class carry its accuracy?"
PAPER = (
    "In VGG-16 on Places365, switching off the 20 of 512 units that matter most for a class brings its balanced "
    "accuracy down to 53 % on average, near chance; switching off the other 492 costs 3.6 points."
)


class AblateConfig(BaseModel):
    """Which units are switched off, and how they are ranked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str = Field(description="Layer whose units are ablated.")
    sizes: Annotated[tuple[int, ...], Option("--units")] = Field(
        (1, 4, 20), min_length=1, description="How many units are off at a time."
    )
    rank: Literal["effect", "score", "iou"] = Field(
        "effect",
        description=(
            "What makes a unit matter for a class. effect: what switching it off alone costs the class's balanced "
            "accuracy (ties: score). score: what it costs the mean log probability of the class on its pictures. "
            "iou: how well it detects a concept, whatever the class; needs a dissection."
        ),
    )
    random_sets: int = Field(10, ge=1, description="Random sets of each size.")
    seed: Annotated[int, Option("--sample-seed")] = Field(
        0, ge=0, description="Seed of the drawn images, the halves, the random sets and the bootstrap."
    )
    batch_size: int = Field(64, gt=0, description="Pictures in a forward pass.")
    resamples: int = Field(2000, ge=100, description="Resamples of the bootstrap over images.")


@dataclass(frozen=True)
class _Split:
    """What a classifier says of half of the pictures, with each set of units off."""

    labels: Ints
    classes: tuple[str, ...]
    sets: Mapping[Units, int]
    answers: Predictions

    @property
    def present(self) -> list[int]:
        """Classes that the pictures show."""
        return sorted(set(self.labels.tolist()))

    def named(self, units: Sequence[int]) -> Ints:
        """Return the classes that are named with these units off."""
        named: Ints = self.answers.named[self.sets[tuple(sorted(units))]]
        return named

    def terms(self, units: Sequence[int], label: int) -> Floats:
        """Return what each picture adds to the balanced accuracy of a class, above one half."""
        return balanced_terms(self.named(units), self.labels, label)


@dataclass(frozen=True)
class _Classification:
    """How answers are asked for, and where they are kept."""

    asked: Classifier
    batch_size: int
    folder: Path | None
    progress: Progress | None

    def half(self, stage: str, pictures: LabeledImages, sets: Iterable[Units]) -> _Split:
        """Ask what the network says of these pictures; each set is asked for once."""
        different = list(dict.fromkeys(tuple(sorted(units)) for units in sets))
        told = None if self.progress is None else (stage, self.progress)
        found = answers(self.asked, pictures, different, self.batch_size, folder=self.folder, progress=told)
        places = {units: place for place, units in enumerate(different)}
        return _Split(pictures.labels, pictures.classes, places, found)


def ablate(
    network: Network,
    pictures: LabeledImages,
    config: AblateConfig,
    *,
    result: Result | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> ExperimentResult:
    """Switch units off, alone and in sets, and measure what it costs each class.

    Parameters
    ----------
    network
        A classifier.
    pictures
        With labels that count as its outputs do; see `LabeledImages.named`.
    config
        Layer, sizes of sets, ranking.
    result
        A dissection that holds the layer; needed to rank by IoU, and it adds labels to the table of units.
    out
        What the network says is kept in ``OUT/answers``, and taken up from there; None: nowhere.
    progress
        Told of batches with units off (``single units``, ``sets``).

    Returns
    -------
    Outcome
        `table`: class, kind (best, worst, others: all but the best, random), n (units of the ranking that the set is
        about), off (units that are off), draw (of random sets), balanced (accuracy of the class against all others,
        measured half), drop (of it), accuracy (of the whole network). `further["units"]`: class, unit, drop (of the
        balanced accuracy, ranking half), score_drop (of the class's mean log probability on its pictures), rank,
        label and iou if there is a dissection. `further["images"]`, of the measured half: label (index of the class),
        predicted (by the whole network), best, worst, others and random (what the image adds to the mean drop by the
        largest sets of each kind).

    Raises
    ------
    ConfigError
        If the sets are larger than the layer, a class has too few pictures, the network has another number of
        outputs, or IoU is asked for without a dissection.
    NetworkError
        If the network is no classifier.
    ResultError
        If what was kept is damaged.

    Notes
    -----
    Balanced accuracy of a class is the mean of the share of its pictures that are named so and the share of
    all other pictures that are not: one half by chance. The interval is a bootstrap over pictures, class by class.
    """
    seconds: dict[str, float] = {}
    layer = resolve_layers(network, [config.layer])[0]
    ious = _ious(result, config, layer.units)
    check_sets(config, layer.units, pictures)
    folder = None if out is None else Path(out) / "answers"
    ranked, measured = (pictures.taken(rows) for rows in balanced_halves(pictures.labels, config.seed))
    with network.prepared():
        asked = Classifier(network, layer.name, unit_ablator(network, layer.name))
        asking = _Classification(asked, config.batch_size, folder, progress)
        with timed("single units", seconds):
            ranking = asking.half("single units", ranked, [(), *((unit,) for unit in range(layer.units))])
            effects = _single_units(ranking, layer.units)
        order = _order(effects, config.rank, ious)
        with timed("sets", seconds):
            sets = _sets(ranking.present, order, config)
            measuring = asking.half("sets", measured, [(), *(one.units for one in sets)])
    table = _measure(measuring, sets)
    further = {
        "units": _unit_table(measuring, effects, order, _labels(result, config)),
        "images": _image_table(measuring, sets, config),
    }
    verdict = conclude(table, config, extra=further)
    made = {"network": network.name, "pictures": len(pictures), "mode": asked.board.mode, "units": layer.units}
    return ExperimentResult("ablate", table, verdict, config.model_dump(mode="json") | made, seconds, further)


def conclude(table: pl.DataFrame, config: AblateConfig, *, extra: Mapping[str, pl.DataFrame]) -> Conclusion:
    """Compare what the best units of a class cost it with what as many units at random cost, for the largest sets.

    Parameters
    ----------
    table
        Of `ablate`.
    config
        Sizes; seed and number of bootstrap resamples.
    extra
        ``images``: how each image of the measured half is named, and what it adds to the mean drop of each kind.

    Returns
    -------
    Verdict
        Agrees if the interval of the difference lies above 0; few images of a class decide nothing.
    """
    images, size = extra["images"], max(config.sizes)
    labels, predicted = images["label"].to_numpy(), images["predicted"].to_numpy()
    best, worst, others, chance = (_mean_drop(images[kind].to_numpy(), labels, config) for kind in KINDS)
    more = _told(best[0] - chance[0], best[1] - chance[1])
    whole = 0.5 + float(np.mean([balanced_terms(predicted, labels, label).sum() for label in np.unique(labels)]))
    finding = (
        f"Mean balanced accuracy of {table['class'].n_unique()} classes is {whole:.3f}. Switching off the {size} units "
        f"that matter most for a class costs {_said(_told(*best))}, {size} at random {_said(_told(*chance))}, the "
        f"{size} that matter least {_said(_told(*worst))}, all but the best {size} {_said(_told(*others))}. Best less "
        f"random: {_said(more)}; intervals by bootstrap over {len(images):,} pictures."
    )
    enough = np.unique(labels, return_counts=True)[1].min() >= FEWEST
    judged: ConclusionOutcome = decide(more, "more") if enough else "not established"
    return Conclusion(question=QUESTION, paper=PAPER, finding=finding, agreement=judged)


def ablate_synthetic(bench: Workspace) -> ExperimentResult:
    """Switch off units of the bench's scene network."""
    trained, pictures = bench.trained(), labeled_by(bench.data)
    layer, network = trained.recipe.layers[-1], trained.network()
    result = bench.dissected(trained)
    shown = pictures.frequent(2).named(SCENE_NAMES)
    units = trained.recipe.units[-1]
    sizes = tuple(size for size in (1, 4, 20) if size <= units // 2)
    return ablate(
        network,
        shown,
        AblateConfig(layer=layer, sizes=sizes),
        result=result,
        out=bench.folder("ablate"),
        progress=bench.progress,
    )


def balanced_terms(named: Ints, labels: Ints, label: int) -> Floats:
    """Return what each picture adds to the balanced accuracy of a class, above one half.

    Parameters
    ----------
    named, labels : int64 (N,)
        Class that the network names, and the true one.
    label
        The class.

    Returns
    -------
    float64 (N,)
        ``0.5 + sum`` is the balanced accuracy: it is linear in the pictures, so that a bootstrap only weights them.

    Examples
    --------
    >>> terms = balanced_terms(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 0)
    >>> 0.5 + float(terms.sum())
    0.5
    """
    own = labels == label
    here = named == label
    positive = np.where(own & here, 0.5 / max(int(own.sum()), 1), 0.0)
    return positive - np.where(~own & here, 0.5 / max(int((~own).sum()), 1), 0.0)


class _Set(NamedTuple):
    """Units that are off, and which class they are chosen for."""

    label: int
    kind: Kind
    size: int
    draw: int
    units: tuple[int, ...]


class _Effects(NamedTuple):
    """What each unit costs each class that the pictures show when it alone is off, on the ranking half."""

    balanced: Floats  # (U, K)
    score: Floats  # (U, K): of the mean log probability of the class on its pictures


def _single_units(half: _Split, units: int) -> _Effects:
    whole = _class_values(half, ())
    alone = [_class_values(half, (unit,)) for unit in range(units)]
    balanced, score = (np.array([whole[kind] - one[kind] for one in alone]) for kind in (0, 1))
    return _Effects(balanced, score)


def _class_values(half: _Split, units: Units) -> tuple[Floats, Floats]:
    """Return balanced accuracy and mean log probability of each class that is present."""
    chances = half.answers.chances[half.sets[units]]
    balanced = [0.5 + half.terms(units, label).sum() for label in half.present]
    score = [chances[half.labels == label].mean() for label in half.present]
    return np.array(balanced), np.array(score)


def _order(effects: _Effects, rank: str, ious: Floats | None) -> Ints:
    """Rank units for each class, the most important first: int64 (U, K). Ties: the lower number."""
    if ious is not None:
        order = np.argsort(-ious, kind="stable")
        return np.repeat(order[:, None], effects.balanced.shape[1], axis=1)
    first = effects.balanced if rank == "effect" else effects.score
    return np.lexsort((-effects.score, -first), axis=0).astype(np.int64)


def _sets(present: Sequence[int], order: Ints, config: AblateConfig) -> list[_Set]:
    rng = np.random.default_rng(config.seed)
    units, sets = len(order), []
    draws = {
        size: [tuple(rng.choice(units, size, replace=False).tolist()) for _ in range(config.random_sets)]
        for size in config.sizes
    }
    for place, label in enumerate(present):
        ranked = order[:, place].tolist()
        for size in config.sizes:
            sets.append(_Set(label, "best", size, 0, tuple(ranked[:size])))
            sets.append(_Set(label, "worst", size, 0, tuple(ranked[-size:])))
            sets.append(_Set(label, "others", size, 0, tuple(ranked[size:])))
            sets += [_Set(label, "random", size, draw, drawn) for draw, drawn in enumerate(draws[size])]
    return sets


def _measure(half: _Split, sets: Sequence[_Set]) -> pl.DataFrame:
    rows = []
    for one in sets:
        before, after = (0.5 + half.terms(units, one.label).sum() for units in ((), one.units))
        rows.append(
            {
                "class": half.classes[one.label],
                "kind": one.kind,
                "n": one.size,
                "off": len(one.units),
                "draw": one.draw,
                "balanced": after,
                "drop": before - after,
                "accuracy": float((half.named(one.units) == half.labels).mean()),
            }
        )
    return pl.DataFrame(rows)


def _image_table(half: _Split, sets: Sequence[_Set], config: AblateConfig) -> pl.DataFrame:
    largest = [one for one in sets if one.size == max(config.sizes)]
    table = pl.DataFrame({"label": half.labels, "predicted": half.named(())})
    means = {kind: _mean_terms(half, [one for one in largest if one.kind == kind]) for kind in KINDS}
    return table.with_columns(**means)


def _mean_terms(half: _Split, sets: Sequence[_Set]) -> Floats:
    return np.asarray(np.mean([half.terms((), one.label) - half.terms(one.units, one.label) for one in sets], axis=0))


def _unit_table(half: _Split, effects: _Effects, order: Ints, labels: pl.DataFrame | None) -> pl.DataFrame:
    units, classes = effects.balanced.shape
    ranks = np.argsort(order, axis=0)
    table = pl.DataFrame(
        {
            "class": [half.classes[label] for label in half.present for _ in range(units)],
            "unit": np.tile(np.arange(units, dtype=np.int32), classes),
            "drop": effects.balanced.T.ravel(),
            "score_drop": effects.score.T.ravel(),
            "rank": ranks.T.ravel().astype(np.int32),
        }
    )
    return table if labels is None else table.join(labels, on="unit", how="left", maintain_order="left")


def _labels(result: Result | None, config: AblateConfig) -> pl.DataFrame | None:
    """Return unit, label, category and IoU at the run's first quantile."""
    if result is None:
        return None
    units = result.layer(config.layer).units
    return units.filter(quantile=result.info.config.protocol.quantiles[0]).select("unit", "label", "category", "iou")


def _ious(result: Result | None, config: AblateConfig, units: int) -> Floats | None:
    if config.rank != "iou":
        return None
    labels = _labels(result, config)
    if labels is None or len(labels) != units:
        found = "there is none" if labels is None else f"its layer has {len(labels)} units, the network's {units}"
        raise ConfigError(
            f"units of {config.layer!r} are to be ranked by IoU, which needs a dissection of that layer: {found}. "
            "Give the run of this very network, or rank by 'effect'."
        )
    return labels.sort("unit")["iou"].fill_null(0.0).to_numpy()


def check_sets(config: AblateConfig, units: int, pictures: LabeledImages) -> None:
    """Make sure that a layer has enough units, and each class pictures for two halves.

    Raises
    ------
    ConfigError
        If not.
    """
    if not 1 <= min(config.sizes) <= max(config.sizes) <= units:
        raise ConfigError(
            f"sets of {', '.join(map(str, config.sizes))} units were asked for; layer {config.layer!r} has {units}. "
            "Expected sizes from 1 to that many."
        )
    rarest = min(Counter(pictures.labels.tolist()).items(), key=itemgetter(1))
    if rarest[1] < 2 or len(set(pictures.labels.tolist())) < 2:
        raise ConfigError(
            f"class {pictures.classes[rarest[0]]!r} has {rarest[1]} of {len(pictures)} pictures. Expected at least two "
            "classes, and two pictures of each: units are ranked on one half and measured on the other."
        )


def _mean_drop(terms: Floats, labels: Ints, config: AblateConfig) -> tuple[float, Floats]:
    """Return a mean drop, and its bootstrap over the images of each class, (R,)."""
    # The same seed each time: differences of two means are then over the same images.
    rng, sums = np.random.default_rng(config.seed), np.zeros(config.resamples)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        weights = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), size=config.resamples)
        sums += weights @ terms[own]
    return float(terms.sum()), sums


def _told(value: float, resampled: Floats) -> Interval:
    return quantile_interval(resampled.tolist())._replace(mean=value)


def _said(interval: Interval) -> str:
    return f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"
