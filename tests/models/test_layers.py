"""Which layers a network has and which are meant."""

import pytest
import torch
from torch import nn

from netdissect.concepts import Size
from netdissect.config import Assumed
from netdissect.errors import LayerError, NetworkError
from netdissect.models import Network, Preprocessing, ReceptiveFieldAxis, list_layers, resolve_layers, survey_layers


class _Branchy(nn.Module):
    """Runs its modules in another order than it lists them, one of them twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.block2 = nn.Conv2d(4, 4, 3)
        self.block1 = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU()
        self.never = nn.Conv2d(3, 3, 1)
        self.parts = nn.ModuleList([nn.Identity()])
        self.sequence = nn.Linear(3, 3)

    def forward(self, x):
        self.sequence(x.flatten(2).mT[:, :7])
        x = self.act(self.block1(x))
        x = self.act(self.block2(self.parts[0](x)))
        return {"logits": self.head(x.mean((2, 3))), "features": x}


class _Tokens(nn.Module):
    """Tokens that the trace cannot follow."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens, self.out = tokens, nn.Identity()

    def forward(self, x):
        return self.out(x.sum() + torch.zeros(len(x), self.tokens, 5)).sum((1, 2))


def network_of(module, size=12):
    return Network("net", module, Preprocessing(Size(size, size), (0.5,) * 3, (0.5,) * 3))


def test_layers_come_in_the_order_of_execution_a_shared_one_where_it_runs_last():
    layers = list_layers(network_of(_Branchy()))
    assert [layer.name for layer in layers] == ["block1", "parts.0", "block2", "act", "head"]
    assert [layer.type for layer in layers] == ["Conv2d", "Identity", "Conv2d", "ReLU", "Linear"]
    assert [layer.grid for layer in layers] == [(10, 10), (10, 10), (8, 8), (8, 8), None]
    assert [layer.units for layer in layers] == [4, 4, 4, 4, 2]
    assert layers[3].field.vertical.size == 5


def test_exact_names_and_globs_give_each_layer_once_in_the_order_of_execution():
    network = network_of(_Branchy())
    chosen = resolve_layers(network, ["head", "block*", "block1", "*1"])
    assert [layer.name for layer in chosen] == ["block1", "block2", "head"]


def test_an_exact_name_is_not_read_as_a_glob():
    module = nn.Sequential()
    module.add_module("a[b]", nn.Conv2d(3, 2, 1))
    module.add_module("ab", nn.ReLU())
    assert [layer.name for layer in resolve_layers(network_of(module), ["a[b]"])] == ["a[b]"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("blok1", "similar names: 'block1'"),
        ("layer*", "matches 'layer"),
        ("never", "did not run"),
        ("parts", "did not run"),
        ("sequence", r"output has shape \(2, 7, 3\) for 2 images, and it holds a part of the map alone.*feature map"),
    ],
)
def test_a_pattern_that_matches_no_layer_is_refused_with_the_reason(pattern, message):
    with pytest.raises(LayerError, match=message):
        resolve_layers(network_of(_Branchy()), ["block1", pattern])


@pytest.mark.parametrize(("tokens", "layout", "side"), [(16, "tokens", 4), (17, "tokens:1", 4), (21, "tokens:5", 4)])
def test_tokens_that_cannot_be_traced_form_a_square_if_that_is_assumed(tokens, layout, side):
    network = network_of(_Tokens(tokens))
    assert list_layers(network) == ()
    (layer,) = list_layers(network, Assumed(layout=layout, receptive_field=(-1, 3, 2)))
    assert (layer.units, layer.grid, layer.layout.name, layer.layout.source) == (5, (side, side), layout, "assumed")
    assert (layer.field.vertical, layer.field_source) == (ReceptiveFieldAxis(-1, 3, 2), "assumed")


@pytest.mark.parametrize("layout", [None, "NCHW", "tokens:1"])
def test_tokens_that_cannot_be_traced_are_refused_with_the_reason_and_the_remedy(layout):
    network, assumed = network_of(_Tokens(16)), Assumed(layout=layout)
    assert list_layers(network, assumed) == ()
    assert [layer.reason for layer in survey_layers(network, assumed)] == [
        "its elements cannot be traced to the image: the trace ends at sum"
    ]
    with pytest.raises(LayerError, match=r"trace ends at sum.*--assume-layout.*python:module:factory"):
        resolve_layers(network, ["out"], assumed)


def test_traced_tokens_need_no_square():
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out, self.later = nn.Conv2d(3, 5, 4, 4), nn.Identity(), nn.Identity()
            self.extra = nn.Parameter(torch.zeros(1, 3, 5))

        def forward(self, x):
            tokens = torch.cat([self.extra.expand(len(x), -1, -1), self.conv(x).flatten(2).mT], 1)
            return self.later(self.out(tokens)[:, 1:])

    network = Network("net", Patches(), Preprocessing(Size(16, 24), (0.5,) * 3, (0.5,) * 3))
    _, out, later = list_layers(network)
    assert out.grid == later.grid == (4, 6)
    assert out.field.horizontal.step == 4


def test_channels_last_maps_are_recognized_even_if_units_and_cells_are_alike():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 6, 2, 2), nn.LayerNorm(6)

        def forward(self, x):
            return self.norm(self.conv(x).permute(0, 2, 3, 1))

    layers = list_layers(network_of(Last(), size=24))
    assert [(layer.units, layer.grid) for layer in layers] == [(6, (12, 12))] * 2


def test_a_network_that_fails_on_its_input_is_reported():
    with pytest.raises(NetworkError, match=r"fails on an input of shape \(2, 3, 12, 12\) with RuntimeError"):
        list_layers(network_of(nn.Conv2d(1, 2, 3)))


def test_listing_leaves_no_hooks_and_no_changes():
    network = network_of(_Branchy())
    before = network.digest
    list_layers(network)
    assert not any(module._forward_hooks for module in network.module.modules())
    assert before == Network("net", network.module, network.preprocessing).digest
