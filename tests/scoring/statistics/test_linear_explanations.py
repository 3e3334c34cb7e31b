"""Linear explanations from moments against least squares on the images themselves."""

import numpy as np
import numpy.typing as npt
import pytest
import scipy.sparse
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from netdissect.scoring.statistics.linear_explanations import (
    LEAST_IMAGES,
    MAX_TERMS,
    TOLERANCE,
    ShareMoments,
    UnitMoments,
    fit,
    heldout_scores,
    select_terms,
    standardized_weights,
)

Floats = npt.NDArray[np.float64]
IMAGES, CONCEPTS = 120, 16


def drawn_shares(seed: int) -> Floats:
    """Draw sparse shares of concepts; the last concept repeats the first, the one before it is rare."""
    rng = np.random.default_rng(seed)
    shares = np.where(rng.random((IMAGES, CONCEPTS)) < 0.3, rng.random((IMAGES, CONCEPTS)), 0.0)
    shares[:, -1] = shares[:, 0]
    shares[:, -2] = np.arange(IMAGES) < LEAST_IMAGES - 1
    return shares


def drawn_units(shares: Floats, seed: int) -> npt.NDArray[np.float32]:
    """Draw units that depend on few concepts, on many, and on none; on a level far from zero, and a constant one."""
    rng = np.random.default_rng(seed + 1)
    noise = rng.normal(size=(IMAGES, 6))
    few, many = 3 * shares[:, 1] - 2 * shares[:, 2], shares[:, :14] @ rng.normal(size=14)
    units = [few + 0.1 * noise[:, 0], many, many + 0.3 * noise[:, 1], noise[:, 2], 100 + few + noise[:, 3]]
    return np.stack([*units, np.full(IMAGES, 2.5)], axis=0).astype(np.float32)


def moments_of(shares: Floats, units: npt.NDArray[np.float32]) -> tuple[ShareMoments, UnitMoments]:
    sparse = scipy.sparse.csr_array(shares)
    return ShareMoments.of(sparse), UnitMoments.of(sparse, units)


def correlation_of_fit(shares: Floats, values: Floats) -> float:
    """Correlate a unit with its least-squares fit."""
    design = np.column_stack([shares, np.ones(len(shares))])
    fitted = design @ np.linalg.lstsq(design, values)[0]
    return float(np.corrcoef(fitted, values)[0, 1])


def scaled(values: Floats) -> Floats:
    """Divide deviations from the mean by the standard deviation, column by column."""
    return (values - values.mean(axis=0)) / values.std(axis=0)


def chosen_by_trying(shares: Floats, values: Floats) -> tuple[list[int], list[float]]:
    """Choose concepts one by one, by fitting each of them anew on the images."""
    usual = [c for c in range(CONCEPTS) if (shares[:, c] > 0).sum() >= LEAST_IMAGES and shares[:, c].std() > 0]
    chosen: list[int] = []
    correlations: list[float] = []
    while len(chosen) < MAX_TERMS:
        tried = {}
        for concept in usual:
            design = np.column_stack([shares[:, [*chosen, concept]], np.ones(IMAGES)])
            if np.linalg.matrix_rank(design) == design.shape[1]:
                tried[concept] = correlation_of_fit(shares[:, [*chosen, concept]], values)
        best = max(tried, key=lambda concept: round(tried[concept], 9))
        if chosen and tried[best] - correlations[-1] < TOLERANCE:
            break
        chosen.append(best)
        correlations.append(tried[best])
    return chosen, correlations


@pytest.mark.parametrize("seed", range(3))
def test_concepts_are_those_that_trying_each_on_the_images_chooses(seed: int) -> None:
    shares = drawn_shares(seed)
    units = drawn_units(shares, seed)
    terms = select_terms(*moments_of(shares, units))
    for unit in range(len(units) - 1):
        expected, correlations = chosen_by_trying(shares, units[unit].astype(np.float64))
        found = terms.concepts[unit]
        assert found[found >= 0].tolist() == expected
        np.testing.assert_allclose(terms.correlations[unit, : len(expected)], correlations, rtol=1e-9)
        assert np.isnan(terms.correlations[unit, len(expected) :]).all()
    assert (terms.concepts[-1] == -1).all(), "a constant unit has no explanation"


def test_a_unit_of_two_concepts_is_explained_by_these() -> None:
    shares = drawn_shares(5)
    terms = select_terms(*moments_of(shares, drawn_units(shares, 5)))
    assert terms.concepts[0].tolist() == [1, 2] + [-1] * (MAX_TERMS - 2)


def test_fits_and_scores_are_those_of_least_squares_on_the_images() -> None:
    shares, others = drawn_shares(7), drawn_shares(8)
    units, other_units = drawn_units(shares, 7), drawn_units(others, 8)
    chosen, scored = moments_of(shares, units), moments_of(others, other_units)
    concepts = select_terms(*chosen).concepts
    concepts[3] = [CONCEPTS - 1, 0, 4] + [-1] * (MAX_TERMS - 3)  # the first two are the same
    models = fit(*chosen, concepts)
    scores = heldout_scores(models, *scored)
    for unit in range(len(units) - 1):
        of_unit = concepts[unit][concepts[unit] >= 0]
        regression = LinearRegression().fit(shares[:, of_unit], units[unit])
        np.testing.assert_allclose(models.weights[unit, : len(of_unit)], regression.coef_, rtol=1e-5, atol=1e-6)
        assert models.intercepts[unit] == pytest.approx(regression.intercept_, rel=1e-5)
        predicted = others[:, of_unit] @ models.weights[unit, : len(of_unit)] + models.intercepts[unit]
        standardized = LinearRegression().fit(scaled(shares[:, of_unit]), scaled(units[unit].astype(np.float64))).coef_
        found = standardized_weights(models, *chosen)[unit, : len(of_unit)]
        np.testing.assert_allclose(found, standardized, rtol=1e-5, atol=1e-6)
        assert scores.r2[unit] == pytest.approx(r2_score(other_units[unit], predicted), rel=1e-7)
        assert scores.correlations[unit] == pytest.approx(np.corrcoef(predicted, other_units[unit])[0, 1], rel=1e-7)
    assert (standardized_weights(models, *chosen)[-1] == 0).all(), "a constant unit has no weights"
    assert np.isnan(scores.r2[-1])
    assert np.isnan(scores.correlations[-1])


def test_without_concepts_the_mean_is_predicted() -> None:
    shares, others = drawn_shares(1), drawn_shares(2)
    units, other_units = drawn_units(shares, 1)[:1], drawn_units(others, 2)[:1]
    models = fit(*moments_of(shares, units), np.array([[-1]]))
    assert models.weights.tolist() == [[0.0]]
    assert models.intercepts == pytest.approx([units.mean()])
    scores = heldout_scores(models, *moments_of(others, other_units))
    assert np.isnan(scores.correlations[0])
    assert scores.r2[0] == pytest.approx(r2_score(other_units[0], np.full(IMAGES, units.mean())), rel=1e-5)
