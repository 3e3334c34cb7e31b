"""How often 95 % intervals hold the truth: for single IoUs, for chosen labels, and for counts of detectors.

    python -m benchmarks.coverage             images drawn from distributions whose IoU is known
    python -m benchmarks.coverage RUN LAYER   a run's images, drawn anew with replacement: the run is the truth
    python -m benchmarks.coverage planted     whole runs of a network with planted units, each on images of its own

The first is what the tests run in a short form.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

import netdissect
from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Protocol, StatisticsConfig, nearby_quantiles
from netdissect.scoring import ImageIntersections, ImageLabelCounts
from netdissect.scoring.statistics.bootstrap import (
    CandidateConcepts,
    Replicates,
    ThresholdShift,
    counted_masks,
    interval_of_counts,
)
from netdissect.scoring.statistics.jackknife import InfluenceMoments, iou_interval
from netdissect.synthetic.planted import PlantedUnit, planted_counts, planted_dataset, planted_network

Floats = npt.NDArray[np.float64]
LEAST_IMAGES = 50
MANY = 500_000


@dataclass(frozen=True)
class Kind:
    """How a unit and a concept meet, image by image.

    Attributes
    ----------
    frequency
        Share of images that bear the concept.
    spread
        Of the concept's size, as the standard deviation of its logarithm.
    reach
        Share of those images on which the unit is on, too.
    overlap
        Share of the concept that it then covers, on average.
    false
        Share of the other images on which it is on.
    """

    frequency: float
    spread: float
    reach: float
    overlap: float
    false: float

    def draw(self, rng: np.random.Generator, images: int) -> tuple[Floats, Floats]:
        """Return intersection and union in pixels of each image."""
        bears = rng.random(images) < self.frequency
        truth = np.where(bears, np.rint(np.minimum(rng.lognormal(6.5, self.spread, images), 12544)), 0)
        on = np.where(bears, rng.random(images) < self.reach, rng.random(images) < self.false)
        hits = np.where(on, np.floor(truth * rng.beta(2 * self.overlap, 2 * (1 - self.overlap), images)), 0)
        beside = np.where(on, np.rint(rng.lognormal(5, 1, images)), 0)
        return hits, truth + beside

    def iou(self) -> float:
        """Return the IoU of very many images."""
        hits, union = self.draw(np.random.default_rng(0), MANY)
        return float(hits.sum() / union.sum())


KINDS = (
    Kind(0.05, 0.5, 0.9, 0.5, 0.01),
    Kind(0.05, 1.2, 0.6, 0.3, 0.02),
    Kind(0.10, 1.0, 0.5, 0.2, 0.05),
    Kind(0.30, 0.8, 0.3, 0.2, 0.05),
    Kind(0.80, 1.0, 0.2, 0.1, 0.05),
    Kind(0.05, 0.8, 0.3, 0.3, 0.00),
)


def simulated(kinds: tuple[Kind, ...], simulations: int, images: int = 1200, seed: int = 0) -> Floats:
    """Return the share of simulations in which the interval holds the known IoU, for each kind."""
    rng, held = np.random.default_rng(seed), np.zeros(len(kinds))
    for place, kind in enumerate(kinds):
        truth = kind.iou()
        drawn = [kind.draw(rng, images) for _ in range(simulations)]
        low, high = intervals(np.array([hits for hits, _ in drawn]).T, np.array([union for _, union in drawn]).T)
        held[place] = ((low <= truth) & (truth <= high)).mean()
    return held


def intervals(hits: Floats, union: Floats) -> tuple[Floats, Floats]:
    """Return the intervals of ratios, each of one column of (N, P)."""
    scores = hits.sum(axis=0) / union.sum(axis=0)
    moved = hits - scores * union
    moments = InfluenceMoments((moved**2).sum(axis=0), (moved**4).sum(axis=0), np.array([len(hits)]))
    return iou_interval(scores, union.sum(axis=0), moments)


@dataclass(frozen=True)
class Firing:
    """How a unit's activations are distributed, so that its threshold is an order statistic of the images drawn.

    Attributes
    ----------
    spread
        Of an image's strength, as the standard deviation of its logarithm: how unevenly the unit fires.
    preference
        How many times as strong it is on the concept, as a logarithm.
    """

    spread: float
    preference: float

    def draw(self, rng: np.random.Generator, images: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Return activations and where the concept lies, (N, pixels) each; half of the images bear it."""
        bears = rng.random(images) < 0.5
        concept = np.arange(PIXELS) < (bears * rng.integers(5, 30, images))[:, None]
        strength = rng.normal(0, self.spread, images)[:, None] + self.preference * concept
        return np.exp(strength) * rng.exponential(size=(images, PIXELS)), concept


PIXELS, FIRING_QUANTILE = 100, 0.05
FIRINGS = (Firing(0.5, 1.0), Firing(0.2, 0.3), Firing(1.0, 1.5), Firing(0.1, 2.0))


class Thresholded(NamedTuple):
    """What intervals do if every data set has a threshold of its own.

    Attributes
    ----------
    covered, covered_if_fixed
        Share of intervals that hold the IoU, with the margin and without it.
    replicated
        Standard deviation of replicates, over that of the IoU from data set to data set.
    """

    covered: float
    covered_if_fixed: float
    replicated: float


def thresholded(firing: Firing, simulations: int, images: int = 200, seed: int = 0) -> Thresholded:
    """Draw data sets, threshold each at its own quantile, and say how often intervals hold the IoU of very many."""
    rng = np.random.default_rng(seed)
    values, concept = firing.draw(rng, 100 * images)
    mask = values > _threshold(values, FIRING_QUANTILE)
    known = (mask & concept).sum() / (mask | concept).sum()
    found, held, spreads = [], np.zeros(2), []
    nearby = nearby_quantiles(FIRING_QUANTILE)
    apart = (nearby[1] - nearby[0]) / FIRING_QUANTILE
    for _ in range(simulations):
        values, concept = firing.draw(rng, images)
        masks, less, more = (values > _threshold(values, quantile) for quantile in (FIRING_QUANTILE, *nearby))
        leading, presence, overlaps = _sparse(masks, concept)
        counted = counted_masks(presence, overlaps, np.array([-1, 0]), 1, "none")
        gone = np.array([(more & concept).sum() - (less & concept).sum()]), np.array([more.sum() - less.sum()])
        margin = ThresholdShift.between(gone, np.array([masks.sum()]), images, leading, apart)
        union = np.array([(masks | concept).sum()])
        score = (masks & concept).sum() / union
        for place, lost in enumerate((margin, ThresholdShift(np.zeros(1), np.zeros(1), margin.mask_pixels, images))):
            moments = InfluenceMoments.zeros(leading)
            moments.update(presence, overlaps, counted, leading, score, lost)
            low, high = iou_interval(score, union, moments)
            held[place] += low[0] <= known <= high[0]
        sums = Replicates.zeros(leading, 100)
        sums.update(presence, overlaps, counted, leading, seed=0)
        spreads.append(sums.iou(leading, margin, 0)[0].std())
        found.append(score[0])
    return Thresholded(*held / simulations, float(np.mean(spreads) / np.std(found)))


def _threshold(values: Floats, quantile: float) -> float:
    rank = int(quantile * values.size)
    return float(np.partition(values, values.size - rank - 1, axis=None)[values.size - rank - 1])


def _sparse(
    masks: npt.NDArray[np.bool_], concept: npt.NDArray[np.bool_]
) -> tuple[CandidateConcepts, ImageLabelCounts, ImageIntersections]:
    """Return one unit and one concept, label number 1, as the counting pass writes them."""
    truth, hits, on = concept.sum(axis=1), (masks & concept).sum(axis=1), masks.sum(axis=1)
    rows = np.arange(len(masks))
    presence = ImageLabelCounts(rows, rows, np.ones_like(rows), truth)
    parts = [ImageIntersections.of(row, 0, on[row : row + 1], hits[row].reshape(1, 1), np.array([1])) for row in rows]
    leading = CandidateConcepts(np.array([0]), np.array([1]), np.array([0]), 1, 2, 1)
    return leading, presence, ImageIntersections.join(parts)


LIMIT = 0.04


class Counted(NamedTuple):
    """In which share of data sets 95 % intervals hold the true number of detectors.

    Attributes
    ----------
    counts, differences
        Of one layer, and of another layer less this one on the same images.
    plain_counts, plain_differences
        The same of plain percentiles of the replicates.
    """

    counts: float
    differences: float
    plain_counts: float
    plain_differences: float


def counted(simulations: int, images: int = 300, units: int = 60, replicates: int = 200, seed: int = 0) -> Counted:
    """Draw two layers whose units have known IoUs, of one mostly below the limit, and count their detectors."""
    rng, held = np.random.default_rng(seed), np.zeros((2, 2))
    ious = rng.lognormal(np.log([[0.022], [0.1]]), [[0.2], [0.5]], (2, units))
    known = (ious >= LIMIT).sum(axis=1)
    for _ in range(simulations):
        # Images of a strong signal lift both layers: this is what pairing takes out.
        signal = rng.lognormal(0, 0.5, (images, 1)) / np.exp(0.125)
        union = rng.gamma(0.1, 10, (2, images, units))
        hits = union * ious[:, None, :] * signal * rng.gamma(0.5, 2, union.shape)
        drawn = np.vstack([np.ones((1, images)), rng.poisson(1, (replicates, images))])
        detectors = ((drawn @ hits) / np.maximum(drawn @ union, 1e-9) >= LIMIT).sum(axis=2)
        for place, (value, true, least) in enumerate(
            [(detectors[0], known[0], 0), (detectors[1] - detectors[0], known[1] - known[0], -units)]
        ):
            low, high = interval_of_counts(value[:1], value[None, 1:], least, units)
            plain = np.quantile(value[1:], [0.025, 0.975])
            held[place] += low[0] <= true <= high[0], plain[0] <= true <= plain[1]
    return Counted(*(held / simulations).T.ravel().tolist())


class Population:
    """The images of a finished run, dense: intersection, activation and truth of every leading pair."""

    def __init__(self, result: netdissect.Result, layer: str) -> None:
        quantile, self.images = result.info.config.protocol.quantiles[0], result.info.data.images
        statistics = result.layer(layer).statistics
        scores = statistics["scores"].filter(quantile=quantile).collect()
        self.units, self.numbers = scores["unit"].to_numpy(), scores["label_id"].to_numpy()
        self.categories = scores["category"].to_numpy()
        self.level, self.known = result.info.min_iou, scores["iou"].to_numpy()
        labels = statistics["labels"].collect()
        truth = np.zeros((self.images, max(labels["label_id"].max(), self.numbers.max()) + 1), np.float32)
        truth[labels["image_index"].to_numpy(), labels["label_id"].to_numpy()] = labels["pixels"].to_numpy()
        category_of = dict(result.concepts.select("label_id", "category").rows())
        annotated = {
            name: truth[:, [n for n, category in category_of.items() if category == name]].any(axis=1)
            for name in set(category_of.values())
        }
        masks = statistics["images"].filter(quantile=quantile).collect()
        pair_of = {pair: place for place, pair in enumerate(zip(self.units, self.numbers, strict=True))}
        self.hits = np.zeros((self.images, len(self.units)), np.float32)
        for row, unit, number, count in (
            masks.filter(pl.col("label_id") > 0).select("image_index", "unit", "label_id", "intersection").iter_rows()
        ):
            self.hits[row, pair_of[unit, number]] = count
        on = np.zeros((self.images, self.units.max() + 1), np.float32)
        on[masks["image_index"].to_numpy(), masks["unit"].to_numpy()] = masks["mask_pixels"].to_numpy()
        counted = np.stack([annotated[name] for name in self.categories], axis=1)
        self.bears = truth[:, self.numbers]
        self.union = on[:, self.units] * counted + self.bears - self.hits
        self.frequent = (self.bears > 0).sum(axis=0) >= LEAST_IMAGES
        np.testing.assert_allclose(self.hits.sum(axis=0) / self.union.sum(axis=0), self.known, rtol=1e-5)

    def counts(self, weights: npt.NDArray[np.float32]) -> Floats:
        """Return detectors and unique detectors by top label under weights (R, N) of the images, float64 (2, R)."""
        scores = (weights @ self.hits) / np.maximum(weights @ self.union, 1)
        detectors, found = np.zeros(len(weights)), [set() for _ in weights]
        for unit in np.unique(self.units):
            pairs = np.flatnonzero(self.units == unit)
            best = scores[:, pairs].argmax(axis=1)
            passing = scores[np.arange(len(weights)), pairs[best]] >= self.level
            detectors += passing
            for replicate in np.flatnonzero(passing):
                found[replicate].add(self.numbers[pairs[best[replicate]]])
        return np.array([detectors, [len(each) for each in found]])


def of_run(population: Population, simulations: int, replicates: int = 300) -> None:
    """Print how often intervals hold what the run found, when its images are drawn anew."""
    rng, images = np.random.default_rng(0), population.images
    known = population.counts(np.ones((1, images), np.float32))[:, 0]
    held, chosen, counts = np.zeros(len(population.units)), [], np.zeros(2)
    starts = np.flatnonzero(np.diff(population.units, prepend=-1))
    for _ in range(simulations):
        drawn = rng.multinomial(images, np.full(images, 1 / images)).astype(np.float32)
        rows = np.repeat(np.arange(images), drawn.astype(np.int64))
        hits, union = population.hits[rows].astype(np.float64), population.union[rows].astype(np.float64)
        low, high = intervals(hits, np.where(union.sum(axis=0) > 0, union, 1))
        inside = (low <= population.known) & (population.known <= high)
        held += inside
        scores = hits.sum(axis=0) / np.maximum(union.sum(axis=0), 1)
        best = [start + part.argmax() for start, part in zip(starts, np.split(scores, starts[1:]), strict=True)]
        chosen.append(inside[best].mean())
        weights = rng.poisson(drawn, (replicates, images)).astype(np.float32)
        largest = len(set(population.units.tolist()))
        least, most = interval_of_counts(population.counts(drawn[None])[:, 0], population.counts(weights), 0, largest)
        counts += (least <= known) & (known <= most)
    often = held[population.frequent] / simulations
    print(f"{population.frequent.sum()} pairs of a unit and a concept on at least {LEAST_IMAGES} images:")
    print(
        f"  interval of the IoU holds it in {often.mean():.1%}; pair by pair: 10 % below {np.quantile(often, 0.1):.1%}"
    )
    print(f"  that of the chosen label, whatever was chosen: {np.mean(chosen):.1%}")
    for name, count, share in zip(("detectors", "unique detectors"), known, counts / simulations, strict=True):
        print(f"  that of the {count:.0f} {name}: {share:.1%}")


PLANTED = (
    PlantedUnit("anvil", keep=0.5),
    PlantedUnit("bell", shift=(1, 2)),
    PlantedUnit("crate", blur=1, keep=0.9),
    PlantedUnit("lid", keep=0.7),
    PlantedUnit("drum", other="easel", share=0.4, keep=0.6),
)


def planted(simulations: int, images: int = 160, quantile: float = 0.02) -> Floats:
    """Return the share of whole runs whose interval holds a planted unit's IoU; thresholds vary, too."""
    config = DissectConfig(
        layers=("units",), protocol=Protocol(quantiles=(quantile,)), statistics=StatisticsConfig(bootstrap=1)
    )
    network, held = planted_network(PLANTED, size=32), np.zeros(len(PLANTED))
    with TemporaryDirectory() as folder:
        data = ConceptData.open(planted_dataset(Path(folder) / "many", images=12_000, size=32, seed=10**6))
        known = [planted_counts(data, unit, unit.concept, quantile).iou for unit in PLANTED]
        for seed in range(simulations):
            root = planted_dataset(Path(folder) / "drawn", images=images, size=32, seed=seed, overwrite=True)
            layer = netdissect.dissect(network, root, config=config).layers["units"]
            scores = layer.statistics["scores"].collect()
            for unit, (plan, iou) in enumerate(zip(PLANTED, known, strict=True)):
                row = scores.row(
                    by_predicate=(pl.col("unit") == unit) & (pl.col("concept") == plan.concept), named=True
                )
                held[unit] += row["iou_ci_low"] <= iou <= row["iou_ci_high"]
    return held / simulations


if __name__ == "__main__":
    if sys.argv[1:2] == ["planted"]:
        for plan, share in zip(PLANTED, planted(int(sys.argv[2]) if len(sys.argv) > 2 else 200), strict=True):
            print(f"{share:.1%} of runs hold the IoU of {plan}")
    elif len(sys.argv) > 1:
        of_run(
            Population(netdissect.load_result(sys.argv[1]), sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 100
        )
    else:
        for kind, share in zip(KINDS, simulated(KINDS, 4000), strict=True):
            print(f"{share:.1%} of intervals hold the IoU of {kind.iou():.3f}: {kind}")
        for firing in FIRINGS:
            print(f"{firing}, a threshold for each data set: {thresholded(firing, 2000)}")
        print(f"numbers of detectors, 60 units a layer: {counted(1000)}")
