"""Colors of categories and runs can be told apart with the common color vision deficiencies."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb

from netdissect.plots.category_colors import CATEGORY_COLORS, PAPER_COLORS
from netdissect.plots.depth import RUN_COLORS

# Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency", table
# of matrices for linear RGB, severity 1.0.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
# sRGB to XYZ (IEC 61966-2-1), over the white of D65.
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ.sum(axis=1)
CLEAR = 15.0
"""CIE 1976 difference; 2.3 is just noticeable (Mahy, Van Eycken and Oosterlinck 1994)."""


def lab(color: str, deficiency: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a color in CIE L*a*b* as it is seen."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = XYZ @ (deficiency @ linear).clip(0, 1) / WHITE
    fx, fy, fz = (
        value ** (1 / 3) if value > (6 / 29) ** 3 else value / (3 * (6 / 29) ** 2) + 4 / 29 for value in (x, y, z)
    )
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def smallest_difference(colors: Sequence[str], deficiency: str) -> float:
    """Return the CIE 1976 difference of the two colors that look most alike."""
    seen = [lab(color, DEFICIENCIES[deficiency]) for color in colors]
    return min(float(np.linalg.norm(first - second)) for first, second in combinations(seen, 2))


def test_differences_of_colors_are_those_of_cie_lab() -> None:
    # Lindbloom's calculator, D65: red is (53.24, 80.09, 67.20).
    np.testing.assert_allclose(lab("#FF0000", DEFICIENCIES["none"]), [53.24, 80.09, 67.20], atol=0.05)


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_categories_and_runs_look_different_with_any_color_vision(deficiency: str) -> None:
    assert smallest_difference(list(CATEGORY_COLORS.values()), deficiency) > CLEAR
    assert smallest_difference(RUN_COLORS[:6], deficiency) > CLEAR


def test_the_colors_of_the_authors_do_not() -> None:
    assert smallest_difference(list(PAPER_COLORS.values()), "protanopia") < CLEAR
