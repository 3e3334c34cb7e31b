"""Receptive fields: derived by hand for published networks, and for single operations."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from netdissect.concepts import Size
from netdissect.models import (
    Network,
    Preprocessing,
    ReceptiveField,
    ReceptiveFieldAxis,
    list_layers,
    survey_layers,
    trace,
)
from netdissect.models.receptive_field.spatial_layout import UnknownLayout


def network_of(module: nn.Module, size: int | tuple[int, int] = 224, channels: int = 3) -> Network:
    sides = (size, size) if isinstance(size, int) else size
    return Network("net", module, Preprocessing(Size(*sides), (0.5,) * channels, (0.25,) * channels))


def square(offset: float, size: float, step: float) -> ReceptiveField:
    return ReceptiveField(ReceptiveFieldAxis(offset, size, step), ReceptiveFieldAxis(offset, size, step))


def field_of(network: Network, name: str) -> ReceptiveField | None:
    return {layer.name: layer.field for layer in list_layers(network)}[name]


class _Apply(nn.Module):
    """A function as a network, with layers for it to call."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.out = nn.Identity()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.function(x, *self.layers))


def traced(function: Callable[..., Tensor], *layers: nn.Module, size: int | tuple[int, int] = 32) -> ReceptiveField:
    field = field_of(network_of(_Apply(function, *layers), size), "out")
    assert field is not None
    return field


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        # conv 11/4 pad 2: (-2, 11, 4); pool 3/2: (-2, 19, 8); conv 5 pad 2: (-18, 51, 8); pool 3/2: (-18, 67, 16);
        # three times conv 3 pad 1: 3 * 32 more, 3 * 16 further left.
        ("alexnet", "features.10", (-66, 163, 16)),
        # Blocks of 2, 2, 3, 3, 3 convs 3 pad 1 at steps 1, 2, 4, 8, 16: size 1 + 2 * (2*1 + 2*2 + 3*4 + 3*8 + 3*16) =
        # 181, and four pools 2/2 add 1 + 2 + 4 + 8 = 15; offset -(2 + 4 + 12 + 24 + 48).
        ("vgg16", "features.29", (-90, 196, 16)),
        # conv 7/2 pad 3: (-3, 7, 2); pool 3/2 pad 1: (-5, 11, 4). layer1, 4 convs at step 4: (-21, 43, 4). layer2, one
        # at 4, three at 8: (-49, 99, 8). layer3, one at 8, three at 16: (-105, 211, 16). layer4: one at 16, three at
        # 32: (-217, 435, 32). A conv 3 pad 1 at step s adds 2s to the size and takes s off the offset.
        ("resnet18", "layer4", (-217, 435, 32)),
        # After the same stem one conv 3 a block, strided in the first of a layer: 3 at step 4: (-17, 35, 4); 1 at 4 and
        # 3 at 8: (-45, 91, 8); 1 at 8 and 5 at 16: (-133, 267, 16); 1 at 16 and 2 at 32.
        ("resnet50", "layer4", (-213, 427, 32)),
        # conv 7/2 pad 3: (-3, 7, 2); pool 3/2: (-3, 11, 4); conv 3 pad 1: (-7, 19, 4); pool 3/2: (-7, 27, 8). The
        # widest branch of a module is one conv 3 pad 1 (torchvision has 3 where the paper has 5): 3a, 3b: (-23, 59, 8);
        # pool 3/2: (-23, 75, 16); 4a to 4e: (-103, 235, 16); pool 2/2: (-103, 251, 32); 5a, 5b: 2 * 64 more.
        ("googlenet", "inception5b", (-167, 379, 32)),
    ],
)
def test_published_networks_have_the_fields_derived_by_hand(name, layer, expected):
    options = {"init_weights": False} if name == "googlenet" else {}
    network = network_of(torchvision.models.get_model(name, weights=None, **options))
    assert field_of(network, layer) == square(*expected)


@pytest.mark.parametrize(("layer", "expected"), [("_blocks.10", (-154, 339, 16)), ("_blocks.15", (-394, 851, 32))])
def test_same_padding_that_is_smaller_on_the_left_counts_as_the_left_one(layer, expected):
    # 224 is even, so a strided conv 3 pads (0, 1) and a strided conv 5 (1, 2). Stem 3/2: (0, 3, 2). Blocks: 0, conv 3:
    # (-2, 7, 2); 1, 3/2: (-2, 11, 4); 2, 3: (-6, 19, 4); 3, 5/2: (-10, 35, 8); 4, 5: (-26, 67, 8); 5, 3/2:
    # (-26, 83, 16); 6 and 7, 3: (-58, 147, 16); 8 to 10, 5: (-154, 339, 16); 11, 5/2: (-170, 403, 32);
    # 12 to 14, 5: (-362, 787, 32); 15, 3: (-394, 851, 32).
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    assert field_of(network_of(lite.EfficientNet.from_name("efficientnet-lite0")), layer) == square(*expected)


def test_alexnet_at_227_has_the_center_of_the_method_page():
    # The method's example pads nothing in conv1.
    layers = [nn.Conv2d(3, 2, 11, 4), nn.MaxPool2d(3, 2), nn.Conv2d(2, 2, 5, padding=2), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(2, 2, 3, padding=1) for _ in range(3)]
    field = field_of(network_of(nn.Sequential(*layers), 227), "6")
    assert field == square(-64, 163, 16)
    assert field.vertical.center(0) == 17


def conv(kernel: int, inputs: int = 3, outputs: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, **options)


SINGLE = {
    "dilation": (lambda x, a: a(x), [conv(3, dilation=2, padding=2)], (-2, 5, 1)),
    "groups": (lambda x, a: a(x), [conv(5, groups=3, padding=2)], (-2, 5, 1)),
    "same padding of an even kernel": (lambda x, a: a(x), [conv(4, padding="same")], (-1, 4, 1)),
    "reflection padding": (lambda x, a: a(x), [conv(3, padding=1, padding_mode="reflect")], (-1, 3, 1)),
    "cropping": (lambda x: functional.pad(x, (-3, -1, -3, 0)), [], (3, 1, 1)),
    "slicing": (lambda x: x[:, :, 3:-1:2, -29::2], [], (3, 1, 2)),
    "average pooling": (lambda x: functional.avg_pool2d(x, 3, 2, 1), [], (-1, 3, 2)),
    "dilated max pooling": (lambda x: functional.max_pool2d(x, 3, 2, 1, 2), [], (-1, 5, 2)),
    "adaptive pooling": (lambda x: functional.adaptive_avg_pool2d(x, 8), [], (0, 4, 4)),
    "adaptive max pooling": (lambda x: functional.adaptive_max_pool2d(x, 16), [], (0, 2, 2)),
    # Cells of 32 / 5 pixels span at most 8 of them; cell 0 is centered at 3.2 - 0.5.
    "uneven adaptive pooling": (lambda x: functional.adaptive_avg_pool2d(x, 5), [], (2.7 - 3.5, 8, 6.4)),
    "nearest upsampling": (lambda x: functional.interpolate(x, scale_factor=2), [], (-0.25, 1, 0.5)),
    "bilinear upsampling": (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), [], (-0.75, 2, 0.5)),
    "aligned corners": (
        lambda x: functional.interpolate(x, size=(63, 63), mode="bilinear", align_corners=True),
        [],
        (-0.5, 2, 0.5),
    ),
    "transposed convolution": (lambda x, a: a(x), [nn.ConvTranspose2d(3, 2, 4, 2, 1)], (-0.75, 2, 0.5)),
    "pixel shuffle": (lambda x, a: functional.pixel_shuffle(a(x), 2), [conv(1, outputs=8)], (-0.25, 1, 0.5)),
    "pixel unshuffle": (lambda x: functional.pixel_unshuffle(x, 2), [], (0, 2, 2)),
    "space to depth by slices": (
        lambda x: torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1),
        [],
        (0, 2, 2),
    ),
    "average pooling by reshaping": (lambda x: x.reshape(-1, 3, 8, 4, 8, 4).mean((3, 5)), [], (0, 4, 4)),
    "patches by reshaping": (
        lambda x, a: a(x.reshape(-1, 3, 8, 4, 8, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, 48)).mT.reshape(
            -1, 5, 8, 8
        ),
        [nn.Linear(48, 5)],
        (0, 4, 4),
    ),
    "windows and back": (
        lambda x: (
            x.view(-1, 3, 4, 8, 4, 8)
            .permute(0, 2, 4, 3, 5, 1)
            .reshape(-1, 64, 3)
            .view(-1, 4, 4, 8, 8, 3)
            .permute(0, 5, 1, 3, 2, 4)
            .reshape(-1, 3, 32, 32)
        ),
        [],
        (0, 1, 1),
    ),
    "tokens and back": (lambda x, a: a(x).flatten(2).mT.mT.unflatten(2, (8, 8)), [conv(4, stride=4)], (0, 4, 4)),
    "channels last": (lambda x, a: a(x).permute(0, 2, 3, 1), [conv(3, padding=1)], (-1, 3, 1)),
    "channel shuffle": (lambda x, a: functional.channel_shuffle(a(x), 2), [conv(3, outputs=4, padding=1)], (-1, 3, 1)),
    "branches": (lambda x, a, b: torch.cat([a(x), b(x)], 1), [conv(1), conv(5, padding=2)], (-2, 5, 1)),
    "residual joins": (lambda x, a: x + a(x), [conv(3, padding=1)], (-1, 3, 1)),
    "joins in place": (lambda x, a: x.clone().add_(a(x)), [conv(3, padding=1)], (-1, 3, 1)),
    "stacked branches": (lambda x, a: torch.stack([x, a(x)]).sum(0), [conv(3, padding=1)], (-1, 3, 1)),
    "squeeze and excite": (
        lambda x, a: torch.sigmoid(a(x.mean((2, 3), keepdim=True))) * x,
        [conv(1)],
        (0, 1, 1),
    ),
    "spatial gates": (lambda x, a: x * a(x).sigmoid(), [conv(7, padding=3)], (0, 1, 1)),
    "gates that are enlarged": (
        lambda x, a: x * functional.interpolate(torch.sigmoid(a(x)), size=32),
        [conv(7, padding=3, stride=2)],
        (0, 1, 1),
    ),
    "a sigmoid that multiplies nothing": (lambda x, a: a(x).sigmoid(), [conv(7, padding=3)], (-3, 7, 1)),
    "a pooled branch": (
        lambda x, a: torch.cat(
            [a(x), functional.interpolate(functional.adaptive_avg_pool2d(x, 1), size=32, mode="bilinear")], 1
        ),
        [conv(3, padding=1)],
        (-1, 3, 1),
    ),
    "cropped by padding channels": (lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)), [], (0, 1, 2)),
    "self-attention": (
        lambda x, a: functional.scaled_dot_product_attention(*[a(x).flatten(2).mT] * 3).mT.unflatten(2, (8, 8)),
        [conv(4, stride=4)],
        (0, 4, 4),
    ),
    "attention written out": (
        lambda x, a: ((t := a(x).flatten(2).mT) @ t.mT).softmax(-1).matmul(t).mT.unflatten(2, (8, 8)),
        [conv(4, stride=4)],
        (0, 4, 4),
    ),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", SINGLE)
def test_each_operation_has_the_field_derived_by_hand(case):
    function, layers, expected = SINGLE[case]
    field = traced(function, *layers)
    for axis in (field.vertical, field.horizontal):
        assert (axis.offset, axis.size, axis.step) == pytest.approx(expected)


def test_vertical_and_horizontal_are_separate_where_branches_meet():
    tall, wide = nn.Conv2d(3, 3, (5, 1), padding=(2, 0)), nn.Conv2d(3, 3, (1, 3), padding=(0, 1))
    field = traced(lambda x, a, b: a(x) + b(x), tall, wide, size=(20, 30))
    assert field == ReceptiveField(ReceptiveFieldAxis(-2, 5, 1), ReceptiveFieldAxis(-1, 3, 1))


def test_on_a_tie_of_branches_the_first_wins():
    left, right = nn.ZeroPad2d((2, 0, 2, 0)), nn.ZeroPad2d((0, 2, 0, 2))
    a, b = conv(3), conv(3)
    assert traced(lambda x, *m: m[2](m[0](x)) + m[3](m[1](x)), left, right, a, b) == square(-2, 3, 1)
    assert traced(lambda x, *m: m[3](m[1](x)) + m[2](m[0](x)), left, right, a, b) == square(0, 3, 1)


def enlarged(x, scale=2, **options):
    return functional.interpolate(x, scale_factor=scale, mode="bilinear", **options)


# A pooled map has fields of 2 at step 2, of 6 after a conv 3; enlarged, they grow by one of its steps, and their step
# is 1, or 2 * 15 / 31 with corners aligned. Where x meets it, x gives center 0 and step 1, the enlarged map the size.
BRANCHES = {
    "a skip connection decides, however small its field": (
        lambda x, a: torch.cat([x, enlarged(a(functional.avg_pool2d(x, 2)), align_corners=True)], 1),
        [conv(3, padding=1)],
        (-3.5, 8, 1),
    ),
    "as either argument": (
        lambda x, a: enlarged(a(functional.avg_pool2d(x, 2)), align_corners=True) + x,
        [conv(3, padding=1)],
        (-3.5, 8, 1),
    ),
    "after convolutions, too": (
        lambda x, a: x + a(enlarged(functional.avg_pool2d(x, 2), align_corners=True)),
        [conv(3, padding=1)],
        (-(3 + 2 * 30 / 31) / 2, 4 + 2 * 30 / 31, 1),
    ),
    "depth to space is enlarged": (
        lambda x, a: x + functional.pixel_shuffle(a(x), 2),
        [conv(4, stride=2, padding=1, outputs=12)],
        (-1.5, 4, 1),
    ),
    "so is a transposed convolution": (
        lambda x, a, b: x + b(a(x)),
        [conv(4, stride=2, padding=1), nn.ConvTranspose2d(3, 3, 2, 2)],
        (-1.5, 4, 1),
    ),
    "so are repeated cells": (
        lambda x: x + functional.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3),
        [],
        (-0.5, 2, 1),
    ),
    "of enlarged branches alone the largest decides": (
        lambda x, a: enlarged(x) + enlarged(a(x), align_corners=True),
        [conv(5, padding=2)],
        (-2.5, 6, 31 / 63),
    ),
    "a reduced branch is not an enlarged one": (
        lambda x, a: a(x) + enlarged(x, 0.5),
        [conv(2, stride=2)],
        (0, 2, 2),
    ),
}


@pytest.mark.parametrize("case", BRANCHES)
def test_branches_that_were_enlarged_do_not_decide_where_another_was_not(case):
    function, layers, expected = BRANCHES[case]
    field = traced(function, *layers)
    for axis in (field.vertical, field.horizontal):
        assert (axis.offset, axis.size, axis.step) == pytest.approx(expected)


@pytest.mark.parametrize(
    "name", ["alexnet", "vgg11", "resnet18", "resnet50", "googlenet", "efficientnet_b0", "efficientnet-lite0"]
)
def test_no_branch_is_enlarged_in_the_networks_of_the_paper_and_in_efficientnet(name):
    if name == "efficientnet-lite0":
        module = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(name)
    else:
        module = torchvision.models.get_model(
            name, weights=None, **({"init_weights": False} if name == "googlenet" else {})
        )
    if name in ("alexnet", "vgg11"):
        module = module.features  # at 64 pixels, the pooling after them enlarges
    layouts = [traced.layout for traced in trace(network_of(module, 64))]
    assert not any(isinstance(layout, UnknownLayout) for layout in layouts)
    assert not any(layout.grid.enlarged for layout in layouts if layout is not None)


UNTRACEABLE = {
    "sampling anywhere": (
        lambda x: functional.grid_sample(x, torch.zeros(len(x), 32, 32, 2), align_corners=False),
        [],
    ),
    "an order that is drawn": (lambda x: x[:, :, torch.randperm(32)], []),
    "an order that depends on the image": (lambda x: x.gather(2, x.argsort(2)), []),
    "NumPy": (lambda x: torch.from_numpy(x.numpy() * 1), []),
}


@pytest.mark.parametrize("case", UNTRACEABLE)
def test_a_layer_that_cannot_be_traced_is_refused_with_the_reason(case):
    function, layers = UNTRACEABLE[case]
    found = {layer.name: layer for layer in survey_layers(network_of(_Apply(function, *layers), 32))}
    assert found["out"].layout is found["out"].field is None
    assert "cannot be traced" in found["out"].reason


def test_an_output_of_parameters_alone_is_no_layer():
    table = nn.Parameter(torch.randn(1, 3, 32, 32))
    network = network_of(_Apply(lambda x, a: x + a(table), nn.Identity()), 32)
    assert [layer.name for layer in list_layers(network)] == ["out"]


def test_fully_connected_layers_have_no_field():
    layers = list_layers(network_of(nn.Sequential(conv(3), nn.Flatten(), nn.Linear(2700, 5)), 32))
    assert [(layer.units, layer.grid, layer.field) for layer in layers[1:]] == [(2700, None, None), (5, None, None)]


def test_vision_transformers_and_swin_keep_the_fields_of_their_patches():
    vit = torchvision.models.VisionTransformer(64, 16, 2, 2, 8, 16)
    assert field_of(network_of(vit, 64), "encoder.layers.encoder_layer_1.mlp") == square(0, 16, 16)
    swin = torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4])
    # Patches of 4 pixels, merged two by two; windows of 4 are shifted by 2 and shifted back.
    assert field_of(network_of(swin, 64), "features.3") == square(0, 8, 8)
