"""Correlations of units and the map of a layer, against NumPy's own correlation and singular values."""

import numpy as np
import numpy.typing as npt
import pytest

from netdissect.scoring import co_activation
from netdissect.scoring.co_activation import correlations, map_units, nearest_units, standardized

CONSTANT = 5


def maxima_of(seed: int, units: int = 40, images: int = 70) -> npt.NDArray[np.float32]:
    """Units of very different scales that share causes, among them a constant one."""
    rng = np.random.default_rng(seed)
    causes, shares = rng.standard_normal((6, images)), rng.standard_normal((units, 6)) * (rng.random((units, 6)) < 0.4)
    values = (shares @ causes + 0.3 * rng.standard_normal((units, images))) * 10.0 ** rng.integers(-4, 5, (units, 1))
    values[CONSTANT] = 0.1
    return np.maximum(values, -0.5).astype(np.float32)


def expected_correlations(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    varying = np.delete(values.astype(np.float64), CONSTANT, axis=0)
    return np.asarray(np.insert(np.insert(np.corrcoef(varying), CONSTANT, 0, axis=0), CONSTANT, 0, axis=1))


def test_correlations_are_those_of_numpy_and_0_for_a_constant_unit() -> None:
    values = maxima_of(0)
    np.testing.assert_allclose(correlations(values, values), expected_correlations(values), atol=2e-7)


def test_a_correlation_has_the_same_bits_in_any_order_of_the_images_and_in_any_blocks() -> None:
    rows = standardized(maxima_of(1))
    whole = rows @ rows.T
    order = np.random.default_rng(2).permutation(rows.shape[1])
    assert (rows[:, order] @ rows[:, order].T).tobytes() == whole.tobytes()
    assert (
        sum(rows[:, cut : cut + 9] @ rows[:, cut : cut + 9].T for cut in range(0, 70, 9)).tobytes() == whole.tobytes()
    )


@pytest.mark.parametrize("at_once", [7, 1024])
def test_nearest_units_are_those_of_sorting_all_correlations(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(co_activation, "UNITS_AT_ONCE", at_once)
    values = maxima_of(3)
    values[30] = 2 * values[4]  # of equal correlation with all others: the lower number comes first
    rows, expected = standardized(values), expected_correlations(values)
    units, found = nearest_units(rows, rows, 5, np.arange(len(rows)))
    for unit in range(len(values)):
        others = [other for other in range(len(values)) if other not in (unit, CONSTANT) and unit != CONSTANT]
        ranked = sorted(others, key=lambda other, unit=unit: (-round(expected[unit, other], 6), other))[:5]
        assert units[unit].tolist() == (ranked or [-1] * 5)
        np.testing.assert_allclose(found[unit], expected[unit, ranked] if ranked else np.zeros(5), atol=2e-7)
    across, _ = nearest_units(rows[:3], rows[:2], 5)
    assert across.shape == (3, 2)
    assert across[:2, 0].tolist() == [0, 1], "in another layer, a unit may be nearest to its copy"


@pytest.mark.parametrize(("units", "images"), [(40, 70), (40, 12), (7, 3), (7, 70)])
def test_a_map_holds_the_leading_singular_values_with_the_largest_coordinate_positive(units: int, images: int) -> None:
    values = maxima_of(4, units, images)
    points, explained = map_units(values)
    varying = np.delete(values.astype(np.float64), CONSTANT, axis=0)
    rows = varying - varying.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    left, singular, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    kept = min(2, int((singular > 1e-6).sum()))
    expected = left[:, :kept] * singular[:kept]
    expected *= np.sign(expected[np.abs(expected).argmax(axis=0), range(kept)])
    np.testing.assert_allclose(np.delete(points, CONSTANT, axis=0)[:, :kept], expected, atol=1e-5)
    np.testing.assert_allclose(explained[:kept], (singular**2 / (singular**2).sum())[:kept], atol=1e-6)
    assert not points[CONSTANT].any()


def test_a_layer_of_constant_units_is_mapped_to_one_point() -> None:
    points, explained = map_units(np.ones((3, 4), np.float32))
    assert not points.any()
    assert not explained.any()
