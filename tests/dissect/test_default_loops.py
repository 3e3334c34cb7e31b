"""The listed loops are those that a default run compiles, with the same types."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import strategies
from networks import COVERAGE, SIDE, images

RUN = """
import json, os, signal, sys
from netdissect.config import DissectConfig, Execution, StatisticsConfig
from netdissect.dissect.default_loops import default_loops
from netdissect.process.early_compiler import compile_early

if __name__ == "__main__":
    statistics = StatisticsConfig(**json.loads(sys.argv[2]))
    engine = sys.argv[4]
    shares = default_loops(statistics, permutes=statistics.permutations != 0, on_device=engine == "tensor")
    processes = compile_early(shares)
    if sys.argv[3] == "killed":
        for one in processes:
            os.kill(one.pid, signal.SIGKILL)
    from numba.core.registry import CPUDispatcher
    from netdissect import dissect
    from networks import build

    config = DissectConfig(layers=("wide_relu",), statistics=statistics)
    execution = Execution(engine=engine, activation_cache="sparse" if engine == "auto" else "auto")
    result = dissect(build(), sys.argv[1], config=config, execution=execution)
    loops = {
        id(loop): loop
        for name, module in list(sys.modules.items()) if name.startswith("netdissect.")
        for loop in vars(module).values() if isinstance(loop, CPUDispatcher) and loop.targetoptions.get("nogil")
    }

    def names(loops):
        return sorted(f"{loop.__module__}.{loop.__name__}" for loop in loops)

    taken = names(loop for loop in loops.values() for _ in range(sum(loop.stats.cache_hits.values())))
    missed = names(loop for loop in loops.values() if loop.stats.cache_misses)
    listed = names(loop for share in shares for loop, _ in share)
    print(json.dumps({
        "processes": len(processes), "taken": taken, "missed": missed, "listed": listed,
        "units": result.units.write_csv(),
    }))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("default loops")
    (folder / "run.py").write_text(RUN, encoding="utf-8")
    return folder / "run.py", strategies.write_broden(folder / "data", images(6), COVERAGE, image=(SIDE, SIDE))


def run(
    program: tuple[Path, Path], code: Path, statistics: dict[str, int], end: str, engine: str = "auto"
) -> dict[str, Any]:
    path, data = program
    here = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    variables = os.environ | {"NUMBA_CACHE_DIR": str(code), "PYTHONPATH": here}
    command = [sys.executable, path, data, json.dumps(statistics), end, engine]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="processes are forked on Linux")
@pytest.mark.parametrize("statistics", [{}, {"bootstrap": 0, "permutations": 0}], ids=["default", "counts alone"])
def test_a_run_takes_each_listed_loop_and_compiles_no_other(
    program: tuple[Path, Path], tmp_path: Path, statistics: dict[str, int]
) -> None:
    first = run(program, tmp_path / "first", statistics, "")
    assert (first["processes"], first["taken"], first["missed"]) == (2, first["listed"], [])
    alone = run(program, tmp_path / "alone", statistics, "killed")
    assert (alone["units"], alone["taken"]) == (first["units"], [])
    assert set(alone["missed"]) >= set(first["listed"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="processes are forked on Linux")
def test_a_run_that_counts_in_tensor_code_takes_each_listed_loop_and_compiles_no_other(
    program: tuple[Path, Path], tmp_path: Path
) -> None:
    found = run(program, tmp_path, {}, "", "tensor")
    assert (found["processes"], found["taken"], found["missed"]) == (2, found["listed"], [])
    assert not any("kernel._count_images" in name and "permutation" not in name for name in found["listed"])
