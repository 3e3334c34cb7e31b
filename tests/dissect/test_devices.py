"""Which device a run takes, where it counts, and in which number format; accelerators are pretended to be there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import strategies
from netdissect.concepts import ConceptData, Size
from netdissect.config import DissectConfig, Execution, StatisticsConfig
from netdissect.dissect import devices, dissect, forward
from netdissect.dissect.devices import choose_device, counts_on_device, has_float64, number_format
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ActivationError, ConfigError
from netdissect.models import Layer, Network, Preprocessing, resolve_layers
from networks import COVERAGE, SIDE, build, images

Present = Any


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", images(), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Present:
    """Pretend that accelerators are there."""

    def pretend(*kinds: str) -> None:
        for module, kind in ((torch.cuda, "cuda"), (torch.backends.mps, "mps"), (torch.xpu, "xpu")):
            monkeypatch.setattr(module, "is_available", lambda kind=kind: kind in kinds)

    pretend()
    monkeypatch.setattr(devices, "torch_device", torch.device)
    return pretend


def network(dtype: torch.dtype = torch.float32) -> Network:
    module = nn.Sequential(nn.Conv2d(3, 4, 3)).to(dtype)
    return Network("net", module, Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [((), "cpu"), (("cuda",), "cuda"), (("mps",), "mps"), (("xpu",), "xpu"), (("xpu", "mps", "cuda"), "cuda")],
)
def test_auto_takes_the_first_accelerator_that_is_there(there: Present, kinds: tuple[str, ...], chosen: str) -> None:
    there(*kinds)
    assert choose_device("auto", network()) == chosen
    assert choose_device("cpu", network()) == "cpu"


def test_a_network_of_float64_takes_a_device_that_has_it(there: Present) -> None:
    there("mps")
    assert choose_device("auto", network(torch.float64)) == "cpu"
    there("mps", "cuda")
    assert choose_device("auto", network(torch.float64)) == "cuda"


def test_a_device_that_lacks_the_formats_of_a_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "torch_device", torch.device)
    with pytest.raises(ConfigError, match=r"cannot run on device 'mps': its weights are quantized or float64"):
        choose_device("mps", network(torch.float64))
    quantized = network()
    quantized.module.register_buffer("q", torch.ones(2).as_subclass(Quantized))
    with pytest.raises(ConfigError, match=r"cannot run on device 'cuda': its weights are quantized or float64"):
        choose_device("cuda", quantized)


class Quantized(torch.Tensor):
    """A tensor that says that it is quantized."""

    is_quantized = True


def test_a_module_on_an_accelerator_stays_there(there: Present, monkeypatch: pytest.MonkeyPatch) -> None:
    there("cuda")
    monkeypatch.setattr(Network, "device", torch.device("cuda", 1))
    assert choose_device("auto", network()) == "cuda:1"
    monkeypatch.setattr(Network, "device", torch.device("xpu", 0))
    assert choose_device("auto", network()) == "xpu:0"


def test_an_accelerator_that_does_not_work_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"device 'xpu' cannot be used here.*Expected one that is there.*or auto, which"
    ):
        choose_device("xpu", network())


@pytest.mark.parametrize(
    ("device", "engine", "on_device"),
    [("cpu", "auto", False), ("cpu", "tensor", True), ("cuda", "auto", True), ("cuda:1", "compiled", False),
     ("mps", "auto", False), ("mps", "compiled", False)],
)  # fmt: skip
def test_counting_runs_on_the_device_if_it_has_float64(device: str, engine: Any, on_device: bool) -> None:
    assert counts_on_device(DissectConfig(layers="0", device=device), engine) is on_device


def test_counting_on_a_device_without_float64_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'mps' has no float64, which the engine 'tensor' needs.*--engine auto"):
        counts_on_device(DissectConfig(layers="0", device="mps"), "tensor")


def test_an_intel_device_is_asked_whether_it_has_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", lambda *_sizes, dtype, **_: torch.zeros(1, dtype=dtype))
    assert has_float64(torch.device("xpu"))

    def refuse(*_sizes: int, **_: Any) -> None:
        raise RuntimeError("Required aspect fp64 is not supported on the device")

    monkeypatch.setattr(torch, "ones", refuse)
    assert not has_float64(torch.device("xpu"))


class OnDevice(torch.Tensor):
    """A tensor that NumPy cannot read before it was copied to the host, as on an accelerator."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError("can't convert device type tensor to numpy. Use Tensor.cpu() first.")
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.mark.parametrize("cache", ["dense", "sparse", "none"])
def test_where_only_the_forward_pass_runs_on_the_device_maps_are_copied_to_the_host(
    root: Path, monkeypatch: pytest.MonkeyPatch, cache: Any
) -> None:
    config = DissectConfig(
        layers="auto", batch_size=3, statistics=StatisticsConfig(bootstrap=5, permutations=5, extra_metrics=True)
    )
    execution = Execution(engine="compiled", activation_cache=cache)
    expected = dissect(build(), root, config=config, execution=execution)
    recorded = forward.recorded

    def on_device(*inputs: Any) -> Iterator[Any]:
        for batch, maps in recorded(*inputs):
            yield batch, {name: values.as_subclass(OnDevice) for name, values in maps.items()}

    monkeypatch.setattr(forward, "recorded", on_device)
    found = dissect(build(), root, config=config, execution=execution)
    for name, layer in expected.layers.items():
        assert layer.units.equals(found.layers[name].units)


def test_a_device_tells_of_nan_some_batches_later_with_image_and_unit(root: Path) -> None:
    data, net = ConceptData.open(root), network()
    layers = (Layer("conv", "Conv2d", 4, Size(2, 2), None), Layer("late", "Conv2d", 3, Size(1, 1), None))
    check = forward.FiniteCheck(
        DissectionInputs.of(net, data, layers, DissectConfig(layers="0", device="cuda"), Execution())
    )
    large = torch.full((2, 4, 2, 2), 3e38)  # whose sum is infinite
    broken = torch.zeros(2, 3, 1, 1)
    broken[1, 2], broken[1, 1] = torch.nan, -torch.inf

    for start, late in ((0, torch.zeros(2, 3, 1, 1)), (2, broken), (4, broken)):
        check.add({"conv": large, "late": late}, start)  # does not raise
    message = f"layer 'late' gives NaN or infinity, first in unit 1 on {data.rows[3].image}"
    with pytest.raises(ActivationError, match=re.escape(message)):
        check.refuse()


def test_the_plan_names_device_and_batch_size(root: Path, tmp_path: Path) -> None:
    dissect(build(), root, layers="fc", batch_size=3, out=tmp_path)
    assert "one forward pass on cpu in batches of 3 over 7 images" in (tmp_path / "log.jsonl").read_text()


def test_a_run_records_the_device_and_keeps_it_when_it_resumes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = dissect(build(), root, layers="fc", out=tmp_path / "run")
    assert (result.info.config.device, result.info.environment.device) == ("cpu", "cpu")
    before = (tmp_path / "run" / "run.json").read_bytes()
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    dissect(build(), root, layers="fc", out=tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    with pytest.raises(ConfigError, match="device 'xpu' cannot be used here"):
        dissect(build(), root, layers="fc", out=tmp_path / "other")


def settings() -> list[Any]:
    """How torch multiplies float32, as both of its interfaces tell."""
    backends: Any = torch.backends
    operations = (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul)
    words = [backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()]
    return [*(operation.fp32_precision for operation in operations), *words]


class Formats(nn.Module):
    """Notes how torch multiplies float32 while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.seen = nn.Conv2d(3, 2, 3), list[list[Any]]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Note the settings."""
        self.seen.append(settings())
        return self.conv(x)


@pytest.mark.parametrize("word", ["highest", "high", "medium"])
def test_float32_has_all_its_bits_and_the_settings_are_restored(word: str, root: Path) -> None:
    torch.set_float32_matmul_precision(word)
    before = settings()
    try:
        module = Formats()
        net = Network("net", module, Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))
        data = ConceptData.open(root)
        layers = resolve_layers(net, "conv")
        source = DissectionInputs.of(net, data, layers, DissectConfig(layers="conv", device="cpu"), Execution())
        with net.prepared(torch.device("cpu")):  # tries memory formats once
            pass
        module.seen.clear()
        assert len(list(forward.forward(source, range(0, 7, 4)))) == 2
        assert {tuple(seen[4:]) for seen in module.seen} == {(False, False, "highest")}
        assert "tf32" not in {precision for seen in module.seen for precision in seen[:4]}
        assert settings() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_an_inherited_tf32_is_overruled() -> None:
    everything: Any = torch.backends
    before = everything.fp32_precision
    everything.fp32_precision = "tf32"
    try:
        with number_format(torch.device("cpu"), DissectConfig(layers="conv")):
            assert {everything.cudnn.conv.fp32_precision, everything.cuda.matmul.fp32_precision} == {"ieee"}
    finally:
        everything.fp32_precision = before
