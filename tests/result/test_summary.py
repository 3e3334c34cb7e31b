"""The words in which counts are reported."""

from dataclasses import replace

import polars as pl
import pytest

from netdissect.config import StatisticsConfig
from netdissect.result import Result
from netdissect.result.statistics_schema import COUNTS, complete
from netdissect.result.summary import MeasuredCount, count_sentence, measured_count, num_permutations, reports_q_values

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
