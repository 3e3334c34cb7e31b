"""What each method says of the units of one layer, as a prediction of their mean activation on each image.

A label predicts a unit by its share of the pixels, a formula by its own share, a linear explanation by its sum.
Everything that is chosen is chosen on the selection half of the images; see `netdissect.scoring.statistics.holdout`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.evaluation.run_counts import layer_images
from netdissect.evaluation.scores import AnyFloats, correlation
from netdissect.result import Result
from netdissect.scoring import ImageIntersections, ImageLabelCounts
from netdissect.scoring.statistics.bootstrap import counted_masks
from netdissect.scoring.statistics.holdout import CountSubset, best_label_ids

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SimulatedImages:
    """Activations and concepts of all images of a run, for one layer.

    Attributes
    ----------
    result, layer
        The run, which has moments, and the name of the layer.
    activations
        float32 (N, U): mean activation of each unit on each image.
    shares
        float32 (N, C): share of the pixels of each image that have each concept.
    names
        Of the concepts.
    held_out
        bool (N,): images on which predictions are compared with activations.
    """

    result: Result
    layer: str
    activations: AnyFloats
    shares: AnyFloats
    names: tuple[str, ...]
    held_out: Bools

    @classmethod
    def of(cls, result: Result, layer: str) -> Self:
        """Read them from a run with moments."""
        images, names = layer_images(result, layer), tuple(result.concepts["concept"].cast(pl.String))
        return cls(result, layer, images.activations, images.shares, names, images.held_out)

    @property
    def seed(self) -> int:
        """Seed of all draws."""
        return self.result.info.config.statistics.stats_seed


@dataclass(frozen=True, eq=False)
class Simulation:
    """What one method says of the units of a layer.

    Attributes
    ----------
    texts
        Label of each unit; None: it has none.
    concepts
        The concepts of which the label says that each of them activates the unit, by unit.
    predicted
        float (N, U): what it predicts for each image, up to scale and offset.
    """

    texts: Sequence[str | None]
    concepts: Sequence[frozenset[str]]
    predicted: npt.NDArray[Any]

    @classmethod
    def of_concepts(cls, images: SimulatedImages, columns: Ints) -> Self:
        """Simulate each unit by one concept: its column among the concepts; -1: none."""
        texts = [images.names[column] if column >= 0 else None for column in columns]
        concepts = [frozenset() if text is None else frozenset([text]) for text in texts]
        return cls(texts, concepts, images.shares[:, np.maximum(columns, 0)])

    def recovers(self, planted: Sequence[frozenset[str]] | None) -> list[bool] | None:
        """Tell which units are described by the concepts that activate them; None: nobody knows these."""
        return None if planted is None else [own == each for own, each in zip(self.concepts, planted, strict=True)]

    def correlations(self, images: SimulatedImages) -> Floats:
        """Return Pearson's correlation of prediction and activation on the held-out images; NaN without a label."""
        found = correlation(images.activations[images.held_out], self.predicted[images.held_out])
        return np.where([text is not None for text in self.texts], found, np.nan)


def iou_labels(images: SimulatedImages) -> Simulation:
    """Simulate each unit by the concept of the largest IoU on the selection half, at the first quantile of the run.

    The candidates are those whose intersections a run keeps image by image: the best concept in each category and the
    ten best overall.
    """
    concepts, layer = images.result.concepts, images.result.layer(images.layer)
    categories = list(images.result.info.data.categories)
    label_ids = concepts["label_id"].to_numpy()
    category_of = np.full(label_ids.max() + 1, -1)
    category_of[label_ids] = [categories.index(name) for name in concepts["category"].cast(pl.String)]
    protocol = images.result.info.config.protocol
    quantile = protocol.quantiles[0]
    labels = _label_counts(layer.statistics["labels"].collect(), len(images.activations))
    masks = _masks(layer.statistics["images"].filter(pl.col("quantile") == quantile).collect())
    counted = counted_masks(labels, masks, category_of, len(categories), protocol.restriction)
    counts = CountSubset.zeros(layer.info.units, len(category_of), len(categories))
    counts.update(labels, masks, counted, np.flatnonzero(~images.held_out))
    chosen = best_label_ids(counts.iou(category_of), category_of, len(categories))
    columns = np.full(len(category_of), -1)
    columns[label_ids] = np.arange(len(label_ids))
    columns[0] = -1
    return Simulation.of_concepts(images, columns[chosen])


def _label_counts(frame: pl.DataFrame, images: int) -> ImageLabelCounts:
    """Return the labels of all images from the table ``labels``."""
    columns = (frame.sort("image_index", "label_id")[name].to_numpy() for name in ("image_index", "label_id", "pixels"))
    return ImageLabelCounts(np.arange(images), *(column.astype(np.int64) for column in columns))


def _masks(frame: pl.DataFrame) -> ImageIntersections:
    """Return masks and their intersections from the table ``images``, in which a label id 0 says that there is none."""
    frame = frame.sort("image_index", "unit", "label_id")
    image, unit, label_id, intersection, pixels = (
        frame[name].to_numpy().astype(np.int64)
        for name in ("image_index", "unit", "label_id", "intersection", "mask_pixels")
    )
    first = np.ones(len(frame), np.bool_)
    first[1:] = (image[1:] != image[:-1]) | (unit[1:] != unit[:-1])
    has_label, mask = label_id > 0, np.cumsum(first) - 1
    return ImageIntersections(
        image[first],
        np.zeros(int(first.sum()), np.int64),
        unit[first],
        pixels[first],
        np.bincount(mask[has_label], minlength=int(first.sum())),
        label_id[has_label],
        intersection[has_label],
    )


def random_labels(images: SimulatedImages) -> Simulation:
    """Simulate each unit by a concept that is drawn from those in the selection half."""
    present = np.flatnonzero(images.shares[~images.held_out].any(axis=0))
    index = list(images.result.layers).index(images.layer)
    drawn = np.random.default_rng((images.seed, index)).choice(present, images.activations.shape[1])
    return Simulation.of_concepts(images, drawn)


def given_labels(images: SimulatedImages, concept_of: Mapping[int, str], texts: Mapping[int, str]) -> Simulation:
    """Simulate units by labels that a method gave them.

    Parameters
    ----------
    images
        Of the layer.
    concept_of
        Concept by unit, for the labels that match one; the others say nothing of an image.
    texts
        The labels by unit, as the method wrote them.
    """
    column = {name: index for index, name in enumerate(images.names)}
    columns = np.full(images.activations.shape[1], -1)
    for unit, concept in concept_of.items():
        columns[unit] = column[concept]
    found = Simulation.of_concepts(images, columns)
    return Simulation([texts.get(unit) if text else None for unit, text in enumerate(found.texts)], found.concepts,
                      found.predicted)  # fmt: skip


def correlation_labels(images: SimulatedImages) -> Simulation:
    """Simulate each unit by the concept whose share correlates most with it on the selection half, negatively or not.

    It is the first term of the linear explanation: one concept, chosen by the measure that is compared.
    """
    terms = images.result.layer(images.layer).statistics["linear_explanations"].filter(pl.col("rank") == 0).collect()
    column = {name: index for index, name in enumerate(images.names)}
    columns = np.full(images.activations.shape[1], -1)
    columns[terms["unit"].to_numpy()] = [column[name] for name in terms["concept"]]
    found, chosen = Simulation.of_concepts(images, columns), ~images.held_out
    signs = np.sign(correlation(images.activations[chosen], found.predicted[chosen]))
    texts = [
        text if text is None or sign > 0 else f"less {text}" for text, sign in zip(found.texts, signs, strict=True)
    ]
    concepts = [each if sign > 0 else frozenset[str]() for each, sign in zip(found.concepts, signs, strict=True)]
    return Simulation(texts, concepts, found.predicted * signs)


def linear_explanations(images: SimulatedImages) -> Simulation:
    """Simulate each unit by its linear explanation, which the run fitted on the selection half."""
    units = images.activations.shape[1]
    texts: list[str | None] = [None] * units
    concepts, weights = [frozenset[str]()] * units, np.zeros((len(images.names), units))
    column = {name: index for index, name in enumerate(images.names)}
    frame = images.result.layer(images.layer).statistics["linear_explanations"].sort("unit", "rank").collect()
    for (unit,), terms in frame.group_by("unit", maintain_order=True):
        index, named = int(str(unit)), dict(terms.select("concept", "weight").rows())
        shown = terms.select("standardized_weight", "concept").iter_rows()
        texts[index] = ", ".join(f"{weight:+.2f} {name}" for weight, name in shown)
        concepts[index] = frozenset(name for name, weight in named.items() if weight > 0)
        weights[[column[name] for name in named], index] = [*named.values()]
    return Simulation(texts, concepts, images.shares @ weights)
