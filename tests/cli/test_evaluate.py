"""Labels by commands: exported, scored, as JSON and CSV, checked, and what a user gets wrong."""

import csv
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from kept_runs import kept_run

__all__ = ["kept_run"]


@pytest.fixture(scope="module")
def files(kept_run, tmp_path_factory):
    """Label files of two methods."""
    folder = tmp_path_factory.mktemp("files")
    rows = [("fc", unit, name) for unit, name in enumerate(("concept 1", "Concepts 2", "zebra"))]
    for method, shift in (("one", 0), ("two", 1)):
        with (folder / f"{method}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("layer", "unit", "description"))
            writer.writerows((layer, unit, rows[(unit + shift) % 3][2]) for layer, unit, _ in rows)
    return folder


def test_labels_of_a_run_are_exported_and_scored_beside_those_of_other_methods(netdissect, kept_run, files, tmp_path):
    run = kept_run.origin.folder
    own = tmp_path / "own.csv"
    assert netdissect("export", run, "--format", "labels-csv", "--layer", "fc", "--out", own).code == 0
    assert own.read_text().splitlines()[0] == "unit,label,layer,score"
    scored = netdissect("evaluate", run, own, f"clip={files / 'one.csv'}", files / "two.csv", "--layer", "fc")
    assert scored.code == 0, scored.err
    for words in ("own", "clip", "two", "pixels", "own - clip", "zebra", "--mapping FILE", "--moments"):
        assert words in scored.out
    assert "two - own" not in scored.out
    assert "--json prints 2 further differences" in scored.out


def test_json_and_csv_hold_every_score(netdissect, kept_run, files, tmp_path):
    run, out = kept_run.origin.folder, tmp_path / "units.csv"
    printed = netdissect(
        "evaluate", run, files / "one.csv", files / "two.csv", "--json", "--out", out, "--replicates", 100
    )
    assert printed.code == 0, printed.err
    found = json.loads(printed.out)
    assert found.keys() == {"network", "config", "scores", "differences", "coverage", "matches", "notes"}
    assert found["scores"][0].keys() == {
        "layer", "level", "metric", "method", "value", "ci_low", "ci_high", "units",
    }  # fmt: skip
    assert [(row["left"], row["right"]) for row in found["differences"]] == [("one", "two")] * 2
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["unit"] for row in rows] == ["0", "1", "2"] * 2
    assert {"method", "concept", "how", "pixels_iou", "pixels_f1"} <= rows[0].keys()
    of_one = [float(row["pixels_iou"]) for row in rows[:3] if row["pixels_iou"]]
    assert found["scores"][0]["value"] == pytest.approx(sum(of_one) / 2)


def test_sanity_checks_are_printed_beside_the_published_outcome(netdissect, kept_run):
    run = kept_run.origin.folder
    printed = netdissect("evaluate", run, "--sanity-checks", "--layer", "fc")
    assert printed.code == 0, printed.err
    assert "yes: 94% 100% 100% 100% (IoU)" in printed.out
    checks = json.loads(netdissect("evaluate", run, "--sanity-checks", "--layer", "fc", "--json").out)["checks"]
    assert [row["metric"] for row in checks] == ["iou", "f1"]


def test_mistakes_are_refused_in_one_paragraph(netdissect, kept_run, files, tmp_path):
    run, one = kept_run.origin.folder, files / "one.csv"
    for arguments, message in (
        ((), "takes files of labels, or --sanity-checks without any. Name one of the two."),
        ((one, "--sanity-checks"), "takes files of labels, or --sanity-checks without any."),
        (("--sanity-checks", "--out", tmp_path / "checks.csv"), "--out would do nothing. Leave it out"),
        ((tmp_path / "none.csv",), "none.csv cannot be read"),
        ((one, "--layer", "fd"), "the run has no layer 'fd'"),
        ((one, one), "have one name, 'one'. Name the methods apart"),
        ((one, "--layer", "wide_relu"), "labels no unit of wide_relu; it labels fc."),
        ((one, "--quantile", 0.3), "the run has no quantile 0.3"),
        ((one, "--mapping", tmp_path / "none.csv"), "none.csv cannot be read"),
    ):
        failed = netdissect("evaluate", run, *arguments)
        assert failed.code == 2
        assert message in " ".join(failed.err.split())
        assert "Traceback" not in failed.err


DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(python|text|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.M | re.S)


def test_the_page_on_labels_prints_what_it_shows(netdissect, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("run_page", DOCS / "run_page.py")
    run_page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_page)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    text = (DOCS / "howto" / "compare-labels.md").read_text(encoding="utf-8")
    for language, code, shown in BLOCK.findall(text.partition("## Labels that are no concepts")[0]):
        if language == "sh":
            for line in code.splitlines():
                done = netdissect(*shlex.split(line)[1:])
                assert done.code == 0, done.err
                if shown:
                    assert run_page.comparable(done.out) == run_page.comparable(shown)
        else:
            name = "person.csv" if language == "text" else run_page.FILE.match(code)[1]
            Path(name).write_text(code)
