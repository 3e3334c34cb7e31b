"""Shards as plain processes, merging them, and repeating a run from its folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import run_asserts
import strategies
from netdissect.config import NetworkSource
from netdissect.result import load_result
from netdissect.result.run_config import read_config
from networks import COVERAGE, SIDE, images

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", images(8), COVERAGE, image=(SIDE, SIDE))


@pytest.mark.slow
def test_a_job_array_of_shards_gives_the_same_run_as_one_process(
    netdissect: Command, module: str, data: Path, tmp_path: Path
) -> None:
    options = [f"python:{module}:red", "--concepts", data, "--layer", "1", "--batch-size", 2, "--threads", 1]
    assert netdissect("run", *options, "--out", tmp_path / "whole").code == 0
    run = tmp_path / "run"
    paths = os.pathsep.join([str(tmp_path), *sys.path])

    def array() -> list[str]:
        """Start all shards at once, as `sbatch --array` does."""
        start = "from netdissect.cli import main; main()"
        arguments = [sys.executable, "-c", start, "run", *map(str, options), "--out", str(run), "--shard"]
        shards = [
            subprocess.Popen([*arguments, f"{number}/2"], env=os.environ | {"PYTHONPATH": paths},
                             stdout=subprocess.PIPE, text=True)
            for number in (1, 2)
        ]  # fmt: skip
        printed = [shard.communicate()[0] for shard in shards]
        assert [shard.returncode for shard in shards] == [0, 0]
        return printed

    assert "Shard 1/2 has finished its threshold pass. When all 2 have: netdissect merge-shards" in array()[0]
    merged = netdissect("merge-shards", run)
    assert "Repeat the command of each shard" in merged.out
    for number in (1, 2):
        outcome = netdissect("run", *options, "--out", run, "--shard", f"{number}/2")
        assert f"Shard {number}/2 is finished. When all 2 are: netdissect merge-shards" in outcome.out
    assert "More: netdissect show" in netdissect("merge-shards", run).out
    run_asserts.assert_same_run(load_result(run), load_result(tmp_path / "whole"))


def test_a_merge_without_shards_is_an_error(netdissect: Command, tmp_path: Path) -> None:
    outcome = netdissect("merge-shards", tmp_path)
    assert outcome.code == 2
    assert "holds no finished shard of a run" in outcome.err
    assert "Traceback" not in outcome.err


MANY = [
    "--weights-seed", 3, "--sample-seed", 4, "--input-size", 48, "--mean", "0.4,0.5,0.6", "--std", "0.25,0.25,0.5",
    "--protocol", "lite", "--quantile", 0.02,
    "--quantile", 0.1, "--min-iou", 0.1, "--categories", "object", "--split", "train",
    "--max-images", 4, "--batch-size", 3, "--precision", "bfloat16", "--top-images", 2, "--activation-cache", "none",
    "--workers", 1, "--bootstrap", 7, "--holdout", 0.5, "--sensitivity", "standard", "--stats-seed", 5,
    "--threshold", "exact", "--duplicates", "once", "--threads", 1,
    "--extra-metrics", "--permutations", 3, "--null", "locations",
]  # fmt: skip


@pytest.mark.parametrize("many", [[], MANY])
def test_a_run_folder_repeats_its_run(
    netdissect: Command, module: str, data: Path, tmp_path: Path, many: list[Any]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    outcome = netdissect("run", f"python:{module}:red", "--concepts", data, "--layer", "1", "--out", first, *many)
    assert outcome.code == 0, outcome.err
    outcome = netdissect("run", "--config", first, "--trust-network", "--out", second)
    assert outcome.code == 0, outcome.err
    run_asserts.assert_same_run(load_result(second), load_result(first))
    assert read_config(second) == read_config(first / "config.json")


def test_a_repeated_run_loads_the_same_set_of_weights(
    netdissect: Command, module: str, data: Path, tmp_path: Path
) -> None:
    states = [{"0.weight": torch.randn(3, 3, 3, 3), "0.bias": torch.zeros(3)} for _ in range(2)]
    torch.save({"model": states[0], "model_ema": states[1]}, tmp_path / "w.pt")
    asked = ["run", f"python:{module}:red", "--weights", tmp_path / "w.pt", "--concepts", data, "--layer", "1"]
    refused = netdissect(*asked, "--out", tmp_path / "refused")
    assert refused.code == 2
    assert "choose with --state-dict model " in refused.err.replace("\n", " ")
    first = netdissect(*asked, "--out", tmp_path / "first", "--state-dict", "model_ema")
    assert first.code == 0, first.err
    assert "took 'model_ema'; the file also holds 'model'" in first.err.replace("\n", " ")
    again = netdissect("run", "--config", tmp_path / "first", "--trust-network", "--out", tmp_path / "second")
    assert again.code == 0, again.err
    run_asserts.assert_same_run(load_result(tmp_path / "second"), load_result(tmp_path / "first"))
    assert netdissect("verify", tmp_path / "first", "--trust-network", "--sample", 2).code == 0


def test_options_override_a_configuration(netdissect: Command, module: str, data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    netdissect("run", f"python:{module}:red", "--concepts", data, "--layer", "1", "--out", first, "--top-images", 2)
    beside = ["--trust-network", "--min-iou", 0.2, "--layer", "0", "--config", first / "config.json"]
    assert netdissect("run", *beside, "--out", second).code == 0
    config = load_result(second).info.config
    assert (config.min_iou, config.layers, config.top_images) == (0.2, ("0",), 2)


def test_a_configuration_runs_no_code_unless_the_user_trusts_it(
    netdissect: Command, module: str, data: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    netdissect("run", f"python:{module}:red", "--concepts", data, "--layer", "1", "--out", first, "--top-images", 2)
    path = first / "config.json"
    source = NetworkSource(spec="python:os:abort")
    path.write_bytes(read_config(path).model_copy(update={"network": source}).text_with_digest())
    refused = netdissect("run", "--config", first, "--out", second)
    assert refused.code == 2
    assert "comes from python:os:abort, and code that a file of others names is not run" in refused.err
    assert "--trust-network" in refused.err
    # What the user spells out himself is his own, on either side of the option.
    for words in ((f"python:{module}:red", "--config", first), ("--config", first, f"python:{module}:red")):
        repeated = netdissect("run", *words, "--out", second)
        assert repeated.code == 0, repeated.err
        assert load_result(second).info.network.source.spec == f"python:{module}:red"


def test_a_file_that_is_not_a_configuration_is_refused(netdissect: Command, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"threads": 1}')
    absent = tmp_path / "absent.json"
    for path, said in (
        (tmp_path, "config.json is not the configuration of a run ("),
        (tmp_path / "config.json", "config.json is not the configuration of a run ("),
        (absent, f"{absent} cannot be read (No such file or directory). Expected the config.json"),
    ):
        outcome = netdissect("run", "--config", path, "--out", tmp_path / "run")
        assert outcome.code == 2
        assert said in outcome.err


def test_images_that_were_chosen_in_python_are_not_repeated(
    netdissect: Command, module: str, data: Path, tmp_path: Path
) -> None:
    netdissect("run", f"python:{module}:red", "--concepts", data, "--layer", "1", "--out", tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    path.write_bytes(read_config(path).model_copy(update={"concepts": None}).text_with_digest())
    outcome = netdissect("run", "--config", path, "--trust-network", "--out", tmp_path / "again")
    assert outcome.code == 2
    assert f"the images of {path} were chosen in Python" in " ".join(outcome.err.split())
