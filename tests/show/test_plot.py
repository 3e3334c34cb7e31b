"""Charts: they show the counts, in the same colors everywhere, and nothing global changes."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import polars as pl
import pytest
from matplotlib.colors import to_hex

from netdissect.errors import ResultError
from netdissect.result import Result
from netdissect.show import plot
from netdissect.show.findings import detected_concepts
from netdissect.show.palette import CATEGORY_COLORS, OTHER_COLORS, category_colors


def test_the_listed_concepts_are_the_counted_unique_detectors(result: Result) -> None:
    for entry in result.detectors():
        assert entry.quantile is not None
        found = detected_concepts(result, entry.layer, entry.quantile, 0.04)
        assert len(found) == entry.count.unique["total"]
        assert found["units"].list.len().sum() == entry.count.detectors["total"]
        for (category,), part in found.group_by("category"):
            assert len(part) == entry.count.unique[str(category)]


def test_a_single_layer_has_a_bar_for_each_category(result: Result) -> None:
    count = result.detectors()[0].count
    (axes,) = plot.bars(result, layers=["block.1"]).axes
    assert count.unique["total"] > 0
    assert [bar.get_width() for bar in axes.patches] == [count.unique["object"], count.unique["color"]]  # type: ignore[attr-defined]
    assert to_hex(axes.patches[0].get_facecolor()) == CATEGORY_COLORS["object"].lower()


def test_several_layers_have_a_stacked_bar_each(result: Result) -> None:
    (axes,) = plot.bars(result).axes
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows == ["block.1", "head/<b>"]
    ends = max(bar.get_x() + bar.get_width() for bar in axes.patches[:2])  # type: ignore[attr-defined]
    assert ends == result.detectors()[0].count.unique["total"]


def test_concept_bars_are_as_high_as_the_number_of_their_units(result: Result) -> None:
    found = detected_concepts(result, "block.1", 0.05, 0.04)
    (axes,) = plot.concepts(result, "block.1").axes
    assert [bar.get_height() for bar in axes.patches] == found["units"].list.len().to_list()  # type: ignore[attr-defined]
    assert [text.get_text() for text in axes.get_xticklabels()] == found["concept"].to_list()


def test_names_with_dollars_are_drawn_as_they_are(result: Result, tmp_path: Path) -> None:
    layer = result.layers["block.1"]
    odd = layer.units.with_columns(label=pl.lit("$\\bad{$ <i>&"), category=pl.lit("object"), iou=pl.lit(0.5))
    changed = Result(result.info, result.concepts, {"block.1": type(layer)(**{**vars(layer), "units": odd})})
    plot.save_svg(plot.concepts(changed, "block.1"), tmp_path / "odd.svg")
    texts = [node.text for node in ET.parse(tmp_path / "odd.svg").iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314
    assert "$\\bad{$ <i>&" in texts


def test_charts_say_so_when_no_unit_is_a_detector(nothing: Result) -> None:
    for figure in (plot.bars(nothing), plot.concepts(nothing, "dead")):
        (text,) = figure.axes[0].texts
        assert text.get_text() == "No unit is a detector at an IoU of 0.04."


def test_the_same_chart_gives_the_same_bytes_and_leaves_settings_alone(result: Result, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    for name in ("a", "b"):
        plot.save_svg(plot.bars(result), tmp_path / f"{name}.svg")
    plot.save_svg(plot.bars(result), tmp_path / "dark.svg", ink="#ffffff")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert plot.INK.lower() not in (tmp_path / "dark.svg").read_text()
    assert dict(mpl.rcParams) == before


def test_unknown_layers_and_quantiles_are_errors(result: Result) -> None:
    with pytest.raises(ResultError, match="no layer 'nowhere'"):
        plot.bars(result, layers=["nowhere"])
    with pytest.raises(ResultError, match=r"no quantile 0\.5"):
        plot.concepts(result, "block.1", quantile=0.5)


def test_categories_keep_their_color_whatever_else_is_there() -> None:
    assert category_colors(["garment", "part"]) == {"garment": OTHER_COLORS[0], "part": CATEGORY_COLORS["part"]}
    assert len(set(category_colors([*CATEGORY_COLORS, "a", "b", "c"]).values())) == 9


def test_showing_needs_neither_torch_nor_pyplot() -> None:
    code = "import sys, netdissect.show; sys.exit(bool({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
