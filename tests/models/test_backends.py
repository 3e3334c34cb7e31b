"""Backends of the forward pass: each records what PyTorch records, up to rounding."""

import os
import sys
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from netdissect.concepts import Size
from netdissect.config import Assumed
from netdissect.errors import BackendError, MissingExtraError
from netdissect.models import ActivationRecorder, Network, Preprocessing, resolve_layers
from netdissect.models.backends import BackendSettings, onnx_export
from netdissect.models.backends import onnxruntime as backend_onnxruntime

pytest.importorskip("onnxruntime")
BATCH = 3
ONNX = BackendSettings("onnxruntime", BATCH)
IMAGES = torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ROUNDING = 1e-5
"""Of the largest magnitude of a layer: some hundred additions in another order, in float32, of precision 1.2e-7."""


class _InPlace(nn.Module):
    """Changes outputs in place, runs one module several times, and ends in code that no layer needs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4)
        self.act = nn.ReLU(inplace=True)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = self.act(self.norm(self.one(x))).mul_(2)
        return self.act(self.two(x)).add_(1).flatten(1).topk(3)[0]


def network_of(module, size=32):
    return Network("net", module.eval(), Preprocessing(Size(size, size), (0.5,) * 3, (0.5,) * 3))


def swin():
    return torchvision.models.SwinTransformer([4, 4], 6, [2], [1], [4, 4])


def vit():
    return torchvision.models.VisionTransformer(32, 8, 1, 2, 6, 12, num_classes=5)


def record(network, names, settings, images=IMAGES):
    layers = resolve_layers(network, names, Assumed(layout="NCHW"))
    with network.prepared(), ActivationRecorder(network, layers, backend=settings) as recorder:
        return recorder(images)


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, maps in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], maps, rtol=0, atol=ROUNDING * float(maps.abs().max()))


@pytest.mark.parametrize(
    ("make", "names"),
    [(_InPlace, ["one", "norm", "two", "act"]), (swin, ["features.0", "features.1"]), (vit, ["encoder.ln", "heads"])],
)
def test_onnxruntime_records_all_layers_as_pytorch_does_in_batches_of_any_size(make, names):
    torch.manual_seed(0)
    network = network_of(make())
    for images in (IMAGES, IMAGES[:1], torch.cat([IMAGES, -IMAGES[:2]])):
        assert_same(record(network, names, ONNX, images), record(network, names, BackendSettings(), images))


def test_a_virtual_layer_needs_its_source_in_the_graph_alone():
    network = replace(network_of(_InPlace()), bases={"two/rotated": ("two", torch.linalg.qr(torch.randn(4, 4)).Q)})
    names = ["two/rotated", "norm"]
    assert_same(record(network, names, ONNX), record(network, names, BackendSettings()))


def test_a_graph_ends_where_its_last_layer_does():
    network = network_of(_InPlace())
    modules = {"one": network.module.one}
    with network.prepared():
        content = onnx_export.export(network, modules, IMAGES)
    assert b"Conv" in content
    assert not any(name in content for name in (b"TopK", b"Relu", b"two.weight"))


def test_an_exported_graph_is_read_again_until_weights_layers_or_code_change(tmp_path, monkeypatch):
    settings = replace(ONNX, folder=tmp_path)
    network = network_of(_InPlace())
    first = record(network, ["act"], settings)
    (file,) = tmp_path.iterdir()
    backend_onnxruntime._SESSIONS.clear()
    with monkeypatch.context() as patch:
        patch.setattr(onnx_export, "export", lambda *_: pytest.fail("the graph is in the folder"))
        assert torch.equal(record(network, ["act"], settings)["act"], first["act"])
    backend_onnxruntime._SESSIONS.clear()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert torch.equal(record(network, ["act"], settings)["act"], first["act"])
    record(network, ["one"], settings)
    with torch.no_grad():
        network.module.one.weight.mul_(2)
    assert_same(record(network, ["act"], settings), record(network, ["act"], BackendSettings()))
    assert len(list(tmp_path.iterdir())) == 3


def test_the_least_recently_used_graphs_are_deleted(tmp_path, monkeypatch):
    old, new = tmp_path / "graph-1.onnx", tmp_path / "graph-2.onnx"
    for age, file in enumerate([new, old]):
        file.write_bytes(bytes(100))
        os.utime(file, (1000 - age, 1000 - age))
    monkeypatch.setattr(onnx_export, "GRAPHS", replace(onnx_export.GRAPHS, max_bytes=300))
    onnx_export._write(tmp_path / "graph-3.onnx", bytes(150))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph-2.onnx", "graph-3.onnx"]


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="not kept for the next run"):
        record(network_of(_InPlace()), ["one"], replace(ONNX, folder=tmp_path / "file"))


@pytest.mark.parametrize(
    ("module", "settings", "reason"),
    [
        (nn.Conv2d(3, 4, 3).bfloat16(), ONNX, "is to run in bfloat16"),
        (nn.Conv2d(3, 4, 3), replace(ONNX, precision="bfloat16"), "is to run in bfloat16"),
    ],
)
def test_what_onnxruntime_cannot_compute_is_refused_with_the_backends_that_can(module, settings, reason):
    with pytest.raises(BackendError, match=rf"{reason}.*eager and compile"):
        record(network_of(nn.Sequential(module)), ["0"], settings)


def test_a_network_with_operations_unknown_to_onnx_is_refused_with_the_reason():
    class _Spectrum(nn.Module):
        def forward(self, x):
            return torch.linalg.svd(x).S[:, :, :, None].expand(-1, -1, -1, 4)

    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3), _Spectrum(), nn.Conv2d(4, 2, 1)))
    with pytest.raises(BackendError, match=r"'net' cannot be exported.*svd.*leave out --backend onnxruntime"):
        record(network, ["0", "2"], ONNX)


def test_a_layer_that_the_graph_lacks_is_named_with_the_module_around_it():
    class _Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Sequential(nn.Conv2d(3, 4, 3))

        def forward(self, x):
            return x.mean((2, 3)) if torch.jit.is_tracing() else self.conv(x)

    with pytest.raises(BackendError, match=r"Layer 'conv\.0' is not in the exported graph.*is 'conv'"):
        record(network_of(_Sometimes()), ["conv.0"], ONNX)


def test_without_onnxruntime_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'netdissect\[onnx\]'"):
        record(network_of(_InPlace()), ["one"], ONNX)
