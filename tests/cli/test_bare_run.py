"""A run from before evidence was measured: no such tables, and no word of them in its description."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from netdissect.errors import ResultError
from netdissect.result import load_result, paired_differences
from netdissect.serve import create_app

Netdissect = Callable[..., Any]

VERSION1 = Path(__file__).parents[1] / "result" / "data" / "version1"
LATER = ("evidence",), ("chance_limit", "chance_limits")  # keys of the config, and of the run


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The run of the first version without everything that belongs to evidence."""
    folder = tmp_path / "bare"
    shutil.copytree(VERSION1, folder, ignore=shutil.ignore_patterns("evidence", "config.json"))
    content = json.loads((folder / "run.json").read_text())
    config, run = (set(names) for names in LATER)
    content["run"]["config"] = {name: value for name, value in content["run"]["config"].items() if name not in config}
    content["run"] = {name: value for name, value in content["run"].items() if name not in run}
    content["files"] = {name: digest for name, digest in content["files"].items() if "evidence" not in name}
    del content["digest"]
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    (folder / "run.json").write_text(json.dumps(content | {"digest": hashlib.sha256(text.encode()).hexdigest()}))
    return folder


def test_a_run_without_evidence_is_read_and_counts_as_before(bare: Path) -> None:
    run, whole = load_result(bare), load_result(VERSION1)
    assert all(not layer.evidence for layer in run.layers.values())
    assert run.info.chance_limits == {}
    assert run.detectors() == whole.detectors()
    assert run.units.equals(whole.units)


def test_every_command_that_reads_a_run_takes_one_without_evidence(
    netdissect: Netdissect, bare: Path, tmp_path: Path
) -> None:
    for arguments, said in (
        (("show", bare), "wide_relu"),
        (("count", bare, "--json"), '"min_iou": 0.04'),
        (("report", bare), "The report is"),
        (("export", bare, "--layer", "wide_relu", "--out", tmp_path / "out.csv"), "Wrote"),
        (("diff", bare, VERSION1), "wide_relu at 0.05"),
        (("check", bare, "--require", "detectors >= 1"), "met"),
        (("verify", bare), "laws hold"),
        (("figure", "bars", bare, "--layer", "wide_relu", "-o", tmp_path / "bars.svg"), "Wrote"),
    ):
        done = netdissect(*arguments)
        assert done.code == 0, (arguments, done.err)
        assert said in done.out
    page = (bare / "report" / "r0" / "l0" / "u0.html").read_text()
    assert "Most active pictures" in page
    assert not any(title in page for title in ("How sure", "Beside IoU", "False alarms", "Where it fires"))
    refused = netdissect("figure", "sensitivity", bare, "--layer", "wide_relu", "-o", tmp_path / "a.svg")
    assert refused.code == 2
    assert "Repeat it with --sensitivity" in " ".join(refused.err.split())


def test_two_such_runs_have_no_paired_difference(bare: Path) -> None:
    with pytest.raises(ResultError, match="has no replicates of layer 'wide_relu'"):
        paired_differences(load_result(bare), load_result(bare))


def test_the_explorer_shows_a_run_without_evidence(bare: Path) -> None:
    client = TestClient(create_app([bare]), base_url="http://127.0.0.1:8461")
    run = client.get("/api/runs").json()[0]["id"]
    layer = f"runs/{run}/layers/0"
    for address in (
        f"/api/{layer}/units", f"/api/{layer}/counts", f"/api/{layer}/units/0", f"/{layer}/units/0",
        "/report/r0/l0/u0.html", "/report/r0/l0/index.html",
    ):  # fmt: skip
        assert client.get(address).status_code == 200, address
