"""The statistics of a run: intervals, hold-out and tables by image, held against brute force."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import networks
import oracle
import strategies
from netdissect import plots
from netdissect.config import SENSITIVITY_QUANTILES, DissectConfig, Protocol, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.errors import ResultError
from netdissect.report import console_tables as printed
from netdissect.result import LayerResult, Result, load_result, paired_differences
from netdissect.result import statistics_schema as tables
from netdissect.scoring.statistics.holdout import is_held_out
from networks import COVERAGE, SIDE, build

SCHEMAS = {
    "units": tables.UNITS, "scores": tables.SCORES, "counts": tables.COUNTS, "replicates": tables.REPLICATES,
    "images": tables.IMAGES, "labels": tables.LABELS, "error_images": tables.ERROR_IMAGES,
    "sensitivity": tables.SENSITIVITY,
}  # fmt: skip
OTHERS = {"histogram", "firing_map", "activation_range", "image_maxima"}  # every run has these


def settings(seed: int = 0, **asked: object) -> DissectConfig:
    statistics = StatisticsConfig(**{"bootstrap": 60, "permutations": 0, "stats_seed": seed} | asked)
    return DissectConfig(
        layers=("wide_relu", "fc"), batch_size=3, top_images=3, statistics=statistics,
        protocol=Protocol(quantiles=(0.05, 0.2)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(broden: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A small run that was asked for everything."""
    asked = settings(holdout=0.5, sensitivity=SENSITIVITY_QUANTILES)
    return dissect(build(), broden, config=asked, out=tmp_path_factory.mktemp("runs") / "run")


def frame(layer: LayerResult, name: str) -> pl.DataFrame:
    return layer.statistics[name].collect()


def test_a_run_holds_the_agreed_tables_with_the_agreed_columns(result: Result) -> None:
    for layer in result.layers.values():
        assert set(layer.statistics) == set(SCHEMAS) | OTHERS
        for name, schema in SCHEMAS.items():
            found = frame(layer, name)
            assert dict(found.schema) == {column: kind() for column, kind in schema.items()}
            assert found.height > 0


def test_false_positives_and_false_negatives_are_the_images_with_most_pixels(result: Result) -> None:
    categories = dict(result.concepts.select("label_id", "category").rows())
    label_ids = dict(result.concepts.select("concept", "label_id").rows())
    found = Counter()
    for layer in result.layers.values():
        pixels = {(row["image_index"], row["label_id"]): row["pixels"] for row in frame(layer, "labels").to_dicts()}
        annotated = {(image, categories[label_id]) for image, label_id in pixels}
        rows = frame(layer, "images").to_dicts()
        errors = frame(layer, "error_images")
        for unit in layer.units.filter(pl.col("label").is_not_null()).iter_rows(named=True):
            own, label_id = (unit["quantile"], unit["unit"]), label_ids[unit["label"]]
            masks = [row for row in rows if (row["quantile"], row["unit"]) == own]
            hit = {row["image_index"] for row in masks if row["label_id"] == label_id and row["intersection"]}
            wrong = {row["image_index"]: row["mask_pixels"] for row in masks if row["image_index"] not in hit}
            expected = {
                "false positive": {i: count for i, count in wrong.items() if (i, unit["category"]) in annotated},
                "false negative": {i: count for (i, of), count in pixels.items() if of == label_id and i not in hit},
            }
            for name, images in expected.items():
                most = sorted(images.items(), key=lambda pair: (-pair[1], pair[0]))[:8]
                listed = errors.filter(quantile=own[0], unit=own[1], type=name)
                assert listed.select("image_index", "pixels").rows() == most
                found[name] += len(most)
    assert min(found["false positive"], found["false negative"]) > 0


def test_intervals_belong_to_the_labels_of_the_result(result: Result) -> None:
    for layer in result.layers.values():
        units = frame(layer, "units")
        plain = layer.units.select("quantile", "unit", "label", "category", "iou")
        assert units.select(plain.columns).equals(plain)
        sure = units.drop_nulls("label")
        assert (
            sure.select((pl.col("iou_ci_low") <= pl.col("iou")) & (pl.col("iou") <= pl.col("iou_ci_high")))
            .to_series()
            .all()
        )
        assert sure["stability"].is_between(0, 1).all()
        assert units.filter(pl.col("label").is_null())["stability"].null_count() == units["label"].null_count()
        scores = frame(layer, "scores").join(layer.scores, on=["quantile", "unit", "label_id"], suffix="_all")
        assert scores["iou"].equals(scores["iou_all"], check_names=False)
        best = frame(layer, "scores").filter(rank=0).group_by("quantile", "unit").agg(pl.col("iou").max())
        joined = best.join(sure, on=["quantile", "unit"])
        assert joined["iou"].equals(joined["iou_right"], check_names=False)


def test_counts_and_their_sensitivity_are_those_of_the_result(result: Result) -> None:
    for rule in ("top-label", "per-category"):
        entries = [(layer, quantile) for layer in result.layers for quantile in (0.05, 0.2)]
        assert [(counted.layer, counted.quantile) for counted in result.detectors(rule)] == entries
        for counted in result.detectors(rule):
            layer = result.layers[counted.layer]
            rows = frame(layer, "counts").filter(rule=rule, quantile=counted.quantile)
            assert dict(rows.select("category", "detectors").rows()) == counted.count.detectors
            assert dict(rows.select("category", "unique_detectors").rows()) == counted.count.unique_detectors
            assert (rows["unique_detectors_ci_low"] <= rows["unique_detectors"]).all()
            assert (rows["unique_detectors_ci_high"] >= rows["unique_detectors"]).all()
        for counted in result.detectors(rule, 0.11):
            rows = frame(result.layers[counted.layer], "sensitivity").filter(
                rule=rule, quantile=counted.quantile, min_iou=0.11
            )
            assert dict(rows.select("category", "unique_detectors").rows()) == counted.count.unique_detectors


def test_intervals_of_counts_are_those_of_the_replicates_and_end_where_counts_do(broden: Path, result: Result) -> None:
    known = oracle.read_broden(broden)
    carried = Counter(known.categories[place] for place in known.category_of.values())
    cut = 0
    for layer in result.layers.values():
        units, replicates = layer.info.units, frame(layer, "replicates")
        unique = {name: min(units, count) for name, count in carried.items()}
        total = sum(unique.values())
        for row in frame(layer, "counts").to_dicts():
            unique["total"] = total if row["rule"] == "per-category" else min(units, total)
            drawn = replicates.filter(pl.col(name) == row[name] for name in ("quantile", "rule", "category"))
            for name, most in (("detectors", units), ("unique_detectors", unique[row["category"]])):
                each = drawn[name].to_numpy()
                bias = each.mean() - row[name]
                reach = 1.9599639845 * np.sqrt(2 * each.var() + bias**2)
                low, high = np.floor(row[name] - bias - reach), np.ceil(row[name] - bias + reach)
                assert (row[f"{name}_ci_low"], row[f"{name}_ci_high"]) == (max(low, 0), min(high, most))
                cut += high > most
    assert cut > 0


def test_quantiles_of_the_sensitivity_are_counted_as_those_of_a_run_of_their_own(broden: Path, result: Result) -> None:
    own = settings(bootstrap=0).model_copy(update={"protocol": Protocol(quantiles=(0.02,))})
    counts = {
        counted.layer: counted for counted in dissect(build(), broden, config=own).detectors("per-category", 0.01)
    }
    assert counts.keys() == result.layers.keys()
    assert counts["wide_relu"].count.detectors["total"] > 0
    for counted in counts.values():
        rows = frame(result.layers[counted.layer], "sensitivity").filter(
            rule="per-category", quantile=0.02, min_iou=0.01
        )
        assert dict(rows.select("category", "detectors").rows()) == counted.count.detectors
        assert result.info.config.protocol.quantiles == (0.05, 0.2)
        assert set(result.units["quantile"]) == {0.05, 0.2}


def test_the_images_add_up_to_the_scores(result: Result) -> None:
    truth = result.concepts.select("label_id", pl.col("concept_pixels").cast(pl.Int64))
    for layer in result.layers.values():
        images = frame(layer, "images").with_columns(pl.col("unit", "label_id").cast(pl.Int32))
        summed = images.filter(pl.col("label_id") > 0).group_by("quantile", "unit", "label_id").agg(
            pl.col("intersection").cast(pl.Int64).sum().alias("sum")
        )  # fmt: skip
        joined = frame(layer, "scores").join(summed, on=["quantile", "unit", "label_id"], how="left")
        joined = joined.join(layer.scores, on=["quantile", "unit", "label_id"], suffix="_all")
        assert joined["sum"].equals(joined["intersection"], check_names=False)
        labels = frame(layer, "labels").group_by(pl.col("label_id").cast(truth["label_id"].dtype)).agg(
            pl.col("pixels").cast(pl.Int64).sum()
        )  # fmt: skip
        both = truth.filter(pl.col("concept_pixels") > 0).join(labels, on="label_id", how="full")
        assert both["concept_pixels"].equals(both["pixels"], check_names=False)


def test_held_out_ious_are_those_of_images_that_did_not_choose_the_label(broden: Path, result: Result) -> None:
    units = frame(result.layers["wide_relu"], "units").drop_nulls("label")
    assert units["heldout_iou"].is_not_null().any()
    assert (units["selection_iou"].drop_nulls() > 0).all()
    # With all images held out there is nothing to choose from; with none, the choice is that of all images.
    none = dissect(build(), broden, config=settings(holdout=1e-12))
    units = frame(none.layers["wide_relu"], "units")
    assert units["selection_iou"].fill_null(0).equals(units["iou"], check_names=False)
    assert (units["heldout_iou"].fill_null(0) == 0).all()


def test_images_without_any_label_count_in_halves_and_intervals_as_all_others_do(tmp_path: Path) -> None:
    empty = oracle.OracleImage((np.zeros((12, 12), np.int64),), (), (12, 12))
    drawn = networks.images(6)
    root = strategies.write_broden(
        tmp_path / "data", [empty, *drawn[:3], empty, *drawn[3:], empty], COVERAGE, image=(SIDE, SIDE)
    )
    protocol = strategies.definition("pnas2020", 0.1, 12).protocol  # a mask counts whatever the image's labels are
    asked = settings(holdout=0.5).model_copy(update={"protocol": protocol})
    layer = dissect(build(), root, config=asked).layers["wide_relu"]
    out = np.flatnonzero(is_held_out(0, np.arange(9), 0.5)).tolist()
    assert {0, 4, 8} & set(out)
    assert not {0, 4, 8} <= set(out)
    images, labels = (frame(layer, name).filter(pl.col("image_index").is_in(out)) for name in ("images", "labels"))
    found = frame(layer, "units").filter(pl.col("heldout_iou") > 0)
    assert found.height > 0
    for unit, held in found.select("unit", "heldout_iou").rows():
        of_unit, ious = images.filter(unit=unit), []
        on = of_unit.group_by("image_index").agg(pl.col("mask_pixels").first())["mask_pixels"].sum()
        for (number,), of_label in labels.group_by("label_id"):
            hits = of_unit.filter(label_id=number)["intersection"].sum()
            ious.append(hits / (on + of_label["pixels"].sum() - hits))
        assert min(abs(iou - held) for iou in ious) < 1e-12


def test_a_run_without_requested_statistics_has_no_tables_of_them(broden: Path, tmp_path: Path) -> None:
    asked = settings(bootstrap=0)
    result = dissect(build(), broden, config=asked, out=tmp_path / "run")
    assert all(set(layer.statistics) == OTHERS for layer in result.layers.values())
    assert {row[2] for row in printed.statistics(result).rows} == {"count"}
    with pytest.raises(ResultError, match="Repeat it with --sensitivity"):
        plots.sensitivity(result, "fc")
    with pytest.raises(ResultError, match="has no replicates of layer 'wide_relu'"):
        paired_differences(result, result)


def test_statistics_are_the_same_in_memory_and_on_disk(broden: Path, tmp_path: Path) -> None:
    kept = dissect(build(), broden, config=settings(), out=tmp_path / "run")
    again, fleeting = load_result(tmp_path / "run"), dissect(build(), broden, config=settings())
    for name, layer in kept.layers.items():
        for other in (again, fleeting):
            for table in layer.statistics:
                assert frame(layer, table).equals(frame(other.layers[name], table)), table


def test_a_run_does_not_differ_from_itself_and_surely_from_another_network(broden: Path) -> None:
    one, other = (dissect(build(seed=seed), broden, config=settings()) for seed in (0, 1))
    same = paired_differences(one, one)
    assert same.select(pl.col("^(unique_)?detectors(_ci_low|_ci_high)?$")).to_numpy().any() == 0
    found = paired_differences(one, other)
    assert found["left"].unique(maintain_order=True).to_list() == ["wide_relu", "fc"]
    row = found.row(
        by_predicate=(pl.col("left") == "fc") & (pl.col("rule") == "top-label") & (pl.col("category") == "total")
        & (pl.col("quantile") == 0.2), named=True,
    )  # fmt: skip
    counts = [run.detectors()[3].count.unique_detectors["total"] for run in (one, other)]
    assert row["unique_detectors"] == counts[1] - counts[0]
    assert row["unique_detectors_ci_low"] <= row["unique_detectors"] <= row["unique_detectors_ci_high"]
    turned = paired_differences(other, one)
    assert turned["unique_detectors_ci_low"].equals(
        -found["unique_detectors_ci_high"], check_names=False, null_equal=True
    )


def test_runs_that_are_not_paired_are_refused(broden: Path) -> None:
    one, other = (dissect(build(), broden, config=settings(seed)) for seed in (0, 1))
    with pytest.raises(ResultError, match=re.escape("replicates and seed are (60, 0) on the left and (60, 1)")):
        paired_differences(one, other)


def test_the_table_of_statistics_begins_with_the_count_of_each_layer_and_quantile(result: Result) -> None:
    counts = [row for row in printed.statistics(result).rows if row[2] == "count"]
    assert [row[:2] for row in counts[:2]] == [["wide_relu", "0.05"], ["wide_relu", "0.2"]]
    assert len(counts) == 4
    assert all(re.fullmatch(r"\d+ unique detectors? \[\d+, \d+\]; no permutation null: .*", row[3]) for row in counts)


def test_the_sensitivity_is_drawn_with_a_line_for_each_quantile(result: Result) -> None:
    figure = plots.sensitivity(result, "wide_relu", rule="per-category")
    left, right = figure.axes
    quantiles = len(SENSITIVITY_QUANTILES) + 1  # 0.05 is among them
    assert len(left.get_lines()) == len(right.get_lines()) == quantiles + 1
    assert "<text" in plots.svg(figure)
