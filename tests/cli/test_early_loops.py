"""Which loops a first run compiles while it loads network and data: those of the device on which it will count."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from netdissect.cli import run
from netdissect.config import DissectConfig, Execution, RunRequest
from netdissect.process import early_compiler
from netdissect.process.early_compiler import EarlyCompiler, LoopTypes

COUNTING, PERMUTATIONS = "netdissect.scoring.kernel", "netdissect.scoring.statistics.permutation_kernel"


def request(device: str = "cpu", engine: Any = "auto") -> RunRequest:
    config = DissectConfig(layers="auto", device=device)
    return RunRequest(network=None, concepts="data", config=config, execution=Execution(engine=engine))


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

    def compile_early(shares: list[list[LoopTypes]]) -> list[EarlyCompiler]:
        compiled.extend(loop.__module__ for share in shares for loop, _ in share)
        return []

    monkeypatch.setattr(run, "DEVICE_FILES", tmp_path)
    monkeypatch.setattr(early_compiler, "compile_early", compile_early)
    if gpu is not None:
        (tmp_path / gpu).touch()
    run._compile_early(request(device, engine))
    assert (COUNTING in compiled, PERMUTATIONS in compiled) == (not on_device, True)


def test_a_run_knows_the_processes_that_compile_its_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [SimpleNamespace(pid=None), SimpleNamespace(pid=12)]  # the first has ended
    monkeypatch.setattr(early_compiler, "compile_early", lambda _: processes)
    assert run._compile_early(request()) == [12]
