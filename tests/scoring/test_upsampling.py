"""Positions of cells on the label map, and interpolation between them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import oracle
from netdissect.concepts import Size
from netdissect.config import Anchor
from netdissect.errors import ShapeError
from netdissect.scoring import FieldSpan, FieldSpans, make_upsampler

ORACLE_KIND: dict[Anchor, str] = {
    "receptive-field": "field",
    "receptive-field-integer": "field-integer",
    "half-pixel": "half-pixel",
    "half-pixel-pillow": "pillow",
}


def anchors(cells: int, pixels: int, source: int, span: FieldSpan, anchor: Anchor) -> list[float]:
    """Find the pixels at which a ramp over the cells has integer values."""
    upsampler = make_upsampler(
        Size(1, cells), Size(1, pixels), Size(1, source), FieldSpans(FieldSpan(0, 1, 1), span), anchor
    )
    ramp = upsampler.upsample(np.arange(cells, dtype=np.float32)[None])[0].astype(np.float64)
    inside = np.flatnonzero((ramp > 0) & (ramp < cells - 1))
    slope, start = np.polyfit(inside, ramp[inside], 1)
    return [float((cell - start) / slope) for cell in range(cells)]


EFFICIENTNET = FieldSpan(-154, 339, 16)
ALEXNET = FieldSpan(-64, 163, 16)


@pytest.mark.parametrize(
    ("anchor", "first", "last"),
    [("receptive-field", 7.25, 111.25), ("receptive-field-integer", 7, 111), ("half-pixel", 3.5, 107.5)],
)
def test_efficientnet_cells_have_the_positions_of_the_method(anchor: Anchor, first: float, last: float) -> None:
    found = anchors(14, 112, 224, EFFICIENTNET, anchor)
    assert found == pytest.approx(np.linspace(first, last, 14).tolist(), abs=1e-4)


def test_alexnet_conv5_cells_are_eight_pixels_apart_under_the_original_geometry() -> None:
    # 227 / 113 is 2.0088..., and the ratio of the authors' Caffe code (2017) is the integer 2.
    found = anchors(13, 113, 227, ALEXNET, "receptive-field-integer")
    assert found == pytest.approx(list(range(8, 105, 8)), abs=1e-4)


def test_an_integer_step_that_vanishes_falls_back_to_the_exact_rule() -> None:
    span = FieldSpan(-3, 7, 1)
    found = anchors(12, 8, 16, span, "receptive-field-integer")
    assert found == pytest.approx(anchors(12, 8, 16, span, "receptive-field"), abs=1e-4)
    assert found == pytest.approx([(i + 0.5) / 2 - 0.5 for i in range(12)], abs=1e-4)


sides = st.integers(1, 23)
spans = st.builds(oracle.Field, st.integers(-60, 9), st.integers(1, 99), st.integers(1, 17))


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(sides, sides),
    st.tuples(sides, sides),
    st.tuples(spans, spans),
    st.integers(1, 4),
    st.sampled_from(sorted(ORACLE_KIND)),
)
@example(0, (4, 9), (7, 5), (oracle.Field(0, 1, 1),) * 2, 2, "half-pixel-pillow")
@example(0, (9, 4), (5, 7), (oracle.Field(0, 1, 1),) * 2, 2, "half-pixel-pillow")
@example(0, (9, 9), (5, 4), (oracle.Field(0, 1, 1),) * 2, 2, "half-pixel-pillow")
def test_upsampled_maps_are_those_of_scipy_and_pillow(
    seed: int,
    cells: tuple[int, int],
    size: tuple[int, int],
    fields: tuple[oracle.Field, oracle.Field],
    ratio: int,
    anchor: Anchor,
) -> None:
    maps = np.random.default_rng(seed).normal(size=cells).astype(np.float32)
    source = (size[0] * ratio, size[1] * ratio)
    upsampler = make_upsampler(
        Size(*cells), Size(*size), Size(*source), FieldSpans(*(FieldSpan(*f) for f in fields)), anchor
    )
    expected = oracle.upsample(maps, size, source, fields, ORACLE_KIND[anchor])
    found = upsampler.upsample(maps)
    assert found.dtype == np.float32
    # float64 sums in another order, rounded to float32, differ only next to the middle of two float32.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.2e-7 * np.abs(maps).max())


@pytest.mark.parametrize("cells", [(7, 7), (14, 14), (13, 13), (28, 28), (4, 9), (1, 5), (1, 1), (12, 12)])
@pytest.mark.parametrize("size", [(112, 112), (113, 113), (56, 56), (12, 40)])
def test_lite_is_pillow_to_the_last_bit_where_it_enlarges(cells: tuple[int, int], size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=cells).astype(np.float32)
    expected = np.asarray(Image.fromarray(maps).resize(size[::-1], Image.Resampling.BILINEAR))
    found = make_upsampler(Size(*cells), Size(*size), Size(224, 224), None, "half-pixel-pillow").upsample(maps)
    if cells[0] <= size[0] and cells[1] <= size[1]:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cells", [(28, 40), (9, 28), (113, 20), (17, 21)])
def test_lite_is_pillow_to_the_last_bit_where_it_shrinks(cells: tuple[int, int]) -> None:
    # Where only the rows shrink, the order of Pillow's two passes, and so the last bit, depends on its version.
    maps = np.random.default_rng(1).normal(size=cells).astype(np.float32)
    expected = np.asarray(Image.fromarray(maps).resize((20, 17), Image.Resampling.BILINEAR))
    found = make_upsampler(Size(*cells), Size(17, 20), Size(34, 40), None, "half-pixel-pillow").upsample(maps)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["half-pixel", "field"])
@pytest.mark.parametrize("pixels", [6, 7, 12, 56])
def test_positions_that_float64_can_represent_are_exact(kind: str, pixels: int) -> None:
    # Otherwise a value midway between two float32 is rounded by noise, and a count depends on it.
    anchor: Anchor = "half-pixel" if kind == "half-pixel" else "receptive-field"
    for cells in range(2, 24):
        source, field = 3 * pixels, oracle.Field(-7, 12, 5)
        columns = make_upsampler(
            Size(1, cells), Size(1, pixels), Size(1, source), FieldSpans(FieldSpan(0, 1, 1), FieldSpan(*field)), anchor
        ).columns
        first, step = oracle.anchors(cells, pixels, source, field, kind)
        lower = np.repeat(np.arange(cells), np.diff(columns.start))
        for pixel in range(pixels):
            position = min(max((pixel - first) / step, Fraction(0)), Fraction(cells - 1))
            if float(position) == position:
                assert Fraction(columns.upper_weight[pixel]) + int(lower[pixel]) == position, (cells, pixel)
            assert columns.lower_weight[pixel] + columns.upper_weight[pixel] == 1


@pytest.mark.parametrize("pixels", [5, 7, 12])
def test_lite_gives_no_weight_where_pillow_gives_none(pixels: int) -> None:
    # Above a threshold of 0, a weight of 1e-17 is as good as any other.
    for cells in range(2, 30):
        ones = np.eye(cells, dtype=np.float32)[:, None, :]
        found = make_upsampler(
            Size(1, cells), Size(1, pixels), Size(2, 2 * pixels), None, "half-pixel-pillow"
        ).upsample(ones)
        for one, row in zip(ones, found, strict=True):
            expected = np.asarray(Image.fromarray(one).resize((pixels, 1), Image.Resampling.BILINEAR))
            np.testing.assert_array_equal(row > 0, expected > 0, err_msg=str(cells))


@pytest.mark.parametrize("anchor", sorted(ORACLE_KIND))
def test_a_map_that_is_flat_stays_flat(anchor: Anchor) -> None:
    flat = np.full((5, 3), 0.1, np.float32)
    found = make_upsampler(
        Size(5, 3), Size(31, 17), Size(62, 34), FieldSpans(FieldSpan(-7, 9, 7), FieldSpan(3, 5, 3)), anchor
    ).upsample(flat)
    np.testing.assert_array_equal(found, np.full((31, 17), np.float32(0.1)))


def test_without_a_receptive_field_the_map_covers_the_image_evenly() -> None:
    maps = np.random.default_rng(2).normal(size=(6, 4)).astype(np.float32)
    cells, size, source = Size(6, 4), Size(20, 30), Size(40, 60)
    np.testing.assert_array_equal(
        make_upsampler(cells, size, source, None, "receptive-field").upsample(maps),
        make_upsampler(cells, size, source, None, "half-pixel").upsample(maps),
    )


def test_maps_of_another_size_than_the_upsampler_s_are_refused() -> None:
    upsampler = make_upsampler(Size(3, 4), Size(8, 8), Size(16, 16), None, "half-pixel")
    with pytest.raises(ShapeError, match=r"maps are 4 x 3 .* was made for 3 x 4"):
        upsampler.upsample(np.zeros((4, 3), np.float32))
