"""The permutation test and extra metrics as a user asks for them."""

import json

import pytest


@pytest.fixture
def data(netdissect, labeled, tmp_path):
    folder = tmp_path / "squares-concepts"
    made = netdissect("concepts", "build", f"masks:{labeled}", "--size", 32, "--workers", 1, "--out", folder)
    assert made.code == 0, made.err
    return folder


def test_a_run_reports_its_fdr_limit(netdissect, data, module, tmp_path):
    common = ["run", f"python:{module}:red", "--concepts", data, "--layer", "1", "--bootstrap", 0]
    done = netdissect(*common, "--out", tmp_path / "run", "--permutations", 20, "--min-iou", "fdr", "--extra-metrics")
    assert done.code == 0, done.err
    assert f"The report is {tmp_path / 'run'}" in netdissect("report", tmp_path / "run").out
    assert "extra metrics: one more forward pass (--activation-cache dense avoids it)" in done.err
    info = json.loads((tmp_path / "run" / "run.json").read_text())["run"]
    assert info["config"]["min_iou"] == "fdr"
    assert 0 < info["fdr_limits"]["1"] < 1
    assert f"IoU >= {info['fdr_limits']['1']}" in " ".join(done.out.split())
    for wrong, seen in ((["--permutations", "often"], "often"), (["--null", "colors"], "colors")):
        refused = netdissect(*common, "--out", tmp_path / "other", *wrong)
        assert refused.code == 2
        assert wrong[0] in refused.err
        assert seen in refused.err
    refused = netdissect(*common, "--out", tmp_path / "shards", "--shard", "1/1", "--extra-metrics")
    assert refused.code == 2
    assert "--extra-metrics" in refused.err


def test_the_merge_of_shards_carries_out_the_permutation_test(netdissect, data, module, tmp_path):
    run = tmp_path / "run"
    command = ["run", f"python:{module}:red", "--concepts", data, "--layer", "1", "--bootstrap", 0, "--out", run]
    for merged in ("The thresholds of all shards", "More: netdissect show"):
        done = netdissect(*command, "--shard", "1/1", "--permutations", 20, "--min-iou", "fdr")
        assert done.code == 0, done.err
        merge = netdissect("merge-shards", run, "--cache-folder", "none")
        assert merge.code == 0, merge.err
        assert merged in merge.out
    assert "permutation test: 20 permutations, about 0 s of computing" in " ".join(merge.err.split())
    info = json.loads((run / "run.json").read_text())["run"]
    assert 0 < info["fdr_limits"]["1"] <= 1


def test_the_plan_says_what_permutations_take(netdissect, data, module, tmp_path):
    command = [
        "run",
        f"python:{module}:red",
        "--concepts",
        data,
        "--layer",
        "1",
        "--bootstrap",
        0,
        "--cache-folder",
        "none",
    ]
    for permutations, expected in (
        (7, '; then 7 permutations, about 0 s of computing"'),
        ("auto", '; then 1,000 permutations, about 0 s of computing"'),
        (0, None),
    ):
        run = tmp_path / str(permutations)
        done = netdissect(*command, "--out", run, "--permutations", permutations)
        assert done.code == 0, done.err
        (plan,) = (line for line in (run / "log.jsonl").read_text().splitlines() if '"planned"' in line)
        assert (expected or '(activation cache: sparse)"') in plan
