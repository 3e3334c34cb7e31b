"""Training sparse autoencoders: what is learned, what is reported, and that an interrupted training resumes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

import networks
from netdissect.dissect.work_dir import work_dir
from netdissect.errors import ActivationError, ConfigError, NetworkError, ResultError
from netdissect.models import layer_patterns, load_network
from netdissect.models.dictionaries.dictionary_files import read_dictionary, read_facts
from netdissect.training import SaeConfig, train_sae
from netdissect.training.sparse_autoencoders import layer_cells
from netdissect.training.sparse_autoencoders import train_sae as module
from netdissect.training.sparse_autoencoders.dictionary_trainer import CellScale, DictionaryTrainer, batches
from netdissect.training.sparse_autoencoders.training_report import measure

LAYER = "wide"  # 4 units on 12 x 12
SMALL = {"latents": 16, "k": 2, "epochs": 3, "batch_cells": 64, "cells": 600, "batch_size": 2, "holdout": 0.2}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for index in range(6):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "f.safetensors"
    return train_sae(networks.build(), LAYER, images, out, SaeConfig(**SMALL))


def sparse_cells(count, units=8, atoms=12, seed=0):
    """Draw cells that are sums of two of a few directions, around a mean."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(atoms, units))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    codes = np.zeros((count, atoms))
    for row in codes:
        row[rng.choice(atoms, 2, replace=False)] = rng.uniform(1, 2, 2)
    return (codes @ directions + 5).astype(np.float32), directions


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_the_directions_of_which_cells_consist_are_learned(activation):
    cells, directions = sparse_cells(2000)
    config = SaeConfig(latents=24, k=2, activation=activation, batch_cells=250, epochs=30, learning_rate=1e-2)
    mean = torch.from_numpy(cells.mean(axis=0))
    length = float(np.sqrt(np.square(cells - cells.mean(axis=0)).sum(axis=1).mean()))
    trainer = DictionaryTrainer(config, CellScale(mean, length), 240)
    errors = [trainer.step(torch.from_numpy(cells[rows])) for rows in batches(np.arange(2000), config, 0, 240)]
    assert errors[-1] < errors[0] / 3
    dictionary = trainer.dictionary("conv")
    other, _ = sparse_cells(500, seed=0)
    rebuilt = dictionary.rebuild(torch.from_numpy(other)).numpy()
    nmse = np.square(other - rebuilt).sum() / np.square(other - other.mean(axis=0)).sum()
    assert nmse == pytest.approx(errors[-1], abs=0.03), "the weights of the file are those of cells on their own scale"
    nearest = (dictionary.weights.decoder.numpy() @ directions.T).max(axis=0)
    first = DictionaryTrainer(config, CellScale(mean, length), 240).dictionary("conv").weights.decoder.numpy()
    assert np.median(nearest) > 0.85 > np.median((first @ directions.T).max(axis=0)) + 0.1
    torch.testing.assert_close(dictionary.weights.decoder.norm(dim=1), torch.ones(24))
    assert (dictionary.encode(torch.from_numpy(cells)) > 0).float().sum(1).mean() == pytest.approx(2, abs=0.25)


def test_the_report_is_that_of_the_file_on_held_out_images(trained, images):
    report, path = trained.report, trained.path
    assert (report.images, report.cells, report.heldout_cells, report.steps) == (6, 600, 100, 21)
    assert json.loads(read_facts(path)["report"]) == report.model_dump()
    dictionary = read_dictionary(path, 4, LAYER)
    # All cells anew, without the file in which the training kept them.
    network, config = networks.build(), SaeConfig(**SMALL)
    plan = layer_cells.CellPlan.of(
        layer_cells.TrainingImages(tuple(sorted(images.iterdir())), as_stored=False),
        module.resolve_layers(network, [LAYER])[0], config.cells, config.train_seed, config.batch_size,
    )  # fmt: skip
    maps = []
    for path in plan.images.paths:
        pixels = np.asarray(Image.open(path).resize((24, 24), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        with torch.no_grad():
            maps.append(network.module.wide((torch.tensor(pixels[None]).float() - 127.5) / 128)[0].flatten(1).T)
    cells = torch.cat([one[plan.drawn(index)] for index, one in enumerate(maps)])
    held = cells[torch.from_numpy(plan.held_out(0.2))].double()
    assert held.shape == (100, 4)
    codes = dictionary.encode(cells)
    rebuilt = dictionary.decode(dictionary.encode(held.float())).double()
    nmse = float(((held - rebuilt) ** 2).sum() / ((held - held.mean(0)) ** 2).sum())
    assert report.nmse == pytest.approx(nmse, rel=1e-3)
    assert report.r2 == 1 - report.nmse
    assert report.l0 == pytest.approx((dictionary.encode(held.float()) > 0).sum().item() / 100, abs=0.02)
    assert report.dead == (~(codes > 0).any(dim=0)).sum().item() == round(report.dead_share * 16)


def test_the_same_is_trained_again_and_nothing_if_it_is_there(trained, images, tmp_path):
    again = train_sae(networks.build(), LAYER, images, tmp_path / "g.safetensors", SaeConfig(**SMALL))
    assert again.path.read_bytes() == trained.path.read_bytes()
    assert [*tmp_path.iterdir()] == [again.path], "what was kept for a resumed training is removed"
    called = []
    finished = train_sae(
        networks.build(), LAYER, images, again.path, SaeConfig(**SMALL), progress=lambda *step: called.append(step)
    )
    assert finished.report == again.report
    assert not called
    with pytest.raises(ResultError, match=r"g\.safetensors is there, and was not trained with these options"):
        train_sae(networks.build(), LAYER, images, again.path, SaeConfig(**SMALL | {"k": 3}))


@pytest.mark.parametrize("report", [{"heldout_images": None}, None])
def test_a_file_whose_report_is_of_another_version_is_refused(trained, images, tmp_path, report):
    facts, out = read_facts(trained.path), tmp_path / "old.safetensors"
    kept = json.loads(facts.pop("report"))
    if report is not None:
        facts["report"] = json.dumps({name: value for name, value in kept.items() if name not in report})
    with safe_open(trained.path, "np") as file:
        save_file({name: file.get_tensor(name) for name in file.keys()}, out, facts)  # noqa: SIM118 - no mapping
    message = r"the report in .*old\.safetensors cannot be read \(.*another version .*--basis sae:.*another --out"
    with pytest.raises(ResultError, match=message):
        train_sae(networks.build(), LAYER, images, out, SaeConfig(**SMALL))
    assert read_dictionary(out, 4, LAYER).units == 16, "the dictionary itself can be used"


@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
@pytest.mark.parametrize("stage", ["activations", "training"])
def test_an_interrupted_training_resumes_to_the_same_file(images, tmp_path, monkeypatch, stage, activation):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(work_dir, "MAX_LOST_SECONDS", 0.0)  # after each batch and step
    config = SaeConfig(**SMALL, activation=activation)
    whole = train_sae(networks.build(), LAYER, images, tmp_path / "whole.safetensors", config)
    seen = []

    def stop(name, done, _total):
        seen.append((name, done))
        if name == stage and done == 4:
            raise KeyboardInterrupt

    out = tmp_path / "f.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_sae(networks.build(), LAYER, images, out, config, progress=stop)
    assert not out.exists()
    first = len(seen)
    resumed = train_sae(
        networks.build(), LAYER, images, out, config, progress=lambda name, done, _total: seen.append((name, done))
    )
    assert min(done for name, done in seen[first:] if name == stage) == {"activations": 4, "training": 4}[stage]
    assert resumed.path.read_bytes() == whole.path.read_bytes()


def test_a_threshold_is_kept_for_all_batches(images, tmp_path):
    config = SaeConfig(**SMALL, activation="batchtopk")
    trained = train_sae(networks.build(), LAYER, images, tmp_path / "f.safetensors", config)
    read = read_dictionary(trained.path, 4, LAYER)
    assert read.activation == "jumprelu"
    assert read.weights.threshold.shape == (1,)
    assert 1 < trained.report.l0 < 3


def test_dead_latents_are_counted():
    cells, _ = sparse_cells(50, units=4)
    trainer = DictionaryTrainer(SaeConfig(latents=6, k=3), CellScale(torch.zeros(4), 1.0), 10)
    dictionary = trainer.dictionary("conv")
    dictionary.weights.encoder_bias[2] = -1e6
    found = measure(dictionary, cells, np.arange(50) % 2 == 0)
    codes = dictionary.encode(torch.from_numpy(cells)).numpy()
    assert codes[:, 2].max() == 0
    assert found.dead == (codes.max(axis=0) == 0).sum() >= 1
    assert found.l0 == pytest.approx((codes[::2] > 0).sum() / 25)


def test_options_that_cannot_be_are_refused_before_anything_is_computed(images, tmp_path, monkeypatch):
    out = tmp_path / "f.safetensors"
    with pytest.raises(ConfigError, match=r"k = 17 of 16 latents cannot be active"):
        train_sae(networks.build(), LAYER, images, out, SaeConfig(**SMALL | {"k": 17}))
    with pytest.raises(ConfigError, match=r"holds 1 image\. Expected at least two"):
        train_sae(networks.build(), LAYER, images / "0.png", out, SaeConfig(**SMALL))
    with pytest.raises(ConfigError, match=r"'wide\*' names 2 layers"):
        train_sae(networks.build(), "wide*", images, out, SaeConfig(**SMALL))
    monkeypatch.setattr(layer_patterns, "MOST_MATCHES", 1)  # no advice to take them all
    with pytest.raises(ConfigError, match=r"'wide\*' names 2 layers"):
        train_sae(networks.build(), "wide*", images, out, SaeConfig(**SMALL))
    assert not [*tmp_path.iterdir()]


def test_stored_activations_take_no_images_to_train_on(images, tmp_path):
    (tmp_path / "images.txt").write_text("a.jpg\n")
    np.save(tmp_path / "one.npy", np.zeros((1, 2), np.float32))
    with pytest.raises(
        NetworkError, match=r"another program stored, and no network. Training a sparse autoencoder needs"
    ):
        train_sae(load_network(f"activations:{tmp_path}"), "one", images, tmp_path / "f.safetensors")


def test_a_layer_without_variance_or_with_nan_is_refused(images, tmp_path):
    network = networks.build()
    with torch.no_grad():
        network.module.wide.weight.zero_()
    with pytest.raises(ConfigError, match=r"layer 'wide' is the same at all 500 cells"):
        train_sae(network, LAYER, images, tmp_path / "f.safetensors", SaeConfig(**SMALL))
    network = networks.build(head=networks.Spoiled(float("nan"), 1))
    with pytest.raises(ActivationError, match=r"layer 'deep_relu' gives NaN or infinity on .*\.png"):
        train_sae(network, "deep_relu", images, tmp_path / "g.safetensors", SaeConfig(**SMALL))


def test_a_damaged_checkpoint_is_named(images, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(work_dir, "MAX_LOST_SECONDS", 0.0)

    def stop(name, done, _total):
        if name == "training" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sae(networks.build(), LAYER, images, tmp_path / "f.safetensors", SaeConfig(**SMALL), progress=stop)
    next(tmp_path.rglob("training.npz")).write_bytes(b"no")
    with pytest.raises(ResultError, match=r"training\.npz is damaged .* Remove this file"):
        train_sae(networks.build(), LAYER, images, tmp_path / "f.safetensors", SaeConfig(**SMALL))
