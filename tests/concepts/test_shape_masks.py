"""Which pixels a drawn shape covers, and which shapes cover none."""

import math
from fractions import Fraction
from pathlib import Path

import contourpy
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from netdissect.concepts.sources.annotation_tools.shape_masks import Ellipse, Polygon, polygon_flaw

SIDE = 10
coordinates = st.integers(-12, 4 * SIDE + 12).map(lambda quarter: quarter / 4)
corners = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7)


def polygon(*points: tuple[float, float]) -> Polygon:
    return Polygon(tuple(number for point in points for number in point))


def inside(x: Fraction, y: Fraction, points: list[tuple[float, float]]) -> bool:
    """Count the edges that a ray to the left crosses, in exact arithmetic."""
    crossed = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        ax, ay, bx, by = map(Fraction, (x0, y0, x1, y1))
        if (ay <= y) != (by <= y):
            crossed += ax + (y - ay) * (bx - ax) / (by - ay) <= x
    return crossed % 2 == 1


@given(corners)
def test_a_pixel_belongs_to_a_polygon_that_holds_its_center(points: list[tuple[float, float]]) -> None:
    half = Fraction(1, 2)
    expected = [[inside(c + half, r + half, points) for c in range(SIDE + 2)] for r in range(SIDE)]
    np.testing.assert_array_equal(polygon(*points).fill((SIDE, SIDE + 2)), expected)


@given(st.lists(coordinates, min_size=1, max_size=4), st.integers(-5, 15), st.integers(-5, 15))
def test_polygons_that_share_an_edge_share_no_pixel_and_leave_none_out(bend: list[float], low: int, high: int) -> None:
    """A square of one's own size is cut by a bent line, drawn downward for one part and upward for the other."""
    steps = [SIDE * (n + 1) / (len(bend) + 1) for n in range(len(bend))]
    line = [(float(low), 0.0), *zip(bend, steps, strict=True), (float(high), float(SIDE))]
    left = polygon(*line, (-30, SIDE), (-30, 0)).fill((SIDE, SIDE))
    right = polygon((40, 0), (40, SIDE), *reversed(line)).fill((SIDE, SIDE))
    assert not (left & right).any()
    assert (left | right).all()


def test_a_square_on_the_borders_of_pixels_covers_these_pixels() -> None:
    found = polygon((0, 0), (8, 0), (8, 8), (0, 8)).fill((16, 16))
    assert found.sum() == 64
    assert found[:8, :8].all()


@pytest.mark.real
def test_real_masks_come_back_from_their_outlines(shared: Path) -> None:
    """An outline half way between the centers of pixels parts those inside from those outside."""
    outlines = 0
    for path in sorted((shared / "data" / "msrc" / "masks").glob("*.png"))[:12]:
        values = np.asarray(Image.open(path))
        rows, columns = (np.arange(length + 2) - 0.5 for length in values.shape)
        for value in np.unique(values):
            found = np.zeros(values.shape, np.bool_)
            padded = np.pad((values == value).astype(np.float64), 1)
            for line in contourpy.contour_generator(columns, rows, padded).lines(0.5):
                found ^= Polygon(tuple(np.asarray(line)[:-1].ravel().tolist())).fill(values.shape)
                outlines += 1
            np.testing.assert_array_equal(found, values == value)
    assert outlines > 50


@given(st.floats(-3, 13), st.floats(-3, 13), st.floats(0.1, 9), st.floats(0.1, 9), st.floats(-4, 4))
def test_a_pixel_belongs_to_an_ellipse_that_holds_its_center(
    x: float, y: float, across: float, down: float, angle: float
) -> None:
    found = Ellipse(x, y, across, down, angle).fill((SIDE, SIDE + 2))
    for (row, column), covered in np.ndenumerate(found):
        # Turned back about its center, and pressed to a circle of radius 1.
        turned = complex(column + 0.5 - x, row + 0.5 - y) * complex(math.cos(-angle), math.sin(-angle))
        distance = math.hypot(turned.real / across, turned.imag / down)
        if abs(distance - 1) > 1e-9:
            assert covered == (distance < 1)


@pytest.mark.parametrize(
    ("numbers", "flaw"),
    [
        ([0, 0, 4, 0, 4, 4], None),
        ([-4, -4, 1, -4, 1, 1], None),
        ([0, 0, 4, 0], "fewer than 3 points"),
        ([], "fewer than 3 points"),
        ([0, 0, 4, 0, 4], "an odd number of coordinates"),
        ([0, 0, 4, 4, 2, 2], "no area"),
        ([1, 1, 1, 1, 1, 1], "no area"),
        ([0, 0, 4, 4, 4, 0, 0, 4], None),  # a bow tie, whose halves cancel
        ([10, 0, 14, 0, 14, 4], "no point inside the image"),
        ([0, -5, 4, -5, 4, 0], "no point inside the image"),
        ([0, 0, math.nan, 0, 4, 4], "a coordinate that is no finite number"),
        ([0, 0, math.inf, 0, -math.inf, 4], "a coordinate that is no finite number"),
        ([0, 0, 1e9, 0, 4, 4], "an outline of more than 2,000,000 pixels"),
        ([0, 0, 1e308, 1e308, 4, 1e308], "an outline of more than 2,000,000 pixels"),
        ([-1e308, 0, 1e308, 0, 0, 5], "an outline of more than 2,000,000 pixels"),
        ([-1e5, -1e5, 1e5, -1e5, 1e5, 1e5, -1e5, 1e5], None),
        ([0, 0, 5, 1] * 300_000, "an outline of more than 2,000,000 pixels"),
    ],
)
def test_it_is_said_why_a_polygon_covers_nothing(numbers: list[float], flaw: str | None) -> None:
    assert polygon_flaw(numbers, (10, 10)) == flaw


@pytest.mark.parametrize(
    ("ellipse", "flaw"),
    [
        (Ellipse(5, 5, 2, 2), None),
        (Ellipse(-1, -1, 2, 2), None),
        (Ellipse(5, 5, 0, 2), "no area"),
        (Ellipse(5, 5, 2, -1), "no area"),
        (Ellipse(50, 5, 2, 2), "no point inside the image"),
        (Ellipse(math.nan, 5, 2, 2), "a coordinate that is no finite number"),
    ],
)
def test_it_is_said_why_an_ellipse_covers_nothing(ellipse: Ellipse, flaw: str | None) -> None:
    assert ellipse.flaw((10, 10)) == flaw
