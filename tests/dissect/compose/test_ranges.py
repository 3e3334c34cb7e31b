"""Formulas of ranges of activation: their masks by interpolation, their formulas by exhaustive search."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import netdissect
import oracle
from formula_oracle import LabeledMask, best_formula
from netdissect.activations import batch_starts
from netdissect.activations.clusters import cluster_bounds
from netdissect.config import Execution
from netdissect.dissect.compose import mask_sources
from netdissect.dissect.forward import Activations, DissectionInputs, forward
from netdissect.dissect.reload import data_of
from netdissect.errors import ConfigError, NetworkError
from netdissect.models import resolve_layers
from netdissect.result import Result
from netdissect.result.formulas.formula_result import Formulas, load_formulas
from networks import FIELDS, SIDE, build

LAYER, CLUSTERS = "wide_relu", 3


@pytest.fixture(scope="module")
def run(kept_run: Result, tmp_path_factory: pytest.TempPathFactory) -> Result:
    assert kept_run.origin is not None
    copy = tmp_path_factory.mktemp("ranges") / "run"
    shutil.copytree(kept_run.origin.folder, copy)
    return netdissect.load_result(copy)


@pytest.fixture(scope="module")
def found(run: Result) -> Formulas:
    return netdissect.compose(
        run, layer=LAYER, ranges=f"kmeans:{CLUSTERS}", length=2, bootstrap=99, network=build().module
    )


@pytest.fixture(scope="module")
def maps(run: Result) -> np.ndarray:
    """Activations of all images, float32 (N, U, h, w)."""
    data, network = data_of(run.info), build()
    source = DissectionInputs.of(network, data, resolve_layers(network, [LAYER]), run.info.config, Execution())
    return np.concatenate([batch.maps[LAYER].numpy() for batch in forward(source, batch_starts(len(data), 8))])


def labeled_masks(run: Result, maps: np.ndarray, low: float, high: float) -> list[LabeledMask]:
    """Mark the pixels of a unit, maps (N, h, w), between two activations."""
    data = data_of(run.info)
    categories = {name: index for index, name in enumerate(data.categories)}
    images = []
    for index in range(len(data)):
        labels = data.labels(index)
        values = oracle.upsample(maps[index], tuple(labels.size), (SIDE, SIDE), FIELDS[LAYER], "field")
        mask = (values > np.float32(low)) & (values < np.float32(high))
        images.append(
            LabeledMask(
                np.asarray(labels.label_channels), tuple(labels.image_level), frozenset(categories.values()), mask
            )
        )
    return images


def test_each_range_has_the_best_formula_of_its_interpolated_masks(
    run: Result, found: Formulas, maps: np.ndarray
) -> None:
    category_of = data_of(run.info).category_of.tolist()
    rows = found.units.select("unit", "range").rows()
    assert rows == [(unit, each) for unit in range(4) for each in range(CLUSTERS)]
    assert found.units["mask_pixels"].min() >= 0 < found.units["mask_pixels"].max()
    for row in found.units.iter_rows(named=True):
        low, high = cluster_bounds(maps[:, row["unit"]].ravel(), CLUSTERS)[row["range"]]
        assert (row["range_low"], row["range_high"]) == (low, high)
        images = labeled_masks(run, maps[:, row["unit"]], low, high)
        assert row["mask_pixels"] == sum(int(image.mask.sum()) for image in images)
        if row["unit"] == 1 and row["range"]:  # the others take as long again
            best = best_formula(images, category_of, 2, ("or", "and", "and-not"), annotated=False)
            assert best is not None
            assert tuple(row["label_ids"]) == best.label_ids
            assert tuple(row["operators"]) == best.operators
            assert row["iou"] == best.intersection / best.union
            assert row["optimal"]


def test_nothing_but_tables_stays_and_they_are_used_again(run: Result, found: Formulas) -> None:
    assert run.origin is not None
    folder = run.origin.folder / "formulas"
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} - {""} == {".parquet", ".json", ".log"}
    again = netdissect.compose(run, layer=LAYER, ranges=f"kmeans:{CLUSTERS}", length=2, bootstrap=99, unit=[2, 0])
    expected = found.units.filter(pl.col("unit").is_in([0, 2]))
    assert again.units.drop("seconds").equals(expected.drop("seconds"))
    assert not load_formulas(run)  # pages show one formula a unit


def test_ranges_that_cannot_be_made_are_refused(run: Result, tmp_path: Path) -> None:
    for wrong in ("kmeans:0", "kmeans:1", "kmeans:x", "kmeans:100", "5"):
        with pytest.raises(ConfigError, match=rf"ranges cannot be '{wrong}': expected kmeans:K with K from 2 to 99"):
            netdissect.compose(run, ranges=wrong)
    with pytest.raises(ConfigError, match=r"leave out one of ranges and permutations"):
        netdissect.compose(run, ranges="kmeans:2", permutations=3)
    with pytest.raises(NetworkError, match=r"its source is not recorded .*in Python network="):
        netdissect.compose(run, ranges="kmeans:2")
    with pytest.raises(NetworkError, match=r"structure or weights have changed"):
        netdissect.compose(run, ranges="kmeans:2", network=build(seed=1).module)


def test_an_interrupted_pass_goes_on_with_the_activations_that_it_has_stored(
    kept_run: Result, found: Formulas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_run.origin is not None
    shutil.copytree(kept_run.origin.folder, tmp_path / "run")
    run, passed = netdissect.load_result(tmp_path / "run"), []

    def interrupted(source: DissectionInputs, starts: range) -> Iterator[Activations]:
        for batch in forward(source, starts):
            if passed and not batch.start:
                raise AssertionError
            passed.append(batch.start)
            yield batch
            if len(passed) == 1:
                raise KeyboardInterrupt

    def compose() -> Formulas:
        ranges = f"kmeans:{CLUSTERS}"
        return netdissect.compose(run, layer=LAYER, ranges=ranges, length=2, bootstrap=99, network=build().module)

    monkeypatch.setattr(mask_sources, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compose()
    stored = next((tmp_path / "run" / "formulas").rglob("activations")) / "0"
    with stored.open("ab") as file:
        file.write(b"a batch cut short")
    assert compose().units.drop("seconds").equals(found.units.drop("seconds"))
    assert passed == sorted(set(passed))
    assert not stored.exists()
