"""Differences of counts over images: one interval wherever counts are compared, and only of the same images."""

import math
import re
from pathlib import Path
from statistics import NormalDist, fmean, pvariance

import pytest

import strategies
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.errors import ResultError
from netdissect.experiments import Snapshot
from netdissect.experiments.compare.experiment import CompareConfig, compare
from netdissect.experiments.counts import difference_over_images
from netdissect.experiments.rotate.experiment import RotateConfig, rotate
from netdissect.experiments.training_dynamics.experiment import training_dynamics
from netdissect.result import Result, paired_differences
from networks import COVERAGE, SIDE, build, images

QUANTILE = 0.2
# 4 and 5 units; two concepts are objects, two parts, one a color: a unit counts once, or once in each category.
MOST = {"top-label": {"wide_relu": 4, "deep_relu": 5}, "per-category": {"wide_relu": 5, "deep_relu": 5}}


def measured(*layers: str, **statistics: object) -> DissectConfig:
    return DissectConfig(
        layers=layers, batch_size=4, top_images=3, protocol=Protocol(quantiles=(QUANTILE,)),
        statistics=StatisticsConfig(**{"bootstrap": 60, "permutations": 0} | statistics),
    )  # fmt: skip


def run(seed: int, root: Path, **statistics: object) -> Result:
    return dissect(build(seed=seed), root, config=measured("wide_relu", "deep_relu", **statistics))


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two data sets of the same concepts and as many images."""
    folder = tmp_path_factory.mktemp("data")
    return [
        strategies.write_broden(folder / str(seed), images(seed=seed), COVERAGE, image=(SIDE, SIDE)) for seed in (3, 4)
    ]


@pytest.fixture(scope="module")
def runs(roots: list[Path]) -> list[Result]:
    return [run(seed, roots[0]) for seed in (0, 1)]


def oracle(left: Result, right: Result, pairs: list[tuple[str, str]], rule: str) -> tuple[float, float, float]:
    """Mean difference of unique detectors and its interval, with plain lists."""

    def unique(result: Result, layer: str, table: str) -> list[int]:
        rows = result.layers[layer].statistics[table].collect().to_dicts()
        return [row["unique_detectors"] for row in rows if (row["rule"], row["category"]) == (rule, "total")]

    def changes(table: str) -> list[int]:
        each = [zip(unique(left, one, table), unique(right, other, table), strict=True) for one, other in pairs]
        return [sum(after - before for before, after in place) for place in zip(*each, strict=True)]

    (value,), drawn = changes("counts"), changes("replicates")
    bias = fmean(drawn) - value
    reach = NormalDist().inv_cdf(0.975) * math.sqrt(2 * pvariance(drawn) + bias**2)
    low = max(math.floor(value - bias - reach), -sum(MOST[rule][one] for one, _ in pairs))
    high = min(math.ceil(value - bias + reach), sum(MOST[rule][other] for _, other in pairs))
    return value / len(pairs), low / len(pairs), high / len(pairs)


@pytest.mark.parametrize("rule", ["top-label", "per-category"])
def test_a_mean_over_pairs_of_layers_has_the_interval_of_the_sum_of_their_counts(runs, rule):
    for pairs in ([("wide_relu", "wide_relu")], [("wide_relu", "wide_relu"), ("wide_relu", "deep_relu")]):
        found = difference_over_images(*runs, pairs, quantile=QUANTILE, rule=rule)
        value, *interval = oracle(*runs, pairs, rule)
        assert (found.value, list(found.interval), found.replicates) == (value, interval, 60)


def test_comparing_following_and_pairing_runs_give_one_interval(runs, tmp_path):
    rule = "top-label"
    found = paired_differences(*runs, layers=[("wide_relu", "deep_relu")])
    row = found.filter(rule=rule, category="total").row(0, named=True)
    value, low, high = oracle(*runs, [("wide_relu", "deep_relu")], rule)
    assert (row["unique_detectors"], row["unique_detectors_ci_low"], row["unique_detectors_ci_high"]) == (
        value,
        low,
        high,
    )
    config = CompareConfig(
        layers=("wide_relu", "deep_relu"), rule=rule, expected=("tiny, deep_relu", "tiny, wide_relu")
    )
    said = compare(runs, config, out=tmp_path).conclusion.finding
    assert f"{value:+.0f} unique detector{'s' * (abs(value) != 1)} [{low:.0f}, {high:.0f}]; the" in said
    followed = training_dynamics([Snapshot(0, runs[0]), Snapshot(10, runs[1])])
    value, low, high = oracle(*runs, [("deep_relu", "deep_relu")], "per-category")
    assert f"[{low:.0f}, {high:.0f}]; the permutation null was not measured." in followed.conclusion.finding
    assert f"over the same images: {f'{value:+.0f}' if value else 0} unique detector" in followed.conclusion.finding


def test_rotations_are_counted_against_the_units_over_images(roots, tmp_path):
    config = RotateConfig(dissect=measured("deep_relu"), rotations=3, steps=1)
    result = rotate(build(seed=0), roots[0], config, out=tmp_path)
    (change,) = result.extra_tables["over_images"].rows(named=True)
    totals = result.table.filter(rule="per-category", category="total")
    units, *turned = totals["unique_detectors"].to_list()
    assert units != fmean(turned)
    assert change["mean"] == pytest.approx(fmean(turned) - units, rel=1e-15)
    assert f"[{change['ci_low']:.0f}, {change['ci_high']:.0f}]; the permutation null" in result.conclusion.finding


def test_replicates_of_different_images_are_not_paired(roots, runs, tmp_path):
    elsewhere = run(1, roots[1])
    config = CompareConfig(layers=("wide_relu", "deep_relu"), expected=("tiny, wide_relu", "tiny, deep_relu"))
    refused = re.escape("the runs are not paired: images and labels (digest) are")
    with pytest.raises(ResultError, match=refused):
        compare([runs[0], elsewhere], config, out=tmp_path)
    with pytest.raises(ResultError, match=refused):
        training_dynamics([Snapshot(0, runs[0]), Snapshot(10, elsewhere)])
    with pytest.raises(ResultError, match="replicates and seed are"):
        compare([run(0, roots[0], bootstrap=61), runs[1]], config, out=tmp_path)
    # Without an expected order nothing is paired, and counts of different images may stand beside each other.
    compare([runs[0], elsewhere], config.model_copy(update={"expected": ()}), out=tmp_path)


def test_runs_without_a_bootstrap_are_inconclusive(roots, runs, tmp_path):
    plain = run(0, roots[0], bootstrap=0)
    config = CompareConfig(layers=("wide_relu", "deep_relu"), expected=("tiny, wide_relu", "tiny, deep_relu"))
    conclusion = compare([plain, runs[1]], config, out=tmp_path).conclusion
    assert conclusion.outcome == "inconclusive"
    assert "no bootstrap over images" in conclusion.finding
