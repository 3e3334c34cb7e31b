"""Similar units within a run and of two runs, against NumPy's correlation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from netdissect.concepts import ConceptData
from netdissect.errors import ResultError
from netdissect.plots.matching.unit_matching import match_units
from netdissect.plots.outlines import mask_path
from netdissect.report import similar_units
from netdissect.report.layer_tables import LayerTables, number_runs
from netdissect.report.similar_units import CoActivation
from netdissect.report.views import matched_units as matching
from netdissect.report.views.matched_units import matching_view, run_matchings
from netdissect.report.views.unit_views import unit_detail, unit_view
from netdissect.result import Result
from netdissect.result.queries import image_maxima
from netdissect.scoring.co_activation import best_matches, standardized
from shown_runs import planted_maps


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar_units, "UNITS_AT_ONCE", 3)
    monkeypatch.setattr(similar_units, "NEAREST_ACROSS", 2)


def test_nearest_units_are_the_most_correlated_of_each_layer(result: Result) -> None:
    found, layers = CoActivation(result), list(result.layers)
    values = {name: image_maxima(result, name).maxima.astype(float) for name in layers}
    for name, unit in ((name, unit) for name in layers for unit in range(8)):
        expected = []
        for other in [name, *(each for each in layers if each != name)]:
            varying = [each for each in range(8) if np.ptp(values[other][each]) > 0 and (other, each) != (name, unit)]
            if np.ptp(values[name][unit]) == 0:
                continue
            scores = {each: np.corrcoef(values[name][unit], values[other][each])[0, 1] for each in varying}
            best = sorted(varying, key=lambda each, scores=scores: (-round(scores[each], 6), each))
            nearest_of_layer = [each for each in best[: 6 if other == name else 2] if scores[each] > 0]
            expected += [(other, each, scores[each]) for each in nearest_of_layer]
        nearest = found.nearest(name, unit)
        assert [(each.layer, each.unit) for each in nearest] == [(layer, each) for layer, each, _ in expected]
        assert [each.correlation for each in nearest] == pytest.approx([each[2] for each in expected], abs=1e-6)
        assert found.images(name) == result.info.data.images


def test_a_unit_s_images_over_its_range_are_those_of_the_run_with_their_masks(
    result: Result, data_set: ConceptData
) -> None:
    tables = LayerTables(*number_runs([result]), 0)
    maps = planted_maps(data_set)
    for unit in range(6):
        bands = unit_detail(tables, unit).activation_range
        assert [band.title for band in bands] == ["top", "50 %", "at random"]
        ranked = sorted(range(24), key=lambda image, unit=unit: (-maps[image, unit].max(), image))
        found = [[int(Path(image.url).stem) for image in band.images] for band in bands]
        assert found[:2] == [ranked[:4], ranked[12:16]]
        assert len(set(found[2])) == 4
        for band, images in zip(bands, found, strict=True):
            for shown, image in zip(band.images, images, strict=True):
                assert shown.value == maps[image, unit].max()
                assert shown.image == data_set.rows[image].image
                threshold = tables.units[unit]["threshold"]
                expected = tables.masks.values(maps[image, unit], data_set.rows[image].size) > np.float32(threshold)
                assert shown.unit == mask_path(expected)
    assert unit_detail(tables, 6).activation_range == (), "a dead unit has none"


def test_the_mask_of_a_map_of_which_few_cells_are_kept_is_the_scored_one(result: Result, data_set: ConceptData) -> None:
    tables, maps = LayerTables(*number_runs([result]), 0), planted_maps(data_set)
    kept = 0
    for unit, rows in tables.range_images.items():
        threshold = np.float32(tables.units[unit]["threshold"])
        for row in rows:
            whole, size = maps[row["image_index"], unit], data_set.rows[row["image_index"]].size
            masks = [tables.masks.values(cells, size) > threshold for cells in (row["map"], whole)]
            np.testing.assert_array_equal(*masks)
            kept += int((row["map"] == whole).sum())
    assert kept < sum(len(rows) for rows in tables.range_images.values()) * 64


def test_similar_units_have_label_page_and_first_image(result: Result) -> None:
    run = number_runs([result])[0]
    tables = LayerTables(run, 0)
    units = unit_detail(tables, 2).similar_units
    assert [(each.layer, each.unit, each.correlation) for each in units] == [
        (each.layer, each.unit, each.correlation) for each in CoActivation(result).nearest("block.1", 2)
    ]
    for each in units:
        view = unit_view(LayerTables(run, list(result.layers).index(each.layer)), each.unit)
        assert (each.url, each.label, each.category, each.state) == (view.url, view.label, view.category, view.state)
        assert each.image == replace(view.top_images[0], concept=None, pixels={}, label_id=0)
    assert unit_detail(tables, 6).similar_units == ()
    few = number_runs([result], max_pages=2)[0]
    pages = few.units_with_page[0]
    found = unit_detail(LayerTables(few, 0), next(iter(pages))).similar_units
    assert {each.unit for each in found if each.url is None and each.layer == "block.1"} == {
        each.unit for each in found if each.layer == "block.1" and each.unit not in pages
    }


def test_a_dead_unit_is_similar_to_none_even_if_its_activations_vary(result: Result) -> None:
    name = "block.1"
    layer = result.layers[name]
    dead = layer.thresholds.with_columns(dead=pl.col("unit").is_in([0, 6]))
    changed = replace(result, layers={**result.layers, name: replace(layer, thresholds=dead)})
    found = CoActivation(changed)
    assert found.nearest(name, 0) == ()
    assert all(each.unit != 0 or each.layer != name for unit in range(1, 6) for each in found.nearest(name, unit))
    assert 0 not in {pair.left_unit for pair in match_units(changed, name, result, name).pairs}


def even_images(result: Result, name: str) -> Result:
    """Return the run with the maxima of every other image of one layer."""
    layer = result.layers[name]
    kept = layer.statistics["image_maxima"].filter(pl.col("image_index") % 2 == 0)
    narrowed = replace(layer, statistics={**layer.statistics, "image_maxima": kept})
    return replace(result, layers={**result.layers, name: narrowed})


def test_a_wide_layer_is_correlated_over_the_images_of_its_smaller_sample(result: Result) -> None:
    name, other = result.layers
    found = CoActivation(even_images(result, name))
    left, right = (image_maxima(result, each).maxima[:, ::2] for each in (name, other))
    across = [each for each in found.nearest(name, 3) if each.layer == other]
    assert across[0].unit == 3
    for each in across:
        expected = np.corrcoef(left[3], right[each.unit])[0, 1]
        assert each.correlation == pytest.approx(expected, abs=1e-6)
    assert (found.images(name), found.images(other)) == (12, 24)


def test_matched_units_are_the_best_of_the_other_run_and_mutual_where_both_are(result: Result) -> None:
    name, other = result.layers
    rng = np.random.default_rng(3)
    order = rng.permutation(8)
    layer = result.layers[other]
    renamed = pl.col("unit").replace(dict(enumerate(order.tolist())))
    shuffled = {"image_maxima": layer.statistics["image_maxima"].with_columns(renamed)}
    thresholds = layer.thresholds.with_columns(renamed)
    second = replace(result, layers={other: replace(layer, statistics=shuffled, thresholds=thresholds)})
    found = match_units(result, name, second, other)
    assert found.images == 24
    assert {pair.left_unit: pair.right_unit for pair in found.pairs} == {unit: order[unit] for unit in range(6)}
    assert all(pair.mutual and pair.correlation == pytest.approx(1) for pair in found.pairs)
    few = match_units(result, name, even_images(second, other), other)
    assert few.images == 12


def test_matched_units_are_shown_with_the_top_images_of_both(result: Result) -> None:
    runs = number_runs([result, result])
    view = matching_view(LayerTables(runs[0], 0), LayerTables(runs[1], 1), 4)
    found = match_units(result, "block.1", result, list(result.layers)[1])
    assert (view.matched, view.units, view.images) == (len(found.pairs), 8, 24)
    assert view.mutual == sum(pair.mutual for pair in found.pairs)
    assert len(view.pairs) == 4
    for shown, pair in zip(view.pairs, found.pairs, strict=False):
        assert (shown.left.unit, shown.right.unit) == (pair.left_unit, pair.right_unit)
        assert (shown.correlation, shown.mutual) == (pair.correlation, pair.mutual)
        assert shown.left == unit_view(LayerTables(runs[0], 0), pair.left_unit, 4)
        assert shown.right == unit_view(LayerTables(runs[1], 1), pair.right_unit, 4)


def test_a_report_shows_few_pairs_and_says_why_there_are_none(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(iter(result.layers))
    data = result.info.data.model_copy(update={"digest": "0" * 64})
    others = replace(result, info=result.info.model_copy(update={"data": data}))
    renamed = replace(result, layers={"other": result.layers[name]})
    bare = replace(result, layers={name: replace(result.layers[name], statistics={})})
    monkeypatch.setattr(matching, "REPORT_PAIRS", 3)
    good, *bad = run_matchings(number_runs([result, result, others, renamed, bare]))
    assert [len(layer.pairs) for layer in good.layers] == [3, 3]
    assert [each.layers for each in bad] == [(), (), ()]
    assert [each.problem.split(".")[0] for each in bad[:2]] == [
        "the runs used different images", "the runs have no layer of the same name"
    ]  # fmt: skip
    assert "kept no maximum activations of single images" in bad[2].problem


def test_a_unit_is_a_mutual_match_only_if_it_is_the_best_of_its_best() -> None:
    left = np.array([[0, 1, 0, 0], [0, 1, 0.2, 0]], np.float32)
    right = np.array([[0, 1, 0.1, 0], [1, 0, 0, 0]], np.float32)
    units, correlations, mutual = best_matches(standardized(left), standardized(right))
    assert units.tolist() == [0, 0]
    assert correlations.tolist() == pytest.approx([np.corrcoef(each, right[0])[0, 1] for each in left], abs=1e-6)
    assert mutual.tolist() == [correlations[0] > correlations[1], correlations[1] > correlations[0]]


def test_runs_without_the_same_images_or_without_maxima_are_refused(result: Result) -> None:
    name = next(iter(result.layers))
    data = result.info.data.model_copy(update={"digest": "0" * 64, "images": 3})
    others = replace(result, info=result.info.model_copy(update={"data": data}))
    with pytest.raises(ResultError, match=r"the runs used different images: 24 of .* and 3 of"):
        match_units(result, name, others, name)
    bare = replace(result, layers={name: replace(result.layers[name], statistics={})})
    with pytest.raises(ResultError, match=r"kept no maximum activations of single images of the layer 'block\.1'"):
        match_units(result, name, bare, name)
    assert not CoActivation(bare).is_known(name)
    table = result.layers[name].statistics["image_maxima"]
    for damaged in (table.head(7), table.with_columns(pl.lit(float("nan")).cast(pl.Float32).alias("max_activation"))):
        layer = replace(result.layers[name], statistics={"image_maxima": damaged})
        with pytest.raises(ResultError, match="does not hold a finite number for each unit and image"):
            image_maxima(replace(result, layers={name: layer}), name)
