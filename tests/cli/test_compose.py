"""Formulas by commands: printed, as JSON and CSV, and what a user gets wrong."""

import csv
import html
import json
import re
import shutil

import pytest

from kept_runs import kept_run
from netdissect.result.formulas.formula_schema import FORMULAS

__all__ = ["kept_run"]


@pytest.fixture(scope="module")
def run(kept_run, tmp_path_factory):
    copy = tmp_path_factory.mktemp("composed") / "run"
    shutil.copytree(kept_run.origin.folder, copy)
    return copy


def test_formulas_are_printed_and_exported_and_the_same_each_time(netdissect, run, tmp_path):
    options = ("--bootstrap", 99, "--workers", 1)
    composed = netdissect("compose", run, *options)
    assert composed.code == 0, composed.err
    assert "40 images under" in composed.err
    assert "7 units, 5 concepts" in composed.err
    assert composed.out.count(" AND ") > 3
    shown = netdissect("show", run, "--formulas")
    assert shown.out == composed.out
    found = json.loads(netdissect("compose", run, *options, "--json").out)
    assert found.keys() == {"network", "config", "layers", "units"}
    assert [layer["units"] for layer in found["layers"]] == [4, 3]
    assert {"formula", "iou", "optimal", "iou_upper_bound", "gain", "gain_ci_low", "gain_ci_high"} <= found["units"][
        0
    ].keys()
    for form in ("formulas-json", "formulas-csv"):
        assert netdissect("export", run, "--format", form, "--out", tmp_path / form).code == 0
    assert json.loads((tmp_path / "formulas-json").read_text())["units"] == found["units"]
    with (tmp_path / "formulas-csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(FORMULAS)
    assert [row["formula"] for row in rows] == [unit["formula"] or "" for unit in found["units"]]
    page = netdissect("report", run, "--out", tmp_path / "pages")
    assert page.code == 0, page.err
    check_page((tmp_path / "pages" / "r0" / "l1" / "u0.html").read_text(), found["units"][4])
    untested = netdissect("compose", run, "--bootstrap", 0, "--layer", "fc", "--unit", 0, "--workers", 1).out
    assert [line.split()[-4:] for line in untested.splitlines() if line.split()[:2] == ["fc", "1"]] == [["-"] * 4]
    one = netdissect("show", run, "--formulas", "--layer", "fc", "--top", 1).out
    assert "fc " in one
    assert "wide_relu" not in one


def check_page(page, unit):
    """Check that the page of a unit shows its formula, and each of its concepts in one color in text and images."""
    section = re.search(r'<section id="formula".*?</section>', page, re.DOTALL)[0]
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", section)))
    assert (unit["layer"], unit["unit"]) == ("fc", 0)
    assert unit["formula"] in text
    assert f"{unit['iou']:.4f}" in text
    assert f"{unit['concept']}, {unit['concept_iou']:.4f} by the same definition" in text
    assert f"{unit['gain']:+.4f}" in text
    words, images = section.split("<ol")
    colors = set(re.findall(r'<i style="--c:(#\w+)"', words))
    assert len(colors) == unit["length"] > 1
    assert set(re.findall(r'style="--c:(#\w+)"', images)) == colors


def test_a_run_without_formulas_names_the_command_that_finds_them(netdissect, kept_run):
    for command in (("show", "--formulas"), ("export", "--format", "formulas-csv", "--out", "x.csv")):
        failed = netdissect(command[0], kept_run.origin.folder, *command[1:])
        assert failed.code == 2
        assert "has no formulas yet. Find them first: netdissect compose RUN" in failed.err


def test_a_wrong_option_is_refused_in_one_paragraph(netdissect, run):
    failed = netdissect("compose", run, "--length", 9)
    assert failed.code == 2
    assert "--length" in failed.err
    assert "Traceback" not in failed.err
