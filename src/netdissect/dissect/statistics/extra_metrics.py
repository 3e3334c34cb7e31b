"""Scores beside IoU in this run: every activation once more, for each unit's leading concepts.

    stored activations, if all of them were kept, or one more forward pass -> Responses of each layer -> scores_beside

Source: `netdissect.scoring.metrics`, which says what is measured.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import ConceptData
from netdissect.dissect.layer_state import AnyCollector, Maps, ThresholdResult, add_prefix, of_layers, strip_prefix
from netdissect.dissect.passes import CountResult, TwoPass
from netdissect.scoring import ConceptTotals, ImageLabels, IoUCounts, iou
from netdissect.scoring.iou import leading_concepts
from netdissect.scoring.metrics import ACTIVATION_METRICS, MASK_METRICS, MaskCounts, PairResponses
from netdissect.scoring.response_histograms import ResponseHistograms, ValueBins
from netdissect.scoring.statistics.holdout import CountSubset

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]

NANOSECONDS_A_PIXEL = 4


@dataclass(frozen=True)
class Images:
    """What the images carry, by index row.

    Attributes
    ----------
    holds
        bool (N, C).
    annotated
        bool (N, K).
    """

    holds: npt.NDArray[np.bool_]
    annotated: npt.NDArray[np.bool_]

    @classmethod
    def none(cls, images: int, data: ConceptData) -> Self:
        """Return images of which nothing was seen yet."""
        return cls(
            np.zeros((images, len(data.category_of)), np.bool_), np.zeros((images, len(data.categories)), np.bool_)
        )

    def update(self, row: int, image: ImageLabels) -> None:
        """Note one image."""
        self.holds[row, image.label_ids] = True
        self.annotated[row, image.categories] = True


@dataclass(frozen=True)
class ExtraMetrics:
    """What one layer's activations say beside IoU.

    Attributes
    ----------
    responses
        Values of each unit on its leading concepts.
    maxima
        float32 (N, U): the maximum of each unit on each image.
    images
        What they carry.
    """

    responses: ResponseHistograms
    maxima: npt.NDArray[np.float32]
    images: Images

    def state(self) -> Arrays:
        """Return everything needed to go on later, but what the images carry."""
        names = ("positives", "all", "sums", "moments")
        bins = {name: np.asarray(array) for name, array in self.responses.bins._asdict().items()}
        return {name: getattr(self.responses, name) for name in names} | bins | {"maxima": self.maxima}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from a `state`."""
        for name, array in self.state().items():
            array[:] = state[name]


def leading_at(data: ConceptData, tally: IoUCounts, truth: ConceptTotals) -> Ints:
    """Return the label numbers of each unit's ten leading concepts at each quantile, int64 (Q, U, 10); 0 for none."""
    halves = (
        CountSubset(hits, masks, truth.pixels) for hits, masks in zip(tally.intersection, tally.activation, strict=True)
    )
    return np.stack([leading_concepts(half.iou(data.category_of)) for half in halves])


def extra_metrics_of(
    looks: TwoPass, collectors: Mapping[str, AnyCollector], found: Mapping[str, ThresholdResult], counted: CountResult
) -> dict[str, ExtraMetrics]:
    """Look at every activation once more.

    Parameters
    ----------
    looks
        The run.
    collectors, found
        Of each layer, after the first look.
    counted
        What the second look counted.
    """
    source, plans = looks.source, {plan.layer.name: plan for plan in looks.plan.layers}
    data, images = source.data, Images.none(len(source.data), source.data)
    _announce(looks, collectors)
    layers: dict[str, ExtraMetrics] = {}
    saved = looks.work.load("beside")
    done = int(saved["batches"]) if saved else 0
    if saved:
        images = Images(**add_prefix("images", saved))

    def state() -> Arrays:
        arrays: Arrays = {"batches": np.array(done)} | strip_prefix("images", vars(images))
        return arrays | of_layers(beside.state() for beside in layers.values())

    labels = looks.labels(range(done * looks.starts.step, len(data)))
    for batch in looks.everything("scores beside IoU", collectors, done):
        maps = {name: values.cpu().numpy() for name, values in batch.maps.items()}
        if not layers:
            layers = {name: _begun(looks, maps[name], name, found[name], counted, images) for name in maps}
            for index, beside in enumerate(layers.values()):
                if saved:
                    beside.restore(add_prefix(f"layer{index}", saved))
        for index, image in zip(range(len(batch.rows)), labels, strict=False):
            images.update(batch.start + index, image)
            for name, beside in layers.items():
                grid = plans[name].grid_to(image.size)
                beside.responses.update(maps[name][index], image, grid)
                beside.maxima[batch.start + index] = maps[name][index].max(axis=(1, 2))
        done += 1
        looks.work.save("beside", state)
    return layers


def _begun(
    looks: TwoPass, maps: Maps, layer: str, found: ThresholdResult, counted: CountResult, images: Images
) -> ExtraMetrics:
    data, sizes = looks.source.data, [row.size for row in looks.source.data.rows]
    numbers = leading_at(data, counted.tallies[layer].first(1), counted.truth)[0]
    bins = ValueBins.of(maps, found.thresholds[0], found.maxima[:, 0])
    pixels = sum(size.height * size.width for size in sizes)
    side = looks.source.config.protocol.segmentation_size
    pixels = pixels if side is None else side * side * len(sizes)
    maxima = np.zeros((len(data), maps.shape[1]), np.float32)
    return ExtraMetrics(ResponseHistograms.zeros(bins, numbers, len(data.categories), pixels), maxima, images)


def _announce(looks: TwoPass, collectors: Mapping[str, AnyCollector]) -> None:
    data = looks.source.data
    pixels = sum(row.size.height * row.size.width for row in data.rows)
    units = sum(plan.layer.units for plan in looks.plan.layers)
    kept = looks.keeps_everything(collectors)
    logger.info(
        "scores beside IoU: %s, and about %.0f s of computing",
        "every activation was kept" if kept else "one more forward pass (--activation-cache dense spares it)",
        units * pixels * NANOSECONDS_A_PIXEL * 1e-9,
    )


def count_extra_metrics(
    data: ConceptData, tally: IoUCounts, truth: ConceptTotals, quantiles: tuple[float, ...]
) -> pl.DataFrame:
    """Return metrics of the masks of each unit's leading concepts at each quantile."""
    numbers = leading_at(data, tally, truth)
    quantile, unit, rank = numbers.nonzero()
    number = numbers[quantile, unit, rank]
    hits = tally.intersection[quantile, unit, number]
    masks, pixels = tally.activation[quantile, unit, data.category_of[number]], truth.pixels[number]
    return pl.DataFrame(
        {
            "quantile": np.asarray(quantiles)[quantile],
            "unit": unit.astype(np.int32),
            "rank": rank.astype(np.int32),
            "label_id": number.astype(np.int32),
            "concept": [data.by_number[int(one)].name for one in number],
            "category": [data.by_number[int(one)].category for one in number],
            "iou": iou(hits, masks, pixels),
        }
        | {metric.name: metric.compute(MaskCounts(hits, masks, pixels)) for metric in MASK_METRICS}
    )


def extra_metric_scores(data: ConceptData, beside: ExtraMetrics) -> pl.DataFrame:
    """Return what activations say of each unit's leading concepts at the run's first quantile."""
    responses = beside.responses
    unit, slot = responses.label_ids.nonzero()
    number = responses.label_ids[unit, slot]
    category = data.category_of[number]
    columns: dict[str, list[float]] = {metric.name: [] for metric in ACTIVATION_METRICS}
    for one, place, its, concept in zip(unit, slot, category, number, strict=True):
        within, around = responses.positives[one, place], responses.all[one, its]
        pair = PairResponses(
            within, around - within, responses.sums[one, place], responses.moments[one, its],
            beside.maxima[:, one], beside.images.holds[:, concept], beside.images.annotated[:, its],
        )  # fmt: skip
        for metric in ACTIVATION_METRICS:
            columns[metric.name].append(float(metric.compute(pair)))
    keys = {"unit": unit.astype(np.int32), "label_id": number.astype(np.int32)}
    return pl.DataFrame(keys | columns).with_columns(pl.col(pl.Float64).fill_nan(None))
