"""Runs with moments: means and shares of each image, correlations over cells, linear explanations."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import oracle
import run_asserts
import strategies
from netdissect.config import DissectConfig, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.errors import ResultError
from netdissect.result import Result, cell_correlations, concept_shares, image_means
from netdissect.scoring.statistics.holdout import is_held_out
from netdissect.scoring.statistics.linear_explanations import LEAST_IMAGES
from networks import COVERAGE, SIDE, build, images

LAYERS = ("wide_relu", "fc")
IMAGES = 60
SEED = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "broden"
    return strategies.write_broden(root, images(IMAGES, sizes=((12, 12), (6, 8))), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    statistics = StatisticsConfig(bootstrap=0, permutations=0, moments=True, stats_seed=SEED)
    config = DissectConfig(
        layers=LAYERS, batch_size=16, statistics=statistics, protocol=strategies.definition("paper", 0.1).protocol
    )
    return dissect(build(), data, config=config, out=tmp_path_factory.mktemp("run") / "run")


def hooked_maps(data: Path) -> dict[str, strategies.Floats]:
    network = build()
    with network.prepared():  # it is tried with noise once, before there are hooks
        pass
    return run_asserts.hooked(network, data, oracle.read_broden(data).images, list(LAYERS), 16)


def test_image_means_are_the_means_of_all_cells(data: Path, run: Result) -> None:
    hooked = hooked_maps(data)
    for layer in LAYERS:
        cells = hooked[layer].reshape(*hooked[layer].shape[:2], -1)
        expected = [[math.fsum(unit) / len(unit) for unit in image.tolist()] for image in cells]
        found = image_means(run, layer)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=2e-7)


def test_concept_shares_are_shares_of_the_pixels_of_each_image(data: Path, run: Result) -> None:
    shares = concept_shares(run, LAYERS[0])
    assert shares.shape == (IMAGES, len(run.concepts))
    for image, of_image in zip(oracle.read_broden(data).source_images, shares, strict=True):
        expected = [
            np.any([channel == label_id for channel in image.channels()], axis=0).mean()
            for label_id in run.concepts["label_id"]
        ]
        np.testing.assert_allclose(of_image, expected, rtol=1e-6)
    np.testing.assert_array_equal(concept_shares(run, LAYERS[1]), shares)


def test_correlations_over_cells_are_of_the_images_of_one_half(run: Result) -> None:
    table = run.layers["wide_relu"].statistics["moments"].collect()
    both = [cell_correlations(run, "wide_relu", half) for half in ("selection", "heldout")]
    label_ids = run.concepts["label_id"].to_list()
    assert set(table["label_id"]) == {1, 2, 3, 4, 300}
    for half, found in zip(("selection", "heldout"), both, strict=True):
        for row in table.filter(half=half).to_dicts():
            cells, terms = row["cells"], {name: row[f"sum_{name}"] for name in ("activation", "share", "products")}
            covariance = terms["products"] / cells - terms["activation"] * terms["share"] / cells**2
            variances = [
                row[f"sum_{name}_squares"] / cells - (row[f"sum_{name}"] / cells) ** 2
                for name in ("activation", "share")
            ]
            expected = covariance / math.sqrt(variances[0] * variances[1])
            assert found[row["unit"], label_ids.index(row["label_id"])] == pytest.approx(expected, abs=1e-9)
    assert not np.allclose(*both)


def least_squares(shares: np.ndarray, values: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    """Fit a unit on the selection half: correlation and R2 on the held-out half."""
    design = np.column_stack([shares, np.ones(len(shares))]).astype(np.float64)
    predicted = design @ np.linalg.lstsq(design[~held_out], values[~held_out])[0]
    error = ((values - predicted)[held_out] ** 2).sum() / ((values - values[held_out].mean())[held_out] ** 2).sum()
    return float(np.corrcoef(predicted[held_out], values[held_out])[0, 1]), 1 - float(error)


def test_linear_explanations_and_labels_have_the_scores_of_least_squares_on_the_images(run: Result) -> None:
    shares, held_out = concept_shares(run, "wide_relu"), is_held_out(SEED, np.arange(IMAGES), 0.5)
    positions = {label_id: index for index, label_id in enumerate(run.concepts["label_id"])}
    for layer in LAYERS:
        means, statistics = image_means(run, layer).astype(np.float64), run.layers[layer].statistics
        explanations = statistics["linear_explanations"].collect()
        for row in statistics["units"].collect().to_dicts():
            terms = explanations.filter(unit=row["unit"])
            assert terms["rank"].to_list() == list(range(len(terms)))
            chosen = [positions[label_id] for label_id in terms["label_id"]]
            assert ((shares[~held_out][:, chosen] > 0).sum(axis=0) >= LEAST_IMAGES).all()
            values = means[:, row["unit"]]
            expected = least_squares(shares[:, chosen], values, held_out)
            assert (row["linear_correlation"], row["linear_r2"]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
            fitted = shares[:, chosen] @ terms["weight"].to_numpy() + terms["intercept"][0]
            deviations = shares[~held_out][:, chosen].std(axis=0) / values[~held_out].std()
            np.testing.assert_allclose(terms["standardized_weight"], terms["weight"] * deviations, rtol=1e-4)
            in_selection = np.corrcoef(fitted[~held_out], values[~held_out])[0, 1]
            assert terms["selection_correlation"][-1] == pytest.approx(in_selection, abs=1e-5)


def test_the_label_is_that_of_the_selection_half(data: Path, run: Result) -> None:
    shares, held_out = concept_shares(run, "wide_relu"), is_held_out(SEED, np.arange(IMAGES), 0.5)
    means, broden = image_means(run, "wide_relu").astype(np.float64), oracle.read_broden(data)
    maps = hooked_maps(data)["wide_relu"]
    limits = run.layers["wide_relu"].thresholds.sort("unit")["threshold"].to_numpy()
    kept = np.flatnonzero(~held_out)
    counts = oracle.count(
        maps[kept], [broden.source_images[index] for index in kept], broden.category_of,
        strategies.definition("paper", 0.1).rules, (SIDE, SIDE), (oracle.Field(-1, 3, 2),) * 2, limits,
    )  # fmt: skip
    label_ids = run.concepts["label_id"].to_list()
    rows = run.layers["wide_relu"].statistics["units"].collect().to_dicts()
    for row in rows:
        label = counts.label(row["unit"])
        assert label is not None
        share, values = shares[:, label_ids.index(label)], means[:, row["unit"]]
        assert row["label_r2"] == pytest.approx(least_squares(share[:, None], values, held_out)[1], rel=1e-4, abs=1e-6)
        plain = np.corrcoef(share[held_out], values[held_out])[0, 1]
        assert row["label_correlation"] == pytest.approx(plain, abs=1e-6)


def with_tables(run: Result, **tables: pl.LazyFrame) -> Result:
    """Return the run with other tables of statistics of one layer."""
    return replace(run, layers={"fc": replace(run.layers["fc"], statistics=tables)})


def test_without_moments_the_remedy_is_named(run: Result) -> None:
    without = with_tables(run)
    for query in (image_means, lambda result, layer: cell_correlations(result, layer, "heldout")):
        with pytest.raises(ResultError, match=r"netdissect run --config RUN --moments --out NEW"):
            query(without, "fc")
    with pytest.raises(ResultError, match=r"kept no labels of single images.*--moments"):
        concept_shares(without, "fc")


def test_means_that_are_not_of_all_images_are_refused(run: Result) -> None:
    tables = run.layers["fc"].statistics
    shorter = tables["image_means"].with_columns(pl.col("mean_activation").list.head(IMAGES - 1))
    with pytest.raises(ResultError, match=r"image_means of the layer 'fc' does not hold a finite number"):
        image_means(with_tables(run, image_means=shorter), "fc")
    labels = tables["labels"].with_columns(pl.col("label_id") + 7)
    with pytest.raises(ResultError, match=r"names images or labels that the run does not have"):
        concept_shares(with_tables(run, labels=labels), "fc")
