"""Figures: they show the counts, in the same colors everywhere and in every format, and change no global state."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image

from netdissect import plots
from netdissect.config import RULES, Rule
from netdissect.errors import ResultError
from netdissect.plots.category_colors import CATEGORY_COLORS, OTHER_COLORS, PAPER_COLORS, category_colors
from netdissect.plots.style import FAINT, INK, NULL_LABEL
from netdissect.result import Result
from netdissect.result.queries import detected_concepts, image_maxima, layer_units, run_min_iou, run_quantile
from netdissect.scoring.co_activation import map_units


def texts_of(path: Path) -> list[str]:
    return [node.text or "" for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314


@pytest.mark.parametrize("rule", RULES)
def test_the_listed_concepts_are_the_counted_unique_detectors(result: Result, rule: Rule) -> None:
    entries = result.detectors(rule)
    assert {entry.layer for entry in entries} == set(result.layers)
    for entry in entries:
        detected = detected_concepts(result, entry.layer, entry.quantile, 0.04, rule)
        assert len(detected) == entry.count.unique_detectors["total"]
        assert len(set(detected["units"].explode().drop_nulls())) == entry.count.detectors["total"]
        for (category,), part in detected.group_by("category"):
            assert len(part) == entry.count.unique_detectors[str(category)]
            assert part["units"].list.len().sum() == entry.count.detectors[str(category)]


def test_concept_bars_are_as_high_as_the_number_of_their_units(result: Result) -> None:
    detected = detected_concepts(result, "block.1", 0.05, 0.04)
    (axes,) = plots.bars(result, "block.1").axes
    assert [bar.get_height() for bar in axes.patches] == detected["units"].list.len().to_list()  # type: ignore[attr-defined]
    assert [text.get_text() for text in axes.get_xticklabels()] == detected["concept"].to_list()


def test_concept_bars_count_by_either_rule(result: Result) -> None:
    heights = {}
    for rule in RULES:
        (axes,) = plots.bars(result, "block.1", rule=rule, quantile=0.1, min_iou=0.05).axes
        heights[rule] = sum(bar.get_height() for bar in axes.patches)  # type: ignore[attr-defined]
        entry = next(each for each in result.detectors(rule, 0.05) if (each.layer, each.quantile) == ("block.1", 0.1))
        categories = result.info.data.categories
        assert heights[rule] == sum(entry.count.detectors[name] for name in categories)
    assert heights["per-category"] > heights["top-label"]


def test_a_contact_sheet_has_labels_and_masks_of_the_named_quantile(result: Result) -> None:
    for quantile in (0.05, 0.1):
        iou = result.layers["block.1"].units.filter(unit=0, quantile=quantile)["iou"].item()
        drawn = plots.units(result, "block.1", [0], quantile=quantile)
        assert f"unit 0, IoU {iou:.3f}" in [text.get_text() for text in drawn.texts]


def test_every_layer_of_every_run_has_a_stacked_bar_as_long_as_its_unique_detectors(result: Result) -> None:
    (axes,) = plots.layers([result, result], names=["one", "two"]).axes
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows == ["block.1", "head/<b>"] * 2
    ends: dict[float, float] = {}
    for bar in axes.patches:
        position = bar.get_y() + bar.get_height() / 2  # type: ignore[attr-defined]
        ends[position] = max(ends.get(position, 0), bar.get_x() + bar.get_width())  # type: ignore[attr-defined]
    counts = [entry.count.unique_detectors["total"] for entry in result.detectors() if entry.quantile == 0.05]
    assert [ends[position] for position in sorted(ends)] == counts * 2
    assert {"one", "two"} <= {text.get_text() for text in axes.texts}


def test_the_distribution_of_iou_holds_every_unit_and_a_line_at_the_limit(result: Result) -> None:
    (axes,) = plots.iou(result, "block.1").axes
    assert sum(bar.get_height() for bar in axes.patches) == 8  # type: ignore[attr-defined]
    (line,) = axes.lines
    assert set(line.get_xdata()) == {0.04}  # type: ignore[arg-type]
    beyond = sum(bar.get_height() for bar in axes.patches if bar.get_x() >= 0.04)  # type: ignore[attr-defined]
    assert beyond == layer_units(result, "block.1", 0.05, 0.04)["detector"].sum()


def test_a_contact_sheet_has_a_row_of_images_for_each_chosen_unit(result: Result) -> None:
    figure = plots.units(result, "block.1", [2, 0, 6], count=4)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 8  # unit 6 is dead: it has no images
    names = [text.get_text() for text in figure.texts]
    labels = layer_units(result, "block.1", 0.05, 0.04)["label"]
    assert names[0] == labels[2]
    assert names[1].startswith("unit 2, IoU")
    assert "dead" in names
    with pytest.raises(ResultError, match=r"no unit 8; its units are 0 to 7"):
        plots.units(result, "block.1", [8])


def test_mutually_matched_units_stand_side_by_side_with_their_correlation(result: Result) -> None:
    swapped = result.layers["block.1"]
    order = {0: 2, 1: 0, 2: 1}
    renamed = pl.col("unit").replace(order)
    other = replace(
        swapped,
        units=swapped.units.with_columns(renamed).sort("quantile", "unit"),
        thresholds=swapped.thresholds.with_columns(renamed).sort("quantile", "unit"),
        top=swapped.top.with_columns(renamed),
        top_maps=swapped.top_maps[[1, 2, 0, 3, 4, 5, 6, 7]],
        statistics={"image_maxima": swapped.statistics["image_maxima"].with_columns(renamed)},
    )
    second = replace(result, layers={"block.1": other})
    figure = plots.matched_units(result, second, pairs=6, count=3, names=["one", "two"])
    texts = [text.get_text() for text in figure.texts]
    assert (texts[0], texts.count("r = 1.00")) == ("one, block.1", 6)
    middle = texts.index("two, block.1")
    units = [[int(text.split()[1][:-1]) for text in part if text.startswith("unit ")]
             for part in (texts[:middle], texts[middle:])]  # fmt: skip
    assert units[1] == [order.get(unit, unit) for unit in units[0]]
    assert sorted(units[0]) == [0, 1, 2, 3, 4, 5]
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 2 * 6 * 3
    first, last = shown[0].images[0].get_array(), shown[len(shown) // 2].images[0].get_array()
    np.testing.assert_array_equal(first, last)  # the same unit in both runs, the same image
    with pytest.raises(ResultError, match="the runs have no layer of the same name"):
        plots.matched_units(result, replace(second, layers={"other": other}))


def test_labels_of_matched_units_that_are_no_detectors_are_gray(result: Result) -> None:
    detects = dict(layer_units(result, "block.1", run_quantile(result), run_min_iou(result, "block.1"))
                   .select("unit", "detector").rows())  # fmt: skip
    figure = plots.matched_units(result, result, layer="block.1", pairs=len(detects))
    texts = figure.texts
    drawn = [(texts[at - 1], int(text.get_text().split()[1][:-1]))
             for at, text in enumerate(texts) if text.get_text().startswith("unit ")]  # fmt: skip
    assert {detects[unit] for _, unit in drawn} == {True, False}
    for label, unit in drawn:
        assert (label.get_color(), label.get_weight()) == ((INK, "bold") if detects[unit] else (FAINT, "normal"))
    assert texts[-1].get_text() == "gray: the unit is no detector"


def test_two_runs_are_compared_by_the_best_iou_of_every_concept(result: Result) -> None:
    (axes,) = plots.concept_scatter(result, result, names=["one", "two"]).axes
    points = [tuple(point) for drawn in axes.collections for point in drawn.get_offsets()]  # type: ignore[union-attr]
    assert len(points) == len(result.concepts)
    assert all(right == up for right, up in points)
    best = result.scores.filter(quantile=0.05).group_by("concept").agg(pl.col("iou").max())["iou"]
    assert sorted(right for right, _ in points) == sorted(best)
    assert axes.get_xlabel() == "best IoU, one"


def test_sensitivity_draws_a_line_for_each_quantile_and_the_limit(with_statistics: Result, result: Result) -> None:
    axes = plots.sensitivity(with_statistics, "block.1").axes
    table = (
        with_statistics.layers["block.1"].statistics["sensitivity"].filter(rule="top-label", category="total").collect()
    )
    for part, column in zip(axes, ("detectors", "unique_detectors"), strict=True):
        lines = [line for line in part.get_lines() if line.get_label() != NULL_LABEL]
        drawn = [list(zip(*line.get_data(), strict=True)) for line in lines]
        wanted = [table.filter(quantile=q).sort("min_iou").select("min_iou", column).rows() for q in (0.01, 0.05, 0.1)]
        assert drawn[:-1] == wanted
        assert lines[-1].get_xdata()[0] == 0.1234
    with pytest.raises(ResultError, match="Repeat it with --sensitivity"):
        plots.sensitivity(result, "block.1")


def marks(axes: Axes) -> list[tuple[float, float]]:
    """Return the marks of the null that axes show."""
    lines = [line for line in axes.get_lines() if line.get_label() == NULL_LABEL]
    return [point for line in lines for point in zip(*line.get_data(), strict=True)]


def test_figures_of_counts_mark_their_mean_under_the_null(with_statistics: Result) -> None:
    counts = with_statistics.layers["block.1"].statistics["counts"].collect()
    null = counts.filter(rule="top-label", category="total", quantile=0.05)["null_unique_detectors"].item()
    figure = plots.layers(with_statistics)
    (axes,) = figure.axes
    assert marks(axes) == [(null, 0.0)]  # the other layer has none
    assert axes.get_xlim()[1] > null
    assert NULL_LABEL in [text.get_text() for text in figure.legends[0].get_texts()]
    other_limit = plots.layers(with_statistics, min_iou=0.05)
    assert not marks(other_limit.axes[0])
    assert NULL_LABEL not in [text.get_text() for text in other_limit.legends[0].get_texts()]
    units, unique = plots.sensitivity(with_statistics, "block.1").axes
    assert not marks(units)
    assert marks(unique) == [(0.1234, null)] * 2  # of both quantiles


def test_concept_bars_say_how_many_concepts_of_a_category_are_under_the_null(with_statistics: Result) -> None:
    layer = with_statistics.layers["block.1"]
    counts = layer.statistics["counts"].with_columns(pl.col("category").replace("total", "color"))
    changed = replace(layer, statistics=dict(layer.statistics) | {"counts": counts})
    run = replace(with_statistics, layers={"block.1": changed})

    def titles(min_iou: float | None) -> list[str]:
        return [text.get_text() for text in plots.bars(run, min_iou=min_iou).legends[0].get_texts()]

    assert any(text.endswith(" (null 0.5)") and text.startswith("color ") for text in titles(None))
    assert not any("null" in text for text in titles(0.05))


def test_names_with_dollars_are_drawn_as_they_are(result: Result, tmp_path: Path) -> None:
    layer = result.layers["block.1"]
    odd = layer.units.with_columns(label=pl.lit("$\\bad{$ <i>&"), category=pl.lit("object"), iou=pl.lit(0.5))
    changed = Result(result.info, result.concepts, {"block.1": type(layer)(**{**vars(layer), "units": odd})})
    assert "$\\bad{$ <i>&" in texts_of(plots.save(plots.bars(changed), tmp_path / "bars.svg"))
    assert "$\\bad{$ <i>&" in texts_of(plots.save(plots.units(changed, chosen=[0]), tmp_path / "units.svg"))


def test_figures_without_detectors_contain_a_sentence(no_detectors: Result) -> None:
    for figure in (plots.bars(no_detectors), plots.layers(no_detectors)):
        (text,) = figure.axes[0].texts
        assert text.get_text() == "No unit has an IoU of at least 0.04."
    for figure in (
        plots.iou(no_detectors),
        plots.concept_scatter(no_detectors, no_detectors),
        plots.units(no_detectors),
    ):
        plots.svg(figure)


def test_the_same_figure_gives_the_same_bytes_in_every_format_and_leaves_settings_alone(
    result: Result, tmp_path: Path
) -> None:
    before = dict(mpl.rcParams)
    for form in ("svg", "pdf", "png"):
        first, second = (plots.save(plots.layers(result), tmp_path / f"{name}.{form}").read_bytes() for name in "ab")
        assert first == second
    assert dict(mpl.rcParams) == before
    with Image.open(tmp_path / "a.png") as image:
        assert round(image.info["dpi"][0]) == 300
    assert b"/Type0" in (tmp_path / "a.pdf").read_bytes()  # fonts embedded as outlines: Type 42


def test_a_figure_of_another_format_is_an_error(result: Result, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"ends with '\.gif'. Name a file that ends with \.pdf, \.svg, \.png"):
        plots.save(plots.layers(result), tmp_path / "a.gif")
    with pytest.raises(ResultError, match="cannot be written"):
        plots.save(plots.layers(result), tmp_path / "nowhere" / "a.pdf")


def test_unknown_layers_and_quantiles_are_errors(result: Result) -> None:
    with pytest.raises(ResultError, match="no layer 'nowhere'"):
        plots.bars(result, "nowhere")
    with pytest.raises(ResultError, match=r"2 layers and one is drawn. Name it: block\.1, head/<b>"):
        plots.bars(result)
    with pytest.raises(ResultError, match=r"no quantile 0\.5"):
        plots.bars(result, "block.1", quantile=0.5)


def test_a_category_has_the_same_color_in_every_figure(result: Result) -> None:
    assert category_colors(["garment", "part"]) == {"garment": OTHER_COLORS[0], "part": CATEGORY_COLORS["part"]}
    assert len(set(category_colors([*CATEGORY_COLORS, "a", "b", "c"]).values())) == 9
    for colors, expected in (("safe", CATEGORY_COLORS), ("paper", PAPER_COLORS)):
        (axes,) = plots.bars(result, "block.1", colors=colors).axes  # type: ignore[arg-type]
        assert to_hex(axes.patches[0].get_facecolor()) == expected["object"].lower()


def test_reports_and_figures_load_neither_torch_nor_pyplot() -> None:
    code = (
        "import sys; from netdissect.report import console_tables, report, reproduce_page, show_unit; "
        "from netdissect.experiments import result_files; from netdissect import plots; "
        "sys.exit(bool({'torch', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_unit_map_draws_each_varying_unit_at_its_principal_components_in_its_color(result: Result) -> None:
    axes = plots.unit_map(result, "block.1", min_iou=0.1).axes[0]
    maxima = image_maxima(result, "block.1").maxima
    points, explained = map_units(maxima)
    units = result.layers["block.1"].units.filter(quantile=0.05).to_dicts()
    drawn: dict[str, list[list[float]]] = {part.get_label(): part.get_offsets().tolist() for part in axes.collections}
    expected: dict[str, list[list[float]]] = {}
    for unit in range(6):  # the others are dead or constant
        category = units[unit]["category"] if units[unit]["iou"] >= 0.1 else "no detector"
        expected.setdefault(category, []).append(points[unit].tolist())
    assert drawn == expected
    assert len(expected) > 1
    assert axes.get_xlabel() == f"PC 1, {explained[0]:.0%} of the variance"
    colors = category_colors(result.info.data.categories)
    for part in axes.collections:
        color = to_hex(part.get_edgecolor()[0]).upper()
        assert color == (FAINT if part.get_label() == "no detector" else colors[part.get_label()]).upper()
