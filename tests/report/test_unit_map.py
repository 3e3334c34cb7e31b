"""The map of a layer on its page: points at the principal components, linked and colored by category."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from netdissect.report.drawing import inline_svg
from netdissect.report.drawing.inline_svg import MAP_WIDTH, unit_map_svg
from netdissect.report.layer_tables import LayerTables, number_runs
from netdissect.result import Result
from netdissect.result.queries import image_maxima
from netdissect.scoring.co_activation import map_units


def test_points_keep_the_distances_of_the_principal_components_and_link_to_pages(result: Result) -> None:
    tables = LayerTables(*number_runs([result], max_pages=5), 0)
    drawn = unit_map_svg(tables)
    assert drawn is not None
    points = {point.unit: point for part in (*drawn.detectors.values(), drawn.others) for point in part}
    expected, explained = map_units(image_maxima(result, "block.1").maxima)
    assert sorted(points) == [0, 1, 2, 3, 4, 5], "units 6 and 7 are dead and constant"
    assert (drawn.units, drawn.varying, drawn.left_out, drawn.images) == (6, 6, 2, 24)
    assert drawn.explained == tuple(explained)
    scale = MAP_WIDTH / np.ptp(expected[:6, 0])
    for one, two in ((0, 1), (2, 5), (3, 4)):
        found = np.hypot(points[one].x - points[two].x, points[one].y - points[two].y)
        assert found == pytest.approx(scale * np.linalg.norm(expected[one] - expected[two]), abs=0.3)
    assert (points[0].y < points[1].y) == (expected[0, 1] > expected[1, 1]), "upwards is larger"
    units = tables.units
    for category, part in drawn.detectors.items():
        assert all(units[point.unit]["category"] == category and units[point.unit]["detector"] for point in part)
    assert not any(units[point.unit]["detector"] for point in drawn.others)
    assert {point.unit for point in points.values() if point.url} == {0, 1, 2, 3, 4, 5} & set(tables.units_with_page)
    assert points[0].url == "r0/l0/u0.html"


def test_a_wide_layer_has_its_units_of_highest_iou_on_the_map(monkeypatch: pytest.MonkeyPatch, result: Result) -> None:
    monkeypatch.setattr(inline_svg, "MAX_POINTS", 3)
    tables = LayerTables(*number_runs([result]), 0)
    drawn = unit_map_svg(tables)
    assert drawn is not None
    assert (drawn.units, drawn.varying) == (3, 6)
    shown = {point.unit for part in (*drawn.detectors.values(), drawn.others) for point in part}
    assert shown == {0, 1, 2}


def test_a_layer_without_maxima_or_with_one_varying_unit_has_no_map(result: Result) -> None:
    name, layer = next(iter(result.layers.items()))
    table = layer.statistics["image_maxima"]
    varying = pl.when(pl.col("unit") == 0).then("max_activation").otherwise(1.0).cast(pl.Float32)
    for statistics in ({}, {"image_maxima": table.with_columns(max_activation=varying)}):
        changed = replace(result, layers={name: replace(layer, statistics=statistics)})
        assert unit_map_svg(LayerTables(*number_runs([changed]), 0)) is None
