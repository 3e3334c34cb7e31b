"""A run in several bases: fitted once, kept in its folder, and the same wherever it is continued or opened again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import run_asserts
import strategies
from netdissect.config import BasisFit, DissectConfig, Execution
from netdissect.dissect import dissect
from netdissect.dissect.bases import layer_bases
from netdissect.dissect.bases.basis_files import basis_path, copy_bases
from netdissect.dissect.bases.cell_sample import sample_cells
from netdissect.dissect.cost_estimate import estimate
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.shards import dissect_shard
from netdissect.dissect.image_maps import run_layers
from netdissect.dissect.reload import network_of
from netdissect.dissect.run_dissection import open_inputs
from netdissect.dissect.verify import repair, verify_sample
from netdissect.errors import CheckpointError, ConfigError, NetworkError, ResultError, ShapeError
from netdissect.models import ActivationRecorder, resolve_layers
from netdissect.models.dictionaries.basis import LinearBasis, load_basis
from netdissect.models.dictionaries.basis_spec import BasisSpec
from netdissect.result import Result, load_result
from netdissect.result.files import corrupted_files
from networks import build

SETTINGS = DissectConfig(
    layers=("wide_relu", "deep_relu"),
    bases=("neurons", "pca", "kmeans:3"),
    basis_fit=BasisFit(images=4, cells=200),
    protocol=strategies.definition("paper", 0.05).protocol,
    batch_size=2,
    top_images=3,
)


@pytest.fixture(scope="module")
def pristine(broden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "run"
    dissect(build(), broden, config=SETTINGS, out=folder)
    return folder


@pytest.fixture
def run(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "run"))


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a basis would be fitted."""
    monkeypatch.setattr(layer_bases, "sample_cells", None)


def test_each_layer_is_dissected_in_every_basis(pristine: Path, broden: Path) -> None:
    result = load_result(pristine)
    names = [f"{layer}{basis}" for layer in SETTINGS.layers for basis in ("", "@pca", "@kmeans-3")]
    assert list(result.layers) == names
    assert [each.info.units for each in result.layers.values()] == [4, 4, 3, 5, 4, 3]  # a unit is dead
    assert [each.info.basis_of for each in result.layers.values()][:2] == [None, "wide_relu"]
    alone = dissect(build(), broden, config=SETTINGS.model_copy(update={"bases": ("neurons",)}))
    for layer in SETTINGS.layers:
        assert result.layers[layer].scores.equals(alone.layers[layer].scores)


def test_units_are_those_of_the_bases_that_the_folder_holds(pristine: Path, broden: Path) -> None:
    result = load_result(pristine)
    network = network_of(result.info, build(), folder=pristine)
    images = torch.randn(2, 3, 24, 24)
    layers = resolve_layers(network, ["deep_relu", "deep_relu@kmeans-3", "deep_relu@pca"])
    with ActivationRecorder(network, layers) as record:
        maps = record(images)
    for name in ("deep_relu@kmeans-3", "deep_relu@pca"):
        basis = load_basis(basis_path(pristine, name), "deep_relu")
        for row, column in ((0, 0), (4, 3)):
            expected = basis.encode(maps["deep_relu"][:, :, row, column])
            torch.testing.assert_close(maps[name][:, :, row, column], expected, atol=1e-5, rtol=1e-5)


def test_cells_are_drawn_by_their_seed_from_images_of_the_whole_data_set(broden: Path) -> None:
    source = open_inputs(build(), broden, SETTINGS.model_copy(update={"bases": ("neurons",)}), Execution())
    cells = sample_cells(source)
    assert {name: each.shape for name, each in cells.items()} == {"wide_relu": (200, 4), "deep_relu": (80, 5)}
    pixels = torch.from_numpy(next(iter(source.images.batches(range(0, 7, 7), workers=1))).pixels)
    with ActivationRecorder(source.network, source.layers) as record:
        maps = record(source.network.preprocessing(pixels))["deep_relu"]
    whole = maps[:4].permute(0, 2, 3, 1).reshape(-1, 5)  # all 20 cells of the first 4 of 7 images
    np.testing.assert_allclose(np.sort(cells["deep_relu"], axis=0), np.sort(whole, axis=0), atol=1e-6)
    other = source.with_config(basis_fit=BasisFit(images=4, cells=200, seed=1))
    assert not np.array_equal(sample_cells(other)["wide_relu"], cells["wide_relu"])
    np.testing.assert_array_equal(sample_cells(source)["wide_relu"], cells["wide_relu"])


@pytest.mark.usefixtures("no_fit")
def test_an_interrupted_run_goes_on_with_the_bases_that_it_fitted(pristine: Path, broden: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copytree(pristine / "bases", tmp_path / "run/bases")
    again = dissect(build(), broden, config=SETTINGS, out=tmp_path / "run")
    run_asserts.assert_same_run(again, load_result(pristine))
    assert dissect(build(), broden, config=SETTINGS, out=pristine).info == load_result(pristine).info


def test_a_basis_that_was_fitted_to_something_else_is_not_used(pristine: Path, broden: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copytree(pristine / "bases", tmp_path / "run/bases")
    other = SETTINGS.model_copy(update={"basis_fit": BasisFit(images=4, cells=60), "bases": ("pca",)})
    direct = dissect(build(), broden, config=other)
    there = dissect(build(), broden, config=other, out=tmp_path / "run")
    run_asserts.assert_same_run(there, direct)
    assert there.info.network.digest != load_result(pristine).info.network.digest


def test_shards_in_folders_of_their_own_make_the_run_of_one_process(
    pristine: Path, broden: Path, tmp_path: Path
) -> None:
    runs = [tmp_path / "one", tmp_path / "two"]
    for _ in ("thresholds", "counting"):
        for number, folder in enumerate(runs, 1):
            dissect_shard(build(), broden, config=SETTINGS, shard=f"{number}/2", out=folder)
        merge_shards(tmp_path / "merged", runs)
    merged = load_result(tmp_path / "merged")
    run_asserts.assert_same_run(merged, load_result(pristine))
    assert network_of(merged.info, build(), folder=tmp_path / "merged").digest == merged.info.network.digest


def test_masks_of_all_bases_are_recomputed_and_damaged_files_restored(pristine: Path, run: Path) -> None:
    found = verify_sample(load_result(pristine), 40, network=build())
    assert any("@kmeans" in each.layer for each in found)
    assert all(each.largest_difference == 0 and each.changed == 0 for each in found)
    damaged = [basis_path(run, "wide_relu@pca"), run / "layers/deep_relu%40kmeans-3/top_maps.npy"]
    contents = [path.read_bytes() for path in damaged]
    for count in (1, 2):
        for path in damaged[-count:]:
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        names = sorted(path.relative_to(run).as_posix() for path in damaged[-count:])
        assert sorted(repair(run, network=build())) == names
        assert [path.read_bytes() for path in damaged] == contents
    assert not corrupted_files(run)[1]


def test_a_run_whose_basis_is_lost_or_damaged_is_not_opened(run: Path) -> None:
    info = load_result(run).info
    with pytest.raises(NetworkError, match=r"no layer wide_relu@pca, .*does not hold its basis"):
        network_of(info, build(), folder=None)
    path = basis_path(run, "wide_relu@pca")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ResultError, match=r"basis of layer wide_relu@pca .* damaged"):
        network_of(info, build(), folder=run)
    with pytest.raises(ResultError, match="wide_relu%40pca"):
        load_result(run)


def test_bases_of_a_network_made_in_python_are_kept_too(broden: Path, tmp_path: Path) -> None:
    network = replace(build(), bases={"mine": LinearBasis("wide_relu", torch.randn(2, 4))})
    config = SETTINGS.model_copy(update={"bases": ("neurons",), "layers": ("mine",)})
    result = dissect(network, broden, config=config, out=tmp_path)
    assert network_of(result.info, build(), folder=tmp_path).digest == network.digest


def test_files_make_bases_and_those_that_cannot_are_refused(broden: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "swap.npy", np.eye(4)[[1, 0, 2, 3]])
    config = SETTINGS.model_copy(update={"layers": ("wide_relu",)})

    def bases(*names: str) -> Result:
        return dissect(build(), broden, config=config.model_copy(update={"bases": names}))

    found = bases("neurons", f"file:{tmp_path / 'swap.npy'}", "permutation:3")
    labels = [layer.units["label"].to_list() for layer in found.layers.values()]
    assert [labels[0][unit] for unit in (1, 0, 2, 3)] == labels[1]
    assert sorted(map(str, labels[2])) == sorted(map(str, labels[0]))
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other/swap.npy", np.eye(4))
    with pytest.raises(ConfigError, match="both be called LAYER@file-swap"):
        bases(f"file:{tmp_path / 'swap.npy'}", f"file:{tmp_path / 'other/swap.npy'}")
    with pytest.raises(ShapeError, match="cannot be read as a matrix"):
        bases(f"file:{tmp_path / 'none.npy'}")
    with pytest.raises(ConfigError, match=r"'fourier': expected \[LAYER@\]neurons\|pca"):
        dissect(build(), broden, layers=["wide_relu"], basis="fourier")


@pytest.mark.usefixtures("no_fit")
def test_files_of_bases_are_found_from_elsewhere_and_read_before_anything_runs(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "swap.npy", np.eye(4)[[1, 0, 2, 3]])
    config = SETTINGS.model_copy(update={"layers": ("wide_relu",)})
    monkeypatch.chdir(tmp_path)
    first = dissect(build(), broden, config=config.model_copy(update={"bases": ("file:swap.npy",)}), out="run")
    assert first.info.config.bases == (f"file:{tmp_path / 'swap.npy'}",)
    (tmp_path / "moved").mkdir()
    monkeypatch.chdir((tmp_path / "swap.npy").rename(tmp_path / "moved/swap.npy").parent)
    again = dissect(build(), broden, config=config.model_copy(update={"bases": ("file:swap.npy",)}), out="../run")
    assert again.info == first.info
    with pytest.raises(CheckpointError, match="cannot be opened"):
        dissect(build(), broden, config=config.model_copy(update={"bases": ("pca", "sae:none.safetensors")}))


@pytest.mark.parametrize(
    ("text", "layer", "basis"),
    [
        ("file:out@pca", "", "file:out@pca"),
        ("conv@sae:a@file:b", "conv", "sae:a@file:b"),
        ("conv@pca@nmf", "conv@pca", "nmf"),
        ("conv:0@kmeans:64", "conv:0", "kmeans:64"),
        ("rotation:0@pca", "rotation:0", "pca"),
        ("conv@pca:0@nmf", "conv@pca:0", "nmf"),
    ],
)
def test_a_basis_has_the_shortest_layer_with_which_it_is_one(text: str, layer: str, basis: str) -> None:
    (given,) = DissectConfig(layers=["conv"], bases=[text]).bases
    spec = BasisSpec.parse(given)
    assert (spec.layer, replace(spec, layer="").text, spec.text) == (layer, basis, text)


def test_what_is_no_basis_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the basis 'pca@conv' cannot be read. Expected one of \[LAYER@\]neurons"):
        BasisSpec.parse("pca@conv")


def test_a_basis_of_one_layer_is_dissected_in_this_layer_alone(broden: Path, tmp_path: Path) -> None:
    for name, matrix in (("wide", np.eye(4)[[1, 0]]), ("deep", np.eye(5)[[2, 4, 0]])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "mine.npy", matrix)
    files = [f"{name}_relu@file:{tmp_path / name / 'mine.npy'}" for name in ("wide", "deep")]
    config = SETTINGS.model_copy(update={"bases": ("deep_relu@pca:2", *files, "wide_relu@neurons")})
    result = dissect(build(), broden, config=config, out=tmp_path / "run")
    units = {name: layer.info.units for name, layer in result.layers.items()}
    assert units == {"wide_relu@file-mine": 2, "wide_relu": 4, "deep_relu@pca-2": 2, "deep_relu@file-mine": 3}
    plain = dissect(build(), broden, config=SETTINGS.model_copy(update={"bases": ("neurons",)}))
    for name, source, unit in (("wide_relu@file-mine", "wide_relu", 1), ("deep_relu@file-mine", "deep_relu", 2)):
        own, turned = plain.layer(source).scores, result.layer(name).scores
        ious = [scores.filter(unit=number)["iou"].to_list() for scores, number in ((turned, 0), (own, unit))]
        assert ious[0] == ious[1]
    assert network_of(result.info, build(), folder=tmp_path / "run").digest == result.info.network.digest
    for wrong, message in (
        (
            ("neurons", "fc@pca"),
            "fc@pca is one of layer 'fc', which is not dissected. .* with one of wide_relu, deep_relu",
        ),
        (("deep_relu@pca",), "layer 'wide_relu' has no basis.*Expected wide_relu@BASIS"),
        (("pca", "deep_relu@pca"), "pca and deep_relu@pca would both be called deep_relu@pca"),
    ):
        with pytest.raises(ConfigError, match=message):
            dissect(build(), broden, config=SETTINGS.model_copy(update={"bases": wrong}))


def test_layers_of_a_run_keep_its_order_whatever_that_of_the_bases_of_a_network(pristine: Path) -> None:
    info = load_result(pristine).info
    network = network_of(info, build(), folder=pristine)
    other = replace(network, bases=dict(reversed(network.bases.items())))
    assert [layer.name for layer in run_layers(other, info)] == [layer.name for layer in info.layers]


def test_an_estimate_fits_the_bases_and_counts_their_layers(broden: Path) -> None:
    config = SETTINGS.model_copy(update={"layers": ("deep_relu",), "bases": ("pca", "nmf:2", "rotation:1")})
    cost = estimate(build(), broden, config=config, sample=2)
    assert [each.layer.units for each in cost.plan.layers] == [4, 2, 5]


def test_latents_of_a_sparse_autoencoder_are_a_basis(broden: Path, tmp_path: Path) -> None:
    both = torch.cat([torch.eye(5), -torch.eye(5)], dim=1)  # what is above zero, and what is below it
    weights = {"W_enc": both, "b_enc": torch.zeros(10), "W_dec": both.T.contiguous(), "b_dec": torch.zeros(5)}
    safetensors.torch.save_file(weights, tmp_path / "mine.safetensors")
    config = SETTINGS.model_copy(update={"layers": ("deep_relu",), "bases": (f"sae:{tmp_path / 'mine.safetensors'}",)})
    result = dissect(build(), broden, config=config, out=tmp_path / "run")
    plain = dissect(build(), broden, config=config.model_copy(update={"bases": ("neurons",)}))
    latents = result.layer("deep_relu@sae-mine").scores
    assert latents.filter(latents["unit"] < 5).equals(plain.layer("deep_relu").scores)
    (tmp_path / "mine.safetensors").unlink()
    assert network_of(result.info, build(), folder=tmp_path / "run").digest == result.info.network.digest


def test_a_folder_of_saelens_is_a_basis_and_another_configuration_another_one(broden: Path, tmp_path: Path) -> None:
    both = torch.cat([torch.eye(5), -torch.eye(5)], dim=1)
    weights = {"W_enc": both, "b_enc": torch.zeros(10), "W_dec": both.T.contiguous(), "b_dec": torch.zeros(5)}
    folder = tmp_path / "mine"
    folder.mkdir()
    safetensors.torch.save_file(weights, folder / "sae_weights.safetensors")
    config = SETTINGS.model_copy(update={"layers": ("deep_relu",), "bases": (f"sae:{folder}",)})
    found = []
    for k in (1, 5, 5):
        (folder / "cfg.json").write_text(json.dumps({"architecture": "topk", "k": k}))
        shutil.rmtree(tmp_path / "run/work", ignore_errors=True)
        (tmp_path / "run/run.json").unlink(missing_ok=True)
        found.append(dissect(build(), broden, config=config, out=tmp_path / "run"))
    assert [result.layer("deep_relu@sae-mine").units.height for result in found] == [10] * 3
    digests = [result.info.network.digest for result in found]
    assert digests[0] != digests[1] == digests[2]


def test_a_basis_that_cannot_be_copied_into_a_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "shard/bases").mkdir(parents=True)
    (tmp_path / "shard/bases/conv%40pca.safetensors").write_bytes(b"content")
    (tmp_path / "run").write_text("a file in the place of the run's folder")
    with pytest.raises(ResultError, match=r"run/bases cannot be written .*Choose a run folder"):
        copy_bases([tmp_path / "shard"], tmp_path / "run")


@pytest.mark.usefixtures("no_fit")
@pytest.mark.parametrize("kind", ["pca", "ica"])
def test_more_components_than_units_are_refused_before_anything_runs(kind: str, broden: Path) -> None:
    config = SETTINGS.model_copy(update={"bases": (f"{kind}:99",)})
    with pytest.raises(ConfigError, match=f"{kind}:99 was asked for of layer 'wide_relu', which has 4 units"):
        dissect(build(), broden, config=config)
