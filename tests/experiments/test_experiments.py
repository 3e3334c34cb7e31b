"""The experiments on a tiny workspace: their tables hold what a direct count of their runs gives."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from netdissect import DissectConfig, Network, dissect
from netdissect.concepts import ConceptData
from netdissect.config import BasisFit, Protocol
from netdissect.errors import ConfigError, LayerError, NetdissectError, ResultError
from netdissect.experiments import Snapshot, convolutions, reproduce_synthetic
from netdissect.experiments.compare.experiment import CompareConfig, compare
from netdissect.experiments.counts import count_rows
from netdissect.experiments.layer_profile.experiment import LayerProfileConfig, layer_profile
from netdissect.experiments.registry import REGISTRY
from netdissect.experiments.rotate.experiment import RotateConfig, rotate
from netdissect.experiments.training_conditions.conditions import CONDITIONS
from netdissect.experiments.training_conditions.experiment import training_conditions
from netdissect.experiments.training_dynamics.experiment import run_synthetic as training_dynamics_synthetic
from netdissect.experiments.training_dynamics.experiment import training_dynamics
from netdissect.experiments.training_dynamics.snapshots import checkpoint_steps
from netdissect.models import Preprocessing, reload_network
from netdissect.models.dictionaries.basis import LinearBasis
from netdissect.models.dictionaries.matrix_file import read_matrix
from netdissect.models.surgery.rotations import random_rotation
from netdissect.result import load_result
from netdissect.training import Workspace
from netdissect.training.load_trained import open_network
from workspaces import SCALE


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("workspace"), SCALE)


@pytest.fixture(scope="module")
def config(workspace):
    dissection = workspace.dissect_config(["conv5"]).model_copy(
        update={
            "bases": ("pca", "ica", "permutation:0"),
            "basis_fit": BasisFit(images=8, cells=400, iterations=50),
        }
    )
    return RotateConfig(dissect=dissection, rotations=2, steps=2)


@pytest.fixture(scope="module")
def rotated(workspace, config):
    return rotate(workspace.trained().network(), workspace.data, config, out=workspace.folder("turned"))


def rows_of(table, **keys):
    columns = ("quantile", "rule", "category", "units", "detectors", "unique_detectors")
    return table.filter(*(pl.col(name) == value for name, value in keys.items())).select(columns)


def test_alpha_zero_is_the_layer_and_alpha_one_the_explicit_matrix(workspace, rotated):
    network = workspace.trained().network()
    explicit = replace(network, bases={"turned": LinearBasis("conv5", random_rotation(8, 1))})
    direct = dissect(explicit, workspace.data, config=workspace.dissect_config(["conv5", "turned"]))
    for name, keys in (("conv5", {"alpha": 0.0}), ("turned", {"alpha": 1.0, "seed": 1})):
        expected = rows_of(count_rows(direct, [name]))
        assert rows_of(rotated.table, **keys).equals(expected)
    run = load_result(workspace.folder("turned") / "runs" / "rotate")
    left, right = run.layer("conv5@rotation-1").scores, direct.layer("turned").scores
    assert left["intersection"].equals(right["intersection"])


def test_a_permutation_of_the_units_changes_nothing(rotated):
    assert rows_of(rotated.table, basis="permutation-0").equals(rows_of(rotated.table, basis="original"))
    assert rotated.table.filter(basis="original")["detectors"].sum() > 0


def test_every_basis_is_counted_once(rotated):
    whole = rotated.table.filter(quantile=0.02, rule="top-label", category="total")
    bases = ["original", *["rotation"] * 4, "pca", "ica", "permutation-0"]
    assert whole["basis"].to_list() == bases
    assert rotated.conclusion.outcome == "inconclusive"  # two rotations are too few


def test_a_basis_is_read_from_a_file(tmp_path, rotated, workspace, config):
    matrix = random_rotation(8, 1).numpy()
    np.save(tmp_path / "mine.npy", matrix)
    assert torch.equal(read_matrix(tmp_path / "mine.npy", "conv5", 8).matrix, torch.from_numpy(matrix))
    dissection = config.dissect.model_copy(update={"bases": (f"file:{tmp_path / 'mine.npy'}",)})
    own = config.model_copy(update={"dissect": dissection, "rotations": 0})
    found = rotate(workspace.trained().network(), workspace.data, own, out=tmp_path)
    assert rows_of(found.table, basis="file-mine").equals(rows_of(rotated.table, alpha=1.0, seed=1))


def test_rotate_takes_one_layer(workspace, config, tmp_path):
    two = config.model_copy(update={"dissect": workspace.dissect_config(["conv4", "conv5"])})
    with pytest.raises(ConfigError, match="takes one layer"):
        rotate(workspace.trained().network(), workspace.data, two, out=tmp_path)


def test_a_second_call_trains_and_dissects_nothing(workspace, rotated, config, monkeypatch):
    monkeypatch.setattr(sys.modules["netdissect.training.workspace"], "train_on", None)
    files = sorted(workspace.folder("turned").rglob("*"))
    times = [path.stat().st_mtime_ns for path in files]
    again = rotate(
        Workspace(workspace.root, SCALE).trained().network(), workspace.data, config, out=workspace.folder("turned")
    )
    assert again.table.equals(rotated.table)
    assert [path.stat().st_mtime_ns for path in sorted(workspace.folder("turned").rglob("*"))] == times


def test_the_two_tower_network_of_a_workspace_is_trained_once_and_on_other_images(workspace, monkeypatch):
    first = workspace.two_tower()
    monkeypatch.setattr(sys.modules["netdissect.training.workspace"], "train_two_tower", None)
    assert Workspace(workspace.root, SCALE).two_tower().digest == first.digest
    captioned = ConceptData.open(workspace.folder("captioned"))
    assert len(captioned) == len(workspace.data)
    contents = [{data.image_path(row).read_bytes() for row in range(len(data))} for data in (captioned, workspace.data)]
    assert not set.intersection(*contents)


def test_layers_are_all_convolutions_in_order(workspace, tmp_path):
    network = workspace.trained().network()
    assert convolutions(network) == tuple(f"conv{number}.0" for number in range(1, 6))
    config = LayerProfileConfig(dissect=workspace.dissect_config([f"conv{number}" for number in range(1, 6)]))
    result = layer_profile(network, workspace.data, config, out=tmp_path)
    assert result.table["layer"].unique(maintain_order=True).to_list() == list(config.dissect.layers)
    plain = Network("plain", torch.nn.Sequential(torch.nn.ReLU()), Preprocessing((8, 8), (0,) * 3, (1,) * 3))
    with pytest.raises(LayerError, match="no module whose class is called Conv"):
        convolutions(plain)


def test_label_maps_are_decoded_once_for_all_networks_of_an_experiment(workspace, tmp_path, monkeypatch):
    decoded, labels = Counter(), ConceptData.labels
    monkeypatch.setattr(ConceptData, "labels", lambda self, row: decoded.update([row]) or labels(self, row))
    networks = [workspace.trained().network(), workspace.trained(workspace.train_config(seed=1)).network("other")]
    config = CompareConfig(dissect=workspace.dissect_config(["conv5"]), layers=("conv5",))
    compare(networks, config, out=tmp_path, concepts=workspace.data)
    assert decoded == dict.fromkeys(range(len(workspace.data)), 1)
    assert list((tmp_path / "caches").glob("labels-*.zip"))


def test_runs_networks_and_published_counts_are_compared_in_one_table(workspace, rotated, tmp_path):
    run = workspace.folder("turned") / "runs" / "rotate"
    published = tmp_path / "published.csv"
    published.write_text(
        "network,layer,unique_total,unique_object,unique_material,detector_units,detectors_object,detectors_material\n"
        "old,conv5,7,3,4,9,4,5\n"
    )
    config = CompareConfig(dissect=workspace.dissect_config(["conv5"]), layers=("conv5",), published=published)
    other = workspace.trained(workspace.train_config(seed=1)).network("other")
    result = compare([run, other], config, out=tmp_path, concepts=workspace.data)
    totals = result.table.filter(category="total", rule="per-category").select(
        "network", "source", "detectors", "unique_detectors"
    )
    own = rotated.table.filter(basis="original", quantile=0.02, rule="per-category", category="total")
    assert totals.row(0) == ("scene network", "run", own["detectors"][0], own["unique_detectors"][0])
    assert totals.row(2) == ("old", "published", 9, 7)
    assert result.conclusion.outcome == "not compared"


def test_what_cannot_be_compared_says_why(workspace, rotated, tmp_path):
    run = workspace.folder("turned") / "runs" / "rotate"
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([], CompareConfig(), out=tmp_path)
    with pytest.raises(ConfigError, match="no data set"):
        compare([workspace.trained().network()], CompareConfig(), out=tmp_path)
    with pytest.raises(ConfigError, match="3 layers were named for 1"):
        compare([run], CompareConfig(layers=("a", "b", "c")), out=tmp_path)
    with pytest.raises(ConfigError, match=r"no quantile 0\.3"):
        compare([run], CompareConfig(quantile=0.3), out=tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"published": Path("none.csv")}, r"none\.csv cannot be read as a table of counts"),
        ({"expected": ("scene network", "no network")}, r"no network 'no network' among scene network, other"),
        ({"quantile": 0.3}, r"The run of other has no quantile 0\.3"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_a_network_is_dissected(fields, message, workspace, tmp_path):
    networks = [workspace.trained().network(), workspace.trained(workspace.train_config(seed=1)).network("other")]
    dissect = workspace.dissect_config(["conv5"])
    if "quantile" in fields:
        networks = networks[1:]
    config = CompareConfig(dissect=dissect, layers=("conv5",), **fields)
    with pytest.raises(NetdissectError, match=message):
        compare(networks, config, out=tmp_path, concepts=workspace.data)
    assert not (tmp_path / "runs").exists()


def test_snapshots_begin_with_random_weights_and_end_with_the_trained_network(workspace):
    result = training_dynamics_synthetic(workspace)
    assert result.table["step"].unique().sort().to_list() == [0, 4]
    last = result.table.filter(seed=0, step=4).drop("seed", "step")
    assert last.equals(count_rows(workspace.dissected(workspace.trained(workspace.train_config(seed=0)))))
    units = result.extra_tables["units"]
    assert len(units) == 2 * 2 * 8
    folder = workspace.folder("training-dynamics")
    for step in (0, 4):  # each snapshot is a file that every command takes, and its run loads it again
        run = load_result(folder / "runs" / f"seed-0-step-{step:08}")
        network = open_network(str(folder / "weights" / "seed-0" / f"step-{step}.safetensors"))
        assert run.info.network.source is not None
        assert network.digest == run.info.network.digest == reload_network(run.info.network.source).digest


def test_units_that_change_category_are_listed(workspace):
    first = workspace.dissected(workspace.trained(workspace.train_config(seed=0)))
    second = workspace.dissected(workspace.trained(workspace.train_config(seed=1)))
    result = training_dynamics([Snapshot(20, second), Snapshot(10, first)])
    tables = [result.layer("conv5").units.filter(quantile=0.02).to_dicts() for result in (first, second)]
    expected = [
        (0, old["unit"], 10, 20, old["category"], new["category"])
        for old, new in zip(*tables, strict=True)
        if min(old["iou"], new["iou"]) >= 0.04 and old["category"] != new["category"]
    ]
    assert result.extra_tables["changes"].sort("unit").rows() == expected
    with pytest.raises(ConfigError, match="at least two steps"):
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
def test_conditions_differ_in_the_named_fields_and_nothing_else(workspace, name, count):
    result = training_conditions(name, workspace)
    assert result.table.select("condition", "seed").unique().height == count * SCALE.seeds
    train_configs = [workspace.train_config(**changes) for changes in result.context["conditions"].values()]
    assert (
        len({(train_config.steps, train_config.num_images, train_config.data_seed) for train_config in train_configs})
        == 1
    )
    baseline = result.table.filter(condition=list(result.context["conditions"])[-1], seed=1)
    direct = count_rows(workspace.dissected(workspace.trained(workspace.train_config(seed=1))))
    assert baseline.drop("condition", "seed", "accuracy").equals(direct)


def test_a_folder_of_another_scale_is_refused(workspace):
    with pytest.raises(ResultError, match="another scale"):
        Workspace(workspace.root, SCALE.model_copy(update={"images": 25}))


def test_other_protocols_than_the_paper_s_can_be_rotated(workspace, tmp_path):
    measured = DissectConfig(layers=("conv5",), protocol=Protocol(quantiles=(0.05,)), batch_size=64)
    result = rotate(
        workspace.trained().network(),
        workspace.data,
        RotateConfig(dissect=measured, rotations=1, steps=1),
        out=tmp_path,
    )
    assert result.table["quantile"].unique().to_list() == [0.05]


@pytest.fixture
def registry():
    """The registry, which has its entries in their order again afterwards: pages of the docs are made from it."""
    whole = dict(REGISTRY)
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(whole)


@pytest.mark.slow
def test_all_experiments_run_one_after_the_other_and_are_reused(workspace, registry, monkeypatch):
    here = ("rotate", "layer-profile", "compare", "training-dynamics", *CONDITIONS)
    for name in set(registry) - set(here):
        del registry[name]  # those have tests of their own, and need more images
    found = list(reproduce_synthetic(workspace))
    assert [result.name for result in found] == list(REGISTRY) == list(here)
    for result in found:
        assert result.conclusion.question
        assert result.conclusion.finding
    monkeypatch.setattr(sys.modules["netdissect.training.workspace"], "train_on", None)
    again = list(reproduce_synthetic(Workspace(workspace.root, SCALE)))
    assert [result.conclusion for result in again] == [result.conclusion for result in found]
