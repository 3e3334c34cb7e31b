"""Scores of probes on held-out cells against scikit-learn and SciPy."""

import numpy as np
import pytest
import scipy
import sklearn.metrics

from drawn_codes import drawn_codes, drawn_concepts
from netdissect.evaluation.dictionaries.code_matrix import column, select_cells
from netdissect.evaluation.dictionaries.logistic_probes import UnitProbes
from netdissect.evaluation.dictionaries.probe_scores import (
    COVERED,
    average_precisions,
    heldout_scores,
    purity,
)
from netdissect.scoring.statistics.bootstrap import percentile_interval, poisson_weights


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "sparse"])
def scored(request):
    labels = drawn_concepts()
    codes = drawn_codes(labels, request.param)
    chosen, held_out = labels.part(~labels.held_out), labels.part(labels.held_out)
    probes = UnitProbes.of(select_cells(codes, ~labels.held_out), chosen).best()
    rest = select_cells(codes, labels.held_out)
    return probes, rest, held_out, heldout_scores(rest, held_out, probes, seed=3, replicates=20)


def logits(codes, probes, concept):
    unit = probes.unit[concept]
    values = codes[:, unit] if isinstance(codes, np.ndarray) else codes[:, [unit]].toarray()[:, 0]
    return probes.bias[concept] + probes.weight[concept] * values.astype(float)


def test_average_precision_and_loss_are_those_of_other_libraries(scored):
    probes, codes, labels, scores = scored
    for concept in range(4):
        cells, truth = labels.counted(concept), labels.labels_of(concept)
        of_probe = logits(codes, probes, concept)
        expected = sklearn.metrics.average_precision_score(truth[cells], of_probe[cells])
        assert scores.average_precision[concept] == pytest.approx(expected, rel=1e-9)
        signed = np.where(truth, of_probe, -of_probe)[cells]
        assert scores.loss[concept] == pytest.approx(-scipy.special.log_expit(signed).mean(), rel=1e-9)
        assert scores.prior_loss[concept] == pytest.approx(
            sklearn.metrics.log_loss(truth[cells], np.full(cells.sum(), truth[cells].mean())), rel=1e-9
        )
    assert np.isnan(scores.average_precision[4])
    assert scores.concepts == 4
    assert scores.mean_average_precision == pytest.approx(scores.average_precision[:4].mean())
    assert scores.probe_r == pytest.approx(1 - scores.loss[:4].sum() / scores.prior_loss[:4].sum())
    assert scores.coverage == (scores.average_precision[:4] >= COVERED).mean()
    assert 0 < scores.coverage < 1


def test_replicates_weight_all_cells_of_an_image_alike(scored):
    probes, codes, labels, scores = scored
    images = np.unique(labels.image_index)
    weights = poisson_weights(3, images, 20)[np.searchsorted(images, labels.image_index)]
    for concept in range(4):
        cells, truth = labels.counted(concept), labels.labels_of(concept)
        expected = [
            sklearn.metrics.average_precision_score(
                truth[cells], logits(codes, probes, concept)[cells], sample_weight=weights[cells, replicate]
            )
            for replicate in range(20)
        ]
        np.testing.assert_allclose(scores.replicates[:, concept], expected, rtol=1e-6)
    means = scores.replicates[:, :4].mean(axis=1)
    centered = means - means.mean() + scores.mean_average_precision
    assert scores.mean_interval == pytest.approx(percentile_interval(centered))
    assert scores.mean_interval[0] < scores.mean_average_precision < scores.mean_interval[1]


def test_ties_count_as_one_threshold():
    values = np.asfortranarray(np.array([[1.0], [1.0], [0.0], [0.0]], np.float32))
    truth, cells = np.array([True, False, True, False]), np.ones(4, bool)
    found = average_precisions(column(values, 0), truth, cells, np.ones((4, 1), np.float32), 1.0)
    assert found[0] == pytest.approx(0.5)
    found = average_precisions(column(values, 0), truth[[0, 2, 1, 3]], cells, np.ones((4, 1), np.float32), -1.0)
    assert found[0] == pytest.approx(0.5)


def test_purity_is_the_largest_share_of_a_concept_in_the_top_cells():
    labels = drawn_concepts()
    codes = drawn_codes(labels, sparse=True)
    found, values, concepts = purity(codes, labels, 16), codes.toarray(), labels.concepts.toarray()
    for unit in range(values.shape[1]):
        top = np.lexsort((np.arange(len(values)), -values[:, unit]))[:16]
        expected = concepts[top].mean(axis=0).max() if (values[:, unit] != 0).sum() >= 16 else np.nan
        assert found[unit] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(found).tolist() == [False] * 4 + [True] * 2 + [False] * 3
