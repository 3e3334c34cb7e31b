"""Similar units within a run and of two runs, against NumPy's correlation."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from netdissect.errors import ResultError
from netdissect.report import similar_units
from netdissect.report.similar_units import CoActivation, matched_units
from netdissect.result import Result
from netdissect.result.queries import image_maxima
from netdissect.scoring.co_activation import best_matches, standardized


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
            expected += [(other, each, scores[each]) for each in best[: 6 if other == name else 2]]
        nearest = found.nearest(name, unit)
        assert [(each.layer, each.unit) for each in nearest] == [(layer, each) for layer, each, _ in expected]
        assert [each.correlation for each in nearest] == pytest.approx([each[2] for each in expected], abs=1e-6)
        assert found.images(name) == result.info.data.images


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
    shuffled = layer.statistics["image_maxima"].with_columns(pl.col("unit").replace(dict(enumerate(order.tolist()))))
    second = replace(result, layers={other: replace(layer, statistics={"image_maxima": shuffled})})
    found = matched_units(result, name, second, other)
    assert found.images == 24
    assert {pair.left_unit: pair.right_unit for pair in found.pairs} == {unit: order[unit] for unit in range(6)}
    assert all(pair.mutual and pair.correlation == pytest.approx(1) for pair in found.pairs)
    few = matched_units(result, name, even_images(second, other), other)
    assert few.images == 12


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
        matched_units(result, name, others, name)
    bare = replace(result, layers={name: replace(result.layers[name], statistics={})})
    with pytest.raises(ResultError, match=r"kept no maximum activations of single images of the layer 'block\.1'"):
        matched_units(result, name, bare, name)
    assert not CoActivation(bare).is_known(name)
    table = result.layers[name].statistics["image_maxima"]
    for damaged in (table.head(7), table.with_columns(pl.lit(float("nan")).cast(pl.Float32).alias("max_activation"))):
        layer = replace(result.layers[name], statistics={"image_maxima": damaged})
        with pytest.raises(ResultError, match="does not hold a finite number for each unit and image"):
            image_maxima(replace(result, layers={name: layer}), name)
