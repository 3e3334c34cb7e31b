"""Requirements on a run: what is written, what is measured, and what is refused."""

from dataclasses import replace

import polars as pl
import pytest

from netdissect.errors import ConfigError, ResultError
from netdissect.result import DetectorCriteria, check_result, parse_requirement, statistics_schema


def values(result, *texts, **criteria):
    verdicts = check_result(result, [parse_requirement(text) for text in texts], DetectorCriteria(**criteria))
    return [(verdict.value, verdict.met) for verdict in verdicts]


def test_counts_are_those_of_the_layer_that_holds_most(result):
    counted = [entry.count for entry in result.detectors() if entry.quantile == 0.005]
    most, unique = max(c.detectors["total"] for c in counted), max(c.unique_detectors["object"] for c in counted)
    assert most > 0
    assert values(result, f"detectors >= {most}", f"detectors > {most}", f"unique_detectors:object == {unique}") == [
        (most, True),
        (most, False),
        (unique, True),
    ]


def test_only_a_named_layer_and_quantile_are_checked(result):
    counted = {(c.layer, c.quantile): c.count for c in result.detectors("per-category", 0.1)}
    wanted = counted["layer4", 0.02].unique_detectors["total"]
    assert values(result, "unique_detectors>=0", layer="layer4", quantile=0.02, rule="per-category", min_iou=0.1) == [
        (wanted, True)
    ]


def test_a_concept_is_required_by_name_whatever_characters_it_has(result):
    units = pl.concat(layer.units for layer in result.layers.values()).filter(quantile=0.005)
    for name in ("car", "tree, tall", 'the "big" one'):
        found = units.filter(pl.col("label") == name, pl.col("iou") >= 0.04).height > 0
        assert values(result, f"concept:{name}")[0][1] == found


def test_the_iou_of_a_concept_is_that_of_its_best_unit(result):
    best = result.scores.filter(quantile=0.005).filter(pl.col("concept").cast(pl.String) == "car")["iou"].max()
    assert values(result, f"iou:car >= {best}", f"iou:car > {best}", "iou:dusk <= 0") == [
        (best, True),
        (best, False),
        (0.0, True),
    ]


def with_counts(result, layer, **columns):
    """Return a run whose table ``counts`` of one layer has these numbers for all units under the first rule."""
    keys = {"quantile": 0.005, "rule": "top-label", "category": "total"}
    counts = statistics_schema.complete(pl.DataFrame([keys | columns]), statistics_schema.COUNTS)
    changed = replace(result.layers[layer], statistics={"counts": counts.lazy()})
    return replace(result, layers={layer: changed})


def test_counts_are_added_and_subtracted(result):
    run = with_counts(result, "layer4", null_unique_detectors=0.75, null_detectors=2.5, unique_detectors_ci_low=1.0)
    (count,) = (each.count for each in run.detectors() if each.quantile == 0.005)
    units, unique = count.detectors["total"], count.unique_detectors["total"]
    wanted = [unique - 0.75, units - 2.5 - unique, 1.0 - 0.75, units + count.unique_detectors["object"]]
    texts = (
        "unique_detectors - null_unique_detectors",
        "detectors  -  null_detectors - unique_detectors",
        "unique_detectors_ci_low - null_unique_detectors",
        "detectors + unique_detectors:object",
    )
    for text, value in zip(texts, wanted, strict=True):
        assert values(run, f"{text} >= {value}", f"{text} > {value}") == [(value, True), (value, False)]
    (verdict,) = check_result(run, [parse_requirement("unique_detectors - null_unique_detectors >= 10")])
    assert str(verdict) == f"unique_detectors - null_unique_detectors >= 10: {unique - 0.8:.1f} in layer4"


def test_a_count_that_was_not_measured_is_refused(result):
    required = "unique_detectors - null_unique_detectors >= 0"
    with pytest.raises(ResultError, match=r"did not measure null_unique_detectors of layer .*--permutations 100"):
        values(result, required)
    run = with_counts(result, "layer4", null_detectors=2.5)
    with pytest.raises(ResultError, match="did not measure null_unique_detectors"):
        values(run, required)
    with pytest.raises(ResultError, match=r"did not measure detectors_ci_low of layer 'layer4'. Repeat it with --boot"):
        values(run, "detectors_ci_low > 1")
    with pytest.raises(ResultError, match=r"null_detectors of layer 'layer4' was measured at the IoU limit 0.04"):
        values(run, "null_detectors > 1", min_iou=0.1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unique_detectors - null_unique_detector >= 3", "Did you mean null_unique_detectors or"),
        ("unique_detectors-null_unique_detectors >= 3", "is no count of a run.*with spaces around"),
        ("unique_detectors - 3 >= 3", "'3' is no count of a run"),
        ("unique_detectors - >= 3", "is no count of a run"),
        ("detectors * 2 >= 3", "is no count of a run"),
        ("detectors - concept:car >= 3", "'concept' is no count of a run"),
        ("quantile >= 3", "is no count of a run"),
        ("detectors - detectors:  >= 3", "is not a complete requirement: 'detectors:' names no category"),
        ("detectors - null_detectors", "is not a complete requirement"),
    ],
)
def test_an_expression_of_something_else_is_refused_with_the_reason(text, reason):
    with pytest.raises(ConfigError, match=reason):
        parse_requirement(text)


@pytest.mark.parametrize(
    "text",
    ["", "detectors", "detectors >=", "iou:car", "concept:", "units >= 3", "detectors: >= 3", "detectors => 3",
     "detectors >= 1.2.3", "import os"],
)  # fmt: skip
def test_what_is_no_requirement_is_refused_with_what_would_be_one(text):
    with pytest.raises(ConfigError, match=r"(?s)is not a (complete )?requirement.* Expected 'detectors >= N'"):
        parse_requirement(text)


def test_names_that_the_data_do_not_have_are_refused(result):
    with pytest.raises(ResultError, match="concept 'cat', which this run's data do not have; they have"):
        values(result, "concept:cat")
    with pytest.raises(ResultError, match="category 'scene', which this run's data do not have"):
        values(result, "detectors:scene >= 1")
    with pytest.raises(ResultError, match="no layer 'conv9'"):
        values(result, "detectors >= 1", layer="conv9")
    with pytest.raises(ResultError, match=r"no quantile 0.3"):
        values(result, "detectors >= 1", quantile=0.3)
