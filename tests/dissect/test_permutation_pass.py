"""The permutation test of a run: the same for every engine, and consistent with the counts of the run."""

import itertools
import statistics
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import strategies
from netdissect.config import PROTOCOL_NAMES, RULES, DissectConfig, Execution, NullModel, ProtocolName, StatisticsConfig
from netdissect.dissect import dissect, run_dissection
from netdissect.dissect.statistics import permutation_pass, permutation_strata
from netdissect.dissect.statistics.layer_counts import LayerCounts
from netdissect.dissect.statistics.permutation_pass import (
    PermutationNull,
    PermutationTest,
    fdr_limit,
    null_count_columns,
    null_counts_frame,
)
from netdissect.result import Result
from netdissect.scoring.statistics.multiple_testing import fdr_threshold
from netdissect.scoring.statistics.permutation import BestConcepts
from networks import COVERAGE, SIDE, build, images

pytestmark = pytest.mark.usefixtures("tight")


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, of which many are annotated alike."""
    root = tmp_path_factory.mktemp("data") / "broden"
    drawn = images(sizes=((12, 12), (6, 8)))
    return strategies.write_broden(root, [*drawn, *drawn[::-1]], COVERAGE, image=(SIDE, SIDE))


def config(name: ProtocolName = "paper", of: NullModel = "images", **changes: object) -> DissectConfig:
    protocol = strategies.definition(name, 0.05).protocol.model_copy(update={"quantiles": (0.05, 0.2)})
    statistics = StatisticsConfig(bootstrap=0, permutations=30, null=of, stats_seed=3, keep_masks=True)
    settings: dict[str, Any] = {"layers": ("wide_relu", "fc"), "protocol": protocol, "batch_size": 3}
    return DissectConfig(**settings | {"statistics": statistics} | changes)


def assert_same_chance(found: Result, wanted: Result) -> None:
    assert found.info.fdr_limit == wanted.info.fdr_limit
    for name, layer in found.layers.items():
        for table, frame in wanted.layers[name].statistics.items():
            assert layer.statistics[table].collect().equals(frame.collect()), table


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
@pytest.mark.parametrize("how", [{"activation_cache": "none", "workers": 4}, {"engine": "tensor"}])
def test_engines_and_threads_do_not_change_the_permutation_test(
    alike: Path, name: ProtocolName, how: dict[str, Any]
) -> None:
    wanted = dissect(build(), alike, config=config(name), execution=Execution(activation_cache="sparse", workers=1))
    assert_same_chance(dissect(build(), alike, config=config(name), execution=Execution(**how)), wanted)


@pytest.mark.parametrize("of", ["images", "locations"])
def test_little_memory_takes_fewer_repetitions_at_a_time_and_changes_nothing(
    alike: Path, of: NullModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = dissect(build(), alike, config=config(of=of))
    monkeypatch.setattr(permutation_pass, "MEGABYTE", 1)
    monkeypatch.setattr(permutation_strata, "MOST_RUNS", 100)  # of some images of a stratum
    assert_same_chance(dissect(build(), alike, config=config(of=of), execution=Execution(memory_mb=4)), wanted)


def test_the_tables_of_the_permutation_test_have_the_units_and_counts_of_the_run(alike: Path) -> None:
    result = dissect(build(), alike, config=config(min_iou=0.0))
    layer = result.layer("wide_relu")
    units = layer.statistics["units"].collect()
    assert units.select("quantile", "unit").equals(layer.units.select("quantile", "unit").sort("quantile", "unit"))
    assert units["p_value"].is_between(0, 1, closed="right").all()
    assert (units["q_value_bh"] >= units["p_value"]).all()
    assert (units["q_value_by"] >= units["q_value_bh"]).all()
    dead = layer.units.filter("dead").join(units, on=["quantile", "unit"], suffix="_by_chance")
    assert (dead["p_value"] == 1).all()
    counts = layer.statistics["counts"].collect()
    total = counts.filter(pl.col("category") == "total", pl.col("rule") == "per-category", pl.col("quantile") == 0.2)
    assert 0 < total["null_detectors"].item() <= layer.info.units


def test_every_layer_has_an_fdr_limit_without_a_given_number_of_permutations(alike: Path) -> None:
    result = dissect(
        build(), alike, config=config(min_iou="fdr", statistics=StatisticsConfig(bootstrap=0, permutations=0))
    )
    limits = result.info.fdr_limits
    assert set(limits) == set(result.layers)
    for name, limit in limits.items():
        assert result.info.min_iou(name) == limit
        alone = replace(result, layers={name: result.layers[name]})
        assert alone.detectors() == alone.detectors(min_iou=limit)
    plain = dissect(build(), alike, config=config(statistics=StatisticsConfig(bootstrap=0, permutations=0)))
    assert plain.info.fdr_limit is None
    assert plain.info.fdr_limits == {}
    assert plain.info.min_iou("wide_relu") == 0.04
    assert not any({"units", "counts"} & layer.statistics.keys() for layer in plain.layers.values())


def test_the_fdr_limit_of_a_layer_is_that_of_a_run_of_this_layer_alone(
    alike: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few images leave nothing that one in twenty would let pass.
    monkeypatch.setattr(permutation_pass, "fdr_threshold", partial(fdr_threshold, share=0.9))
    both = dissect(build(), alike, config=config(min_iou="fdr"))
    for name, limit in both.info.fdr_limits.items():
        alone = dissect(build(), alike, config=config(min_iou="fdr", layers=(name,)))
        assert alone.info.fdr_limits == {name: limit}
        assert alone.info.fdr_limit == limit
        counts = both.layers[name].statistics["counts"].collect()
        assert counts.equals(alone.layers[name].statistics["counts"].collect())
    assert len(set(both.info.fdr_limits.values())) == 2
    assert min(both.info.fdr_limits.values()) < 1


def test_a_run_from_before_layers_had_limits_is_counted_with_the_one_it_had(alike: Path) -> None:
    result = dissect(build(), alike, config=config(min_iou="fdr"))
    before = replace(result, info=result.info.model_copy(update={"fdr_limits": {}, "fdr_limit": 0.07}))
    assert before.detectors() == result.detectors(min_iou=0.07)


@pytest.mark.parametrize("seed", range(5))
def test_limits_of_single_layers_keep_the_promise_for_the_run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = []
    for scale in (0.02, 0.08):
        observed = scale * rng.gamma(2, size=(1, 40)) + 0.3 * rng.random((1, 40)) * (rng.random((1, 40)) < 0.5)
        layers.append(
            PermutationNull((0.005,), ("object",), observed, scale * rng.gamma(2, size=(30, 1, 40)).clip(max=9), [])
        )
    passing = by_chance = 0.0
    for limit, layer in zip((fdr_limit([layer]) for layer in layers), layers, strict=True):
        passing += (layer.observed >= limit).sum()
        by_chance += (layer.maxima >= limit).sum() / 30
    assert by_chance <= 0.05 * passing


def test_the_limit_of_several_quantiles_is_the_largest_of_theirs() -> None:
    observed = np.array([[0.1, 0.3, 0.4], [0.2, 0.6, 0.7]])
    maxima = np.broadcast_to(np.array([0.25, 0.5])[:, None], (5, 2, 3))  # every unit reaches so much in each repetition
    both = PermutationNull((0.005, 0.02), ("object",), observed, maxima, [])
    turned = PermutationNull((0.02, 0.005), ("object",), observed[::-1], maxima[:, ::-1], [])
    assert fdr_limit([both]) == fdr_limit([turned]) == 0.6  # 0.3 would do for the first


def test_counts_under_the_null_are_those_of_each_permutation_counted_by_hand() -> None:
    rng = np.random.default_rng(7)
    categories, units, number = ("object", "part"), 6, 9
    drawn = [
        BestConcepts(
            rng.integers(1, 4, (2 * units, 2)).astype(np.int32), rng.choice([0.0, 0.03, 0.05, 0.2], (2 * units, 2))
        )
        for _ in range(number)
    ]
    null = PermutationNull((0.01, 0.05), categories, np.zeros((2, units)), np.zeros((number, 2, units)), drawn)
    table = null_counts_frame(null, 0.05)
    means = {row[:3]: row[3:] for row in null_count_columns(table).iter_rows()}
    for (quantile, rule), category in itertools.product(
        itertools.product(null.quantiles, RULES), ("total", *categories)
    ):
        counted = [_by_hand(best, null.quantiles.index(quantile) * units, units, rule, category) for best in drawn]
        rows = table.filter(quantile=quantile, rule=rule, category=category)
        assert rows["permutation"].to_list() == list(range(number))
        assert rows.select("detectors", "unique_detectors").rows() == counted
        expected = [
            value
            for column in zip(*counted, strict=True)
            for value in (statistics.mean(column), statistics.stdev(column) / number**0.5)
        ]
        assert means[quantile, rule, category] == pytest.approx(expected, rel=1e-12)


def _by_hand(best: BestConcepts, first: int, units: int, rule: str, category: str) -> tuple[int, int]:
    """Count detectors and their concepts among some masks, one at a time; categories are object and part."""
    masks, concepts = set(), set()
    for mask in range(first, first + units):
        scores = best.scores[mask]
        for index, score in enumerate(scores):
            other = scores[1 - index]
            top = score > other or (score == other and index == 1)
            passing = score > 0.05 if rule == "per-category" else score >= 0.05 and top
            if passing and category in ("total", ("object", "part")[index]):
                masks.add(mask)
                concepts.add((index, int(best.label_ids[mask, index])))
    return len(masks), len(concepts)


def test_the_best_concepts_of_all_permutations_are_released_before_other_tables_are_made(
    alike: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nulls, held = list[weakref.ref[PermutationNull]](), list[PermutationNull | None]()
    null_of, layer_statistics = PermutationTest.null_of, run_dissection.layer_statistics

    def remembered(test: PermutationTest, layer: str, best: Any) -> PermutationNull:
        null = null_of(test, layer, best)
        nulls.append(weakref.ref(null))
        return null

    def statistics_of(layer_counts: LayerCounts) -> dict[str, pl.LazyFrame]:
        held.extend(null() for null in nulls)
        return layer_statistics(layer_counts)

    monkeypatch.setattr(PermutationTest, "null_of", remembered)
    monkeypatch.setattr(run_dissection, "layer_statistics", statistics_of)
    dissect(build(), alike, config=config())
    assert held == [None] * 4


def test_counts_under_the_null_of_a_run_are_the_means_of_its_permutations(alike: Path) -> None:
    layer = dissect(build(), alike, config=config(min_iou=0.0)).layer("wide_relu")
    each, counts = (layer.statistics[name].collect() for name in ("null_counts", "counts"))
    assert each.height == counts.height * 30
    for row in counts.iter_rows(named=True):
        drawn = each.filter(quantile=row["quantile"], rule=row["rule"], category=row["category"])
        for name in ("detectors", "unique_detectors"):
            assert row[f"null_{name}"] == drawn[name].mean()
            assert row[f"null_{name}_se"] == pytest.approx(statistics.stdev(drawn[name]) / 30**0.5)


def test_one_permutation_has_no_standard_error(alike: Path) -> None:
    once = StatisticsConfig(bootstrap=0, permutations=1, stats_seed=3)
    counts = dissect(build(), alike, config=config(statistics=once)).layer("wide_relu").statistics["counts"].collect()
    assert counts["null_detectors"].null_count() == 0
    assert counts["null_detectors_se"].null_count() == counts.height
