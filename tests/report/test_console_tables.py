"""Tables for the terminal, and counts as JSON."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from netdissect.compose_config import ComposeConfig
from netdissect.concepts import ConceptData
from netdissect.config import RULES
from netdissect.errors import ResultError
from netdissect.report import console_tables
from netdissect.report.formulas.formula_tables import formula_units, layer_notes
from netdissect.report.text_table import TextTable
from netdissect.result import LayerCount, Result, compare_results, read_published
from netdissect.result.formulas.formula_result import Formulas
from netdissect.result.formulas.formula_schema import FORMULAS
from netdissect.scoring import count_detectors


def printed(table: TextTable) -> str:
    return str(table)


def test_counts_of_both_rules_are_a_row_for_each_layer_and_quantile(result: Result) -> None:
    counts = [entry for rule in RULES for entry in result.detectors(rule)]
    table = console_tables.counts(counts)
    rows = {(layer, quantile, rule): cells for layer, quantile, rule, *cells in table.rows}
    assert len(rows) == len(counts) == 8
    for entry in counts:
        cells = rows[entry.layer, f"{entry.quantile:g}", entry.count.rule]
        assert cells[:2] == ["8", f"{entry.count.detectors['total']} / {entry.count.unique_detectors['total']}"]
    assert "of 3 different concepts" in printed(table)


def test_a_table_without_quantile_leaves_it_blank(result: Result) -> None:
    count = result.detectors()[0].count
    row = printed(console_tables.counts([LayerCount("published", None, count)]))
    assert "published" in row
    assert "None" not in row


def test_no_counts_make_an_empty_table() -> None:
    assert "layer" in printed(console_tables.counts([]))


def test_names_in_square_brackets_are_not_markup(result: Result) -> None:
    assert "a$b_$ [bold]" in printed(console_tables.concepts(result))


def test_an_attainable_iou_of_one_quantile_is_listed_once(result: Result) -> None:
    config = result.info.config
    protocol = config.protocol.model_copy(update={"quantiles": (0.02,)})
    info = result.info.model_copy(update={"config": config.model_copy(update={"protocol": protocol})})
    heads = [column.name for column in console_tables.concepts(replace(result, info=info)).columns]
    assert [head for head in heads if "attainable" in head] == ["attainable IoU at 0.02"]


def test_units_are_listed_best_first_with_their_next_best_concepts(result: Result) -> None:
    lines = printed(console_tables.units(result, "block.1", top=3)).splitlines()
    rows = [line for line in lines if "  yes  " in line]
    best = result.units.filter(layer="block.1", quantile=0.05).sort("iou", "unit", descending=[True, False]).head(3)
    assert [int(row.split()[0]) for row in rows] == best["unit"].to_list()[: len(rows)]
    for row, label in zip(rows, best["label"], strict=False):
        assert row.count(label) == 1


def test_units_of_a_run_with_moments_are_listed_with_their_r2_and_linear_explanation(
    result: Result, with_statistics: Result
) -> None:
    assert "R2" not in printed(console_tables.units(result, "block.1"))
    table = console_tables.units(with_statistics, "block.1", top=None)
    assert [column.name for column in table.columns][-3:] == ["label R2", "linear R2", "linear explanation"]
    assert "of the label that the other images give" in table.notes[0]
    rows = with_statistics.layers["block.1"].statistics["units"].filter(quantile=0.05).collect().to_dicts()
    expected = {
        str(row["unit"]): ["" if row[name] is None else f"{row[name]:.2f}" for name in ("label_r2", "linear_r2")]
        for row in rows
    }
    assert {unit: cells[-3:-1] for unit, *cells in table.rows} == expected
    explanations = with_statistics.layers["block.1"].statistics["linear_explanations"].collect()
    for unit, *cells in table.rows:
        terms = explanations.filter(unit=int(unit)).select("standardized_weight", "concept").rows()
        assert cells[-1] == ", ".join(f"{weight:+.2f} {concept}" for weight, concept in terms)


def test_all_units_are_listed_without_a_limit_and_dead_units_are_marked(result: Result) -> None:
    text = printed(console_tables.units(result, "block.1", top=None))
    assert "8 of 8 units" in text
    assert text.count("dead") == 2


def test_a_quantile_that_the_run_does_not_have_is_an_error(result: Result) -> None:
    with pytest.raises(ResultError, match=r"no quantile 0\.3; it has 0\.05, 0\.1"):
        console_tables.units(result, "block.1", quantile=0.3)


def test_counts_as_json_have_the_documented_keys(result: Result) -> None:
    counts = result.detectors("per-category")
    values = console_tables.counts_json(counts)
    assert [(value["layer"], value["quantile"]) for value in values] == [
        ("block.1", 0.05), ("block.1", 0.1), ("head/<b>", 0.05), ("head/<b>", 0.1)
    ]  # fmt: skip
    single = console_tables.counts_json(counts[0].count)
    assert list(single) == ["rule", "min_iou", "units", "detectors", "unique_detectors"]
    assert list(single["detectors"]) == list(single["unique_detectors"]) == ["total", "object", "color"]
    assert {key: values[0][key] for key in single} == single


@pytest.mark.real
def test_the_published_table_counts_as_it_was_published(shared: Path) -> None:
    labels = read_published(shared / "reference" / "alexnet-places365-conv5-result.csv").labels
    by_label = console_tables.counts_json(count_detectors(labels, "top-label", 0.04))
    by_category = console_tables.counts_json(count_detectors(labels, "per-category", 0.04))
    assert (by_label["detectors"]["total"], by_label["unique_detectors"]["total"]) == (118, 72)
    assert by_category["unique_detectors"] == {
        "total": 91, "object": 40, "part": 9, "scene": 13, "material": 2, "texture": 25, "color": 2
    }  # fmt: skip


def test_a_difference_lists_gained_concepts_and_the_number_of_others(result: Result) -> None:
    no_detectors = (pl.col("iou") * 0, pl.selectors.ends_with("-iou") * 0)
    weaker = {
        name: replace(layer, units=layer.units.with_columns(no_detectors)) for name, layer in result.layers.items()
    }
    compared = compare_results(replace(result, layers=weaker), result)[0]
    gained = compared.changed("gained")["concept"].to_list()
    assert len(gained) > 1
    text = printed(console_tables.difference(compared, top=1))
    assert gained[0] in text
    assert f"... {len(gained) - 1} more gained" in text
    unique = compared.right.count.unique_detectors["total"]
    *sentences, changes = console_tables.difference_lines(compared)
    assert f"left → right: total 0 → {unique}" in changes
    assert sentences[-1] == f"right minus left: +{unique} unique detectors; the permutation null was not measured."
    assert repr(compared) == "\n".join(sentences)
    assert len(console_tables.difference_json(compared)["concepts"]) == compared.concepts.height


def test_a_difference_without_changes_says_so(result: Result) -> None:
    table = console_tables.difference(compare_results(result, result)[0])
    lines = [line for line in printed(table).splitlines() if line.strip()]
    assert lines[0] == "No concept gained or lost its detectors.", "no head of a table without rows"
    assert lines[1].startswith("Detectors under top-label")
    assert str(table).splitlines()[0] == lines[0]


def test_a_data_set_prints_as_one_line(data_set: ConceptData) -> None:
    assert repr(data_set) == f"ConceptData of {data_set.root}: 24 images, 5 concepts of object, color"


@pytest.mark.parametrize(("replicates", "tested"), [(0, False), (10, True)])
def test_the_legend_of_formulas_names_intervals_only_where_they_were_measured(replicates: int, tested: bool) -> None:
    formulas = Formulas(ComposeConfig(bootstrap=replicates), pl.DataFrame(schema=FORMULAS))
    units, layers = (" ".join(notes) for notes in (formula_units(formulas).notes, layer_notes(formulas)))
    assert ("IoU [95 % interval] on all images" in units) == tested
    assert ("q: at most 0.05" in units) == tested
    assert ("established: not tested" in layers) != tested
