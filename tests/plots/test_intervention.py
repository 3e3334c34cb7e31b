"""The figure of an intervention has every effect with its intervals, and the map of insertion."""

import numpy as np
import polars as pl
import pytest

from measured_effects import cells, effects
from netdissect import plots
from netdissect.plots.generators.intervention import MOST_ROWS, shown_effects

CONCEPTS = [(f"concept {index}", "object") for index in range(25)]


def test_points_and_lines_are_effects_and_intervals_in_percent_of_the_image() -> None:
    table = pl.DataFrame(effects(CONCEPTS[:4]))
    figure = plots.intervention(table, pl.DataFrame(cells()))
    axes, places = figure.axes[:2]
    ordered = [0, *sorted((1, 2, 3), key=lambda row: -abs(table["effect"][row]))]
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"concept {row}" for row in ordered]
    drawn = [point for point in axes.get_lines() if point.get_marker() == "o"]
    intervals = {
        round(float(segment[0][1]), 3): segment[:, 0] for lines in axes.collections for segment in lines.get_segments()
    }
    for at, row in enumerate(ordered):
        assert list(drawn[at].get_xydata()[0]) == pytest.approx([100 * table["effect"][row], at])
        assert intervals[at] == pytest.approx([100 * table["ci_low"][row], 100 * table["ci_high"][row]])
    image = places.get_images()[0].get_array()
    assert np.asarray(image) == pytest.approx(np.tile([1.0, 2.0, 3.0], (3, 1)))
    assert sorted(tuple(dot.get_xydata()[0]) for dot in places.get_lines()) == [(0, 0), (1, 0), (2, 0)]


def test_of_many_concepts_the_largest_effects_are_drawn_after_the_one_that_was_asked_for() -> None:
    table = pl.DataFrame(effects(CONCEPTS))
    shown = shown_effects(table)
    assert len(shown) == MOST_ROWS
    assert shown["concept"][0] == "concept 0"
    left_out = table.filter(~pl.col("concept").is_in(shown["concept"].implode()))
    assert left_out["effect"].abs().max() <= shown["effect"][1:].abs().min()
    each = shown_effects(pl.DataFrame(effects(CONCEPTS[:3], sets=30)))
    assert {*each["concept"]} == {"concept 0"}
    assert each["effect"].abs().to_list() == sorted(each["effect"].abs(), reverse=True)
    assert len(each) == MOST_ROWS
