"""The extra metrics of a run: one more pass over all activations, for the leading concepts of each unit.

    all stored activations, or another forward pass -> ResponseHistograms of each layer -> columns of the table scores

Source: `netdissect.scoring.metrics`, which defines the metrics.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from netdissect.concepts import ConceptData
from netdissect.dissect.layer_state import AnyCollector, Maps, ThresholdResult, add_prefix, prefix_layers, strip_prefix
from netdissect.dissect.passes import CountResult, TwoPass
from netdissect.scoring import ConceptTotals, ImageLabels, IoUCounts, iou
from netdissect.scoring.iou import leading_concepts
from netdissect.scoring.metrics import ACTIVATION_METRICS, MASK_METRICS, MaskCounts, PairResponses
from netdissect.scoring.response_histograms import ResponseHistograms, ValueBins
from netdissect.scoring.statistics.holdout import CountSubset

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]
Arrays = dict[str, npt.NDArray[Any]]

NANOSECONDS_PER_PIXEL = 4


@dataclass(frozen=True)
class ImageAnnotations:
    """Labels of the images.

    Attributes
    ----------
    has_label
        bool (N, C): whether an image has a label.
    annotated
        bool (N, K): whether an image is annotated in a category.
    """

    has_label: npt.NDArray[np.bool_]
    annotated: npt.NDArray[np.bool_]

    @classmethod
    def none(cls, images: int, data: ConceptData) -> Self:
        """Return the annotations of images that have not been read yet."""
        return cls(
            np.zeros((images, len(data.category_of)), np.bool_), np.zeros((images, len(data.categories)), np.bool_)
        )

    def update(self, row: int, image: ImageLabels) -> None:
        """Add the labels of one image."""
        self.has_label[row, image.label_ids] = True
        self.annotated[row, image.categories] = True


@dataclass(frozen=True)
class ExtraMetrics:
    """Statistics of the activations of one layer for the extra metrics.

    Attributes
    ----------
    responses
        Histograms of each unit on its leading concepts.
    maxima
        float32 (N, U): the maximum of each unit on each image.
    images
        Labels of these images.
    """

    responses: ResponseHistograms
    maxima: npt.NDArray[np.float32]
    images: ImageAnnotations

    def state(self) -> Arrays:
        """Return the arrays of a checkpoint, without the labels of the images."""
        names = ("positives", "all", "sums", "moments")
        bins = {name: np.asarray(array) for name, array in self.responses.bins._asdict().items()}
        return {name: getattr(self.responses, name) for name in names} | bins | {"maxima": self.maxima}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore a `state`."""
        for name, array in self.state().items():
            array[:] = state[name]


def leading_concepts_at(data: ConceptData, counts: IoUCounts, concept_totals: ConceptTotals) -> Ints:
    """Return the label ids of the ten leading concepts of each unit, int64 (Q, U, 10); 0 for none."""
    subsets = (
        CountSubset(hits, masks, concept_totals.pixels)
        for hits, masks in zip(counts.intersection, counts.activation, strict=True)
    )
    return np.stack([leading_concepts(subset.iou(data.category_of)) for subset in subsets])


def measure_extra_metrics(
    two_pass: TwoPass,
    collectors: Mapping[str, AnyCollector],
    threshold_results: Mapping[str, ThresholdResult],
    counted: CountResult,
) -> dict[str, ExtraMetrics]:
    """Run one more pass over all activations.

    Parameters
    ----------
    two_pass
        The run.
    collectors, threshold_results
        Of each layer, after the threshold pass.
    counted
        Result of the counting pass.
    """
    source, plans = two_pass.source, {plan.layer.name: plan for plan in two_pass.plan.layers}
    data, images = source.data, ImageAnnotations.none(len(source.data), source.data)
    _announce(two_pass, collectors)
    layers: dict[str, ExtraMetrics] = {}
    saved = two_pass.work.load("extra-metrics")
    done = int(saved["batches"]) if saved else 0
    if saved:
        images = ImageAnnotations(**strip_prefix("images", saved))

    def state() -> Arrays:
        arrays: Arrays = {"batches": np.array(done)} | add_prefix("images", vars(images))
        return arrays | prefix_layers(extra.state() for extra in layers.values())

    labels = two_pass.label_reader.read(range(done * two_pass.starts.step, len(data)))
    for batch in two_pass.replay_all("extra metrics", collectors, done):
        maps = {name: batch.dense(name).cpu().numpy() for name in batch.maps}
        if not layers:
            layers = {
                name: _empty_metrics(two_pass, maps[name], name, threshold_results[name], counted, images)
                for name in maps
            }
            for index, extra in enumerate(layers.values()):
                if saved:
                    extra.restore(strip_prefix(f"layer{index}", saved))
        for index, image in zip(range(len(batch.rows)), labels, strict=False):
            images.update(batch.start + index, image)
            for name, extra in layers.items():
                grid = plans[name].grid_to(image.size)
                extra.responses.update(maps[name][index], image, grid)
                extra.maxima[batch.start + index] = maps[name][index].max(axis=(1, 2))
        done += 1
        two_pass.work.save("extra-metrics", state)
    return layers


def _empty_metrics(
    two_pass: TwoPass,
    maps: Maps,
    layer: str,
    threshold_result: ThresholdResult,
    counted: CountResult,
    images: ImageAnnotations,
) -> ExtraMetrics:
    data, sizes = two_pass.source.data, [row.size for row in two_pass.source.data.rows]
    label_ids = leading_concepts_at(data, counted.counts[layer].first(1), counted.concept_totals)[0]
    bins = ValueBins.of(maps, threshold_result.thresholds[0], threshold_result.max_activation[:, 0])
    pixels = sum(size.height * size.width for size in sizes)
    side = two_pass.source.config.protocol.segmentation_size
    pixels = pixels if side is None else side * side * len(sizes)
    maxima = np.zeros((len(data), maps.shape[1]), np.float32)
    return ExtraMetrics(ResponseHistograms.zeros(bins, label_ids, len(data.categories), pixels), maxima, images)


def _announce(two_pass: TwoPass, collectors: Mapping[str, AnyCollector]) -> None:
    data = two_pass.source.data
    pixels = sum(row.size.height * row.size.width for row in data.rows)
    units = sum(plan.layer.units for plan in two_pass.plan.layers)
    stored = two_pass.keeps_all_activations(collectors)
    logger.info(
        "extra metrics: %s, and about %.0f s of computing",
        "all activations are stored" if stored else "one more forward pass (--activation-cache dense avoids it)",
        units * pixels * NANOSECONDS_PER_PIXEL * 1e-9,
    )


def count_extra_metrics(
    data: ConceptData, counts: IoUCounts, concept_totals: ConceptTotals, quantiles: tuple[float, ...]
) -> pl.DataFrame:
    """Return metrics of the mask of each unit on its leading concepts, at each quantile."""
    label_ids = leading_concepts_at(data, counts, concept_totals)
    quantile, unit, rank = label_ids.nonzero()
    label_id = label_ids[quantile, unit, rank]
    hits = counts.intersection[quantile, unit, label_id]
    masks, pixels = counts.activation[quantile, unit, data.category_of[label_id]], concept_totals.pixels[label_id]
    return pl.DataFrame(
        {
            "quantile": np.asarray(quantiles)[quantile],
            "unit": unit.astype(np.int32),
            "rank": rank.astype(np.int32),
            "label_id": label_id.astype(np.int32),
            "concept": [data.by_label_id[int(each)].name for each in label_id],
            "category": [data.by_label_id[int(each)].category for each in label_id],
            "iou": iou(hits, masks, pixels),
        }
        | {metric.name: metric.compute(MaskCounts(hits, masks, pixels)) for metric in MASK_METRICS}
    )


def extra_metric_scores(data: ConceptData, extra: ExtraMetrics) -> pl.DataFrame:
    """Return metrics of the activations of each unit on its leading concepts, at the first quantile."""
    responses = extra.responses
    unit, slot = responses.label_ids.nonzero()
    label_id = responses.label_ids[unit, slot]
    category = data.category_of[label_id]
    columns: dict[str, list[float]] = {metric.name: [] for metric in ACTIVATION_METRICS}
    for u, k, c, concept in zip(unit, slot, category, label_id, strict=True):
        positives, all_values = responses.positives[u, k], responses.all[u, c]
        pair = PairResponses(
            positives, all_values - positives, responses.sums[u, k], responses.moments[u, c],
            extra.maxima[:, u], extra.images.has_label[:, concept], extra.images.annotated[:, c],
        )  # fmt: skip
        for metric in ACTIVATION_METRICS:
            columns[metric.name].append(float(metric.compute(pair)))
    keys = {"unit": unit.astype(np.int32), "label_id": label_id.astype(np.int32)}
    return pl.DataFrame(keys | columns).with_columns(pl.col(pl.Float64).fill_nan(None))
