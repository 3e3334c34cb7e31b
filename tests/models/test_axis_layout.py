"""How the outputs of layers are read: rearranged values of one map must come back as that map or be refused."""

from dataclasses import dataclass

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from netdissect.config import Assumed
from netdissect.errors import LayerError
from netdissect.models import (
    ActivationRecorder,
    list_layers,
    resolve_layers,
)
from traced_modules import IMAGES, Rearranges, network_of, recorded, survey, tokens


def extra(x, count=1):
    return torch.zeros(len(x), count, x.shape[1])


def windows(x, side=3):
    """Swin's partition: (B, C, H, W) -> (B * windows, side * side, C)."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // side, side, w // side, side).permute(0, 2, 4, 3, 5, 1)
    return x.reshape(-1, side * side, c)


def grid_partition(x, side=3):
    """MaxViT's: cells at a distance, (B, C, H, W) -> (B * groups, side, side, C)."""
    b, c, h, w = x.shape
    return x.view(b, c, side, h // side, side, w // side).permute(0, 3, 5, 2, 4, 1).reshape(-1, side, side, c)


def scan(x):
    """One of VMamba's four directions and the way back."""
    return x.flatten(2).flip(-1).flip(-1).view_as(x)


SAME_MAP = {
    "channels last": (lambda x: x.permute(0, 2, 3, 1), "NHWC"),
    "channels first": (lambda x: x * 1, "NCHW"),
    "columns before rows": (lambda x: x.transpose(2, 3), "another order"),
    "tokens": (tokens, "tokens"),
    "a class token first": (lambda x: torch.cat([extra(x), tokens(x)], 1), "tokens:1"),
    "a class token last": (lambda x: torch.cat([tokens(x), extra(x)], 1), "tokens:0"),
    "a class token in the middle": (
        lambda x: torch.cat([(t := tokens(x))[:, :18], extra(x), t[:, 18:]], 1),
        "another order",
    ),
    "thirteen registers last, which make a square": (lambda x: torch.cat([tokens(x), extra(x, 13)], 1), "tokens:0"),
    "tokens reversed": (lambda x: tokens(x).flip(1), "another order"),
    "tokens by columns": (lambda x: tokens(x.mT), "another order"),
    "tokens gathered in a fixed order": (
        lambda x: tokens(x).gather(1, torch.arange(36).flip(0).view(1, 36, 1).expand(len(x), 36, 6)),
        "another order",
    ),
    "tokens before images": (lambda x: tokens(x).transpose(0, 1), "tokens, tokens first"),
    "units before tokens": (lambda x: x.flatten(2), "tokens, units first"),
    "a cyclic shift": (lambda x: x.permute(0, 2, 3, 1).roll((-2, 1), (1, 2)), "another order"),
    "a cyclic shift undone": (lambda x: x.roll((-2, 1), (2, 3)).roll((2, -1), (2, 3)), "NCHW"),
    "flipped": (lambda x: x.flip(3), "another order"),
    "windows": (windows, "windows"),
    "windows at a distance": (grid_partition, "windows"),
    "a scan and the way back": (scan, "NCHW"),
    "written into a buffer": (lambda x: torch.zeros_like(x).copy_(x), "NCHW"),
    "written into a part of a larger buffer": (lambda x: _written(x)[:, :, 1:-1, 1:-1], "NCHW"),
    "and a class token that is written afterwards": (lambda x: _with_class_token(x), "tokens:1"),
    "in a data class": (lambda x: _Output(None, [x]), "NCHW"),
    "unfolded into patches of one cell": (lambda x: functional.unfold(x, 1), "tokens, units first"),
}


@dataclass
class _Output:
    loss: None
    maps: list[torch.Tensor]


def _with_class_token(x):
    full = torch.empty(len(x), 37, x.shape[1])
    full[:, 1:] = tokens(x)
    full[:, 0] = torch.ones(x.shape[1])
    return full


def _written(x):
    full = torch.zeros(len(x), x.shape[1], 8, 8)
    full[:, :, 1:-1, 1:-1] = x
    return full


@pytest.mark.parametrize("case", SAME_MAP)
def test_rearranged_values_are_read_as_the_map_from_which_they_came(case):
    move, name = SAME_MAP[case]
    module = Rearranges(move)
    out = recorded(module)
    assert torch.equal(out["out"], out["map"])
    layers = survey(module)
    assert layers["out"].field == layers["map"].field
    assert (layers["out"].layout.name, layers["out"].layout.source) == (name, "traced")


REFUSED = {
    "tiles": (lambda x: x.repeat(1, 1, 2, 2), "not each cell of a map once"),
    "a part of the tokens": (lambda x: tokens(x)[:, :30], "a part of the map alone"),
    "every other token of a row": (lambda x: tokens(x)[:, 7:11], "a part of the map alone"),
    "an attention matrix": (lambda x: (tokens(x) @ x.flatten(2)).softmax(-1), "pairs of cells"),
    "attention of heads": (lambda x: (h := tokens(x).unflatten(2, (2, 3)).transpose(1, 2)) @ h.mT, "pairs of cells"),
    "values per head": (lambda x: tokens(x).unflatten(2, (2, 3)).transpose(1, 2), "more than one dimension of units"),
    "heads in the batch": (lambda x: x.flatten(2).reshape(-1, 3, 36), "not each cell of a map once"),
    "channels of channels": (lambda x: x.flatten(2) @ tokens(x), "no dimension of it is a direction"),
    "units between rows": (
        lambda x: x.permute(0, 2, 1, 3).reshape(len(x), 9, 4, 6),
        "none of its dimensions is that of the units",
    ),
    "tokens of four pieces": (
        lambda x: tokens(x).reshape(len(x), 72, 3),
        "not each cell of a map once",
    ),
    "shuffled": (lambda x: x[:, :, torch.randperm(6)], "cannot be traced"),
    "sorted": (lambda x: x.sort(3).values, "cannot be traced"),
    "concatenated with sorted units": (lambda x: torch.cat([x, x.sort(3).values], 1), "ends at sort"),
    "padded around": (lambda x: functional.pad(x, (1, 1, 1, 1), mode="circular"), "not each cell of a map once"),
    "sorted over the batch": (lambda x: x.sort(0).values, "ends at sort"),
    "added up at indices": (
        lambda x: torch.zeros_like(x).index_put((torch.arange(len(x))[:, None], torch.zeros(6).long()), x, True),
        "ends at index_put",
    ),
    "halves of a map added": (lambda x: x[:, :, :3] + x[:, :, 3:], "ends at add"),
    "halves of a map, each with its own grid, added": (
        lambda x: functional.max_pool2d(x[:, :, :3], 3, 1, 1) + functional.max_pool2d(x[:, :, 3:], 3, 1, 1),
        "ends at add",
    ),
    "mixed by fft": (lambda x: torch.fft.fft2(x).real, "cannot be traced"),
    "the mean over the batch": (lambda x: x.mean(0, keepdim=True).expand(len(x), -1, -1, -1), "cannot be traced"),
    "learned queries": (
        lambda x: functional.scaled_dot_product_attention(torch.zeros(len(x), 36, 6), tokens(x), tokens(x)),
        "no dimension of it is a direction",
    ),
    "a kernel made of the image": (
        lambda x: functional.conv2d(x, x[:1].mT.repeat(6, 1, 1, 1), padding=3),
        "cannot be traced",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_output_that_is_no_map_is_refused_with_the_reason(case):
    move, reason = REFUSED[case]
    module = Rearranges(move)
    layer = survey(module)["out"]
    assert layer.layout is layer.grid is layer.field is None
    assert reason in layer.reason
    assert "out" not in [one.name for one in list_layers(network_of(module))]
    with pytest.raises(LayerError, match=reason):
        resolve_layers(network_of(module), ["out"])


def global_queries(x):
    """Attention as in GC ViT: queries of a coarser map are the same for every window; results belong to the window."""
    keys, queries = windows(x), tokens(functional.avg_pool2d(x, 2)).repeat_interleave(4, 0)
    return functional.scaled_dot_product_attention(queries, keys, keys)


def windows_back(x, side=3):
    images = x.view(-1, 2, 2, side, side, x.shape[-1])
    return images.permute(0, 5, 1, 3, 2, 4).reshape(len(images), -1, 6, 6)


def test_queries_that_are_repeated_over_windows_do_not_give_the_windows_a_layout():
    within = survey(Rearranges(global_queries))["out"]
    assert within.layout is None
    assert "cannot be traced" in within.reason
    added = Rearranges(lambda x: x + windows_back(global_queries(x)))
    assert survey(added)["out"].field == survey(added)["map"].field


def test_an_output_that_is_traced_as_no_map_is_refused_even_if_a_layout_is_assumed():
    module = Rearranges(lambda x: (tokens(x) @ x.flatten(2)).softmax(-1))
    with pytest.raises(LayerError, match="pairs of cells"):
        resolve_layers(network_of(module), ["out"], Assumed(layout="tokens"))


def test_an_assumed_layout_is_used_unless_the_layer_was_traced():
    def leave(x):
        return torch.from_numpy(x.permute(0, 2, 3, 1).numpy() * 1)

    module = Rearranges(leave)
    network = network_of(module)
    layers = resolve_layers(network, ["map", "out"], Assumed(layout="NHWC", receptive_field="half-pixel"))
    assert [layer.layout.source for layer in layers] == ["traced", "assumed"]
    assert [(layer.field is None, layer.field_source) for layer in layers] == [(False, "traced"), (True, "assumed")]
    with ActivationRecorder(network, layers) as record:
        out = record(IMAGES)
    assert torch.equal(out["out"], out["map"])


# Each move keeps all values: whatever they are put together to, the map must come back.
MOVES = {
    "last": lambda x: x.permute(0, *range(2, x.ndim), 1),
    "first": lambda x: x.permute(0, x.ndim - 1, *range(1, x.ndim - 1)),
    "flip": lambda x: x.flip(-1),
    "roll": lambda x: x.roll(1, 1),
    "swap": lambda x: x.transpose(1, 2),
    "merge": lambda x: x.flatten(1, 2) if x.ndim > 3 else x,
    "cut": lambda x: x.unflatten(-1, (-1, 2)) if x.shape[-1] % 2 == 0 and x.ndim < 5 else x,
    "into the batch": lambda x: x.flatten(0, 1) if x.ndim > 3 else x,
    "class token": lambda x: torch.cat([torch.zeros_like(x[:, :1]), x], 1),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(MOVES)), max_size=6), st.sampled_from([(4, 6, 4), (6, 6, 6), (5, 4, 6)]))
def test_any_sequence_of_rearrangements_gives_the_map_back_or_is_refused(names, sizes):
    units, height, width = sizes

    def move(x):
        for name in names:
            x = MOVES[name](x)
        return x

    module = Rearranges(move, units)
    size = (8 * height, 8 * width)
    if survey(module, size)["out"].grid is not None:
        images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
        out, field = recorded(module, images), survey(module, size)["out"].field
        maps = functional.pad(out["map"], (1, 1, 1, 1))  # a class token may be what pads a map
        rows = [(field.vertical.center(cell) - 3.5) / 8 + 1 for cell in range(out["out"].shape[2])]
        columns = [(field.horizontal.center(cell) - 3.5) / 8 + 1 for cell in range(out["out"].shape[3])]
        if all(index == int(index) for index in rows + columns):  # not where odd and even columns are two units
            stated = maps[:, :, [int(row) for row in rows]][..., [int(column) for column in columns]]
            # Units may have another order, and another unit of zeros; cells may not.
            for unit in stated.unbind(1):
                assert any(torch.equal(unit, other) for other in out["out"].unbind(1))


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("convnext_tiny", 384, "stages.0.blocks.0.norm"),
        pytest.param("swin_tiny_patch4_window7_224", 384, "layers.0", marks=pytest.mark.slow),
    ],
)
def test_published_networks_with_as_many_units_as_rows_are_read_channels_last(name, size, layer):
    options = {"img_size": size} if "swin" in name else {}
    options |= {"depths": (2, 1, 1, 1)} if "swin" in name else {"depths": (1, 1, 1, 1)}
    module = timm.create_model(name, pretrained=False, **options)
    network = network_of(module, (size, size))
    (chosen,) = resolve_layers(network, [layer])
    assert (chosen.units, chosen.grid, chosen.layout.name) == (96, (96, 96), "NHWC")
    kept = {}
    handle = module.get_submodule(layer).register_forward_hook(lambda _m, _i, output: kept.update(output=output))
    images = torch.randn(1, 3, size, size)
    with ActivationRecorder(network, [chosen]) as record:
        maps = record(images)[layer]
    handle.remove()
    assert torch.equal(maps, kept["output"].permute(0, 3, 1, 2))


def test_a_class_token_and_its_head_are_image_level_units():
    module = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=64, depth=1)
    layers = survey(module, (64, 64))
    assert (layers["fc_norm"].units, layers["fc_norm"].grid, layers["fc_norm"].layout.name) == (192, None, "units")
    assert (layers["head"].units, layers["head"].grid) == (1000, None)
