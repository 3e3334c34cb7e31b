"""Statistics of labels and counts as text, against plain loops over the tables."""

import re
import statistics
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from netdissect.config import StatisticsConfig
from netdissect.report import console_tables, report
from netdissect.report.statistics_text import layer_facts, layout_text, robustness
from netdissect.result import LayoutCheckInfo, Result, load_result, save_result
from netdissect.scoring.metrics import METRICS

LAYER, OTHER = "block.1", "head/<b>"


def measured_rows(result: Result, table: str, quantile: float) -> list[dict[str, float]]:
    return result.layers[LAYER].statistics[table].filter(quantile=quantile).collect().to_dicts()


@pytest.mark.parametrize("quantile", [0.05, 0.1])
def test_facts_are_those_of_the_detectors_at_the_quantile(with_statistics: Result, quantile: float) -> None:
    limit = with_statistics.info.min_iou(LAYER)
    assert limit == 0.1234
    units = with_statistics.layers[LAYER].units.filter(quantile=quantile).to_dicts()
    detectors = {row["unit"]: row["label"] for row in units if row["label"] and row["iou"] >= limit}
    assert 0 < len(detectors) < len(units)
    measured = [row for row in measured_rows(with_statistics, "units", quantile) if row["unit"] in detectors]
    scores = [
        row
        for row in measured_rows(with_statistics, "scores", quantile)
        if detectors.get(int(row["unit"])) == row["concept"]
    ]
    facts = layer_facts(with_statistics, LAYER, quantile)
    every = measured_rows(with_statistics, "units", quantile)
    hochberg, yekutieli = (sum(row[f"q_value_{name}"] < 0.05 for row in every) for name in ("bh", "by"))
    assert facts["q < 0.05"] == (
        f"{hochberg} of {len(every)} units (Benjamini-Hochberg), {yekutieli} (Benjamini-Yekutieli)"
    )
    stability = statistics.mean(row["stability"] for row in measured)
    assert facts["label stability"] == f"same label in {100 * stability:.0f} % of bootstrap replicates, on average"
    assert facts["median"] == (
        f"AUROC {statistics.median(row['auroc'] for row in scores):.2f}, average precision "
        f"{statistics.median(row['average_precision'] for row in scores):.2f}, selectivity "
        f"{statistics.median(row['selectivity'] for row in scores):.2f}"
    )
    assert "mean IoU" not in facts  # no IoU on the selection half reaches the limit


def test_mean_heldout_iou_is_of_the_labels_that_reach_the_limit_on_the_selection_half(with_statistics: Result) -> None:
    config = with_statistics.info.config.model_copy(update={"min_iou": 0.04})
    lower = replace(with_statistics, info=with_statistics.info.model_copy(update={"config": config}))
    rows = [row for row in measured_rows(with_statistics, "units", 0.05) if row["selection_iou"] >= 0.04]
    selection, heldout = (statistics.mean(row[name] for row in rows) for name in ("selection_iou", "heldout_iou"))
    assert layer_facts(lower, LAYER, 0.05)["mean IoU"] == (
        f"{selection:.3f} on the selection half, {heldout:.3f} on the held-out half"
    )


def test_labels_and_linear_explanations_are_compared_on_the_units_that_have_both(with_statistics: Result) -> None:
    rows = [row for row in measured_rows(with_statistics, "units", 0.05) if row["linear_r2"] is not None]
    assert 0 < len(rows) < len(measured_rows(with_statistics, "units", 0.05))
    medians = {
        name: statistics.median(row[name] for row in rows) for name in rows[0] if name.endswith(("r2", "lation"))
    }
    terms = with_statistics.layers[LAYER].statistics["linear_explanations"].collect()["unit"].to_list()
    length = statistics.median(terms.count(row["unit"]) for row in rows)
    assert layer_facts(with_statistics, LAYER, 0.05)["mean activation"] == (
        f"median on held-out images: correlation {medians['label_correlation']:.2f} and R2 {medians['label_r2']:.2f} "
        f"of the label, correlation {medians['linear_correlation']:.2f} and R2 {medians['linear_r2']:.2f} of the "
        f"linear explanation of {length:g} concepts"
    )


def test_robustness_counts_the_combinations_of_quantile_and_limit(with_statistics: Result) -> None:
    counted = {
        name: with_statistics.layers[name].statistics["sensitivity"].filter(rule="top-label").collect().to_dicts()
        for name in (LAYER, OTHER)
    }
    unique = {
        name: {(row["quantile"], row["min_iou"], row["category"]): row["unique_detectors"] for row in rows}
        for name, rows in counted.items()
    }
    pairs = sorted({(row["quantile"], row["min_iou"]) for row in counted[LAYER]})
    own, other = unique[LAYER], unique[OTHER]
    more = sum(own[*pair, "total"] > other[*pair, "total"] for pair in pairs)
    fewer = sum(own[*pair, "total"] < other[*pair, "total"] for pair in pairs)
    wins = {
        name: sum(own[*pair, name] > own[*pair, rest] for pair in pairs)
        for name, rest in (("object", "color"), ("color", "object"))
    }
    most = max(wins, key=lambda name: wins[name])
    assert wins["object"] != wins["color"]
    assert robustness(with_statistics, LAYER) == [
        "Detectors were counted at 9 combinations of quantile and IoU limit.",
        f"The category with the most unique detectors is most often {most}, in {wins[most]} of them.",
        f"The layer has more unique detectors than {OTHER} in {more} of them and fewer in {fewer}.",
    ]


def test_the_summary_lists_all_statistics_and_none_of_a_run_without_them(
    with_statistics: Result, result: Result
) -> None:
    table = console_tables.statistics(with_statistics)
    assert table.rows[0][:3] == [LAYER, "0.05", "count"]
    assert table.rows[0][3].startswith("3 unique detectors [1, 4]; 0.5")
    assert [row[2] for row in table.rows[:4]] == ["count", "q < 0.05", "label stability", "median"]
    assert table.notes[-1].endswith("at an IoU of 0.1234 in block.1 or more, at no IoU in head/<b>.")
    of_counts = " ".join(console_tables.counts(with_statistics.detectors("per-category")).notes)
    assert "has an IoU above 0.1234 in block.1, above 1 in head/<b>." in of_counts
    assert [row[2] for row in console_tables.statistics(result).rows] == ["count"] * 4
    assert layer_facts(result, LAYER, 0.05) == {}
    assert robustness(result, LAYER) == []


def test_pages_show_measured_statistics_and_no_empty_section_for_others(
    with_statistics: Result, result: Result, tmp_path: Path
) -> None:
    save_result(with_statistics, tmp_path / "run")
    root = report(load_result(tmp_path / "run"), tmp_path / "sure").parent
    unit, layer, bare = (root / path for path in ("r0/l0/u0.html", "r0/l0/index.html", "r0/l1/index.html"))
    plain = report(result, tmp_path / "plain").parent
    row = measured_rows(with_statistics, "units", 0.05)[0]
    for key, name in (("q_value_bh", "Benjamini-Hochberg"), ("q_value_by", "Benjamini-Yekutieli")):
        assert f"{row[key]:.2g} ({name})" in unit.read_text()
    own = max(measured_rows(with_statistics, "scores", 0.05), key=lambda score: (score["unit"] == 0, score["iou"]))
    for metric in METRICS:
        for text in (f">{own[metric.name]:.3f}<", f">{metric.short}<", f"{metric.short}: {metric.meaning}."):
            assert text in unit.read_text()
    cards = layer.read_text()
    for row in measured_rows(with_statistics, "units", 0.05)[:3]:
        assert f">q {row['q_value_bh']:.2g}<" in cards
    assert cards.count('<span title="Share of bootstrap replicates') == sum(
        not dead for dead in with_statistics.layers[LAYER].units.filter(quantile=0.05)["dead"]
    )
    assert "Extra metrics" not in (root / "r0/l1/u0.html").read_text()
    for text in (
        "Statistics of the labels",
        "IoU of at least 0.1234: the false discovery rate",
        "Detectors at other quantiles and limits",
        *layer_facts(with_statistics, LAYER, 0.05).values(),
        robustness(with_statistics, LAYER)[1],
    ):
        assert text in layer.read_text(), text
    assert "the false discovery rate under the permutation null is above 5 % at every IoU" in bare.read_text()
    assert "none of the 8 units is a detector: no iou reaches 1." in bare.read_text().lower()
    assert (
        "IoU 0.1234 in block.1, 1 in head/&lt;b&gt; (false discovery rate at most 5 %)"
        in (root / "index.html").read_text()
    )
    for path in ("r0/l0/u0.html", "r0/l0/index.html", "index.html"):
        page = (plain / path).read_text()
        absent = (
            "Statistics of the label",
            "Extra metrics",
            "at other quantiles",
            "discovery rate",
            "q =",
            "stability",
        )
        assert not any(text in page for text in absent)


def test_missing_columns_of_a_table_are_left_out(with_statistics: Result, tmp_path: Path) -> None:
    layer = with_statistics.layers[LAYER]
    older = {
        **layer.statistics,
        "units": layer.statistics["units"].drop("q_value_by", "p_value", "stability", "heldout_iou"),
    }
    before = replace(with_statistics, layers={LAYER: replace(layer, statistics=older)})
    assert list(layer_facts(before, LAYER, 0.05)) == ["median", "mean activation"]
    page = report(before, tmp_path / "report").parent / "r0/l0/u0.html"
    assert "Benjamini" not in page.read_text()


def test_the_head_of_the_report_and_of_a_layer_have_the_sentence_of_the_terminal(
    with_statistics: Result, result: Result, tmp_path: Path
) -> None:
    for run, name in ((with_statistics, "measured"), (result, "plain")):
        root = report(run, tmp_path / name).parent
        first = str(console_tables.summary(run)).splitlines()[:2]
        opening = without_options((root / "index.html").read_text().partition("<section")[0])
        assert f"{first[0]}." in opening
        assert f'<p class="lead">{first[1]}.</p>' in opening
        sentence = first[1].partition(": ")[2]
        assert f"{sentence}. " in without_options((root / "r0/l0/index.html").read_text()).partition("<section")[0]
    assert "0.5 under the permutation null" in (tmp_path / "measured" / "index.html").read_text()
    assert "no permutation null: --permutations 100" in without_options((tmp_path / "plain/index.html").read_text())


def without_options(page: str) -> str:
    """Return a page with its options of commands as text."""
    return unescape(re.sub(r'<code class="option">(.*?)</code>', r"\1", page))


def test_q_values_are_left_out_of_every_text_below_1000_permutations(with_statistics: Result, tmp_path: Path) -> None:
    few = StatisticsConfig(permutations=999)
    config = with_statistics.info.config.model_copy(update={"statistics": few})
    result = replace(with_statistics, info=with_statistics.info.model_copy(update={"config": config}))
    assert "q < 0.05" in layer_facts(with_statistics, LAYER, 0.05)
    assert list(layer_facts(result, LAYER, 0.05)) == ["label stability", "median", "mean activation"]
    root = report(result, tmp_path / "report").parent
    pages = [re.sub("<[^>]+>", "", path.read_text()) for path in root.rglob("*.html")]
    assert len(pages) > 10
    assert any("Permutation test: p = " in page for page in pages)
    assert not any("Benjamini" in page or ">q " in page or "q = " in page for page in pages)


@pytest.mark.parametrize(
    ("verdict", "reason", "text"),
    [
        ("confirmed", "", ""),
        ("no evidence", "diffuse", "The layout check was inconclusive (diffuse)."),
        (
            "contradicted",
            "displaced",
            "The layout check contradicts the layout of its masks (displaced): correlation 0.80, displacement -3.2 "
            "steps.",
        ),
    ],
)
def test_a_layout_that_the_check_did_not_confirm_is_reported_in_the_terminal(
    with_statistics: Result, tmp_path: Path, verdict: str, reason: str, text: str
) -> None:
    check = LayoutCheckInfo(
        verdict=verdict, reason=reason, correlation=(0.9, 0.8), slope=(1.0, 1.0), displacement=(0.1, -3.2),
        tolerance=(1.0, 1.0), share=0.1, peak=9.0, common=0.0, outside=0.0,
    )  # fmt: skip
    checked = replace(with_statistics, info=with_statistics.info.model_copy(update={"layout_checks": {LAYER: check}}))
    assert layout_text(checked.info, checked.layers[LAYER].info) == text
    for table in (console_tables.summary(checked).table(2, 3), console_tables.statistics(checked)):
        assert (f"{LAYER}: {text}" in table.notes) if text else not any(LAYER in note for note in table.notes[:-1])


def test_a_layer_of_one_cell_needs_no_layout_check_and_an_unchecked_layout_is_reported(with_statistics: Result) -> None:
    config = with_statistics.info.config.model_copy(update={"layout_check": False})
    info = with_statistics.info.model_copy(update={"config": config})
    layer = with_statistics.layers[LAYER].info
    assert layout_text(info, layer) == "The spatial layout of its cells was not checked."
    assert layout_text(info, layer.model_copy(update={"height": 1, "width": 1})) == ""
