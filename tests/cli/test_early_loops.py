"""Which loops a first run compiles while it loads network and data: those of the device on which it will count."""

from pathlib import Path
from typing import Any

import pytest

from netdissect.cli import run
from netdissect.config import DissectConfig, Execution, RunRequest
from netdissect.process import early_compiler

COUNTING, PERMUTATIONS = "netdissect.scoring.kernel", "netdissect.scoring.statistics.permutation_kernel"


@pytest.mark.parametrize(
    ("device", "engine", "gpu", "on_device"),
    [
        ("auto", "auto", None, False),
        ("auto", "auto", "nvidia0", True),
        ("auto", "auto", "nvidia12", True),
        ("auto", "auto", "kfd", True),
        ("auto", "auto", "nvidiactl", False),
        ("auto", "compiled", "nvidia0", False),
        ("cpu", "auto", "nvidia0", False),
        ("cpu", "tensor", None, True),
        ("cuda", "auto", None, True),
    ],
)
def test_loops_of_the_host_are_compiled_early_unless_the_run_counts_on_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, engine: Any, gpu: str | None, on_device: bool
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(run, "DEVICE_FILES", tmp_path)
    monkeypatch.setattr(
        early_compiler,
        "compile_early",
        lambda shares: compiled.extend(loop.__module__ for share in shares for loop, _ in share),
    )
    if gpu is not None:
        (tmp_path / gpu).touch()
    run._compile_early(
        RunRequest(
            network=None,
            concepts="data",
            config=DissectConfig(layers="auto", device=device),
            execution=Execution(engine=engine),
        )
    )
    assert (COUNTING in compiled, PERMUTATIONS in compiled) == (not on_device, True)
