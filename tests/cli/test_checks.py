"""`netdissect diff` and `check`, as a training pipeline calls them."""

import json

import pytest

import strategies
import woken_units
from netdissect.result import count_difference
from netdissect.result.summary import count_sentence, measured_count


@pytest.fixture
def runs(netdissect, labeled, module, tmp_path):
    """Runs of the same network at two limits of what a detector is."""
    data = tmp_path / "data"
    built = netdissect("concepts", "build", f"masks:{labeled}", "--size", 32, "--workers", 1, "--out", data)
    assert built.code == 0, built.err
    folders = [tmp_path / "loose", tmp_path / "strict"]
    for folder, limit in zip(folders, (0.01, 0.6), strict=True):
        done = netdissect(
            "run", f"python:{module}:red", "--concepts", data, "--layer", "1", "--quantile", 0.05, "--min-iou", limit,
            "--out", folder,
        )  # fmt: skip
        assert done.code == 0, done.err
    return folders


def test_check_exits_with_0_or_1_and_gives_the_reason(netdissect, runs):
    met = netdissect("check", runs[0], "--require", "unique_detectors >= 1", "--require", "concept:square")
    assert met.code == 0, met.err
    assert met.out.splitlines() == ["met      unique_detectors >= 1: 1 in 1", "met      concept:square: 2 in 1"]
    failed = netdissect("check", runs[0], "--require", "detectors > 2", "--require", "concept:square")
    assert failed.code == 1
    assert failed.out.splitlines()[0] == "NOT MET  detectors > 2: 2 in 1"


def test_check_exits_with_2_on_a_wrong_requirement(netdissect, runs):
    wrong = netdissect("check", runs[0], "--require", "concept:sqare")
    assert (wrong.code, wrong.out) == (2, "")
    assert "ResultError" in wrong.err
    assert netdissect("check", runs[0], "--require", "many detectors").code == 2
    assert netdissect("check", runs[0] / "nothing", "--require", "detectors >= 1").code == 2


def test_diff_lists_gained_and_lost_concepts(netdissect, runs):
    refused = netdissect("diff", runs[1], runs[0])
    assert refused.code == 2
    assert "--min-iou" in refused.err
    shown = netdissect("diff", runs[0], runs[0], "--min-iou", 0.01)
    assert shown.code == 0
    assert "unique detectors, left → right: total 1 → 1" in shown.out
    (compared,) = json.loads(netdissect("diff", runs[0], runs[1], "--min-iou", 0.01, "--json").out)
    assert compared["left"]["detectors"]["total"] == compared["right"]["detectors"]["total"] == 2
    assert [row["change"] for row in compared["concepts"] if row["concept"] == "square"] == ["kept"]
    assert netdissect("diff", runs[0], runs[0], "--layer", "1=").code == 2


@pytest.mark.parametrize("followed", [False, True], ids=["ignored", "followed"])
def test_diff_prints_the_null_of_each_count_and_of_their_difference(netdissect, tmp_path, followed):
    runs = woken_units.runs(tmp_path / "data", followed=followed, out=tmp_path)
    folders = [tmp_path / "before", tmp_path / "after"]
    shown = netdissect("diff", *folders)
    assert shown.code == 0, shown.err
    counts = [count_sentence(measured_count(run, "conv", 0.25)) for run in runs]
    lines = shown.out.splitlines()
    assert lines[1:3] == [f"left: {counts[0]}", f"right: {counts[1]}"]
    gain = f"right minus left: +{3 if followed else 2} unique detectors ["
    assert lines[3].startswith(gain)
    verdict = "exceeds its null." if followed else "does not exceed its null."
    assert f"the difference {verdict}" in " ".join(" ".join(lines[3:6]).split())
    turned = " ".join(netdissect("diff", *folders[::-1]).out.split())
    assert gain.replace("+", "-") in turned
    assert f"the difference {verdict}" in turned
    (printed,) = json.loads(netdissect("diff", *folders, "--json").out)
    wanted = count_difference(*runs, ("conv", "conv"), quantile=0.25, rule="top-label")
    assert printed["difference"]["null"] == wanted.null
    assert printed["difference"]["excess_interval"] == list(wanted.excess_interval)
    assert printed["difference"]["exceeds_null"] == followed
    assert printed["right"]["null"] == measured_count(runs[1], "conv", 0.25).null


def test_check_requires_detectors_beyond_the_permutation_null(netdissect, tmp_path):
    required = ("--require", "unique_detectors - null_unique_detectors >= 1")
    for followed in (False, True):
        out = tmp_path / str(followed)
        woken_units.runs(out / "data", followed=followed, out=out)
        checked = netdissect("check", out / "after", *required)
        assert checked.code == (0 if followed else 1), checked.err
        assert checked.out.startswith("met      unique" if followed else "NOT MET  unique")
        assert netdissect("check", out / "after", "--require", "unique_detectors >= 1").code == 0
    wrong = netdissect("check", tmp_path / "True" / "after", *required, "--min-iou", 0.1)
    assert wrong.code == 2
    assert "was measured at the IoU limit 0.5 of the run, not at 0.1" in " ".join(wrong.err.split())


def test_diff_at_another_limit_has_counts_and_no_null(netdissect, tmp_path):
    woken_units.runs(tmp_path / "data", followed=False, out=tmp_path)
    shown = netdissect("diff", tmp_path / "before", tmp_path / "after", "--min-iou", 0.2)
    text = " ".join(shown.out.split())
    assert "unique detectors; intervals and permutation null were measured at another IoU limit." in text
    assert "under the permutation null" not in text


def test_verify_reads_the_data_set_again(netdissect, runs, tmp_path):
    whole = netdissect("verify", runs[0], "--data")
    assert whole.code == 0, whole.err
    assert f"ok     {tmp_path / 'data'} is the data set of the run" in whole.out
    strategies.repaint(min((tmp_path / "data" / "images").rglob("*.png")))
    assert netdissect("verify", runs[0]).code == 0
    changed = netdissect("verify", runs[0], "--data")
    assert changed.code == 1
    assert "WRONG" in changed.out
    gone = netdissect("verify", runs[0], "--data", "--concepts", tmp_path / "nowhere")
    assert gone.code == 2
    assert "is not a concept data set" in gone.err


def test_verify_exits_with_0_or_1_and_repairs(netdissect, runs):
    whole = netdissect("verify", runs[0], "--sample", 5, "--trust-network")
    assert whole.code == 0, whole.err
    assert "8 of 8 invariants hold" in whole.out
    assert "5 masks recomputed: 5 bitwise equal" in whole.out
    table = runs[0] / "layers" / "1" / "units.csv"
    written = table.read_bytes()
    table.write_bytes(written[:-3])
    damaged = netdissect("verify", runs[0])
    assert damaged.code == 1
    assert "WRONG  layers/1/units.csv" in damaged.out
    repaired = netdissect("verify", runs[0], "--repair", "--trust-network")
    assert repaired.code == 0, repaired.err
    assert "repaired  layers/1/units.csv" in repaired.out
    assert table.read_bytes() == written
    (runs[0] / "run.json").write_text("{}")
    assert netdissect("verify", runs[0], "--repair").code == 2


def test_verify_runs_no_code_that_a_run_names_unless_the_user_trusts_it(netdissect, runs, module):
    (runs[0] / "layers" / "1" / "units.csv").write_bytes(b"damaged")
    for run, option in ((runs[1], ("--sample", 2)), (runs[0], ("--repair",))):
        refused = netdissect("verify", run, *option)
        assert refused.code == 2
        assert f"comes from python:{module}:red, and code that a file of others names is not run" in refused.err
        other = netdissect("verify", run, *option, "--network", f"python:{module}:poisoned")
        assert other.code == 2
        assert "structure or weights have changed" in other.err
        named = netdissect("verify", run, *option, "--network", f"python:{module}:red")
        assert named.code == 0, named.err
