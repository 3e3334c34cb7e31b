"""Traced receptive fields against a probe that knows nothing of them: which pixels reach a cell at all."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from netdissect.concepts import Size
from netdissect.errors import NetworkError
from netdissect.models import Network, Preprocessing, ReceptiveFieldAxis, list_layers

SIZE = Size(84, 70)


class _Residual(nn.Module):
    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class _Branches(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(1, 1, k, stride, k // 2) for k in (1, 5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1).sum(1, keepdim=True)


class _Slices(nn.Module):
    def __init__(self, start: int, step: int) -> None:
        super().__init__()
        self.rows, self.columns = slice(start, None, step), slice(step, -1)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, self.rows, self.columns]


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def dense(kernel, stride, padding, dilation):
    return nn.Conv2d(1, 1, kernel, stride, padding, dilation)


convolutions = st.builds(dense, pairs(1, 4), pairs(1, 2), pairs(0, 2), pairs(1, 2))
pools = st.builds(
    lambda kind, kernel, stride, padding: kind(kernel, stride, padding),
    st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]),
    pairs(2, 3),
    pairs(1, 2),
    pairs(0, 1),
)
pads = st.builds(nn.ZeroPad2d, st.tuples(*[st.integers(0, 2)] * 4))
residuals = st.builds(
    lambda k: _Residual(nn.Conv2d(1, 1, k, padding=k // 2), nn.ReLU(True)), st.sampled_from([1, 3, 5])
)
branches = st.builds(_Branches, st.integers(1, 2))
slices = st.builds(_Slices, st.integers(0, 2), st.integers(1, 2))
stacks = st.lists(st.one_of(convolutions, pools, pads, residuals, branches, slices), min_size=1, max_size=5)


def reached(module: nn.Module, cell: tuple[int, int], axis: int) -> tuple[int, int]:
    """First and last row (column) whose poisoning with NaN poisons the cell."""
    images = torch.ones(SIZE[axis], 1, *SIZE, dtype=torch.float64)  # float64: plain algorithms, which keep NaN local
    for line in range(SIZE[axis]):
        images[line].select(1 + axis, line).fill_(torch.nan)
    with torch.no_grad():
        hit = module(images)[:, 0, cell[0], cell[1]].isnan().nonzero().flatten()
    return int(hit.min()), int(hit.max())


def inner(axis: ReceptiveFieldAxis, cell: int, length: int, margin: int) -> bool:
    start = axis.offset + cell * axis.step
    return margin <= start and start + axis.size <= length - margin


@settings(deadline=None, max_examples=80)
@given(layers=stacks)
def test_an_inner_cell_sees_exactly_the_pixels_of_its_traced_field(layers):
    module = nn.Sequential(*layers)
    try:
        last = list_layers(Network("net", module, Preprocessing(SIZE, (0.5,), (0.5,))))[-1]
    except NetworkError as error:
        assume("Kernel size can't be greater" not in str(error))  # strides left fewer cells than the last kernel takes
        raise
    assert last.field is not None
    axes = (last.field.vertical, last.field.horizontal)
    cell = (last.grid.height // 2, last.grid.width // 2)
    # Slices move the map inwards, so that padding behind them can lie within the image: stay away from it.
    assume(all(inner(axes[i], cell[i], SIZE[i], margin=6) for i in (0, 1)))
    for i, axis in enumerate(axes):
        start = axis.offset + cell[i] * axis.step
        assert reached(module.double(), cell, i) == (start, start + axis.size - 1)
