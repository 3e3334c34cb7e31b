"""Vectors of concepts and their masks by brute force and scikit-learn, a planted direction, and every conclusion."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse
import sklearn.discriminant_analysis
import sklearn.linear_model
import sklearn.metrics

from drawn_codes import drawn_codes, drawn_concepts
from netdissect.evaluation.dictionaries.code_matrix import CellConcepts
from netdissect.experiments.concept_vectors.cell_masks import best_thresholds, mask_iou, net2vec_weights, unit_ious
from netdissect.experiments.concept_vectors.experiment import (
    BEST,
    CONCEPTS,
    ConceptVectorsConfig,
    conclude,
    gains,
    layer_table,
)
from netdissect.experiments.concept_vectors.layer_vectors import METHODS, active_units, concept_rows
from netdissect.experiments.concept_vectors.vectors import (
    LDA_SHRINKAGE,
    RIDGE_PENALTY,
    ConceptMoments,
    fast_cav,
    lda,
    ridge,
)

CONCEPT = np.arange(4)


def cosine(left, right):
    return left @ right / np.sqrt((left @ left) * (right @ right))


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "sparse"])
def cells(request):
    labels = drawn_concepts()
    codes = drawn_codes(labels, request.param)
    dense = codes.toarray() if request.param else codes
    return codes, labels, dense.astype(float), ConceptMoments.of(codes, labels)


def test_vectors_from_moments_are_those_of_other_libraries(cells):
    _, labels, dense, moments = cells
    cavs, discriminants, regressions = (each(moments, CONCEPT) for each in (fast_cav, lda, ridge))
    for concept in CONCEPT:
        counted, truth = labels.counted(concept), labels.labels_of(concept)
        values, present = dense[counted], truth[counted]
        np.testing.assert_allclose(cavs[concept], values[present].mean(axis=0) - values.mean(axis=0), atol=1e-9)
        variance = np.cov(values.T, bias=True).trace() / values.shape[1]
        model = sklearn.linear_model.Ridge(alpha=RIDGE_PENALTY * variance * len(values)).fit(values, present)
        assert cosine(regressions[concept], model.coef_) == pytest.approx(1, abs=1e-9)
        moved = np.concatenate([values, np.zeros((0, values.shape[1]))])
        added = LDA_SHRINKAGE * variance * np.eye(values.shape[1])
        within = sum(
            share * np.cov(moved[rows].T, bias=True)
            for rows, share in ((present, present.mean()), (~present, 1 - present.mean()))
        )
        expected = np.linalg.solve(within + added, values[present].mean(axis=0) - values[~present].mean(axis=0))
        assert cosine(discriminants[concept], expected) == pytest.approx(1, abs=1e-9)


def test_without_shrinkage_the_discriminant_is_that_of_scikit_learn():
    labels = drawn_concepts()
    codes = np.asfortranarray(drawn_codes(labels, sparse=False)[:, [0, 1, 3, 6, 7, 8]])
    counted, present = labels.counted(0), labels.labels_of(0)
    model = sklearn.discriminant_analysis.LinearDiscriminantAnalysis().fit(codes[counted], present[counted])
    found = lda(ConceptMoments.of(codes, labels), CONCEPT[:1])[0]
    assert cosine(found, model.coef_[0]) == pytest.approx(1, abs=1e-4)


def test_the_best_threshold_is_the_best_of_all(cells):
    _, labels, dense, _ = cells
    for unit in (0, 3, 4):
        found = best_thresholds(dense[:, unit], labels)
        for concept in range(4):
            counted, truth = labels.counted(concept), labels.labels_of(concept)
            every = [
                sklearn.metrics.jaccard_score(truth[counted], (dense[:, unit] >= threshold)[counted])
                for threshold in np.unique(dense[:, unit])
            ]
            assert found.iou[concept] == pytest.approx(max(every))
            mask = dense[:, unit] >= found.threshold[concept]
            assert mask_iou(mask, labels, concept) == pytest.approx(found.iou[concept])
        assert found.iou[4] == 0


def test_units_are_on_where_they_are_above_their_quantile_and_their_iou_is_that_of_sets(cells):
    codes, labels, dense, _ = cells
    on = active_units(codes, 0.1)
    for unit in range(9):
        threshold = max(np.sort(dense[:, unit])[-37], 0 if isinstance(codes, scipy.sparse.csc_array) else -np.inf)
        assert on[:, [unit]].toarray()[:, 0].tolist() == (dense[:, unit] > threshold).tolist()
    ious = unit_ious(on, labels)
    for unit, concept in ((0, 0), (2, 1), (3, 3)):
        assert ious[unit, concept] == pytest.approx(mask_iou(on[:, [unit]].toarray()[:, 0], labels, concept))


def test_net2vec_finds_the_units_whose_union_is_the_concept():
    rng = np.random.default_rng(0)
    cells = 30 * 20
    on = rng.random((cells, 6)) < 0.15
    truth = on[:, 1] | on[:, 4]
    labels = CellConcepts(
        np.repeat(np.arange(30), 20), scipy.sparse.csr_array(truth[:, None]), np.array([0]),
        np.ones((cells, 1), bool), np.zeros(cells, bool),
    )  # fmt: skip
    weights = net2vec_weights(scipy.sparse.csr_array(on), labels, 0)
    assert set(np.flatnonzero(weights > 0)) == {1, 4}
    assert mask_iou(on.astype(float) @ weights > 0, labels, 0) == 1


def test_a_concept_on_a_diagonal_needs_several_units_and_one_on_an_axis_does_not(cells):
    _, labels, _, _ = cells
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(len(labels.image_index), 6))
    diagonal, axis = labels.labels_of(2), labels.labels_of(0)
    noise[:, :3] += 1.6 * diagonal[:, None]
    noise[:, 3] += 8 * axis
    data = type("Data", (), {"concepts": [type("C", (), {"name": f"c{n}", "category": "k"}) for n in range(5)]})
    found = concept_rows(np.asfortranarray(noise.astype(np.float32)), labels, data, 0.2)
    assert found["method"].unique(maintain_order=True).to_list() == list(METHODS)
    iou = {(row["method"], row["concept"]): row["heldout_iou"] for row in found.iter_rows(named=True)}
    assert iou["ridge", "c2"] > 1.2 * iou["unit", "c2"]
    assert iou["unit", "c0"] > 0.9
    units = found.filter(method="unit", concept="c0")["unit"].item(), found.filter(method="ridge")["unit"].null_count()
    assert units == (3, 4)


def rows(unit, several):
    """Concepts of one layer: IoU of the best unit and of two methods of several units, each the better one once."""
    found = []
    for index, (one, other) in enumerate(zip(unit, several, strict=True)):
        for method, iou in (("unit", one), ("ridge", other), ("lda", other / 2)):
            chosen = 0.9 if method == "ridge" else 0.5
            found.append(("conv", method, f"c{index}", "object", None, chosen, iou))
    names = ("layer", "method", "concept", "category", "unit", "selection_iou", "heldout_iou")
    return pl.DataFrame(found, schema=names, orient="row")


@pytest.mark.parametrize(
    ("unit", "several", "outcome"),
    [
        ((0.1, 0.2, 0.1, 0.2), (0.3, 0.4, 0.31, 0.4), "agrees"),
        ((0.3, 0.4, 0.31, 0.4), (0.1, 0.2, 0.1, 0.2), "disagrees"),
        ((0.1, 0.4, 0.1, 0.4), (0.4, 0.1, 0.4, 0.1), "inconclusive"),
    ],
)
def test_concept_vectors_conclude_from_their_tables(unit, several, outcome):
    found = rows(unit, several)
    np.testing.assert_allclose(gains(found), np.subtract(several, unit))
    table = pl.DataFrame({"layer": ["conv"], "method": [BEST], "unit_share": [sum(unit) / sum(several)]})
    config = ConceptVectorsConfig(dissect={"layers": ("conv",)})
    concluded = conclude(table, config, extra={CONCEPTS: found})
    assert concluded.outcome == outcome
    assert f"conv {sum(unit) / sum(several):.0%}" in concluded.finding
    assert conclude(table, config).outcome == "inconclusive"


def test_the_share_of_the_best_unit_is_the_ratio_of_mean_ious():
    found = rows((0.1, 0.3), (0.4, 0.4))
    every = [found.with_columns(pl.lit(method).alias("method")) for method in METHODS[1:]]
    table = layer_table(pl.concat([found.filter(method="unit"), *(each.filter(selection_iou=0.9) for each in every)]))
    best = table.filter(method=BEST).row(0, named=True)
    assert (best["iou"], best["unit_share"], best["concepts"]) == (pytest.approx(0.4), pytest.approx(0.5), 2)
