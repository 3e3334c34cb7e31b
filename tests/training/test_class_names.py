"""Names of the outputs of a classifier, as far as the network knows them."""

import json
from dataclasses import replace

import pytest
import transformers
from torch import nn

from netdissect.config import NetworkSource
from netdissect.errors import ConfigError
from netdissect.models import Network, Preprocessing
from netdissect.training.class_names import class_names

SIZES = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip


def vit(names):
    config = transformers.ViTConfig(**SIZES, id2label=names)
    return Network("vit", transformers.ViTForImageClassification(config), Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3))


def test_a_model_of_transformers_names_its_outputs():
    assert class_names(vit({1: "dog", 0: "cat", 2: "cow"})) == ("cat", "dog", "cow")


def test_numbers_in_place_of_names_are_no_names():
    assert class_names(vit({index: f"LABEL_{index}" for index in range(4)})) is None


def exported(folder, config):
    if config is not None:
        (folder / "config.json").write_text(config)
    return replace(vit(None), source=NetworkSource(spec=f"onnx:{folder / 'model.onnx'}"), module=nn.Identity())


def test_the_configuration_beside_an_onnx_file_names_its_outputs(tmp_path):
    assert class_names(exported(tmp_path, None)) is None
    names = [f"class {index}" for index in range(11)]  # as text, "10" comes before "2"
    named = exported(tmp_path, json.dumps({"id2label": {str(index): name for index, name in enumerate(names)}}))
    assert class_names(named) == tuple(names)
    assert class_names(exported(tmp_path, '{"id2label": {"0": "LABEL_0"}}')) is None
    assert class_names(exported(tmp_path, '{"architecture": "resnet18"}')) is None


def test_names_with_a_gap_are_of_no_known_outputs(tmp_path):
    network = vit({0: "cat", 1: "dog"})
    network.module.config.id2label = {0: "cat", 2: "dog"}
    assert class_names(network) is None
    with pytest.raises(ConfigError, match="'id2label' has 2 names, but none of output 1"):
        class_names(exported(tmp_path, '{"id2label": {"0": "cat", "2": "dog"}}'))


@pytest.mark.parametrize("config", ["{", "[1]", '{"id2label": {"cat": "0"}}'])
def test_a_damaged_configuration_beside_an_onnx_file_is_named(config, tmp_path):
    with pytest.raises(ConfigError, match=r"config\.json cannot be read as the configuration of a model"):
        class_names(exported(tmp_path, config))
