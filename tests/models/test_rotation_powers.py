"""Fractional powers of rotations: rotations themselves, from nothing to the whole."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from netdissect.errors import ShapeError
from netdissect.models.surgery.rotations import rotation_powers

sizes, seeds, exponents = st.integers(1, 24), st.integers(0, 10**6), st.floats(-1, 1)


def drawn(units, seed):
    """Float64 and orthogonal to the last digits, of determinant 1."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((units, units)))
    q = q * np.sign(np.diag(r))
    q[0] *= np.linalg.det(q)
    return q


@given(units=sizes, seed=seeds, alpha=exponents)
def test_every_power_of_a_rotation_is_a_rotation(units, seed, alpha):
    (power,) = rotation_powers(drawn(units, seed), [alpha])
    np.testing.assert_allclose(power @ power.T, np.eye(units), atol=1e-9)
    assert np.linalg.det(power) == pytest.approx(1, abs=1e-9)


@given(units=sizes, seed=seeds)
def test_power_zero_is_nothing_and_power_one_the_whole(units, seed):
    q = drawn(units, seed)
    nothing, whole = rotation_powers(q, [0, 1])
    np.testing.assert_allclose(nothing, np.eye(units), atol=1e-9)
    np.testing.assert_allclose(whole, q, atol=1e-9)


@given(units=sizes, seed=seeds, one=exponents, other=exponents)
def test_exponents_add_up(units, seed, one, other):
    left, right, both = rotation_powers(drawn(units, seed), [one, other, one + other])
    np.testing.assert_allclose(left @ right, both, atol=1e-9)


def test_powers_of_a_generic_rotation_are_those_of_the_matrix_logarithm():
    # Another way to the same numbers: Q^a = exp(a log Q), for a rotation without half turns.
    q = drawn(7, 3)
    generator = scipy.linalg.logm(q).real
    for alpha, power in zip((0.2, 0.5, 0.9), rotation_powers(q, (0.2, 0.5, 0.9)), strict=True):
        np.testing.assert_allclose(power, scipy.linalg.expm(alpha * generator), atol=1e-8)


def test_a_plane_turns_in_its_own_sense():
    for angle in (0.3, -0.3, 3.0, -3.0):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        half = np.array([[np.cos(angle / 2), -np.sin(angle / 2)], [np.sin(angle / 2), np.cos(angle / 2)]])
        np.testing.assert_allclose(rotation_powers(turn, [0.5])[0], half, atol=1e-12)


@pytest.mark.parametrize("units", [2, 3, 4, 5])
def test_half_turns_come_in_pairs(units):
    q = np.diag([1.0] * (units % 2) + [-1.0] * (units - units % 2))
    half, whole = rotation_powers(q, [0.5, 1])
    np.testing.assert_allclose(whole, q, atol=1e-12)
    np.testing.assert_allclose(half @ half, q, atol=1e-12)
    np.testing.assert_allclose(half @ half.T, np.eye(units), atol=1e-12)


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        (np.diag([1.0, -1.0]), "reflection"),
        (np.ones((2, 2)), "not orthonormal"),
        (np.ones((2, 3)), "not orthonormal"),
    ],
)
def test_what_is_no_rotation_has_no_powers(matrix, why):
    with pytest.raises(ShapeError, match=why):
        rotation_powers(matrix, [0.5])
