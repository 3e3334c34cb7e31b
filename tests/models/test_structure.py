"""Stages, blocks and hidden neurons of networks, against the structure that their papers and libraries state."""

import pytest
import torch
import torchvision
from torch import nn

from netdissect.errors import LayerError
from netdissect.models import Network, Preprocessing, find_structure, load_network, resolve_layers, survey_layers
from netdissect.training.scene_net import preprocessing, scene_network


def network_of(module, size=64):
    return Network("net", module, Preprocessing((size, size), (0.5,) * 3, (0.5,) * 3))


def small_vision_transformer():
    return torchvision.models.VisionTransformer(64, 16, 12, 2, 16, 32)


def vgg16():
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"], batch_norm=False)
    return nn.Sequential(nn.ModuleDict({"features": layers})["features"])


def numbered(name, ends):
    return tuple(f"{name}.{end}" for end in ends)


RESNET = ("layer1", "layer2", "layer3", "layer4")
# Network, input size; the end of each stage; blocks in each stage; hidden layers: number, first, units of the first.
SPECS = [
    ("torchvision:resnet18", 64, RESNET, (2, 2, 2, 2), None),
    ("torchvision:resnet50", 64, RESNET, (3, 4, 6, 3), None),
    ("torchvision:densenet121", 64, numbered("features", ["denseblock1", "denseblock2", "denseblock3", "denseblock4"]),
     (6, 12, 24, 16), None),
    ("torchvision:mobilenet_v2", 64, numbered("features", [1, 3, 6, 13, 17]), (1, 2, 3, 7, 4), None),
    ("torchvision:swin_t", 64, numbered("features", [1, 3, 5, 7]), (2, 2, 6, 2), (12, "features.1.0.mlp.1", 384)),
    ("torchvision:convnext_tiny", 64, numbered("features", [1, 3, 5, 7]), (3, 3, 9, 3),
     (18, "features.1.0.block.4", 384)),
    ("torchvision:googlenet", 64, ("conv1", "conv3", "inception3b", "inception4e", "inception5b"), (1, 2, 2, 5, 2),
     None),
    ("timm:resnet18", 64, RESNET, (2, 2, 2, 2), None),
    ("timm:vit_tiny_patch16_224", 64, numbered("blocks", [2, 5, 8, 11]), (3, 3, 3, 3), (12, "blocks.0.mlp.act", 768)),
    ("timm:efficientnet_b0", 64, numbered("blocks", [0, 1, 2, 4, 6]), (1, 2, 2, 6, 5), None),
    ("timm:mixer_s32_224", 224, numbered("blocks", [1, 3, 5, 7]), (2, 2, 2, 2),
     (8, "blocks.0.mlp_channels.act", 2048)),
    ("timm:beit_base_patch16_224", 224, numbered("blocks", [2, 5, 8, 11]), (3, 3, 3, 3),
     (12, "blocks.0.mlp.act", 3072)),
    ("efficientnet_lite0", 64, numbered("_blocks", [0, 2, 4, 10, 15]), (1, 2, 2, 6, 5), None),
]  # fmt: skip
MODULES = [
    (vgg16, numbered("0", [3, 8, 15, 22, 29]), (2, 2, 3, 3, 3), None),
    (torchvision.models.AlexNet, numbered("features", [1, 4, 11]), (1, 1, 3), None),
    (small_vision_transformer, numbered("encoder.layers", [f"encoder_layer_{n}" for n in (2, 5, 8, 11)]),
     (3, 3, 3, 3), (12, "encoder.layers.encoder_layer_0.mlp.1", 32)),
]  # fmt: skip


def check(network, ends, blocks, hidden):
    found = find_structure(network)
    assert tuple(stage.end.name for stage in found.stages) == ends
    assert tuple(len(stage.blocks) for stage in found.stages) == blocks
    assert all(len({block.grid for block in stage.blocks} | {stage.end.grid}) == 1 for stage in found.stages)
    first = found.hidden[0] if found.hidden else None
    assert (first and (len(found.hidden), first.name, first.units)) == hidden


@pytest.mark.parametrize(("spec", "size", "ends", "blocks", "hidden"), SPECS, ids=[spec[0] for spec in SPECS])
def test_networks_of_libraries_have_the_stages_of_their_papers(spec, size, ends, blocks, hidden):
    check(load_network(spec, weights="none", size=size), ends, blocks, hidden)


@pytest.mark.parametrize(("make", "ends", "blocks", "hidden"), MODULES, ids=["vgg16", "alexnet", "vit"])
def test_modules_have_the_stages_of_their_papers(make, ends, blocks, hidden):
    check(network_of(make(), 64), ends, blocks, hidden)


def test_the_scene_network_has_a_stage_for_each_size_of_its_maps():
    network = Network("demo", scene_network((4, 4, 4, 4, 4)), preprocessing(48))
    check(network, ("conv1", "conv2", "conv5"), (1, 1, 3), None)


def test_a_network_of_transformers_has_blocks_in_lists_that_do_not_run():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=48,
                                    image_size=64)  # fmt: skip
    found = find_structure(network_of(transformers.ViTModel(config)))
    assert [stage.end.type for stage in found.stages] == ["ViTLayer"] * 4
    assert [layer.units for layer in found.hidden] == [48] * 4


class _Residual(nn.Module):
    def __init__(self, units, stride=1):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(units, units, 3, stride, 1), nn.ReLU()
        self.skip = nn.Identity() if stride == 1 else nn.AvgPool2d(stride)

    def forward(self, x):
        return self.relu(self.conv(x) + self.skip(x))


def test_layer_sets_are_resolved_and_union_with_names():
    body = nn.Sequential(nn.Sequential(_Residual(4), _Residual(4)), nn.Sequential(_Residual(4, 2), _Residual(4)))
    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3), body))
    names = {word: [layer.name for layer in resolve_layers(network, word)] for word in ("auto", "blocks")}
    assert names == {"auto": ["1.0", "1.1"], "blocks": ["1.0.0", "1.0.1", "1.1.0", "1.1.1"]}
    assert [layer.name for layer in resolve_layers(network, ["auto", "0"])] == ["0", "1.0", "1.1"]
    with pytest.raises(LayerError, match=r"no hidden MLP neurons.*two linear layers.*use auto or blocks"):
        resolve_layers(network, ["mlp"])


def test_a_set_of_layers_comes_before_a_module_of_this_name_which_a_glob_still_finds():
    module = nn.Sequential()
    module.add_module("stem", nn.Conv2d(3, 4, 8, 8))
    module.add_module("blocks", nn.Sequential(_Residual(4), _Residual(4)))
    network = network_of(module)
    assert [layer.name for layer in resolve_layers(network, "blocks")] == ["blocks.0", "blocks.1"]
    assert [layer.name for layer in resolve_layers(network, "[b]locks")] == ["blocks"]


@pytest.mark.parametrize("word", ["auto", "blocks", "mlp"])
def test_a_network_without_blocks_or_convolutions_is_of_unknown_structure(word):
    with pytest.raises(LayerError, match=rf"structure of network 'net' is not known, so '{word}'.*netdissect layers"):
        resolve_layers(network_of(nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(768, 4))), [word])


class _Odd(nn.Module):
    """In-place rectifiers on negative and positive maps, and modules that return what they were given."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.again = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.ReLU()
        self.same, self.drop, self.flat = nn.Identity(), nn.Dropout(0.5), nn.Flatten(2)

    def forward(self, x):
        return self.flat(self.drop(self.same(self.again(self.relu(self.conv(x))))))


def test_modules_pass_through_if_they_return_what_they_were_given_unchanged():
    layers = {layer.name: layer.passes_through for layer in survey_layers(network_of(_Odd()))}
    assert [name for name, passes in layers.items() if passes] == ["same", "drop"]


def test_a_glob_of_more_than_20_layers_is_refused_unless_all_are_wanted():
    module = nn.Sequential(*(nn.Sequential(_Residual(4), _Residual(4)) for _ in range(3)))
    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3), module))
    with pytest.raises(LayerError, match=r"'1\.\*' matches 27 layers, from '1\.0\.0\.conv' to '1\.2'.*--all-matching"):
        resolve_layers(network, ["1.*"])
    assert len(resolve_layers(network, ["1.*"], all_matching=True)) == 27
    assert len(resolve_layers(network, ["1.?", "1.?.?"])) == 9
    names = [layer.name for layer in resolve_layers(network, ["*"], all_matching=True)]
    assert len(resolve_layers(network, names)) == 29


def test_an_error_names_the_end_of_each_stage_in_place_of_a_wide_glob():
    with pytest.raises(LayerError, match=r"--layer auto: layer1,layer2,layer3,layer4"):
        resolve_layers(load_network("torchvision:resnet18", weights="none", size=64), ["layer*"])


class _Shifted(nn.Module):
    """Gives a part of it a tensor that was made in inference mode."""

    def __init__(self):
        super().__init__()
        with torch.inference_mode():
            self.register_buffer("shift", torch.ones(1))
        self.add = _Added()

    def forward(self, x):
        return self.add(x, self.shift)


class _Added(nn.Module):
    def forward(self, x, shift):
        return x + shift


def test_a_module_may_be_given_tensors_of_inference_mode_which_count_no_writes():
    (layer,) = survey_layers(network_of(_Shifted()))
    assert not layer.passes_through
