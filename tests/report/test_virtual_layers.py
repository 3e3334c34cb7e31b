"""Virtual layers, such as rotated bases: marked, explained, and never what is shown first."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from netdissect import console_tables, plots
from netdissect.config import BASIS_OF
from netdissect.explorer.queries.unit_details import run_summary
from netdissect.explorer.run_registry import RunRegistry
from netdissect.plots.style import NULL_LABEL
from netdissect.report.write import report
from netdissect.result import Result
from netdissect.result.summary import basis_note, layer_findings, leading

VIRTUAL = "block.1@rotation-0"


@pytest.fixture
def virtual(result: Result) -> Result:
    """The run of one layer, in which another basis of it has as many unique detectors."""
    layer = result.layers["block.1"]
    info = layer.info.model_copy(update={"name": VIRTUAL, "type": f"{BASIS_OF}block.1"})
    layers = {VIRTUAL: replace(layer, info=info), "block.1": layer}
    info_of_run = result.info.model_copy(update={"layers": tuple(each.info for each in layers.values())})
    return replace(result, info=info_of_run, layers=layers)


def test_a_virtual_layer_is_never_the_leading_one(virtual: Result) -> None:
    found = layer_findings(virtual)
    assert [each.layer for each in leading(found, 1)] == ["block.1"]
    assert leading(found[:1], 1) == found[:1]  # the only one is shown all the same
    assert str(console_tables.summary(virtual)).splitlines()[1].startswith("block.1: ")
    assert f"{VIRTUAL}: other bases of a layer, no units of the network" in str(console_tables.layers(virtual))


def test_pages_mark_a_virtual_layer_and_say_what_its_units_are(virtual: Result, tmp_path: Path) -> None:
    report(virtual, tmp_path)
    overview = (tmp_path / "index.html").read_text()
    assert overview.count('data-term="virtual"') == 1
    assert f"<code>{VIRTUAL}</code>: {basis_note('block.1')}" in overview
    assert basis_note("block.1") in (tmp_path / "r0/l0/index.html").read_text()
    assert "Virtual layer" not in (tmp_path / "r0/l1/index.html").read_text()
    layers = run_summary(next(iter(RunRegistry.open(virtual)))).layers
    assert [each.basis_of for each in layers] == ["block.1", None]


def test_what_the_bases_of_a_layer_are_is_said_once(virtual: Result, tmp_path: Path) -> None:
    first = virtual.layers[VIRTUAL]
    other = replace(first, info=first.info.model_copy(update={"name": "block.1@pca"}))
    info = virtual.info.model_copy(update={"layers": (*virtual.info.layers, other.info)})
    report(replace(virtual, info=info, layers={**virtual.layers, "block.1@pca": other}), tmp_path, unit_pages=1)
    overview = (tmp_path / "index.html").read_text()
    assert f"<code>{VIRTUAL}</code>, <code>block.1@pca</code>: {basis_note('block.1')}" in overview
    assert overview.count("Virtual layer:") == 1


def test_concepts_are_compared_by_units_of_the_network_unless_a_layer_is_named(virtual: Result) -> None:
    layer = virtual.layers[VIRTUAL]
    better = replace(layer, lazy_scores=layer.lazy_scores.with_columns(iou=pl.lit(1.0)))
    changed = replace(virtual, layers={**virtual.layers, VIRTUAL: better})

    def across(name: str | None) -> list[float]:
        (axes,) = plots.concept_scatter(changed, changed, layer=name).axes
        return sorted(float(point[0]) for drawn in axes.collections for point in drawn.get_offsets())  # type: ignore[union-attr]

    assert across(None) == across("block.1")
    assert set(across(VIRTUAL)) == {1.0}


def test_each_basis_has_marks_of_its_own_next_to_its_layer(virtual: Result) -> None:
    first = virtual.layers[VIRTUAL]
    names = ("block.1@rotation-1", "block.1@pca", "block.1@kmeans-64")
    more = {name: replace(first, info=first.info.model_copy(update={"name": name})) for name in names}
    run = replace(virtual, layers={**virtual.layers, **more})
    figure = plots.depth(run, names=["a"])
    assert [text.get_text() for text in figure.legends[0].get_texts()][:4] == ["a", "rotations", "pca", "kmeans-64"]
    (axes,) = figure.axes
    series = [line for line in axes.lines if str(line.get_label()) != NULL_LABEL]
    looks = {(line.get_color(), line.get_marker(), line.get_xdata()[0]) for line in series}  # type: ignore[index]
    assert len(looks) == len({look[0] for look in looks}) == len({look[1] for look in looks}) == 4
    assert [list(line.get_xdata()) for line in series][1] == [pytest.approx(-0.05)] * 2  # type: ignore[arg-type]
    both = plots.depth([run, run], names=["a", "b"])
    assert [text.get_text() for text in both.legends[0].get_texts()][4:6] == ["b", "b: rotations"]
