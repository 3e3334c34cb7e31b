"""The experiments on a tiny bench: their tables hold what a direct count of their runs gives."""

import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import skew

from netdissect import DissectConfig, Network, dissect
from netdissect.config import Protocol
from netdissect.errors import ConfigError, LayerError, ResultError, ShapeError
from netdissect.experiments import (
    CompareConfig,
    LayerProfileConfig,
    RotateConfig,
    Snapshot,
    compare,
    convolutions,
    layer_profile,
    random_rotation,
    reproduce_synthetic,
    rotate,
    training_conditions,
    training_dynamics,
)
from netdissect.experiments.counts import count_rows
from netdissect.experiments.reproduce.synthetic_scale import EXPERIMENTS
from netdissect.experiments.rotate.bases import CellSample, learned_bases, read_basis, sample_cells
from netdissect.experiments.training_dynamics.experiment import checkpoint_steps, training_dynamics_synthetic
from netdissect.models import Preprocessing
from netdissect.result import load_result
from netdissect.training import Workspace
from netdissect.training.choices import CONDITIONS
from workspaces import SCALE


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("bench"), SCALE)


@pytest.fixture(scope="module")
def config(bench):
    return RotateConfig(
        dissect=bench.measured(["conv5"]),
        seeds=(0, 1),
        steps=2,
        bases=("pca", "ica", "permutation"),
        sample=CellSample(images=8, cells=400, iterations=50),
    )


@pytest.fixture(scope="module")
def rotated(bench, config):
    return rotate(bench.trained().network(), bench.data, config, out=bench.folder("turned"))


def rows_of(table, **keys):
    columns = ("quantile", "rule", "category", "units", "detectors", "unique_detectors")
    return table.filter(*(pl.col(name) == value for name, value in keys.items())).select(columns)


def test_alpha_zero_is_the_layer_and_alpha_one_the_explicit_matrix(bench, rotated):
    network = bench.trained().network()
    explicit = replace(network, bases={"turned": ("conv5", random_rotation(8, 1))})
    direct = dissect(explicit, bench.data, bench.measured(["conv5", "turned"]))
    for name, keys in (("conv5", {"alpha": 0.0}), ("turned", {"alpha": 1.0, "seed": 1})):
        expected = count_rows(direct, [name]).drop("layer")
        assert rows_of(rotated.table, **keys).equals(expected)
    run = load_result(bench.folder("turned") / "runs" / "rotate")
    left, right = run.layer("conv5@rotation-1").scores, direct.layer("turned").scores
    assert left["intersection"].equals(right["intersection"])


def test_a_permutation_of_the_units_changes_nothing(rotated):
    assert rows_of(rotated.table, basis="permutation").equals(rows_of(rotated.table, basis="original"))
    assert rotated.table.filter(basis="original")["detectors"].sum() > 0


def test_every_basis_is_counted_once(rotated):
    whole = rotated.table.filter(quantile=0.02, rule="top-label", category="total")
    bases = ["original", *["rotation"] * 4, "pca", "ica", "permutation"]
    assert whole["basis"].to_list() == bases
    assert rotated.verdict.agreement == "not established"  # two rotations are too few


@pytest.mark.parametrize("kind", ["pca", "ica"])
def test_components_point_to_their_long_tail_and_principal_ones_are_orthonormal(bench, config, kind):
    network = bench.trained().network()
    found = learned_bases(network, bench.data, "conv5", [kind], config.sample, config.dissect)[kind].numpy()
    assert 1 < len(found) <= 8
    cells = sample_cells(network, bench.data, "conv5", config.sample, config.dissect)
    assert (skew(cells @ found.T, axis=0) >= 0).all()
    if kind == "pca":
        np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-5)


def test_a_sample_holds_cells_of_all_its_images(bench, config):
    network = bench.trained().network()
    cells = sample_cells(network, bench.data, "conv5", config.sample, config.dissect)
    assert cells.shape == (400, 8)
    seen = {tuple(row) for row in cells}
    assert len(seen) > 100


def test_a_basis_is_read_from_a_file(tmp_path, rotated, bench, config):
    matrix = random_rotation(8, 1).numpy()
    np.save(tmp_path / "mine.npy", matrix)
    assert torch.equal(read_basis(tmp_path / "mine.npy", 8), torch.from_numpy(matrix))
    own = config.model_copy(update={"matrices": (tmp_path / "mine.npy",), "bases": (), "seeds": ()})
    found = rotate(bench.trained().network(), bench.data, own, out=tmp_path)
    assert rows_of(found.table, basis="mine").equals(rows_of(rotated.table, alpha=1.0, seed=1))


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        (np.zeros((3, 7), np.float32), "8 units"),
        (np.full((3, 8), np.nan, np.float32), "NaN"),
        (np.array(["a"]), "Expected numbers"),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(tmp_path, matrix, why):
    np.save(tmp_path / "bad.npy", matrix)
    with pytest.raises(ShapeError, match=why):
        read_basis(tmp_path / "bad.npy", 8)
    (tmp_path / "none.npy").write_bytes(b"no matrix")
    with pytest.raises(ShapeError, match="cannot be read as a matrix"):
        read_basis(tmp_path / "none.npy", 8)


def test_rotate_takes_one_layer(bench, config, tmp_path):
    two = config.model_copy(update={"dissect": bench.measured(["conv4", "conv5"])})
    with pytest.raises(ConfigError, match="takes one layer"):
        rotate(bench.trained().network(), bench.data, two, out=tmp_path)


def test_a_second_call_trains_and_dissects_nothing(bench, rotated, config, monkeypatch):
    monkeypatch.setattr(sys.modules["netdissect.training.workspace"], "train_on", None)
    files = sorted(bench.folder("turned").rglob("*"))
    times = [path.stat().st_mtime_ns for path in files]
    again = rotate(Workspace(bench.root, SCALE).trained().network(), bench.data, config, out=bench.folder("turned"))
    assert again.table.equals(rotated.table)
    assert [path.stat().st_mtime_ns for path in sorted(bench.folder("turned").rglob("*"))] == times


def test_layers_are_all_convolutions_in_order(bench, tmp_path):
    network = bench.trained().network()
    assert convolutions(network) == tuple(f"conv{number}.0" for number in range(1, 6))
    config = LayerProfileConfig(dissect=bench.measured([f"conv{number}" for number in range(1, 6)]))
    outcome = layer_profile(network, bench.data, config, out=tmp_path)
    assert outcome.table["layer"].unique(maintain_order=True).to_list() == list(config.dissect.layers)
    plain = Network("plain", torch.nn.Sequential(torch.nn.ReLU()), Preprocessing((8, 8), (0,) * 3, (1,) * 3))
    with pytest.raises(LayerError, match="no module whose class is called Conv"):
        convolutions(plain)


def test_runs_networks_and_published_counts_are_compared_in_one_table(bench, rotated, tmp_path):
    run = bench.folder("turned") / "runs" / "rotate"
    published = tmp_path / "published.csv"
    published.write_text(
        "network,layer,unique_total,unique_object,unique_material,detector_units,detectors_object,detectors_material\n"
        "old,conv5,7,3,4,9,4,5\n"
    )
    config = CompareConfig(dissect=bench.measured(["conv5"]), layers=("conv5",), published=published)
    other = bench.trained(bench.recipe(seed=1)).network("other")
    outcome = compare([run, other], config, out=tmp_path, concepts=bench.data)
    totals = outcome.table.filter(category="total", rule="per-category").select(
        "network", "source", "detectors", "unique_detectors"
    )
    own = rotated.table.filter(basis="original", quantile=0.02, rule="per-category", category="total")
    assert totals.row(0) == ("scene network", "run", own["detectors"][0], own["unique_detectors"][0])
    assert totals.row(2) == ("old", "published", 9, 7)
    assert outcome.verdict.agreement == "not compared"


def test_what_cannot_be_compared_says_why(bench, rotated, tmp_path):
    run = bench.folder("turned") / "runs" / "rotate"
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([], CompareConfig(), out=tmp_path)
    with pytest.raises(ConfigError, match="no data set"):
        compare([bench.trained().network()], CompareConfig(), out=tmp_path)
    with pytest.raises(ConfigError, match="3 layers were named for 1"):
        compare([run], CompareConfig(layers=("a", "b", "c")), out=tmp_path)
    with pytest.raises(ConfigError, match=r"no quantile 0\.3"):
        compare([run], CompareConfig(quantile=0.3), out=tmp_path)


def test_snapshots_begin_with_random_weights_and_end_with_the_trained_network(bench):
    outcome = training_dynamics_synthetic(bench)
    assert outcome.table["step"].unique().sort().to_list() == [0, 4]
    last = outcome.table.filter(seed=0, step=4).drop("seed", "step")
    assert last.equals(count_rows(bench.dissected(bench.trained(bench.recipe(seed=0)))))
    units = outcome.further["units"]
    assert len(units) == 2 * 2 * 8


def test_units_that_change_category_are_listed(bench):
    first = bench.dissected(bench.trained(bench.recipe(seed=0)))
    second = bench.dissected(bench.trained(bench.recipe(seed=1)))
    outcome = training_dynamics([Snapshot(20, second), Snapshot(10, first)])
    tables = [result.layer("conv5").units.filter(quantile=0.02).to_dicts() for result in (first, second)]
    expected = [
        (0, old["unit"], 10, 20, old["category"], new["category"])
        for old, new in zip(*tables, strict=True)
        if min(old["iou"], new["iou"]) >= 0.04 and old["category"] != new["category"]
    ]
    assert outcome.further["changes"].sort("unit").rows() == expected
    with pytest.raises(ConfigError, match="at least two moments"):
        training_dynamics([Snapshot(10, first)])


def test_checkpoints_are_ordered_by_the_last_number_of_their_names(tmp_path):
    for name in ("net2-step100.pt", "net2-step20.pt", "notes.txt", "best.pt"):
        (tmp_path / name).touch()
    assert list(checkpoint_steps(tmp_path)) == [20, 100]
    (tmp_path / "other-20.pth").touch()
    with pytest.raises(ResultError, match="both of iteration 20"):
        checkpoint_steps(tmp_path)
    with pytest.raises(ResultError, match="no checkpoint files"):
        checkpoint_steps(tmp_path / "absent")


@pytest.mark.parametrize(("name", "count"), [("seeds", 1), ("dropout", 2)])
def test_variants_differ_in_what_is_asked_and_nothing_else(bench, name, count):
    outcome = training_conditions(name, bench)
    assert outcome.table.select("variant", "seed").unique().height == count * SCALE.seeds
    recipes = [bench.recipe(**changes) for changes in outcome.config["variants"].values()]
    assert len({(recipe.steps, recipe.pictures, recipe.world) for recipe in recipes}) == 1
    baseline = outcome.table.filter(variant=list(outcome.config["variants"])[-1], seed=1)
    direct = count_rows(bench.dissected(bench.trained(bench.recipe(seed=1))))
    assert baseline.drop("variant", "seed", "accuracy").equals(direct)


def test_a_folder_of_another_scale_is_refused(bench):
    with pytest.raises(ResultError, match="another scale"):
        Workspace(bench.root, SCALE.model_copy(update={"images": 25}))


def test_protocols_beside_the_paper_s_can_be_rotated(bench, tmp_path):
    measured = DissectConfig(layers=("conv5",), protocol=Protocol(quantiles=(0.05,)), batch_size=64)
    outcome = rotate(
        bench.trained().network(), bench.data, RotateConfig(dissect=measured, seeds=(0,), steps=1), out=tmp_path
    )
    assert outcome.table["quantile"].unique().to_list() == [0.05]


@pytest.mark.slow
def test_the_paper_s_experiments_run_one_after_the_other_and_is_taken_up(bench, monkeypatch):
    here = ("rotate", "layer-profile", "compare", "training-dynamics", *CONDITIONS)
    for name in set(EXPERIMENTS) - set(here):
        monkeypatch.delitem(EXPERIMENTS, name)  # those have tests of their own, and need more pictures
    found = list(reproduce_synthetic(bench))
    assert [outcome.name for outcome in found] == list(EXPERIMENTS) == list(here)
    for outcome in found:
        assert outcome.verdict.question
        assert outcome.verdict.finding
    monkeypatch.setattr(sys.modules["netdissect.training.workspace"], "train_on", None)
    again = list(reproduce_synthetic(Workspace(bench.root, SCALE)))
    assert [outcome.verdict for outcome in again] == [outcome.verdict for outcome in found]
