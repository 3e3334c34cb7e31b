"""Bases of a layer are compared: the table by plain lists, differences by dictionaries and scipy, every conclusion."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.stats
import torch
from benchmarks.bases import conclusion_lines

import netdissect
import strategies
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.errors import ConfigError, NetworkError, ShapeError
from netdissect.evaluation.unit_intervals import unit_means
from netdissect.experiments.bases.basis_tables import (
    CONCEPTS,
    ROTATIONS,
    basis_differences,
    precision_difference,
    standings,
)
from netdissect.experiments.bases.experiment import BasesConfig, compare_bases, conclude, leaders, standings_text
from netdissect.experiments.counts import OVER_IMAGES, over_images_table
from netdissect.experiments.outcome import ExperimentResult
from netdissect.models.dictionaries.basis import LinearBasis
from netdissect.result import PairedDifference
from networks import COVERAGE, SIDE, build, images

LAYER, QUANTILE = "deep_relu", 0.2
CONFIG = BasesConfig(
    dissect=DissectConfig(
        layers=(LAYER,), bases=("pca", "rotation:0", "rotation:1", "permutation:0", "kmeans:8"), batch_size=8,
        top_images=3,
        protocol=Protocol(quantiles=(QUANTILE,)),
        statistics=StatisticsConfig(bootstrap=20, permutations=19),
    ),
    rule="top-label",
)  # fmt: skip
BASES = ["neurons", "pca", "rotation-0", "rotation-1", "permutation-0", "kmeans-8"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    data = strategies.write_broden(folder / "broden", images(40), COVERAGE, image=(SIDE, SIDE))
    embeddings = np.random.default_rng(0).normal([1.0, 0, 0, 0], size=(40, 4))
    found = compare_bases(build(), data, CONFIG, embeddings=embeddings, out=folder / "out")
    return found, netdissect.load_result(folder / "out" / "runs" / "bases")


def name_of(basis):
    return LAYER if basis == "neurons" else f"{LAYER}@{basis}"


def test_every_basis_has_the_counts_and_means_of_its_units(compared):
    found, run = compared
    assert found.table["basis"].to_list() == BASES
    for row in found.table.iter_rows(named=True):
        layer = run.layer(name_of(row["basis"]))
        units = layer.units.filter(quantile=QUANTILE)
        detected = {label for label, iou in units.select("label", "iou").rows() if iou is not None and iou >= 0.04}
        assert (row["units"], row["unique_detectors"]) == (len(units), len(detected))
        assert row["unique_detectors_ci_low"] <= row["unique_detectors"] <= row["unique_detectors_ci_high"]
        nulls = layer.statistics["null_counts"].collect().filter(rule="top-label", category="total")
        assert row["null_unique_detectors"] == pytest.approx(np.mean(nulls["unique_detectors"].to_list()))
        heldout = [value or 0.0 for value in layer.statistics["units"].collect()["heldout_iou"]]
        assert row["heldout_iou"] == pytest.approx(sum(heldout) / len(units))
        expected = unit_means(np.array(heldout)[:, None], np.arange(len(units)), 0)
        assert row["heldout_iou_ci_low"] == pytest.approx(expected.ci_low[0])
        scores = found.extra_tables[CONCEPTS].filter(basis=row["basis"])["average_precision"]
        assert row["map_equal"] == pytest.approx(np.mean(scores.to_list()))
        assert row["map_ci_low"] <= row["map"] <= row["map_ci_high"]
        assert (row["map_equal"] == row["map"]) == (row["basis"] != "kmeans-8")
        assert -1 <= row["monosemanticity"] <= 1


def test_units_are_compared_with_each_basis_and_each_basis_with_the_mean_of_rotations(compared):
    found, _ = compared
    counts = dict(found.table.select("basis", "unique_detectors").rows())
    precision = {row[1:4]: row[4] for row in found.extra_tables[CONCEPTS].rows()}
    concepts = {key[1:] for key in precision}
    differences = basis_differences(found.table, found.extra_tables)
    assert [(each.before, each.after) for each in differences] == [
        ("neurons", "pca"), (ROTATIONS, "pca"), ("neurons", ROTATIONS), ("neurons", "permutation-0"),
        (ROTATIONS, "permutation-0"), ("neurons", "kmeans-8"), (ROTATIONS, "kmeans-8"),
    ]  # fmt: skip
    for each in differences:
        sides = [["rotation-0", "rotation-1"] if side == ROTATIONS else [side] for side in (each.before, each.after)]
        before, after = (np.mean([counts[basis] for basis in side]) for side in sides)
        assert each.detectors.value == pytest.approx(after - before)
        assert each.detectors.permutations == 19
        left, right = ([np.mean([precision[b, *key] for b in side]) for key in concepts] for side in sides)
        gains = np.subtract(right, left)
        assert each.precision.mean == pytest.approx(np.mean(gains))
        if each.after != "permutation-0":
            low, high = scipy.stats.ttest_1samp(gains, 0).confidence_interval(0.95)
            assert (each.precision.low, each.precision.high) == pytest.approx((low, high))


def test_a_basis_of_more_units_is_compared_by_as_many_as_its_layer_has(compared):
    found, run = compared
    layer = f"{LAYER}@kmeans-8"
    config = netdissect.EvaluateBasesConfig(layers=(layer,), equal_units=(5,), cells=CONFIG.cells)
    measured = netdissect.evaluate_bases(run, network=build(), config=config)
    every, five = (measured.bases.filter(choice=choice).row(0, named=True) for choice in ("all", "5 units"))
    row = found.table.filter(basis="kmeans-8").row(0, named=True)
    assert [row[name] for name in ("map", "nmse", "l0", "dead_share")] == pytest.approx(
        [every[name] for name in ("map", "nmse", "l0", "dead_share")]
    )
    assert [row[f"map_equal{end}"] for end in ("", "_ci_low", "_ci_high")] == pytest.approx(
        [five[f"map{end}"] for end in ("", "_ci_low", "_ci_high")]
    )
    assert row["map_equal"] < row["map"]


def test_a_permutation_of_the_units_is_neither_better_nor_worse(compared):
    found, _ = compared
    same = next(each for each in basis_differences(found.table, found.extra_tables) if each.after == "permutation-0")
    assert (same.detectors.value, same.detectors.excess, same.detectors_sign) == (0, 0, 0)
    assert same.precision.mean == pytest.approx(0, abs=1e-9)
    assert found.conclusion.outcome == "inconclusive"


def test_a_basis_of_another_name_and_a_basis_without_concepts(compared, tmp_path):
    scores = compared[0].extra_tables[CONCEPTS]
    assert precision_difference(scores, ["neurons"], ["absent"]) is None
    network = replace(build(), bases={"turned": LinearBasis(LAYER, torch.eye(5))})
    data = strategies.write_broden(tmp_path / "broden", images(8), COVERAGE, image=(SIDE, SIDE))
    dissection = CONFIG.dissect.model_copy(
        update={"layers": (LAYER, "turned"), "bases": ("neurons",), "statistics": StatisticsConfig(bootstrap=0)}
    )
    found = compare_bases(network, data, CONFIG.model_copy(update={"dissect": dissection}), out=tmp_path / "out")
    assert found.table.select("layer", "basis").rows() == [(LAYER, "neurons"), (LAYER, "turned")]
    assert "monosemanticity" not in found.table.columns
    assert found.extra_tables[OVER_IMAGES].is_empty()


def tables(detectors, gains):
    """Tables of the units, a rotation and two bases: each side's excess of unique detectors and average precision."""
    sides = {"neurons": (0, 0.0), ROTATIONS: (0, 0.0)} | {
        side: (detectors.get(side, 0), gains.get(side, 0.0)) for side in (ROTATIONS, "pca", "ica")
    }
    pairs = [("neurons", "pca"), ("neurons", "ica"), ("neurons", ROTATIONS), (ROTATIONS, "pca"), (ROTATIONS, "ica")]
    differences = {}
    for before, after in pairs:
        value = sides[after][0] - sides[before][0]
        p_value = 0.01 if value else 0.9
        differences[f"conv@{before}", f"conv@{after}"] = PairedDifference(
            value, (value - 2, value + 2), 1000, 0.0, 0.1, p_value, 100, ""
        )
    bases = {"neurons": "neurons", "rotation-0": ROTATIONS, "pca": "pca", "ica": "ica"}
    noise = np.random.default_rng(0).normal(scale=0.01, size=(len(bases), 12))
    scores = [
        ("conv", basis, f"c{concept}", "object", 0.4 + sides[side][1] + noise[index, concept])
        for index, (basis, side) in enumerate(bases.items())
        for concept in range(12)
    ]
    columns = ("layer", "basis", "concept", "category", "average_precision")
    rows = [("conv", basis, 20, 10, 5.0, 0.1, 0.4 + sides[side][1], 0.4) for basis, side in bases.items()]
    names = (
        "layer",
        "basis",
        "units",
        "unique_detectors",
        "null_unique_detectors",
        "null_unique_detectors_se",
        "map",
        "map_equal",
    )
    extra = {OVER_IMAGES: over_images_table(differences), CONCEPTS: pl.DataFrame(scores, schema=columns, orient="row")}
    return pl.DataFrame(rows, schema=names, orient="row"), extra


FEWER, LOWER = {"pca": -9, "ica": -9, ROTATIONS: -9}, {"pca": -0.2, "ica": -0.2, ROTATIONS: -0.2}


@pytest.mark.parametrize(
    ("detectors", "gains", "outcome"),
    [
        ({"ica": 9}, {"ica": 0.2}, "disagrees"),
        (FEWER, LOWER, "agrees"),
        ({"ica": 9}, {}, "inconclusive"),  # one measure alone
        ({}, {"ica": 0.2}, "inconclusive"),
        ({"ica": 9}, {"pca": 0.2}, "inconclusive"),  # two bases, one measure each
        ({"ica": 9, ROTATIONS: 9}, {"ica": 0.2, ROTATIONS: 0.2}, "inconclusive"),  # as rotations are
        (FEWER | {"pca": 0}, LOWER, "inconclusive"),  # one basis is as good as the units
        ({"ica": 1}, {"ica": 0.2}, "inconclusive"),  # its interval contains 0
    ],
)
def test_bases_conclude_from_their_tables(detectors, gains, outcome):
    table, extra = tables(detectors, gains)
    assert conclude(table, CONFIG, extra=extra).outcome == outcome
    assert conclude(table, CONFIG).outcome == "inconclusive"


def test_the_finding_names_the_bases_that_lead_in_each_measure():
    table, extra = tables({"ica": 9}, {"pca": 0.2})
    differences = basis_differences(table, extra)
    assert leaders(differences, "detectors_sign") == ["conv@ica"]
    assert leaders(differences, "precision_sign") == ["conv@pca"]
    finding = conclude(table, CONFIG, extra=extra).finding
    assert (
        "rotations of their layer: conv@ica. A higher average precision than both, at an equal number of "
        "units: conv@pca." in finding
    )
    assert (
        "conv, unique detectors: neurons 10 (5.0 ± 0.1 under the permutation null), mAP 0.400; rotation-0 10" in finding
    )


def test_a_basis_stands_above_the_units_in_the_layers_in_which_its_difference_does():
    first, second = tables({"ica": 9, "pca": -9}, {"ica": 0.2}), tables({"ica": 9}, {"ica": -0.2})
    differences = [
        each._replace(layer=layer)
        for layer, (table, extra) in (("conv1", first), ("conv2", second))
        for each in basis_differences(table, extra)
    ]
    assert standings(differences) == [
        (ROTATIONS, 2, 0, 0, 0, 0), ("pca", 2, 0, 1, 0, 0), ("ica", 2, 2, 0, 1, 1),
    ]  # fmt: skip
    assert standings_text(differences).endswith(
        "average precision: rotations 0 and 0, 0 and 0 of 2 layers; pca 0 and 1, 0 and 0 of 2 layers; ica 2 and 0, 1 "
        "and 1 of 2 layers."
    )
    assert standings_text([]) == ""


@pytest.mark.parametrize(
    ("detectors", "gains", "outcome"),
    [({"ica": 9}, {"ica": 0.2}, "disagrees"), ({"ica": 9}, {"pca": 0.2}, "inconclusive")],
)
def test_results_of_several_networks_conclude_together(detectors, gains, outcome):
    results = {}
    for name, (table, extra) in (("world", tables(detectors, gains)), ("lite0", tables({}, {}))):
        found = conclude(table, CONFIG, extra=extra)
        results[name] = ExperimentResult("bases", table, found, extra_tables=extra)
    lines = list(conclusion_lines(results))
    assert lines[0] == f"outcome over 2 networks: {outcome}"
    assert "ica 1 and 0, " in lines[1]


def test_embeddings_that_cannot_be_loaded_are_refused_before_the_dissection(tmp_path):
    data = strategies.write_broden(tmp_path / "broden", images(8), COVERAGE, image=(SIDE, SIDE))
    for given, error in (("network:none", NetworkError), (tmp_path / "none.npy", ConfigError)):
        with pytest.raises(error, match="none"):
            compare_bases(build(), data, CONFIG, embeddings=given, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rows", [39, 41])
def test_embeddings_of_another_number_of_images_are_refused_before_the_dissection(rows, tmp_path):
    data = strategies.write_broden(tmp_path / "broden", images(40), COVERAGE, image=(SIDE, SIDE))
    given = np.random.default_rng(0).normal(size=(rows, 4))
    np.save(tmp_path / "given.npy", given)
    for embeddings in (given, tmp_path / "given.npy"):
        with pytest.raises(ShapeError, match=f"have {rows} rows for 40 images"):
            compare_bases(build(), data, CONFIG, embeddings=embeddings, out=tmp_path / "out")
    with pytest.raises(ShapeError, match="hold NaN or infinity: 1 of 40 rows"):
        compare_bases(build(), data, CONFIG, embeddings=np.append(given[:39], [[np.nan] * 4], 0), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
