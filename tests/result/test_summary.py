"""The words in which counts are reported."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from netdissect.config import StatisticsConfig
from netdissect.result import Result, load_result, save_result
from netdissect.result.statistics_schema import COUNTS, complete
from netdissect.result.summary import (
    LayerFindings,
    MeasuredCount,
    count_sentence,
    layer_findings,
    leading,
    measured_count,
    null_note,
    num_permutations,
    reports_q_values,
)

LAYER = "layer4"


def with_tables(result: Result, **tables: pl.DataFrame) -> Result:
    layer = replace(result.layers[LAYER], statistics={name: table.lazy() for name, table in tables.items()})
    return replace(result, layers={**result.layers, LAYER: layer})


def counts_row(**columns: float | None) -> pl.DataFrame:
    keys = {"quantile": 0.02, "rule": "top-label", "category": "total", "detectors": 9, "unique_detectors": 2}
    return complete(pl.DataFrame({name: [value] for name, value in (keys | columns).items()}), COUNTS)


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (
            MeasuredCount(281, (269.6, 290.4), 119.8, 1.23),
            "281 unique detectors [270, 290]; 120 ± 1 under the permutation null",
        ),
        (MeasuredCount(1281, None, 0.0, 0.0), "1,281 unique detectors; 0 ± 0 under the permutation null"),
        (MeasuredCount(3, (1, 4), 2.345, float("nan")), "3 unique detectors [1, 4]; 2.3 under the permutation null"),
        (MeasuredCount(0, (0, 2)), "0 unique detectors [0, 2]; no permutation null: --permutations 100"),
        (MeasuredCount(1, None, 1.5, 0.099), "1 unique detector; 1.5 ± 0.1 under the permutation null"),
    ],
)
def test_a_count_is_never_written_without_its_null_or_that_there_is_none(measured: MeasuredCount, text: str) -> None:
    assert count_sentence(measured) == text


def test_a_count_of_a_run_has_the_measured_interval_and_null(result: Result) -> None:
    row = counts_row(unique_detectors_ci_low=1.0, unique_detectors_ci_high=4.0, null_unique_detectors=1.25)
    measured = measured_count(with_tables(result, counts=row), LAYER, 0.02)
    assert measured == MeasuredCount(2, (1.0, 4.0), 1.25)
    assert MeasuredCount.of_row(row.row(0, named=True), "detectors") == MeasuredCount(9)


@pytest.mark.parametrize("quantile", [0.005, 0.02])
def test_a_count_of_a_run_without_statistics_is_that_of_its_units(result: Result, quantile: float) -> None:
    units = result.layers[LAYER].units.filter(quantile=quantile).to_dicts()
    labels = {row["label"] for row in units if row["label"] and row["iou"] >= 0.04}
    assert measured_count(result, LAYER, quantile) == MeasuredCount(len(labels))


def test_q_values_are_reported_from_1000_permutations_on(result: Result) -> None:
    def repeated(permutations: int) -> Result:
        config = result.info.config.model_copy(update={"statistics": StatisticsConfig(permutations=permutations)})
        return replace(result, info=result.info.model_copy(update={"config": config}))

    assert [reports_q_values(repeated(number), LAYER) for number in (0, 100, 999, 1000)] == [False] * 3 + [True]
    made = with_tables(result, null_counts=pl.DataFrame({"permutation": [0, 1, 2, 0, 1, 2]}))
    assert num_permutations(made, LAYER) == 3


def many_layers(result: Result, number: int) -> Result:
    """Return a run of `number` layers like `layer4`, of which each has its own best unit."""
    layer = result.layers[LAYER]
    names = [f"model.encoder.layers.encoder_layer_{index}.mlp" for index in range(number)]
    layers = {name: replace(layer, info=layer.info.model_copy(update={"name": name}), statistics={}) for name in names}
    return replace(result, layers=layers)


@pytest.mark.parametrize("number", [1, 5, 10, 60])
def test_a_run_prints_as_at_most_five_lines_with_the_sentence_of_its_leading_layers(
    result: Result, number: int
) -> None:
    run = many_layers(result, number)
    lines = repr(run).splitlines()
    assert len(lines) <= 5
    assert sum(map(len, lines)) < 600
    assert lines[0] == "tiny on 6 images of nowhere; IoU >= 0.04 at quantile 0.005"
    count = measured_count(run, next(iter(run.layers)), 0.005)
    for line, name in zip(lines[1 : 1 + min(number, 3)], run.layers, strict=False):
        assert line == f"{name}: {count_sentence(count)}"
    assert (f"... {number - 3} more layers; " in lines[-1]) is (number > 3)


def test_a_run_says_what_its_interval_and_standard_error_are(result: Result) -> None:
    assert "interval" not in repr(result)
    permutations = pl.DataFrame({"permutation": range(40)})
    counts = counts_row(unique_detectors_ci_low=1.0, unique_detectors_ci_high=4.0, null_unique_detectors=1.25)
    run = with_tables(result, counts=counts.with_columns(quantile=pl.lit(0.005)), null_counts=permutations)
    run = replace(run, layers={LAYER: run.layers[LAYER]})
    words = "95 % interval; ± standard error, 40 permutations; q-values: --permutations 1000"
    assert repr(run).splitlines()[-1] == f"{words}; tables: netdissect.console_tables"
    assert f"<p>{words}</p>" in run._repr_html_()


def test_the_leading_layers_are_those_with_most_unique_detectors_in_order_of_execution(result: Result) -> None:
    found = [
        LayerFindings(name, 8, MeasuredCount(count), (), 0.04)
        for name, count in zip("abcde", (1, 7, 3, 9, 3), strict=True)
    ]
    assert [each.layer for each in leading(found, 3)] == ["b", "c", "d"]
    assert [each.layer for each in leading(found, 9)] == list("abcde")


def test_the_best_units_of_a_layer_are_those_of_highest_iou_with_their_labels(result: Result) -> None:
    found = {each.layer: each for each in layer_findings(result)}
    for name, layer in result.layers.items():
        rows = [row for row in layer.units.filter(quantile=0.005).to_dicts() if row["label"]]
        ordered = sorted(rows, key=lambda row: (-row["iou"], row["unit"]))[:3]
        assert found[name].best_units() == ", ".join(
            f"{row['unit']} {row['label']} {row['iou']:.3f}" for row in ordered
        )
        assert found[name].units == layer.info.units


def test_from_1000_permutations_on_the_summary_counts_the_units_with_a_small_q_value(result: Result) -> None:
    units = pl.DataFrame(
        {"quantile": [0.005] * 3 + [0.02], "unit": [0, 1, 2, 0], "q_value_bh": [0.01, 0.049, 0.05, 0.0]}
    )
    for number, words in ((1000, "; 2 units with q < 0.05"), (999, "")):
        run = with_tables(result, units=units, null_counts=pl.DataFrame({"permutation": range(number)}))
        (finding,) = [each for each in layer_findings(run) if each.layer == LAYER]
        assert finding.sentence == f"{LAYER}: {count_sentence(finding.unique)}{words}"
        assert ("--permutations 1000" in null_note(replace(run, layers={LAYER: run.layers[LAYER]}))) is (not words)
    assert null_note(result) == "no permutation null: --permutations 100"


def test_a_layer_prints_as_its_size_and_the_names_of_its_tables(result: Result) -> None:
    text = repr(with_tables(result, counts=counts_row()).layers[LAYER])
    assert text.splitlines()[0] == "layer4: 3 units of 2 x 5 cells (Conv2d)"
    assert text.endswith("statistics: counts")


def test_a_run_whose_files_are_gone_still_prints(result: Result, tmp_path: Path) -> None:
    run = with_tables(result, counts=counts_row())
    save_result(run, tmp_path / "run")
    opened = load_result(tmp_path / "run")
    assert len(repr(opened).splitlines()) > 2
    shutil.rmtree(tmp_path / "run")
    assert repr(opened).endswith("; its files were changed or removed since it was opened")
