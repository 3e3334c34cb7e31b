"""The backend of a run: checked against PyTorch, replaced by it where it fails, and kept once it is chosen."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from netdissect import dissect, dissect_shard, merge_shards
from netdissect.config import DissectConfig, Execution
from netdissect.dissect.choices import backend_choice
from netdissect.dissect.choices.timed_passes import TimedPasses
from netdissect.dissect.forward import backend_settings
from netdissect.dissect.run_dissection import open_inputs
from netdissect.errors import ConfigError
from netdissect.models import Network, Preprocessing
from netdissect.models.backends import library_version
from netdissect.result import load_result
from netdissect.result.run_config import read_config
from networks import SIDE, build

pytest.importorskip("onnxruntime")
OPTIONS: dict[str, Any] = {"layers": ["deep_relu", "fc"], "bootstrap": 0, "permutations": 0, "batch_size": 3}


def test_a_run_by_onnxruntime_records_it_and_how_far_it_is_from_pytorch(broden: Path, tmp_path: Path) -> None:
    result = dissect(build(), broden, backend="onnxruntime", out=tmp_path / "run", **OPTIONS)
    assert result.info.config.backend == "onnxruntime"
    assert result.info.environment.backend == library_version("onnxruntime")
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


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Images per second of each backend, in place of measured ones; activations differ by a tenth below zero."""
    given = {"eager": 100.0, "onnxruntime": 200.0}

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
    rates["onnxruntime"] = rate
    source = open_inputs(build(), broden, DissectConfig(layers="fc", backend="auto"), Execution())
    assert source.config.backend == chosen
    assert source.backend_check is not None
    assert source.backend_check.images_per_second["eager"] == 100.0
    assert ("onnxruntime" in source.backend_check.images_per_second) == (rate > 0)


@pytest.mark.parametrize(("rate", "tried"), [(0.01, True), (100.0, False)])
def test_auto_tries_to_compile_only_where_pytorch_takes_minutes(
    broden: Path, rates: dict[str, float], rate: float, tried: bool
) -> None:
    rates |= {"eager": rate, "onnxruntime": rate, "compile": 2 * rate}
    source = open_inputs(build(), broden, DissectConfig(layers="fc", backend="auto"), Execution())
    assert (source.config.backend == "compile") == tried


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
