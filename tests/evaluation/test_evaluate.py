"""Labels of several methods on a run: every score by brute force, coverage, differences, and what is refused."""

import shutil

import numpy as np
import polars as pl
import pytest
import scipy
import sklearn.metrics

import netdissect
from netdissect.errors import ConceptsError, NetworkError, ResultError
from netdissect.evaluation import sanity_checks
from netdissect.evaluation.evaluated_labels import summarized
from netdissect.evaluation.label_metrics import METRICS_OF_LABELS
from netdissect.evaluation.unit_intervals import paired_means, unit_means
from netdissect.result import cell_correlations, concept_shares, image_means
from netdissect.scoring.statistics.holdout import is_held_out

NAMES = ("concept 1", "concept 2", "concept 3", "concept 4", "concept 300")


def labels(method, concepts):
    """Labels of the seven units of both layers."""
    units = [("wide_relu", unit) for unit in range(4)] + [("fc", unit) for unit in range(3)]
    rows = [(layer, unit, concept) for (layer, unit), concept in zip(units, concepts, strict=True) if concept]
    return pl.DataFrame(rows, schema=["layer", "unit", "label"], orient="row")


METHODS = {
    "first": labels("first", [*NAMES, "Concepts 1", "zebra"]),
    "second": labels("second", [NAMES[3], None, NAMES[0], "concept_2", NAMES[2], NAMES[2], NAMES[4]]),
}


@pytest.fixture(scope="module")
def evaluated(moments_run):
    return netdissect.evaluate(moments_run, METHODS, replicates=500, active_share=0.1)


def by_brute_force(run, row):
    """The scores of one label, by scikit-learn and scipy."""
    concept = run.concepts["concept"].to_list().index(row["concept"])
    activation = image_means(run, row["layer"])[:, row["unit"]].astype(float)
    share = concept_shares(run, row["layer"])[:, concept].astype(float)
    present, held_out = share > 0, is_held_out(0, np.arange(60), 0.5)
    active = activation >= np.sort(activation)[-6]
    found = {
        "images_iou": sklearn.metrics.jaccard_score(present, active),
        "images_f1": sklearn.metrics.f1_score(present, active),
        "images_average_precision": sklearn.metrics.average_precision_score(active, present),
        "images_cosine": 1 - scipy.spatial.distance.cosine(activation, present.astype(float)),
        "images_simulation_correlation": pearson(activation[held_out], share[held_out]),
        "images_correlation": pearson(activation, present.astype(float)),
    }
    if not present.all():
        found |= {
            "images_auroc": sklearn.metrics.roc_auc_score(present, activation),
            "images_mad": activation[present].mean() - activation[~present].mean(),
        }
    return found


def pearson(left, right):
    return 0.0 if np.ptp(left) == 0 or np.ptp(right) == 0 else scipy.stats.pearsonr(left, right).statistic


def test_every_score_at_image_level_is_that_of_other_libraries(moments_run, evaluated):
    rows = evaluated.units.filter(pl.col("concept").is_not_null()).to_dicts()
    assert len(rows) == 12
    for row in rows:
        expected = by_brute_force(moments_run, row)
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert sum(len(by_brute_force(moments_run, row)) == 8 for row in rows) > 5, "most labels are not in every image"


def test_the_simulation_correlation_over_cells_is_that_of_the_run(moments_run, evaluated):
    rows = evaluated.units.filter(pl.col("concept").is_not_null()).to_dicts()
    columns = moments_run.concepts["concept"].to_list()
    for row in rows:
        expected = cell_correlations(moments_run, row["layer"], "heldout")[row["unit"], columns.index(row["concept"])]
        assert row["cells_simulation_correlation"] == (None if np.isnan(expected) else expected)
    assert sum(row["cells_simulation_correlation"] is not None for row in rows) > 3


def test_scores_on_pixels_are_those_of_the_run(moments_run, evaluated):
    scores = moments_run.scores.filter(pl.col("quantile") == 0.05)
    for row in evaluated.units.filter(pl.col("concept").is_not_null()).to_dicts():
        own = scores.filter(
            pl.col("layer") == row["layer"], pl.col("unit") == row["unit"],
            pl.col("concept").cast(pl.String) == row["concept"],
        )  # fmt: skip
        assert (row["pixels_iou"], row["pixels_f1"]) == (own["iou"].item(), own["f1"].item())


def test_a_label_that_is_no_concept_is_listed_and_counted(evaluated):
    assert evaluated.coverage.select(
        "layer", "method", "labels", "exact", "spelling", "unmatched", "coverage"
    ).rows() == [
        ("wide_relu", "first", 4, 4, 0, 0, 1.0),
        ("wide_relu", "second", 3, 2, 1, 0, 1.0),
        ("fc", "first", 3, 1, 1, 1, pytest.approx(2 / 3)),
        ("fc", "second", 3, 3, 0, 0, 1.0),
    ]
    unmatched = evaluated.units.filter(pl.col("concept").is_null())
    assert unmatched.select("method", "layer", "unit", "label").rows() == [("first", "fc", 2, "zebra")]
    assert unmatched.select(metric.column for metric in METRICS_OF_LABELS if metric.column in unmatched).null_count(
    ).sum_horizontal().item() == 11  # fmt: skip
    assert "2 methods (first, second), 13 labels, of which 12 are matched" in repr(evaluated)


def test_means_are_over_matched_labels_and_differences_over_the_units_of_both(moments_run, evaluated):
    table = evaluated.units.filter(pl.col("layer") == "wide_relu").to_dicts()
    first, second = (
        np.array([next((row["pixels_iou"] for row in table if (row["method"], row["unit"]) == (method, unit)), np.nan)
                  for unit in range(4)])
        for method in METHODS
    )  # fmt: skip
    chosen = {"layer": "wide_relu", "level": "pixels", "metric": "iou"}
    means = unit_means(np.stack([first, second], axis=1), np.arange(4), 0, 500)
    for index, method in enumerate(METHODS):
        row = evaluated.scores.filter(method=method, **chosen).to_dicts()[0]
        assert row["value"] == np.nanmean((first, second)[index])
        assert (row["ci_low"], row["ci_high"]) == (means.ci_low[index], means.ci_high[index])
        assert row["units"] == (4, 3)[index]
    paired = paired_means(first[:, None], second[:, None], np.arange(4), 0, 500)
    row = evaluated.differences.filter(left="first", right="second", **chosen).to_dicts()[0]
    assert row["difference"] == pytest.approx(np.nanmean(first - second), rel=1e-12)
    assert (row["ci_low"], row["ci_high"], row["units"]) == (paired.ci_low[0], paired.ci_high[0], 3)
    again, _ = summarized(evaluated.units, 0, 500)
    assert again.equals(evaluated.scores)


def test_a_mapping_says_which_concept_a_label_is(moments_run, tmp_path):
    mapping = tmp_path / "map.csv"
    mapping.write_text("label,concept\nzebra,concept 4\nconcept 1,\n")
    found = netdissect.evaluate(moments_run, METHODS, mapping=mapping, layer="fc", replicates=100)
    assert found.units.select("label", "concept", "how").rows()[:3] == [
        ("concept 300", "concept 300", "exact"),
        ("Concepts 1", "concept 1", "spelling"),
        ("zebra", "concept 4", "mapping"),
    ]  # fmt: skip
    assert found.units["layer"].unique().to_list() == ["fc"]


def test_a_single_file_needs_no_list(kept_run, tmp_path):
    path = netdissect.write_label_file(METHODS["first"], tmp_path / "first.csv")
    for given in (path, str(path)):
        found = netdissect.evaluate(kept_run, given, replicates=100)
        assert found.coverage["method"].unique().to_list() == ["first"]


def test_a_run_without_moments_has_the_metrics_on_pixels_and_says_so(kept_run):
    found = netdissect.evaluate(kept_run, METHODS, replicates=100)
    assert set(found.scores["level"]) == {"pixels"}
    assert any("netdissect run --config RUN/config.json --moments --out NEW" in note for note in found.notes)


def test_labels_of_which_none_is_a_concept_are_refused(moments_run):
    with pytest.raises(ResultError, match=r"none of the 1 label is a concept of the run, such as 'conceps'.*--mapping"):
        netdissect.evaluate(moments_run, {"m": pl.DataFrame({"unit": [0], "label": ["conceps"]})}, layer="fc")
    with pytest.raises(ResultError, match=r"no labels were given"):
        netdissect.evaluate(moments_run, {})


def test_synonyms_are_read_where_the_data_set_is(moments_run, labeled_data, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(labeled_data, moved)
    table = moved / "label.csv"
    table.write_text(table.read_text().replace("concept 4,,1,1,", "concept 4,,1,1,quadruple"))
    frames = {"m": pl.DataFrame({"unit": [0, 1], "label": ["Quadruple", "concept 1"]})}
    found = netdissect.evaluate(moments_run, frames, layer="fc", data_root=moved, replicates=100)
    assert found.units.select("concept", "how").rows() == [("concept 4", "synonym"), ("concept 1", "exact")]
    lost = netdissect.evaluate(moments_run, frames, layer="fc", data_root=tmp_path / "none", replicates=100)
    assert lost.units["how"].to_list() == ["unmatched", "exact"]
    assert any("synonyms (--data-root)" in note for note in lost.notes)


def image_names(data):
    with (data / "index.csv").open() as file:
        return [line.split(",")[0] for line in file.read().splitlines()[1:]]


@pytest.fixture(scope="module")
def cosy_folder(labeled_data, tmp_path_factory):
    """The first images of the run as those of one label, and the next ones as those of another."""
    root, images = tmp_path_factory.mktemp("cosy"), image_names(labeled_data)
    for name, part in (("Concept_1", images[:5]), ("zebra", images[5:25])):
        (root / name).mkdir()
        for image in part:
            shutil.copy(labeled_data / "images" / image, root / name)
    return root


def test_cosy_compares_the_activations_on_images_of_a_label_with_those_of_the_run(
    moments_run, labeled_data, cosy_folder
):
    from networks import build

    found = netdissect.evaluate(moments_run, METHODS, cosy=cosy_folder, network=build(), replicates=100)
    scored = found.units.filter(pl.col("cosy_auroc").is_not_null())
    assert scored.select("method", "layer", "unit", "label").rows() == [
        ("first", "wide_relu", 0, "concept 1"), ("second", "wide_relu", 2, "concept 1"),
        ("first", "fc", 1, "Concepts 1"), ("first", "fc", 2, "zebra"),
    ]  # fmt: skip
    order = image_names(labeled_data)
    for row in scored.to_dicts():
        folder = "zebra" if row["label"] == "zebra" else "Concept_1"
        chosen = [order.index(path.name) for path in sorted((cosy_folder / folder).iterdir())]
        means = image_means(moments_run, row["layer"])[:, row["unit"]].astype(float)
        truth = np.repeat([1, 0], [len(chosen), len(means)])
        assert row["cosy_auroc"] == pytest.approx(
            sklearn.metrics.roc_auc_score(truth, np.concatenate([means[chosen], means])), abs=1e-6
        )
        assert row["cosy_mad"] == pytest.approx((means[chosen].mean() - means.mean()) / means.std(ddof=1), rel=1e-4)
        assert row["cosy_p"] == pytest.approx(scipy.stats.mannwhitneyu(means, means[chosen]).pvalue, rel=1e-3)
    assert found.coverage["with_images"].to_list() == [1, 1, 2, 0]
    assert (
        "label is a concept (cells: one with masks; cosy: has images);"
        in netdissect.evaluation_tables.evaluation_scores(found).notes[0]
    )
    assert found.scores.filter(level="cosy", metric="auroc", method="first", layer="fc")["units"].item() == 2


def test_images_that_are_missing_or_broken_are_named(moments_run, kept_run, tmp_path, cosy_folder):
    from networks import build

    frames = {"m": pl.DataFrame({"unit": [0], "label": ["zebra"]})}
    broken = tmp_path / "cosy" / "zebra" / "bad.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no image")
    with pytest.raises(ConceptsError, match=r"bad\.png"):
        netdissect.evaluate(moments_run, frames, layer="fc", cosy=tmp_path / "cosy", network=build())
    broken.parent.rename(tmp_path / "cosy" / "horse")
    with pytest.raises(
        ConceptsError, match=r"no label has a folder in .*cosy, which holds horse; the first label is 'zeb"
    ):
        netdissect.evaluate(moments_run, frames, layer="fc", cosy=tmp_path / "cosy", network=build())
    with pytest.raises(NetworkError, match=r"structure or weights have changed"):
        netdissect.evaluate(moments_run, frames, layer="fc", cosy=cosy_folder, network=build(seed=1))
    with pytest.raises(ResultError, match=r"kept no mean activations of single images"):
        netdissect.evaluate(kept_run, frames, layer="fc", cosy=cosy_folder, network=build())


def test_the_sanity_checks_have_a_row_for_every_metric_and_the_published_outcome(moments_run, kept_run, monkeypatch):
    monkeypatch.setattr(sanity_checks, "DRAWS", 3)
    found = netdissect.sanity_checks(moments_run, layer="fc", active_share=0.1)
    expected = [(metric.level, metric.name) for metric in METRICS_OF_LABELS if metric.level in ("pixels", "images")]
    assert sorted(found.select("level", "metric").rows()) == sorted(expected)
    assert found.filter(metric="auroc").select("published_metric", "published_passes", "published_missing").row(0) == (
        "Inverse AUC", False, 0.5281,
    )  # fmt: skip
    assert set(netdissect.sanity_checks(kept_run, layer="fc")["level"]) == {"pixels"}
