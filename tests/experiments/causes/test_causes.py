"""Causes: planted units and a decoy have a known answer, and a table decides in each direction."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats

from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.errors import LayerError
from netdissect.experiments.causes.experiment import CausesConfig, causes, conclude
from netdissect.experiments.causes.rank_correlation import correlation_rows
from netdissect.segmenters import SegmentLabel, load_segmenter
from netdissect.training import PaintSegmenter
from scene_generators import PAINT, TINY, tiny_generator

CONFIG = CausesConfig(dissect=DissectConfig(layers=("layer1",)))
SAMPLES = 96


def row(correlation, layer=None, units=40, reach=0.1):
    """Return a row of the table; the interval reaches so far to both sides."""
    ends = (None, None) if correlation is None else (correlation - reach, correlation + reach)
    found = {"layer": layer, "units": units, "correlation": correlation, "matching": 5, "causing": 4}
    return found | dict(zip(("correlation_low", "correlation_high"), ends, strict=True))


def table(*rows):
    return pl.DataFrame(list(rows), schema_overrides={"layer": pl.String, "correlation": pl.Float64})


@pytest.mark.parametrize(
    ("total", "outcome", "words"),
    [
        (row(0.4), "agrees", "0.4 (95 % interval 0.3 to 0.5, n = 40)"),
        (row(-0.4), "disagrees", "-0.4 (95 % interval"),
        (row(0.05), "inconclusive", "0.05 (95 % interval -0.05 to 0.15"),
        (row(0.4, units=2), "inconclusive", "n = 2"),
        (row(None), "inconclusive", "no unit removes more of its label than another"),
        (row(None, units=1), "inconclusive", "too few units overlap"),
    ],
)
def test_the_correlation_over_all_layers_decides(total, outcome, words):
    conclusion = conclude(table(total, row(-0.9, layer="layer1"), row(0.9, layer="layer2")), CONFIG)
    assert conclusion.outcome == outcome
    assert words in conclusion.finding
    assert "Units that match a concept: 5; of these cause it: 4" in conclusion.finding


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    statistics = StatisticsConfig(bootstrap=0, permutations=0)
    dissect = DissectConfig(
        layers=("layer1", "layer2"), protocol=Protocol(quantiles=(0.01,)), statistics=statistics, force=True
    )
    config = CausesConfig(dissect=dissect, samples=SAMPLES, ablated_samples=SAMPLES)
    paint = load_segmenter(PAINT)  # a data set spells names in its own way
    paint = replace(paint, labels=tuple(SegmentLabel(label.name.upper()) for label in paint.labels))
    return causes(tiny_generator(), paint, config, out=tmp_path_factory.mktemp("causes"))


def test_planted_units_cause_what_they_match_and_the_decoy_only_matches(found):
    units = found.extra_tables["units"].filter(layer="layer1").sort("unit")
    for concept, unit in TINY.planted_units.items():
        planted = units.row(unit, named=True)
        assert (planted["label"], planted["matches"], planted["causes"]) == (concept, True, True)
        assert planted["removed"] == pytest.approx(1, abs=1e-12)
    decoy = units.row(TINY.decoy, named=True)
    assert (decoy["label"], decoy["matches"], decoy["causes"]) == ("vegetation", True, False)
    assert decoy["effect"] == decoy["removed"] == 0
    assert decoy["iou"] == units["iou"][TINY.planted_units["vegetation"]]


def test_areas_are_those_of_the_output(found):
    samples = torch.tensor([[0, index] for index in range(SAMPLES)])
    maps = PaintSegmenter().segment(tiny_generator().images(samples).numpy())
    units = found.extra_tables["units"].filter(layer="layer2").sort("unit")
    for number, (concept, unit) in enumerate(TINY.planted_units.items(), start=1):
        shares = (maps == number).mean(axis=(1, 2, 3))
        planted = units.row(unit, named=True)
        assert planted["label"] == concept
        assert planted["before"] == pytest.approx(shares.mean(), abs=1e-12)
        low, high = stats.t.interval(0.95, len(shares) - 1, -shares.mean(), stats.sem(shares))
        assert (planted["ci_low"], planted["ci_high"]) == pytest.approx((low, high), abs=1e-12)


def test_the_correlation_is_that_of_scipy_and_all_layers_are_their_mean(found):
    units = found.extra_tables["units"].filter(pl.col("removed").is_not_null())
    expected = []
    for layer in ("layer1", "layer2"):
        part = units.filter(layer=layer)
        expected.append(stats.spearmanr(part["iou"], part["removed"]).statistic)
        assert found.table.filter(layer=layer)["correlation"][0] == pytest.approx(expected[-1], abs=1e-12)
    total = found.table.row(0, named=True)
    assert total["layer"] is None
    assert total["correlation"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert total["matching"] - total["causing"] == 1  # the decoy
    assert found.conclusion.outcome == "agrees"


def test_the_interval_is_that_of_resampled_units():
    rng = np.random.default_rng(5)
    iou = rng.random(60)
    removed = np.round(0.5 * iou + 0.3 * rng.random(60), 1)  # with ties
    units = pl.DataFrame({"layer": "conv", "iou": iou, "removed": removed, "matches": iou > 0.5, "causes": iou > 0.7})
    own = correlation_rows(units, seed=0).row(1, named=True)
    interval = stats.bootstrap(
        (iou, removed), lambda *pair: stats.spearmanr(*pair).statistic, paired=True, vectorized=False,
        method="percentile", n_resamples=2000, rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert own["correlation_low"] == pytest.approx(interval.low, abs=0.03)
    assert own["correlation_high"] == pytest.approx(interval.high, abs=0.03)
    assert (own["matching"], own["causing"]) == ((iou > 0.5).sum(), (iou > 0.7).sum())


def test_units_without_an_effect_or_all_alike_have_no_correlation():
    alike = {"iou": [0.1, 0.2, 0.3], "removed": [0.5, 0.5, 0.5]}
    unknown = {"iou": [0.1, 0.2, 0.3], "removed": [None, 0.5, 0.6]}
    for values, count in ((alike, 3), (unknown, 2)):
        units = pl.DataFrame({"layer": "conv", **values, "matches": True, "causes": False})
        rows = correlation_rows(units, seed=0)
        assert rows["correlation"].to_list() == rows["correlation_low"].to_list() == [None, None]
        assert rows["units"].to_list() == [count, count]


def test_layers_that_there_are_not_are_refused_before_a_sample_is_drawn(tmp_path):
    config = CausesConfig(dissect=DissectConfig(layers=("layer9",)), samples=SAMPLES)
    with pytest.raises(LayerError, match="layer9"):
        causes(tiny_generator(), load_segmenter(PAINT), config, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
