"""Names of the outputs of a classifier, as far as the network knows them."""

import transformers

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
