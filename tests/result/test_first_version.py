"""A run that the first version wrote is read forever: these files are never written again."""

import json
from pathlib import Path

import pytest

import netdissect
from netdissect.result import Result, load_result
from netdissect.result.run_config import read_config

RUN = Path(__file__).with_name("data") / "version1"


@pytest.fixture(scope="module")
def run() -> Result:
    return load_result(RUN)


def test_a_run_of_the_first_version_says_what_made_it(run: Result) -> None:
    written = json.loads((RUN / "run.json").read_text())["run"]
    assert run.info.schema_version == written["schema_version"] == 1
    assert run.info.config.layers == ("wide_relu", "fc")
    assert run.info.network.digest == written["network"]["digest"]
    assert run.info.data.images == 8
    assert [(layer.name, layer.units) for layer in run.info.layers] == [("wide_relu", 4), ("fc", 3)]
    assert read_config(RUN).config == run.info.config


def test_a_run_of_the_first_version_has_all_its_tables(run: Result) -> None:
    layer = run.layers["wide_relu"]
    units = {"quantile", "unit", "label", "category", "iou", "f1", "threshold", "silent", "object-label", "color-iou"}
    scores = {"quantile", "unit", "number", "concept", "category", "intersection", "activation", "truth", "iou", "f1"}
    assert units <= set(layer.units.columns)
    assert scores | {"attainable", "mask_attainable_iou"} == set(layer.scores.columns)
    assert set(layer.thresholds.columns) == {"quantile", "unit", "threshold", "maximum", "silent"}
    assert set(layer.top.columns) == {"unit", "rank", "row", "image", "maximum", "label_height", "label_width"}
    concepts = {"number", "concept", "category", "images", "truth", "coverage", "attainable", "attainable_at_0.02"}
    assert set(run.concepts.columns) == concepts
    assert layer.top_maps.shape == (4, 3, 12, 12)
    assert sorted(layer.evidence) == ["histogram", "places"]


def test_a_run_of_the_first_version_gives_the_numbers_that_it_gave(run: Result) -> None:
    units = run.layers["wide_relu"].units
    assert units["label"].to_list() == ["concept 300", "concept 4", "concept 3", "concept 4"]
    assert units["iou"].to_list() == pytest.approx([0.059289, 0.052696, 0.0625, 0.051916], abs=1e-6)
    first, last = run.detectors("top-label")
    assert (first.count.detectors["total"], first.count.unique["total"]) == (4, 3)
    assert last.count.detectors["total"] == 0


def test_a_run_of_the_first_version_can_be_shown(run: Result) -> None:
    assert netdissect.tables.summary(run).row_count == 4
