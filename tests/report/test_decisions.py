"""What is shown of an IoU: on its side of the limit everywhere, and in bars that do not cut it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from matplotlib.text import Text

from netdissect import console_tables, plots, show_unit
from netdissect.explorer.queries.concept_details import concept_detail, concept_page
from netdissect.explorer.queries.requests import UnitsQuery
from netdissect.explorer.queries.unit_details import unit_page
from netdissect.explorer.run_registry import RunRegistry
from netdissect.report.views.run_views import ConceptView, concept_views
from netdissect.report.write import report
from netdissect.result import Result
from netdissect.result.queries import bar_end

LAYER, UNIT, BELOW = "block.1", 0, 0.03996


@pytest.fixture
def below(result: Result) -> Result:
    """The run with a unit whose best IoU is just below the limit of 0.04."""
    layer, unit = result.layers[LAYER], pl.col("unit") == UNIT
    assert result.info.min_iou(LAYER) == 0.04
    scores = layer.lazy_scores.with_columns(iou=pl.when(unit).then(pl.min_horizontal("iou", BELOW)).otherwise("iou"))
    units = layer.units.with_columns(iou=pl.when(unit).then(BELOW).otherwise("iou"))
    own = units.filter(unit)["label"][0]
    scores = scores.with_columns(
        iou=pl.when(unit & (pl.col("concept").cast(pl.String) == own)).then(BELOW).otherwise("iou")
    )
    return replace(result, layers={**result.layers, LAYER: replace(layer, units=units, lazy_scores=scores)})


def concepts_of(runs: RunRegistry) -> list[ConceptView]:
    return concept_views([run.numbered for run in runs])


def shown_texts(below: Result, folder: Path) -> Iterator[str]:
    """Yield what report, figure, terminal, notebook and explorer show of the unit."""
    report(below, folder)
    yield next(re.finditer(rf'<article [^>]*data-unit="{UNIT}".*?</article>', (folder / "r0/l0/index.html").read_text(),
                           re.DOTALL))[0].split("</h3>")[1]  # fmt: skip
    yield (folder / f"r0/l0/u{UNIT}.html").read_text()
    yield " ".join(text.get_text() for text in plots.units(below, LAYER, [UNIT]).findobj(Text))
    yield str(console_tables.units(below, LAYER, None))
    yield show_unit(below, LAYER, UNIT)._repr_html_()
    runs = RunRegistry.open(below)
    label = below.layers[LAYER].units.filter(unit=UNIT)["label"][0]
    yield " ".join(each.iou_text for each in concept_detail(runs, concepts_of(runs), label, None, 50).units)


def test_an_iou_just_below_the_limit_is_nowhere_shown_as_the_limit(below: Result, tmp_path: Path) -> None:
    for text in shown_texts(below, tmp_path / "report"):
        assert "0.03996" in text, text
        assert not re.search(r"\b0\.0400?\b(?![^<]*limit)", text.replace("at least 0.04", "")), text


def test_the_best_iou_of_a_concept_in_the_explorer_is_on_its_side_of_the_limit(below: Result) -> None:
    only = replace(
        below,
        layers={LAYER: replace(below.layers[LAYER], lazy_scores=below.layers[LAYER].lazy_scores.filter(unit=UNIT))},
    )
    runs = RunRegistry.open(only)
    page = concept_page(runs, concepts_of(runs), "", None, 0, 50)
    texts = [each.best_iou_text for each in page.concepts]
    assert "0.03996" in texts


def test_no_bar_of_an_iou_or_of_its_interval_reaches_the_end(with_statistics: Result, tmp_path: Path) -> None:
    report(with_statistics, tmp_path)
    page = (tmp_path / "r0/l0/index.html").read_text()
    bars = re.findall(r'<b style="width:([\d.]+)%">', page)
    intervals = re.findall(r'<s style="left:([\d.]+)%;right:([\d.]+)%">', page)
    units = with_statistics.layers[LAYER].units.filter(pl.col("quantile") == 0.05, ~pl.col("dead"))
    measured = with_statistics.layers[LAYER].statistics["units"].filter(pl.col("quantile") == 0.05).collect()
    end = float(re.search(r"Bars end at an <abbr[^>]*>IoU</abbr> of (\d\.\d+)", page)[1])  # type: ignore[index]
    largest = max(units["iou"].max(), measured["iou_ci_high"].max(), 0.0)  # type: ignore[type-var]
    assert min(largest + 1e-12, 1) <= end <= min(largest + 0.0501, 1) or end == 0.1
    assert sorted(map(float, bars)) == pytest.approx([100 * iou / end for iou in sorted(units["iou"])], abs=0.051)
    assert intervals
    known = {round(100 - 100 * value / end, 1) for value in measured["iou_ci_high"].drop_nulls()}
    assert {float(right) for _, right in intervals} <= known


def test_an_attainable_iou_beyond_the_end_of_the_bars_is_marked(result: Result, tmp_path: Path) -> None:
    report(result, tmp_path)
    page = (tmp_path / "r0/l0/index.html").read_text()
    end = bar_end(result, LAYER, 0.05, 0.04)
    scores = result.scores.filter(layer=LAYER, quantile=0.05).select("unit", "concept", "max_attainable_iou")
    labels = result.layers[LAYER].units.filter(pl.col("quantile") == 0.05, ~pl.col("dead")).select("unit", "label")
    own = labels.join(
        scores.with_columns(pl.col("concept").cast(pl.String)), left_on=["unit", "label"], right_on=["unit", "concept"]
    )
    beyond = (own["max_attainable_iou"] > end).sum()
    assert page.count('<i class="beyond"') == beyond
    assert page.count('<i class="beyond" style="width:100.0%">') == beyond


def test_bars_of_the_explorer_end_beyond_every_unit_at_each_quantile(result: Result) -> None:
    run = next(iter(RunRegistry.open(result)))
    for quantile in result.info.config.protocol.quantiles:
        page = unit_page(run, 0, UnitsQuery(quantile=quantile, limit=200, images=0))
        assert max(unit.iou for unit in page.units) < page.bar_end or page.bar_end == 1
        assert page.bar_end == bar_end(result, LAYER, quantile, 0.04)
    assert unit_page(run, 0, UnitsQuery(min_iou=0.97, images=0)).bar_end == 1
