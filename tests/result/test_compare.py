"""Two runs side by side, against plain sets."""

from dataclasses import replace

import polars as pl
import pytest

from netdissect.errors import ResultError
from netdissect.result import Result, compare_results

LAYER = "features.0/odd name"


def other(result: Result, factor: float = 0.5) -> Result:
    """The same run with weaker units: every IoU is scaled, in both tables alike."""
    scaled = {
        name: replace(
            layer,
            units=layer.units.with_columns(pl.col("iou") * factor, pl.selectors.ends_with("-iou") * factor),
            lazy_scores=layer.lazy_scores.with_columns(pl.col("iou") * factor),
        )
        for name, layer in result.layers.items()
    }
    return replace(result, layers=scaled)


def detected(run: Result, layer: str, quantile: float, rule: str, level: float) -> dict[str, int]:
    """Units that detect each concept, by a plain walk over the rows."""
    found: dict[str, int] = {}
    for row in run.layers[layer].units.filter(pl.col("quantile") == quantile).to_dicts():
        if rule == "top-label":
            names = [row["label"]] if row["iou"] >= level and row["iou"] > 0 else []
        else:
            names = [row[f"{c}-label"] for c in run.info.data.categories if row[f"{c}-iou"] > level]
        for name in names:
            found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.parametrize("rule", ["top-label", "per-category"])
@pytest.mark.parametrize("level", [0.01, 0.04, 0.06])
def test_gained_and_lost_are_the_differences_of_two_sets_of_detected_concepts(result, rule, level):
    weaker = other(result)
    comparisons = compare_results(weaker, result, rule=rule, min_iou=level)
    assert [compared.left.layer for compared in comparisons] == [entry.layer for entry in result.detectors(rule)]
    for compared in comparisons:
        layer = compared.left.layer
        left = detected(weaker, layer, compared.quantile, rule, level)
        right = detected(result, layer, compared.quantile, rule, level)
        kinds = {change: set(compared.changed(change)["concept"]) for change in ("gained", "lost", "kept", "absent")}
        assert kinds["gained"] == right.keys() - left.keys()
        assert kinds["lost"] == left.keys() - right.keys()
        assert kinds["kept"] == left.keys() & right.keys()
        assert set.union(*kinds.values()) == set(result.concepts["concept"])
        counts = dict(compared.concepts.select("concept", "right_detectors").rows())
        assert {name: count for name, count in counts.items() if count} == right


def test_a_run_compared_with_itself_gains_and_loses_nothing(result):
    comparisons = compare_results(result, result)
    assert [compared.left.count for compared in comparisons] == [entry.count for entry in result.detectors()]
    for compared in comparisons:
        assert compared.same_data
        assert compared.changed("gained").is_empty()
        assert compared.changed("lost").is_empty()
        assert compared.left.count == compared.right.count


def test_the_best_unit_of_a_concept_is_the_one_of_highest_iou(result):
    compared = compare_results(result, result)[0]
    scores = result.layers[LAYER].scores.filter(pl.col("quantile") == compared.quantile)
    for row in compared.concepts.to_dicts():
        own = scores.filter(pl.col("concept").cast(pl.String) == row["concept"])
        best = max(own.to_dicts(), key=lambda entry: (entry["iou"], -entry["unit"]))
        wanted = (best["unit"], best["iou"]) if best["iou"] > 0 else (None, None)
        assert (row["left_unit"], row["left_iou"]) == wanted


def test_layers_of_other_names_are_compared_when_named(result):
    (pair, _) = compare_results(result, result, layers=[(LAYER, "layer4")])
    assert (pair.left.layer, pair.right.layer) == (LAYER, "layer4")
    assert pair.left.count.units == 7
    assert pair.right.count.units == 3


def test_runs_with_nothing_in_common_are_refused(result):
    alone = replace(result, layers={"conv5": result.layers["layer4"]})
    with pytest.raises(ResultError, match=r"no layer in common: .* Name a pair"):
        compare_results(alone, result)
    config = result.info.config
    moved = config.model_copy(update={"protocol": config.protocol.model_copy(update={"quantiles": (0.01,)})})
    with pytest.raises(ResultError, match=r"no quantile in common: 0.01 on the left, 0.005, 0.02 on the right"):
        compare_results(replace(result, info=result.info.model_copy(update={"config": moved})), result)
    strict = result.info.model_copy(update={"config": config.model_copy(update={"min_iou": 0.1})})
    with pytest.raises(ResultError, match=r"0.1 on the left and of 0.04 on the right"):
        compare_results(replace(result, info=strict), result)


def test_runs_on_other_data_are_compared_and_marked(result):
    data = result.info.data.model_copy(update={"digest": "other"})
    elsewhere = replace(result, info=result.info.model_copy(update={"data": data}))
    assert not compare_results(elsewhere, result)[0].same_data
