"""Extra metrics of whole runs, against scikit-learn on activations of plain forward hooks."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import pointbiserialr
from sklearn.metrics import average_precision_score, roc_auc_score

import oracle
import run_asserts
import strategies
from netdissect.config import DissectConfig, Execution, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.models import Network
from netdissect.result import LayerResult, Result
from netdissect.scoring.iou import NUM_LEADING
from networks import FIELDS, SIDE, build

pytestmark = pytest.mark.usefixtures("tight")

LAYERS = ("wide_relu", "deep_relu")


def run(network: Network, broden: Path, **how: Any) -> Result:
    protocol = strategies.definition("paper", 0.05).protocol.model_copy(update={"quantiles": (0.05, 0.2)})
    statistics = StatisticsConfig(bootstrap=0, extra_metrics=True)
    config = DissectConfig(layers=LAYERS, protocol=protocol, batch_size=3, statistics=statistics)
    return dissect(network, broden, config=config, execution=Execution(**how))


def scores(layer: LayerResult) -> pl.DataFrame:
    return layer.statistics["scores"].collect()


def test_extra_metrics_are_those_of_scikit_learn(broden: Path) -> None:
    network = build()
    result = run(network, broden)
    known = oracle.read_broden(broden)
    maps = run_asserts.hooked(network, broden, known.images, list(LAYERS), 3)
    for name in LAYERS:
        rows = scores(result.layer(name)).filter(quantile=0.05)
        assert rows["auroc"].is_not_null().any()
        for row in rows.sample(min(len(rows), 25), seed=0).to_dicts():
            unit, label_id = row["unit"], row["label_id"]
            category_index = known.category_of[label_id]
            annotated = [
                any(known.category_of[n] == category_index for n in image.label_ids()) for image in known.source_images
            ]
            chosen = [index for index, its in enumerate(annotated) if its]
            label_masks, values = [], []
            for index in chosen:
                image = known.source_images[index]
                up = oracle.upsample(maps[name][index, unit], image.size, (SIDE, SIDE), FIELDS[name], "field")
                label_masks.append(np.any([channel == label_id for channel in image.channels()], axis=0).ravel())
                values.append(up.ravel())
            pixels, heights = np.concatenate(label_masks), np.concatenate(values)
            if not 0 < pixels.mean() < 1:
                assert row["auroc"] is None
                continue
            assert row["auroc"] == pytest.approx(roc_auc_score(pixels, heights), abs=2e-3)
            assert row["average_precision"] == pytest.approx(average_precision_score(pixels, heights), abs=1e-2)
            if np.ptp(heights) > 0:
                expected = pointbiserialr(pixels, heights).statistic
                assert row["point_biserial"] == pytest.approx(expected, abs=1e-6)
            has_label = np.array([its.any() for its in label_masks])
            if not 0 < has_label.mean() < 1:
                assert row["selectivity"] is None
                continue
            maxima = maps[name][chosen, unit].max(axis=(1, 2))
            assert row["selectivity"] == pytest.approx(roc_auc_score(has_label, maxima))


def test_precision_recall_and_f1_follow_from_the_counts(broden: Path) -> None:
    layer = run(build(), broden).layer("wide_relu")
    keys = ["quantile", "unit", "label_id"]
    both = scores(layer).join(
        layer.scores.select(*keys, "intersection", "mask_pixels", "concept_pixels", "f1", "iou"), on=keys
    )
    assert len(both) == len(scores(layer)) > 0
    for row in both.to_dicts():
        assert row["precision"] == row["intersection"] / row["mask_pixels"]
        assert row["recall"] == row["intersection"] / row["concept_pixels"]
        assert (row["f1"], row["iou"]) == (row["f1_right"], row["iou_right"])
    ranked = scores(layer).sort("quantile", "unit", "rank").group_by("quantile", "unit", maintain_order=True)
    for ious, ranks in ranked.agg("iou", "rank").select("iou", "rank").rows():
        assert ious == sorted(ious, reverse=True)
        assert ranks == list(range(len(ranks)))


@pytest.mark.parametrize(
    "how", [{"activation_cache": "dense", "workers": 4}, {"activation_cache": "none"}, {"engine": "tensor"}]
)
def test_engines_and_stores_change_no_score(broden: Path, how: dict[str, Any]) -> None:
    expected, found = run(build(), broden, activation_cache="sparse"), run(build(), broden, **how)
    for name in LAYERS:
        assert scores(found.layer(name)).equals(scores(expected.layer(name)))


def test_intervals_and_scores_are_of_the_same_leading_concepts(broden: Path) -> None:
    protocol = strategies.definition("paper", 0.05).protocol
    statistics = StatisticsConfig(bootstrap=20, extra_metrics=True)
    config = DissectConfig(layers=LAYERS, protocol=protocol, batch_size=3, statistics=statistics)
    for layer in dissect(build(), broden, config=config).layers.values():
        rows = scores(layer)
        assert rows.select(pl.col("iou_ci_low", "iou_ci_high", "iou", "rank").is_not_null().all()).row(0) == (True,) * 4
        ten = rows.filter(pl.col("precision").is_not_null())
        assert ten.equals(rows.filter(pl.col("rank") < NUM_LEADING))
