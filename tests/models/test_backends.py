"""Backends of the forward pass: each records what PyTorch records, up to rounding."""

import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from threading import Barrier, get_ident

import pytest
import torch
import torchvision
from torch import nn

from netdissect.concepts import Size
from netdissect.config import Assumed
from netdissect.errors import BackendError, MissingExtraError
from netdissect.models import ActivationRecorder, Network, Preprocessing, resolve_layers
from netdissect.models.backends import RUNTIMES, BackendSettings, graph_backend, onnx_export
from netdissect.models.backends.openvino import OpenVino
from netdissect.models.dictionaries.basis import LinearBasis

pytest.importorskip("onnx")
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


def skip_without(package):
    """Skip where a package is not installed; it is imported as the backend does it, not here."""
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.fixture(params=sorted(RUNTIMES))
def settings(request):
    skip_without(request.param)
    return BackendSettings(request.param, BATCH)


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


def assert_same(found, expected, rounding=ROUNDING):
    assert list(found) == list(expected)
    for name, maps in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], maps, rtol=0, atol=rounding * float(maps.abs().max()))


@pytest.mark.parametrize(
    ("make", "names"),
    [(_InPlace, ["one", "norm", "two", "act"]), (swin, ["features.0", "features.1"]), (vit, ["encoder.ln", "heads"])],
)
def test_every_runtime_records_all_layers_as_pytorch_does_in_batches_of_any_size(make, names, settings):
    torch.manual_seed(0)
    network, five = network_of(make()), torch.cat([IMAGES, -IMAGES[:2]])
    for batch, images in ((BATCH, IMAGES), (BATCH, IMAGES[:1]), (BATCH, five), (4, five)):
        found = record(network, names, replace(settings, batch_size=batch), images)
        assert_same(found, record(network, names, BackendSettings(), images))


def test_the_pieces_of_a_batch_run_at_the_same_time_and_stay_in_order(settings, monkeypatch):
    calls, both = [], Barrier(2, timeout=30)

    def open_graph(*_):
        def run(images):
            calls.append(get_ident())
            if len(calls) > 1:  # the first is alone: OpenVINO 2026.4 stops forever where two threads set it up
                both.wait()
            return (images[:, :1],)

        return run

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(graph_backend, "load_or_export", lambda *_: b"")
    monkeypatch.setattr(RUNTIMES[settings.name], "open", open_graph)
    images = torch.randn(8, 3, 32, 32)
    network = network_of(nn.Sequential(nn.Conv2d(3, 1, 1)))
    found = record(network, ["0"], replace(settings, batch_size=8), images)
    assert torch.equal(found["0"], images[:, :1])
    assert len(calls) == 1 + 4
    assert len(set(calls)) == 2


def test_openvino_computes_in_bfloat16_and_returns_float32():
    skip_without("openvino")
    if "BF16" not in OpenVino()._library.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    torch.manual_seed(0)
    network, names = network_of(vit()), ["encoder.layers", "encoder.ln"]
    found = record(network, names, BackendSettings("openvino", BATCH, "bfloat16"))
    expected = record(network, names, BackendSettings())
    assert_same(found, expected, rounding=8 * 2**-8)
    assert not any(torch.allclose(found[name], maps, rtol=0, atol=1e-4) for name, maps in expected.items())


def test_where_the_processor_has_no_bfloat16_openvino_is_refused_rather_than_computing_float32(monkeypatch):
    skip_without("openvino")
    openvino = OpenVino()._library
    monkeypatch.setattr(openvino.CompiledModel, "get_property", lambda *_: openvino.Type.f32)
    with pytest.raises(BackendError, match=r"does not compute bfloat16 on this processor.*--precision float32"):
        record(network_of(_InPlace()), ["one"], BackendSettings("openvino", BATCH, "bfloat16"))


def test_the_graph_is_float32_also_where_the_run_asks_for_bfloat16():
    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3)))
    with network.prepared():
        plain = onnx_export.export(network, {"0": network.module[0]}, IMAGES)
        with torch.autocast("cpu", torch.bfloat16):
            assert onnx_export.export(network, {"0": network.module[0]}, IMAGES) == plain


def test_openvino_is_imported_without_what_reports_its_use():
    skip_without("openvino")
    assert "openvino_telemetry" not in sys.modules
    OpenVino()
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert "openvino_telemetry" not in sys.modules


def test_a_virtual_layer_needs_its_source_in_the_graph_alone(settings):
    network = replace(
        network_of(_InPlace()), bases={"two/rotated": LinearBasis("two", torch.linalg.qr(torch.randn(4, 4)).Q)}
    )
    names = ["two/rotated", "norm"]
    assert_same(record(network, names, settings), record(network, names, BackendSettings()))


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
    graph_backend._OPENED.clear()
    with monkeypatch.context() as patch:
        patch.setattr(onnx_export, "export", lambda *_: pytest.fail("the graph is in the folder"))
        assert torch.equal(record(network, ["act"], settings)["act"], first["act"])
    graph_backend._OPENED.clear()
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


def test_weights_that_no_graph_has_are_refused_with_the_backends_that_can(settings):
    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3).bfloat16()))
    with pytest.raises(BackendError, match=r"is to run in weights of bfloat16.*eager and compile"):
        record(network, ["0"], settings)


def test_a_precision_that_onnxruntime_does_not_have_is_refused_with_the_backends_that_do():
    skip_without("onnxruntime")
    with pytest.raises(BackendError, match=r"computes float32 on a CPU.*is to run in bfloat16.*eager and compile"):
        record(network_of(nn.Sequential(nn.Conv2d(3, 4, 3))), ["0"], replace(ONNX, precision="bfloat16"))


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_a_graph_that_a_runtime_refuses_is_an_error_with_its_reason(name, monkeypatch):
    skip_without(name)
    monkeypatch.setattr(graph_backend, "load_or_export", lambda *_: b"no graph")
    with pytest.raises(
        BackendError, match=rf"cannot open the graph of network 'net': \w+: .*\w{{4}}.*--backend {name}"
    ):
        record(network_of(_InPlace()), ["one"], BackendSettings(name, BATCH))


def test_a_network_with_operations_unknown_to_onnx_is_refused_with_the_reason():
    class _Spectrum(nn.Module):
        def forward(self, x):
            return torch.linalg.svd(x).S[:, :, :, None].expand(-1, -1, -1, 4)

    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3), _Spectrum(), nn.Conv2d(4, 2, 1)))
    with pytest.raises(BackendError, match=r"'net' cannot be exported.*svd.*leave out --backend to run"):
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


@pytest.mark.parametrize("name", sorted(RUNTIMES))
def test_without_its_package_the_extra_of_a_runtime_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    extra = RUNTIMES[name].extra
    with pytest.raises(MissingExtraError, match=rf"pip install 'netdissect\[{extra}\]'"):
        record(network_of(_InPlace()), ["one"], BackendSettings(name, BATCH))


def test_pytorch_records_in_bfloat16_what_the_network_gives():
    torch.manual_seed(0)
    network = network_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)))
    for images in (IMAGES, IMAGES.contiguous(memory_format=torch.channels_last)):
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            layers = resolve_layers(network, ["3"], Assumed(layout="NCHW"))
            with network.prepared(), ActivationRecorder(network, layers) as recorder:
                found = [recorder(images)["3"] for _ in range(3)]
            expected = network.module(images).float()
        assert all(torch.equal(maps, expected) for maps in found)
