"""Two layers with bit-equal results: both are listed, the second is marked, and counts over layers take one of them."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from netdissect import console_tables
from netdissect.report.layer_tables import NumberedRun
from netdissect.report.views.run_views import concept_views
from netdissect.report.write import report
from netdissect.result import Result
from netdissect.result.summary import layer_findings, leading

AGAIN, OTHER = "block.identity", "block.other"


@pytest.fixture
def repeated(result: Result) -> Result:
    """The run of one layer, in which another one has its results, and a third all but one threshold of them."""
    layer = result.layers["block.1"]
    one_more = pl.when(pl.col("unit") == 0).then(pl.col("threshold") + 1).otherwise(pl.col("threshold"))
    changed = layer.thresholds.with_columns(one_more.alias("threshold"))
    layers = {
        "block.1": layer,
        AGAIN: replace(layer, info=layer.info.model_copy(update={"name": AGAIN})),
        OTHER: replace(layer, info=layer.info.model_copy(update={"name": OTHER}), thresholds=changed),
    }
    info = result.info.model_copy(update={"layers": tuple(each.info for each in layers.values())})
    return replace(result, info=info, layers=layers)


def test_a_layer_is_the_same_as_another_one_if_every_number_is(repeated: Result) -> None:
    assert repeated.same_as == {AGAIN: "block.1"}
    found = layer_findings(repeated)
    assert [each.title for each in found] == ["block.1", f"{AGAIN} (same as block.1)", OTHER]
    assert [each.layer for each in leading(found, 2)] == ["block.1", OTHER]
    assert f"{AGAIN} (same as block.1)" in str(console_tables.layers(repeated))


def test_units_that_detect_a_concept_are_counted_once(result: Result, repeated: Result, tmp_path: Path) -> None:
    (alone, thrice) = (
        {view.concept: view for view in concept_views([NumberedRun(0, "run", run, 0)])} for run in (result, repeated)
    )
    assert any(view.total for view in alone.values())
    for name, view in alone.items():
        assert thrice[name].detectors == view.detectors[:1] * 3
        assert thrice[name].total == 2 * view.detectors[0]
        assert {unit.layer for unit in thrice[name].best} <= {"block.1", OTHER}
    report(repeated, tmp_path)
    assert (tmp_path / "index.html").read_text().count("same as <code>block.1</code>") == 1
