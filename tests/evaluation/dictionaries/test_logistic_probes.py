"""Probes of every unit for every concept against an optimizer of SciPy and against scikit-learn, pair by pair."""

import numpy as np
import pytest
import scipy
import sklearn.linear_model

from drawn_codes import drawn_codes, drawn_concepts
from netdissect.evaluation.dictionaries.code_matrix import column
from netdissect.evaluation.dictionaries.logistic_probes import RIDGE, UnitProbes, concept_sums, probe_loss


def dense(codes):
    return codes if isinstance(codes, np.ndarray) else codes.toarray()


def by_scipy(values, truth):
    """Objective, bias and weight of one probe of scaled codes."""
    prior = np.log(truth.mean() / (1 - truth.mean()))

    def objective(at):
        logits = at[0] + at[1] * values
        return (np.logaddexp(0, logits) - truth * logits).mean() + RIDGE / 2 * (at[1] ** 2 + (at[0] - prior) ** 2)

    def slope(at):
        rest = scipy.special.expit(at[0] + at[1] * values) - truth
        return np.array([rest.mean() + RIDGE * (at[0] - prior), (rest * values).mean() + RIDGE * at[1]])

    found = scipy.optimize.minimize(objective, [prior, 0.0], jac=slope, method="BFGS", options={"gtol": 1e-10})
    return found.fun, found.x


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "sparse"])
def fitted(request):
    labels = drawn_concepts()
    codes = drawn_codes(labels, request.param)
    return codes, labels, UnitProbes.of(codes, labels)


def test_the_best_unit_of_each_concept_has_the_least_loss_of_all(fitted):
    codes, labels, probes = fitted
    best, values = probes.best(), dense(codes).astype(float)
    for concept in range(4):
        cells, truth = labels.counted(concept), labels.labels_of(concept)
        tried = [by_scipy(values[cells, unit] / probes.scale[unit], truth[cells]) for unit in range(values.shape[1])]
        objectives = [objective for objective, _ in tried]
        assert best.unit[concept] == int(np.argmin(objectives))
        unit = best.unit[concept]
        loss = probe_loss(column(codes, unit), cells, truth, best.bias[concept], best.weight[concept])
        assert best.loss[concept] == pytest.approx(loss, rel=1e-9)
        weight, bias = best.weight[concept] * probes.scale[unit], best.bias[concept]
        prior = np.log(truth[cells].mean() / (1 - truth[cells].mean()))
        objective = loss + RIDGE / 2 * (weight**2 + (bias - prior) ** 2)
        assert objective == pytest.approx(objectives[unit], rel=1e-8)
        assert (np.array(objectives) > probes.bound[:, concept] - 1e-8).all(), "a bound is never above the minimum"
        assert best.bias[concept] == pytest.approx(tried[unit][1][0], rel=2e-3)
    assert (best.unit[4], best.unit[0], best.unit[2]) == (-1, 0, 1)


def test_a_probe_is_that_of_scikit_learn():
    labels = drawn_concepts()
    codes = drawn_codes(labels, sparse=False)
    best = UnitProbes.of(codes, labels).best()
    unit, cells = best.unit[2], labels.counted(2)
    model = sklearn.linear_model.LogisticRegression(C=1 / (RIDGE * cells.sum()), tol=1e-10, max_iter=1000)
    model.fit(codes[cells, unit, None].astype(float), labels.labels_of(2)[cells])
    assert best.weight[2] == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert best.bias[2] == pytest.approx(model.intercept_[0], rel=1e-4)


def test_only_some_units_may_be_asked_for(fitted):
    _, _, probes = fitted
    some = np.array([1, 3, 6])
    assert set(probes.best(some).unit[:4]) <= set(some)
    assert probes.best(some).unit[2] == 1
    assert (probes.best(np.array([], np.int64)).unit == -1).all()


def test_the_scale_of_a_unit_does_not_matter(fitted):
    codes, labels, probes = fitted
    once, scaled = probes.best(), UnitProbes.of(codes * np.float32(1024), labels).best()
    assert once.unit.tolist() == scaled.unit.tolist()
    np.testing.assert_allclose(scaled.loss, once.loss, rtol=1e-9)
    np.testing.assert_allclose(scaled.weight * 1024, once.weight, rtol=1e-5)


def test_sums_over_the_cells_of_concepts_are_those_of_a_product(fitted):
    codes, labels, _ = fitted
    expected = dense(codes).astype(float).T @ labels.concepts.toarray()
    np.testing.assert_allclose(concept_sums(codes, labels), expected, rtol=1e-12, atol=1e-12)


def test_codes_that_separate_a_concept_have_a_finite_probe():
    labels = drawn_concepts()
    codes = np.asfortranarray(labels.labels_of(0)[:, None].astype(np.float32))
    best = UnitProbes.of(codes, labels).best()
    assert best.unit[0] == 0
    assert 0 < best.loss[0] < 1e-4
    assert np.isfinite([best.weight[0], best.bias[0]]).all()
