"""Rank the units of a layer for each class, ablate sets of them, and measure the loss.

AblationRunner.half(stage, images, sets) -> Split (predictions with each set ablated)
single_unit_effects(ranking half) -> rank_units -> unit_sets -> measure_sets(measured half) -> tables
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.config import Progress
from netdissect.errors import ConfigError
from netdissect.experiments.ablate.predictions import Classifier, Predictions, Units, predictions
from netdissect.training.classification_data import LabeledImages

if TYPE_CHECKING:
    from netdissect.experiments.ablate.experiment import AblateConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
SetType = Literal["best", "worst", "others", "random"]
SET_TYPES: tuple[SetType, ...] = get_args(SetType)


@dataclass(frozen=True)
class Split:
    """Predictions for half of the images, with each set of units ablated."""

    labels: Ints
    classes: tuple[str, ...]
    sets: Mapping[Units, int]
    predictions: Predictions

    @property
    def present(self) -> list[int]:
        """Classes of the images."""
        return sorted(set(self.labels.tolist()))

    def predicted(self, units: Sequence[int]) -> Ints:
        """Return the predicted classes with these units ablated."""
        predicted: Ints = self.predictions.predicted[self.sets[tuple(sorted(units))]]
        return predicted

    def terms(self, units: Sequence[int], label: int) -> Floats:
        """Return what each image adds to the balanced accuracy of a class, above one half."""
        return balanced_terms(self.predicted(units), self.labels, label)


@dataclass(frozen=True)
class AblationRunner:
    """How predictions are computed, and where they are saved."""

    classifier: Classifier
    batch_size: int
    folder: Path | None
    progress: Progress | None

    def half(self, stage: str, images: LabeledImages, sets: Iterable[Units]) -> Split:
        """Predict the classes of these images; each set is ablated once."""
        different = list(dict.fromkeys(tuple(sorted(units)) for units in sets))
        progress = None if self.progress is None else (stage, self.progress)
        computed = predictions(
            self.classifier, images, different, self.batch_size, folder=self.folder, progress=progress
        )
        return Split(images.labels, images.classes, {units: i for i, units in enumerate(different)}, computed)


def balanced_terms(predicted: Ints, labels: Ints, label: int) -> Floats:
    """Return what each image adds to the balanced accuracy of a class, above one half.

    Parameters
    ----------
    predicted, labels : int64 (N,)
        Predicted and true class.
    label
        The class.

    Returns
    -------
    float64 (N,)
        ``0.5 + sum`` is the balanced accuracy: it is linear in the images, so that a bootstrap only weights them.

    Examples
    --------
    >>> terms = balanced_terms(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 0)
    >>> 0.5 + float(terms.sum())
    0.5
    """
    own = labels == label
    here = predicted == label
    positive = np.where(own & here, 0.5 / max(int(own.sum()), 1), 0.0)
    return positive - np.where(~own & here, 0.5 / max(int((~own).sum()), 1), 0.0)


class UnitSet(NamedTuple):
    """Units that are ablated, and the class for which they are chosen."""

    label: int
    type: SetType
    size: int
    replicate: int
    units: tuple[int, ...]


class UnitEffects(NamedTuple):
    """Loss of each class of the images if one unit is ablated, on the ranking half."""

    balanced: Floats  # (U, K)
    score: Floats  # (U, K): of the mean log probability of the class on its images


def single_unit_effects(half: Split, units: int) -> UnitEffects:
    """Measure the loss of each class if each unit alone is ablated."""
    whole = _class_values(half, ())
    alone = [_class_values(half, (unit,)) for unit in range(units)]
    balanced, score = (np.array([whole[i] - values[i] for values in alone]) for i in (0, 1))
    return UnitEffects(balanced, score)


def _class_values(half: Split, units: Units) -> tuple[Floats, Floats]:
    """Return balanced accuracy and mean log probability of each class that is present."""
    log_probabilities = half.predictions.log_probabilities[half.sets[units]]
    balanced = [0.5 + half.terms(units, label).sum() for label in half.present]
    score = [log_probabilities[half.labels == label].mean() for label in half.present]
    return np.array(balanced), np.array(score)


def rank_units(effects: UnitEffects, rank: str, ious: Floats | None) -> Ints:
    """Rank units for each class, the most important first: int64 (U, K). Ties: the lower index."""
    if ious is not None:
        order = np.argsort(-ious, kind="stable")
        return np.repeat(order[:, None], effects.balanced.shape[1], axis=1)
    first = effects.balanced if rank == "effect" else effects.score
    return np.lexsort((-effects.score, -first), axis=0).astype(np.int64)


def unit_sets(present: Sequence[int], order: Ints, config: "AblateConfig") -> list[UnitSet]:
    """Return the sets of units that are ablated for each class."""
    rng = np.random.default_rng(config.seed)
    units, sets = len(order), []
    draws = {
        size: [tuple(rng.choice(units, size, replace=False).tolist()) for _ in range(config.random_sets)]
        for size in config.sizes
    }
    for column, label in enumerate(present):
        ranked = order[:, column].tolist()
        for size in config.sizes:
            sets.append(UnitSet(label, "best", size, 0, tuple(ranked[:size])))
            sets.append(UnitSet(label, "worst", size, 0, tuple(ranked[-size:])))
            sets.append(UnitSet(label, "others", size, 0, tuple(ranked[size:])))
            sets += [UnitSet(label, "random", size, replicate, drawn) for replicate, drawn in enumerate(draws[size])]
    return sets


def measure_sets(half: Split, sets: Sequence[UnitSet]) -> pl.DataFrame:
    """Return the table of the experiment: accuracy and loss with each set ablated."""
    rows = []
    for unit_set in sets:
        before, after = (0.5 + half.terms(units, unit_set.label).sum() for units in ((), unit_set.units))
        rows.append(
            {
                "class": half.classes[unit_set.label],
                "kind": unit_set.type,
                "set_size": unit_set.size,
                "num_ablated": len(unit_set.units),
                "replicate": unit_set.replicate,
                "balanced_accuracy": after,
                "drop": before - after,
                "accuracy": float((half.predicted(unit_set.units) == half.labels).mean()),
            }
        )
    return pl.DataFrame(rows)


def image_table(half: Split, sets: Sequence[UnitSet], config: "AblateConfig") -> pl.DataFrame:
    """Return predictions, and what each image adds to the mean loss by the largest sets."""
    largest = [one for one in sets if one.size == max(config.sizes)]
    table = pl.DataFrame({"label": half.labels, "predicted": half.predicted(())})
    means = {name: _mean_terms(half, [one for one in largest if one.type == name]) for name in SET_TYPES}
    return table.with_columns(**means)


def _mean_terms(half: Split, sets: Sequence[UnitSet]) -> Floats:
    return np.asarray(np.mean([half.terms((), one.label) - half.terms(one.units, one.label) for one in sets], axis=0))


def unit_table(half: Split, effects: UnitEffects, order: Ints, labels: pl.DataFrame | None) -> pl.DataFrame:
    """Return the loss by each single unit, its rank, and its label if there is a dissection."""
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


def check_sets(config: "AblateConfig", units: int, images: LabeledImages) -> None:
    """Check that a layer has enough units, and each class images for two halves.

    Raises
    ------
    ConfigError
        If not.
    """
    if not 1 <= min(config.sizes) <= max(config.sizes) <= units:
        raise ConfigError(
            f"sets of {', '.join(map(str, config.sizes))} units are to be ablated; layer {config.layer!r} has {units}. "
            "Expected sizes from 1 to that many."
        )
    rarest = min(Counter(images.labels.tolist()).items(), key=itemgetter(1))
    if rarest[1] < 2 or len(set(images.labels.tolist())) < 2:
        raise ConfigError(
            f"class {images.classes[rarest[0]]!r} has {rarest[1]} of {len(images)} images. Expected at least two "
            "classes, and two images of each: units are ranked on one half and measured on the other."
        )
