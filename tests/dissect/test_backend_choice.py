"""The backend of a run: checked against PyTorch, replaced by it where it fails, and kept once it is chosen."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from netdissect import dissect, dissect_shard, merge_shards
from netdissect.config import BackendName, DissectConfig, Execution
from netdissect.dissect.choices import backend_choice
from netdissect.dissect.choices.timed_passes import TimedPasses
from netdissect.dissect.forward import DissectionInputs, backend_settings
from netdissect.dissect.run_dissection import open_inputs
from netdissect.errors import ConfigError
from netdissect.models import Network, Preprocessing
from netdissect.models.backends import RUNTIMES, library_version
from netdissect.result import load_result
from netdissect.result.run_config import read_config
from networks import SIDE, build

pytest.importorskip("onnxruntime")
if find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)
OPTIONS: dict[str, Any] = {"layers": ["deep_relu", "fc"], "bootstrap": 0, "permutations": 0, "batch_size": 3}


@pytest.mark.parametrize("backend", sorted(RUNTIMES))
def test_a_run_by_another_library_records_it_and_how_far_it_is_from_pytorch(
    broden: Path, tmp_path: Path, backend: BackendName
) -> None:
    result = dissect(build(), broden, backend=backend, out=tmp_path / "run", **OPTIONS)
    assert result.info.config.backend == backend
    assert result.info.environment.backend == library_version(backend)
    assert result.info.backend_check is not None
    assert result.info.backend_check.difference < 1e-5
    assert result.info.backend_check.reason is None
    eager = dissect(build(), broden, **OPTIONS)
    assert eager.info.backend_check is None
    assert eager.info.environment.backend == library_version("eager")
    for name, layer in eager.layers.items():
        found, expected = (run.thresholds["threshold"].to_torch() for run in (result.layers[name], layer))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert "checked backend" in log


def test_where_a_backend_cannot_run_a_network_pytorch_does_and_the_run_says_why(broden: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="PyTorch runs the network in place of the backend onnxruntime.*bfloat16"):
        result = dissect(build(), broden, backend="onnxruntime", precision="bfloat16", out=tmp_path / "run", **OPTIONS)
    assert result.info.config.backend == read_config(tmp_path / "run").config.backend == "eager"
    check = json.loads((tmp_path / "run" / "run.json").read_text())["run"]["backend_check"]
    assert "bfloat16" in check["reason"]
    assert 1e-5 < check["difference"] < 0.1


def test_a_graph_that_gives_other_activations_is_replaced_by_pytorch(broden: Path) -> None:
    class _Traced(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * (1.01 if torch.jit.is_tracing() else 1)

    network = Network("net", nn.Sequential(_Traced(3, 4, 3)), Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))
    with pytest.warns(UserWarning, match=r"differ from those of PyTorch in float32 by 0\.0099.*at most 0\.001"):
        source = open_inputs(network, broden, DissectConfig(layers="0", backend="onnxruntime"), Execution())
    assert source.config.backend == "eager"


@pytest.mark.parametrize(("backend", "images"), [("onnxruntime", 2), ("auto", 6)])
def test_a_backend_that_was_asked_for_is_checked_on_a_few_images(
    broden: Path, monkeypatch: pytest.MonkeyPatch, backend: BackendName, images: int
) -> None:
    batches: list[int] = []

    def passes(source: Any, pixels: Any, repeats: int = 0) -> TimedPasses:
        batches.append(len(pixels))
        return TimedPasses(1.0, {layer.name: torch.ones(len(pixels), 4, 2, 2) for layer in source.layers})

    monkeypatch.setattr(backend_choice, "CHECKED_IMAGES", 2)
    monkeypatch.setattr(backend_choice, "timed_passes", passes)
    open_inputs(build(), broden, DissectConfig(layers="fc", backend=backend, batch_size=6), Execution())
    assert set(batches) == {images}


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Images per second of each backend, in place of measured ones; activations differ by a tenth below zero."""
    given = {"eager": 100.0, "onnxruntime": 200.0, "openvino": 150.0}

    def passes(source: Any, pixels: Any, repeats: int = 0) -> TimedPasses:
        rate = given[source.config.backend]
        maps = torch.ones(len(pixels), 4, 2, 2) * (0.9 if rate < 0 else 1)
        return TimedPasses(abs(rate), {layer.name: maps for layer in source.layers})

    monkeypatch.setattr(backend_choice, "timed_passes", passes)
    return given


@pytest.mark.parametrize(
    ("rate", "chosen"),
    [(104.0, "eager"), (106.0, "onnxruntime"), (-200.0, "eager")],  # below 0: other activations
)
def test_auto_takes_what_is_5_percent_faster_and_agrees(
    broden: Path, rates: dict[str, float], rate: float, chosen: str
) -> None:
    rates |= {"onnxruntime": rate, "openvino": 50.0}
    source = open_inputs(build(), broden, DissectConfig(layers="fc", backend="auto"), Execution())
    assert source.config.backend == chosen
    assert source.backend_check is not None
    assert source.backend_check.images_per_second["eager"] == 100.0
    assert ("onnxruntime" in source.backend_check.images_per_second) == (rate > 0)


@pytest.mark.parametrize(("rate", "tried"), [(0.01, True), (100.0, False)])
def test_auto_tries_to_compile_only_where_pytorch_takes_minutes(
    broden: Path, rates: dict[str, float], rate: float, tried: bool
) -> None:
    rates |= {"eager": rate, "onnxruntime": rate, "openvino": rate, "compile": 2 * rate}
    source = open_inputs(build(), broden, DissectConfig(layers="fc", backend="auto"), Execution())
    assert (source.config.backend == "compile") == tried


def test_auto_times_in_bfloat16_what_computes_it(broden: Path, rates: dict[str, float]) -> None:
    config = DissectConfig(layers="fc", backend="auto", precision="bfloat16")
    source = open_inputs(build(), broden, config, Execution())
    assert source.config.backend == "openvino"
    assert source.backend_check is not None
    assert source.backend_check.images_per_second == {"eager": 100.0, "openvino": 150.0}


def said(source: DissectionInputs) -> str:
    return backend_choice.backend_text(source.config.backend, source.config.precision, source.backend_check)


def test_auto_names_what_it_did_not_try_because_it_is_not_installed(
    broden: Path, rates: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    config = DissectConfig(layers="fc", backend="auto")
    source = open_inputs(build(), broden, config, Execution())
    assert source.backend_check is not None
    assert source.backend_check.not_installed == ("openvino",)
    assert "(openvino is not installed: pip install 'netdissect[openvino]')" in said(source)
    monkeypatch.setitem(sys.modules, "onnx", None)
    source = open_inputs(build(), broden, config, Execution())
    text = "eager (onnxruntime and openvino are not installed: pip install 'netdissect[onnx,openvino]')"
    assert said(source) == text


class StoppedError(Exception):
    """Ends a run in its middle."""


def test_an_interrupted_run_and_shards_keep_the_backend_that_was_chosen(
    broden: Path, tmp_path: Path, rates: dict[str, float]
) -> None:
    def stop(stage: str, done: int, _total: int | None) -> None:
        if stage == "counting" and done >= 3:
            raise StoppedError

    options: Any = OPTIONS | {"backend": "auto", "out": tmp_path / "run", "checkpoint_seconds": 0.0}
    with pytest.raises(StoppedError, match=r"^$"):
        dissect(build(), broden, progress=stop, **options)
    for shard in ("1/2", "2/2"):
        dissect_shard(build(), broden, shard=shard, **options | {"out": tmp_path / "shards"})
        rates["eager"] = 1000.0  # would be chosen now
    merge_shards(tmp_path / "shards")
    for out in (tmp_path / "run", tmp_path / "shards"):
        assert read_config(out).config.backend == "onnxruntime"
    assert dissect(build(), broden, **options).info.config.backend == "onnxruntime"
    assert load_result(tmp_path / "run").info.environment.backend == library_version("onnxruntime")


def test_a_backend_that_no_run_has_chosen_cannot_run(broden: Path) -> None:
    with pytest.raises(ConfigError, match="the backend 'auto' is chosen when a run begins"):
        backend_settings(DissectConfig(layers="0", backend="auto"), Execution())
