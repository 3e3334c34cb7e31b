"""What the eager backend does without from the third pass on changes no number, and no module."""

import pytest
import torch
from torch import nn

from netdissect.concepts import Size
from netdissect.models import ActivationRecorder, Network, Preprocessing, resolve_layers
from netdissect.models.backends.shortcuts import Shortcuts, shortened, zero_paddings

IMAGES = torch.randn(3, 3, 10, 10, generator=torch.Generator().manual_seed(0))
PASSES = 4


class _Block(nn.Module):
    """Convolution, normalization, activation; `reader` is given what lies between the last two, and what comes out."""

    def __init__(self, reader=lambda _before, after: after) -> None:
        super().__init__()
        self.conv, self.norm, self.act, self.out = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Identity()
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.running_mean)
        self.reader, self.act_of_table = reader, nn.ReLU6()
        self.table = nn.Parameter(torch.randn(4, 1, 1))

    def forward(self, x):
        before = self.norm(self.conv(x))
        return self.out(self.reader(before, self.act(before)) + self.act_of_table(self.table))


def expected_of(block: _Block, images: torch.Tensor, reader) -> torch.Tensor:
    """The same by functions, each of which writes to new memory."""
    norm = block.norm
    maps = torch.conv2d(images, block.conv.weight, block.conv.bias)
    before = torch.batch_norm(
        maps, norm.weight, norm.bias, norm.running_mean, norm.running_var, False, 0, norm.eps, False
    )
    return reader(before, before.clamp(0, 6)) + block.table.clamp(0, 6)


KEPT: list[torch.Tensor] = []


def _is_read(before, after):
    return after + before


def _is_read_as_a_view(before, after):
    return after + before.flatten(1).view(before.shape)


def _is_kept(before, after):
    KEPT.append(before)
    return after


def _is_read_by_numpy(before, after):
    return after + torch.from_numpy(before.numpy() * 1)


@pytest.mark.parametrize("reader", [_is_read, _is_read_as_a_view, _is_kept, _is_read_by_numpy])
def test_an_input_that_is_needed_later_is_not_overwritten(reader):
    block = _Block(reader)
    network = Network("net", block, Preprocessing(Size(10, 10), (0.5,) * 3, (0.5,) * 3))
    table = block.table.clone()
    layers = resolve_layers(network, ["out"])
    with network.prepared(), ActivationRecorder(network, layers) as record, torch.no_grad():
        KEPT.clear()
        found = [record(IMAGES)["out"] for _ in range(PASSES)]
        expected = expected_of(block, IMAGES, reader)
    assert all(torch.equal(maps, KEPT[-1]) for maps in KEPT)
    assert all(torch.equal(maps, expected) for maps in found)
    assert torch.equal(block.table, table)


def test_an_input_that_nothing_needs_is_overwritten_until_the_recorder_is_closed():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3))
    shared: dict[str, list[bool]] = {name: [] for name, _ in module.named_children()}
    for name, part in module.named_children():
        part.register_forward_hook(
            lambda _part, inputs, output, name=name: shared[name].append(inputs[0].data_ptr() == output.data_ptr())
        )
    network = Network("net", module, Preprocessing(Size(10, 10), (0.5,) * 3, (0.5,) * 3))
    layers = resolve_layers(network, ["4"])
    with network.prepared(), ActivationRecorder(network, layers) as record:
        for made in shared.values():
            made.clear()
        for _ in range(3):
            record(IMAGES)
    with torch.no_grad():
        module.eval()(IMAGES)
    # In the watched pass, in the second and in one to compare with it, in the third, and outside.
    once = [False, False, True, True, False]
    assert shared == {"0": [False] * 5, "1": once, "2": once, "3": [True] * 5, "4": [False] * 5}


def test_a_recorder_takes_over_what_an_earlier_one_found_of_batches_as_large_and_the_same_hooks():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 4, 3))
    network = Network("net", module, Preprocessing(Size(10, 10), (0.5,) * 3, (0.5,) * 3))
    overwritten: list[bool] = []
    kept: list[torch.Tensor] = []

    def recorded(images: torch.Tensor, passes: int, layer: str = "3") -> list[bool]:
        layers = resolve_layers(network, [layer])
        overwritten.clear()
        with ActivationRecorder(network, layers) as record:
            found = [record(images)[layer] for _ in range(passes)]
        assert all(torch.equal(maps, found[0]) for maps in found)
        return list(overwritten)

    module[2].register_forward_hook(
        lambda _part, inputs, output: overwritten.append(inputs[0].data_ptr() == output.data_ptr())
    )
    with network.prepared():
        assert recorded(IMAGES[:2], 2) == [False, False, True]
        assert recorded(IMAGES[:2], 1) == recorded(IMAGES[:1], 1) == [True]
        assert recorded(IMAGES, 1) == [False]  # a network may treat a larger batch otherwise
        assert recorded(IMAGES[:2], 1, "1") == [False]
        handle = module[1].register_forward_hook(lambda _part, _inputs, output: kept.append(output))
        assert recorded(IMAGES[:2], 3) == [False] * 4  # two of them in the pass that is run both ways
        handle.remove()
        assert recorded(IMAGES[:2], 1) == [True]
    assert recorded(IMAGES[:2], 1) == recorded(IMAGES[:2], 1) == [False]
    with network.prepared():
        assert recorded(IMAGES[:2], 1) == [False]


@pytest.mark.parametrize("padding", [(0, 1, 2, 3), (1, 1, 1, 1), (2, 0, 0, 0), (-1, 2, 1, -2)])
@pytest.mark.parametrize(
    "images", [IMAGES, IMAGES.contiguous(memory_format=torch.channels_last), IMAGES[:, :1], IMAGES[0]]
)
def test_zero_padding_gives_the_numbers_and_the_memory_format_of_pytorch(padding, images):
    padded = nn.ZeroPad2d(padding)
    expected = padded(images)
    with shortened(Shortcuts(zero_paddings(padded))):
        found = padded(images)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
    left, _right, top, _bottom = padding
    assert expected[..., max(top, 0), max(left, 0)].equal(images[..., max(-top, 0), max(-left, 0)])


class _Padded(nn.Module):
    """Convolution, activation, padding, convolution, activation; `reader` is given what lies around the padding."""

    def __init__(self, activation: nn.Module, reader=lambda _before, after: after) -> None:
        super().__init__()
        self.conv, self.act, self.pad = nn.Conv2d(3, 4, 3), activation, nn.ZeroPad2d((0, 1, 2, 1))
        self.next, self.reader = nn.Conv2d(4, 4, 3), reader

    def forward(self, x):
        before = self.act(self.conv(x))
        return self.act(self.next(self.reader(before, self.pad(before))))


def _twice_read(before, after):
    return after + before.mean()


def shortcuts_of(block: nn.Module, layer: str = "1") -> tuple[list[torch.Tensor], Shortcuts]:
    """Record some passes, and return the outputs and what the last ones do without."""
    network = Network("net", nn.Sequential(block, nn.Identity()), Preprocessing(Size(10, 10), (0.5,) * 3, (0.5,) * 3))
    images = IMAGES.contiguous(memory_format=torch.channels_last)
    with network.prepared(), ActivationRecorder(network, resolve_layers(network, [layer])) as record:
        outputs = [record(images)[layer] for _ in range(PASSES)]
        shortcuts = record._backend._shortened
    return outputs, shortcuts


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.1, 0.2)])
def test_a_padding_computes_the_activation_that_only_it_reads(activation):
    block = _Padded(activation).to(memory_format=torch.channels_last)
    outputs, shortcuts = shortcuts_of(block)
    assert {padding: tuple(run) for padding, run in shortcuts.padded.items()} == {block.pad: (activation, 0)}
    assert all(torch.equal(maps, outputs[0]) for maps in outputs)


@pytest.mark.parametrize("activation", [nn.ReLU6(inplace=True), nn.SiLU()])
def test_a_padding_computes_no_activation_that_works_in_place_or_is_no_clamp(activation):
    outputs, shortcuts = shortcuts_of(_Padded(activation))
    assert not shortcuts.padded
    assert all(torch.equal(maps, outputs[0]) for maps in outputs)


def test_a_padding_computes_no_activation_that_something_else_reads_too():
    KEPT.clear()
    twice = _Padded(nn.ReLU6())
    twice.reader = lambda _before, after: twice.pad(after)
    for block in (_Padded(nn.ReLU6(), _twice_read), _Padded(nn.ReLU6(), _is_kept), twice):
        outputs, shortcuts = shortcuts_of(block)
        assert not shortcuts.padded
        assert all(torch.equal(maps, outputs[0]) for maps in outputs)


def test_a_padding_computes_no_activation_that_is_recorded():
    outputs, shortcuts = shortcuts_of(_Padded(nn.ReLU6()), "0.act")
    assert not shortcuts.padded
    assert all(torch.equal(maps, outputs[0]) for maps in outputs)
