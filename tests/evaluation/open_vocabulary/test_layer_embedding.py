"""A layer of any network embeds images, and no words."""

import pytest
import torch

import strategies
from netdissect.concepts import ConceptData
from netdissect.errors import ConfigError, NetworkError
from netdissect.evaluation.open_vocabulary.embedding_model import check_model, load_embedding_model
from netdissect.evaluation.open_vocabulary.embedding_source import EmbeddingSource
from netdissect.evaluation.open_vocabulary.layer_embedding import LayerEmbedding
from netdissect.models import Network, resolve_layers
from netdissect.models.surgery.rotations import with_rotations
from networks import COVERAGE, SIDE, build, images

SPEC = "python:networks:build"


def test_an_embedding_is_the_mean_of_the_units_of_a_layer_over_its_cells():
    network, outputs, images = build(), [], torch.randn(3, 3, 24, 24)
    embedding = LayerEmbedding(network, resolve_layers(network, ["deep_relu"])[0], torch.device("cpu"))
    found = check_model(embedding, "a layer").embed_images(images)
    handle = network.module.get_submodule("deep_relu").register_forward_hook(lambda *args: outputs.append(args[2]))
    with torch.no_grad():
        network.module.eval()(images)
    handle.remove()
    torch.testing.assert_close(found, outputs[0].sum(dim=(2, 3)) / outputs[0][0, 0].numel())
    with pytest.raises(ConfigError, match=r"layer deep_relu of tiny embeds images, and no words such as 'tree'"):
        embedding.embed_words(["tree"])


def test_a_spec_names_network_and_layer():
    named, last = (load_embedding_model(f"network:{SPEC}{layer}") for layer in ("#deep_relu", ""))
    assert named.name.startswith("layer deep_relu of ")
    assert last.digest.partition("#")[0] == named.digest.partition("#")[0]
    with pytest.raises(ConfigError, match=r"names \d+ layers of .*Expected one: network:NETWORK#LAYER"):
        load_embedding_model(f"network:{SPEC}#*")


def test_weights_are_named_before_the_layer(tmp_path):
    other = build(seed=1)
    torch.save({"ema": other.module.state_dict()}, tmp_path / "weights.pt")
    embedding = load_embedding_model(f"network:{SPEC}@{tmp_path / 'weights.pt'}#ema#deep_relu")
    assert embedding.digest == f"{other.digest}#deep_relu"


def test_the_dissected_network_is_refused_whatever_its_name_and_bases(tmp_path):
    data = ConceptData.open(strategies.write_broden(tmp_path / "broden", images(4), COVERAGE, image=(SIDE, SIDE)))
    network, source = build(), EmbeddingSource(f"network:{SPEC}#deep_relu")
    for own in (network, with_rotations(network, "deep_relu", [0])):
        with pytest.raises(ConfigError, match="those of 'tiny', the dissected network"):
            source.check_images(own, data)
    source.check_images(build(seed=1), data)  # of other weights


def test_a_network_without_images_is_refused(monkeypatch):
    monkeypatch.setattr(Network, "takes_images", False)
    with pytest.raises(NetworkError, match="Embedding images needs a network that takes images"):
        load_embedding_model(f"network:{SPEC}#deep_relu")
