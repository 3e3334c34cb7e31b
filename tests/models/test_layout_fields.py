"""Receptive fields of rearranged, mixed and resized maps, against operations of torch or values derived by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from traced_modules import Function, Rearranges, recorded, survey, tokens


def by_hand(x):
    """Depth to space: (B, 4 C, h, w) -> (B, C, 2 h, 2 w)."""
    b, c, h, w = x.shape
    x = x.reshape(b, c // 4, 2, 2, h, w)
    return x.permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w)


def patch_expand(x):
    """Swin-Unet's: tokens of (p1 p2 c) become tokens of four times as many cells."""
    b, c, h, w = x.shape
    x = x.reshape(b, c // 4, 2, 2, h, w).permute(0, 4, 5, 2, 3, 1).reshape(b, h, w, c)
    return x.view(b, h, w, 2, 2, c // 4).permute(0, 1, 3, 2, 4, 5).reshape(b, 4 * h * w, c // 4)


FINER = {
    "depth to space by hand": (by_hand, lambda x: functional.pixel_shuffle(x, 2)),
    "PixelShuffle": (lambda x: functional.pixel_shuffle(x, 2), lambda x: functional.pixel_shuffle(x, 2)),
    "patch expanding": (patch_expand, lambda x: functional.pixel_shuffle(x, 2)),
    "repeat_interleave": (
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3),
        lambda x: functional.interpolate(x, scale_factor=2),
    ),
    "expand": (
        lambda x: x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).reshape(len(x), 8, 12, 12),
        lambda x: functional.interpolate(x, scale_factor=2),
    ),
    "stack": (
        lambda x: torch.stack([y := torch.stack([x, x], 4).flatten(3), y], 3).flatten(2, 3),
        lambda x: functional.interpolate(x, scale_factor=2),
    ),
    "interpolate": (
        lambda x: functional.interpolate(x, scale_factor=2),
        lambda x: functional.interpolate(x, scale_factor=2),
    ),
    "an index": (
        lambda x: x[:, :, torch.arange(12) // 2][:, :, :, torch.arange(12) // 2],
        lambda x: functional.interpolate(x, scale_factor=2),
    ),
}


@pytest.mark.parametrize("case", FINER)
def test_cells_that_are_cut_finer_by_hand_have_the_step_of_the_finer_grid(case):
    move, plain = FINER[case]
    module = Rearranges(move, units=8)
    out = recorded(module)
    assert torch.equal(out["out"], plain(out["map"]))
    axis = survey(module)["out"].field.vertical
    # Cells of 8 pixels from -0.5 on, halved: centers at 3.5 -+ 2.
    assert (axis.center(0), axis.step) == (1.5, 4)


def kernels_of_images(x):
    """CondConv's: each image has a kernel of its own, here its mean, and images lie side by side as units."""
    kernels = x.mean((2, 3)).view(len(x), 1, 6, 1, 1).expand(-1, 4, -1, 3, 3)
    out = functional.conv2d(x.reshape(1, -1, 6, 6), kernels.reshape(-1, 6, 3, 3), padding=1, groups=len(x))
    return out.view(len(x), 4, 6, 6)


def even_and_odd(x):
    """Half a Haar transform: sums of neighboring rows, then of neighboring columns."""
    rows = x[:, :, ::2] + x[:, :, 1::2]
    return rows[..., ::2] + rows[..., 1::2]


BOTH_WAYS = nn.GRU(6, 3, bidirectional=True)


# Hand-written operations, and operations of torch with the same cells.
ALIKE = {
    "a kernel for each image": (kernels_of_images, lambda x: functional.max_pool2d(x, 3, 1, 1)),
    "even and odd cells added": (even_and_odd, lambda x: functional.avg_pool2d(x, 2)),
    "differences of neighbors": (lambda x: x[:, :, 1:] - x[:, :, :-1], lambda x: functional.avg_pool2d(x, (2, 1), 1)),
    "a circular padding": (
        lambda x: functional.avg_pool2d(functional.pad(x, (2, 2, 1, 1), mode="circular"), (3, 5), (1, 2)),
        lambda x: functional.avg_pool2d(functional.pad(x, (2, 2, 1, 1)), (3, 5), (1, 2)),
    ),
    "the best units of each cell": (lambda x: x.topk(4, 1).values, lambda x: x[:, :4] * 1),
    "the largest so far": (lambda x: x.cummax(3).values, lambda x: x.cumsum(3)),
    "fake quantization": (lambda x: torch.fake_quantize_per_tensor_affine(x, 0.01, 0, 0, 255), lambda x: x * 1),
    "a mean that was enlarged": (
        lambda x: functional.interpolate(x.mean((2, 3), keepdim=True), (6, 6)),
        lambda x: functional.interpolate(functional.adaptive_avg_pool2d(x, 1), (6, 6)),
    ),
    "a recurrent layer in both directions": (
        lambda x: BOTH_WAYS(x.flatten(2).permute(2, 0, 1))[0],
        lambda x: x.flatten(2).permute(2, 0, 1),
    ),
}


@pytest.mark.parametrize("case", ALIKE)
def test_a_hand_written_operation_has_the_fields_of_the_builtin_one(case):
    mine, of_torch = (survey(Rearranges(move))["out"] for move in ALIKE[case])
    assert mine.field == of_torch.field
    assert (mine.grid, mine.layout.name) == (of_torch.grid, of_torch.layout.name)


# What becomes of 32 x 48 pixels: layout, units, and the vertical and the horizontal axis, derived by hand.
MIXED = {
    "a linear layer on unfolded patches": (
        lambda x, a: a(functional.unfold(x, 4, stride=4).mT),
        [nn.Linear(48, 5)],
        ("tokens", 5, (0, 4, 4)),
    ),
    "a linear layer on overlapping patches": (
        lambda x, a: a(functional.unfold(x, 3, padding=1, stride=2).mT),
        [nn.Linear(27, 5)],
        ("tokens", 5, (-1, 3, 2)),
    ),
    "patches cut by Tensor.unfold": (
        lambda x, a: a(x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(3)),
        [nn.Linear(48, 5)],
        ("NHWC", 5, (0, 4, 4)),
    ),
    # Each pixel comes from the patch of 4 around it: the field of the patch, at the step of pixels.
    "patches folded back": (
        lambda x, a: functional.fold(a(functional.unfold(x, 4, stride=4).mT).mT, (32, 48), 4, stride=4),
        [nn.Linear(48, 48)],
        ("NCHW", 3, (-1.5, 4, 1)),
    ),
    "space to depth by hand": (
        lambda x: x.view(len(x), 3, 16, 2, 24, 2).permute(0, 1, 3, 5, 2, 4).reshape(len(x), 12, 16, 24),
        [],
        ("NCHW", 12, (0, 2, 2)),
    ),
    "a convolution of a map on its side": (
        lambda x, a: a(x.mT),
        [nn.Conv2d(3, 4, 3, 2, 1)],
        ("another order", 4, (-1, 3, 2)),
    ),
    "max unpooling": (
        lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 2, return_indices=True), 2),
        [],
        ("NCHW", 3, (-0.5, 2, 1)),
    ),
    "gates along each direction": (
        lambda x: x * x.mean(3, keepdim=True).sigmoid() * x.mean(2, keepdim=True).sigmoid(),
        [],
        ("NCHW", 3, (0, 1, 1)),
    ),
    "a convolution along tokens": (
        lambda x, a, b: b(a(x).flatten(2)),
        [nn.Conv2d(3, 4, 8, 8), nn.Conv1d(4, 4, 3, padding=1)],
        ("tokens, units first", 4, (0, 8, 8)),
    ),
    "a recurrent layer along rows": (
        lambda x, a: a(x.permute(0, 2, 3, 1).flatten(0, 1))[0].unflatten(0, (-1, 32)),
        [nn.LSTM(3, 2, batch_first=True, bidirectional=True)],
        ("NHWC", 4, (0, 1, 1)),
    ),
    "rotations by complex numbers": (
        lambda x, a: torch.view_as_real(
            torch.view_as_complex(a(x).permute(0, 2, 3, 1).contiguous().unflatten(3, (-1, 2)))
        ).flatten(3),
        [nn.Conv2d(3, 4, 4, 4)],
        ("NHWC", 4, (0, 4, 4)),
    ),
    "attention by einsum": (
        lambda x, a: torch.einsum("bij,bjc->bic", torch.einsum("bic,bjc->bij", t := tokens(a(x)), t).softmax(-1), t),
        [nn.Conv2d(3, 4, 8, 8)],
        ("tokens", 4, (0, 8, 8)),
    ),
}


@pytest.mark.parametrize("case", MIXED)
def test_operations_that_mix_cells_of_a_map_that_is_not_square_have_the_field_derived_by_hand(case):
    function, layers, (name, units, axis) = MIXED[case]
    module = Function(function, *layers)
    layer = survey(module, (32, 48))["out"]
    assert (layer.layout.name, layer.units) == (name, units)
    for found, pixels, cells in zip((layer.field.vertical, layer.field.horizontal), (32, 48), layer.grid, strict=True):
        assert (found.offset, found.size, found.step) == axis
        assert cells == pixels // axis[2]


def centers(module: nn.Module, size: int) -> list[float]:
    """Return the center of each output row of a module that keeps straight lines: its output for row indices."""
    ramp = torch.arange(float(size)).view(1, 1, size, 1).expand(1, 3, size, 8).contiguous()
    with torch.no_grad():
        return module(ramp)[0, 0, :, 0].tolist()


def enlarge(**options):
    return lambda x: functional.interpolate(x, **options)


HALF = {"mode": "bilinear", "align_corners": False}


RESIZED = [
    *[(size, enlarge(scale_factor=factor, **HALF)) for size in (13, 15, 29) for factor in (0.25, 0.5, 1.5, 2.0)],
    *[(size, enlarge(scale_factor=0.5, recompute_scale_factor=True, **HALF)) for size in (15, 16)],
    *[(size, enlarge(size=(new, 8), **HALF)) for size, new in ((16, 12), (12, 16), (15, 7))],
    *[(15, enlarge(size=(new, 8), mode="bilinear", align_corners=True)) for new in (7, 29)],
    *[(15, enlarge(size=(new, 8), mode="bicubic", align_corners=False)) for new in (30, 45)],
    *[(32, enlarge(size=(new, 8), antialias=True, **HALF)) for new in (8, 13, 48)],
    *[
        (size, enlarge(scale_factor=factor, mode=mode))
        for mode in ("nearest", "nearest-exact")
        for size, factor in ((16, 0.25), (15, 0.5), (8, 2), (8, 3), (16, 0.5), (24, 0.75), (24, 2 / 3))
    ],
    *[
        (size, lambda x, new=new: functional.adaptive_avg_pool2d(x, (new, 8)))
        for size, new in ((32, 5), (30, 7), (9, 6))
    ],
    (16, lambda x: functional.avg_pool2d(x, (3, 1), (2, 1), (0, 0))),
]


@pytest.mark.parametrize("number", range(len(RESIZED)))
def test_centers_of_resized_cells_are_where_the_operation_takes_its_values(number):
    size, function = RESIZED[number]
    module = Function(function)
    true = centers(module, size)
    axis = survey(module, (size, 8))["out"].field.vertical
    # At the border values are clamped; picking whole cells or uneven windows is right on the average.
    off = [axis.center(cell) - row for cell, row in enumerate(true) if 1 < row < size - 2]
    assert math.fsum(off) / len(off) == pytest.approx(0, abs=0.06)
    assert max(map(abs, off)) <= 0.51
