"""Training a scene network: repeatable, described by its configuration, saved in one file."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from netdissect.errors import CheckpointError, ConfigError
from netdissect.models import Network, list_layers
from netdissect.synthetic import training_set
from netdissect.training.scene_net import (
    DEMO,
    FAST,
    LAYERS,
    TrainConfig,
    load_trained,
    preprocessing,
    save_trained,
    scene_network,
)
from netdissect.training.train import choose_precision, settle_precision, train, train_on

TINY = TrainConfig(
    size=64, num_images=200, held_out=50, units=(6, 8, 8, 8, 12), steps=20, batch_size=16, precision="float32"
)  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return training_set(250, size=64, seed=1, workers=1)


@pytest.fixture(scope="module")
def trained(world):
    return train_on(*world, TINY)


def test_the_same_configuration_gives_the_same_weights_and_another_seed_others(world, trained):
    again = train_on(*world, TINY)
    assert again.accuracy == trained.accuracy
    assert again.log == trained.log
    for one, other in zip(trained.module.state_dict().values(), again.module.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    other = train_on(*world, TINY.model_copy(update={"seed": 1}))
    assert not torch.equal(other.module.state_dict()["conv1.0.weight"], trained.module.state_dict()["conv1.0.weight"])


def test_training_leaves_the_global_generator_alone(world):
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    train_on(*world, TINY.model_copy(update={"steps": 2}))
    assert torch.equal(torch.rand(3), expected)


def test_the_log_has_ten_entries_and_ends_with_the_accuracy(trained):
    assert [entry.step for entry in trained.log] == list(range(2, 21, 2))
    assert trained.accuracy == trained.log[-1].accuracy


def test_train_renders_its_own_images(world, trained):
    told = []
    again = train(TINY, workers=1, progress=lambda *event: told.append(event))
    assert again.accuracy == trained.accuracy
    assert ("training set", 250, 250) in told
    assert told[-1] == ("training", 20, 20)


@pytest.mark.slow
def test_training_lowers_the_loss(world):
    train_config = TINY.model_copy(update={"units": (12, 16, 24, 32, 32), "steps": 120, "learning_rate": 3e-3})
    log = train_on(*world, train_config).log
    assert log[-1].loss < 0.85 * log[0].loss


def test_a_scene_network_has_five_named_layers_and_less_than_a_million_weights():
    for train_config in (DEMO, FAST):
        network = Network("scenes", scene_network(train_config.units), preprocessing(train_config.size))
        layers = {layer.name: layer for layer in list_layers(network)}
        assert [layers[name].units for name in LAYERS] == list(train_config.units)
        assert sum(parameter.numel() for parameter in network.module.parameters()) < 1_000_000


def test_every_layer_is_rectified():
    module = scene_network((4, 4, 4, 4, 4), seed=2)
    output = torch.randn(2, 3, 64, 64)
    for name, child in module.named_children():
        output = child(output)
        if name in LAYERS:
            assert output.min() == 0


def test_the_units_that_dropout_hides_are_those_of_the_seed(world):
    train_config = TINY.model_copy(update={"dropout": 0.5, "steps": 3})
    first = train_on(*world, train_config).module.state_dict()
    drawn = torch.rand(7)  # whatever else a program draws
    again = train_on(*world, train_config).module.state_dict()
    assert all(torch.equal(first[name], value) for name, value in again.items()), drawn


def test_a_network_is_saved_and_loaded_whole(trained, tmp_path):
    loaded = load_trained(save_trained(trained, tmp_path / "net.safetensors"))
    assert loaded.train_config == trained.train_config
    assert loaded.log == trained.log
    assert (loaded.accuracy, loaded.seconds) == (trained.accuracy, trained.seconds)
    images = torch.zeros(1, 3, 64, 64)
    assert torch.equal(loaded.module(images), trained.module(images))
    assert not loaded.module.training


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none.safetensors does not exist"):
        load_trained(tmp_path / "none.safetensors")


def test_a_damaged_or_foreign_file_is_named(trained, tmp_path):
    whole = save_trained(trained, tmp_path / "net.safetensors").read_bytes()
    for name, content in {"cut": whole[:-100], "empty": b"", "text": b"not a network"}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{name}.safetensors is not a scene network"):
            load_trained(path)


def test_weights_without_a_configuration_are_refused(tmp_path):
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"foreign.safetensors is not a scene network .*train_config"):
        load_trained(tmp_path / "foreign.safetensors")


def test_too_few_images_are_refused(world):
    pictures, scenes = world
    with pytest.raises(ConfigError, match="50 images leave none to train on when 50 are held out"):
        train_on(pictures[:50], scenes[:50], TINY)


def test_a_precision_that_was_asked_for_is_used_and_auto_is_measured():
    module = scene_network(TINY.units)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert choose_precision(module, TINY) == "float32"
    assert choose_precision(module, TINY.model_copy(update={"precision": "bfloat16"})) == "bfloat16"
    assert choose_precision(module, TINY.model_copy(update={"precision": "auto"})) in ("float32", "bfloat16")
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_a_precision_once_measured_is_kept(tmp_path):
    path = tmp_path / "trained" / "precision.json"
    auto = TINY.model_copy(update={"precision": "auto"})
    measured = settle_precision(auto, path).precision
    other = {"float32": "bfloat16", "bfloat16": "float32"}[measured]
    assert settle_precision(auto, path).precision == measured
    path.write_text(f'"{other}"')
    assert settle_precision(auto, path).precision == other


@pytest.mark.parametrize("content", [b"", b"{", b"float32", b'"auto"', b'"float64"', b"\xff\xfe", b"[1]"])
def test_a_damaged_precision_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "precision.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not hold the precision"):
        settle_precision(TINY.model_copy(update={"precision": "auto"}), path)
    assert path.read_bytes() == content
