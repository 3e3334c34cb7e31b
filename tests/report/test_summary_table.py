"""The closing table of a run: few lines for any number of layers, complete at any width."""

import io
from dataclasses import replace

import polars as pl
import pytest
from rich.console import Console

from netdissect.report import console_tables
from netdissect.result import Result
from netdissect.result.summary import layer_findings, leading

NAME = "model.encoder.layers.encoder_layer_{}.mlp.0"


def many_layers(with_statistics: Result, number: int) -> Result:
    """Return a run of `number` layers with interval and null, the later of which have more detectors."""
    layer = with_statistics.layers["block.1"]
    layers = {}
    for index in range(number):
        counts = layer.statistics["counts"].with_columns(pl.lit(100 + index).alias("unique_detectors"))
        info = layer.info.model_copy(update={"name": NAME.format(index)})
        thresholds = layer.thresholds.with_columns(pl.col("threshold") + index)
        layers[info.name] = replace(
            layer, info=info, thresholds=thresholds, statistics={**layer.statistics, "counts": counts}
        )
    return replace(with_statistics, layers=layers)


def on_terminal(result: Result, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, color_system=None).print(
        console_tables.summary(result), soft_wrap=True
    )
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("number", [1, 5, 10, 60])
def test_the_closing_table_is_few_lines_with_the_count_and_null_of_each_shown_layer(
    with_statistics: Result, number: int, width: int
) -> None:
    run = many_layers(with_statistics, number)
    lines = on_terminal(run, width)
    assert 5 <= len(lines) <= 13
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    rule = next(index for index, line in enumerate(lines) if line.startswith("──"))
    body = lines[rule + 1 : lines.index("", rule)]
    shown = [line for line in body if "[1, 4]" in line]
    assert 1 <= len(shown) <= min(number, 7)
    best = [each.layer for each in leading(layer_findings(run), len(shown))]
    counts = [f"{100 + int(name.split('_')[2].split('.')[0])} [1, 4]" for name in best]
    assert [next(count for count in counts if count in line) for line in shown] == counts
    assert all("0.5" in line for line in shown)
    assert (f"... {number - len(shown)} more layer" in text) is (number > len(shown))
    lead = " ".join(line for line in lines[: lines.index("")]).split(": ", 1)[1]
    assert lead.startswith(f"{99 + number} unique detectors [1, 4]; 0.5")
    assert "under the permutation null" in lead


def test_a_pipe_gets_the_names_and_three_best_units_whole(with_statistics: Result) -> None:
    run = many_layers(with_statistics, 60)
    lines = str(console_tables.summary(run)).splitlines()
    assert 5 <= len(lines) <= 15
    rows = [line.split("  ") for line in lines if line.startswith(NAME[:20]) and "[1, 4]  " in line]
    assert [row[0] for row in rows] == [NAME.format(index) for index in range(53, 60)]
    assert all(row[-1].count(", ") == 2 for row in rows)
    assert "... 53 more layers: netdissect show RUN --layers" in lines


def test_every_layer_is_listed_on_demand(with_statistics: Result) -> None:
    table = console_tables.layers(many_layers(with_statistics, 60), quantile=0.1)
    assert [row[0] for row in table.rows] == [NAME.format(index) for index in range(60)]
    assert table.title.splitlines()[0].endswith("at quantile 0.1")
