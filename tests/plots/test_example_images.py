"""Images of units: outlines are at the active pixels, and files that cannot be read are left out."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon
from PIL import Image

from netdissect.concepts import ConceptData, Size
from netdissect.config import Protocol
from netdissect.plots.example_images import read_image, webp
from netdissect.plots.outlines import SIDE, MaskGrid, outline
from netdissect.result import LayerInfo, Result
from netdissect.scoring import FieldSpan, FieldSpans
from svg_paths import lines_of


def filled(path: str, side: int = SIDE) -> npt.NDArray[np.bool_]:
    """Fill an SVG path by the rule evenodd: bool (side, side) at the centers of pixels."""
    centers = (np.arange(side) + 0.5) * SIDE / side
    points = np.stack(np.meshgrid(centers, centers), axis=-1).reshape(-1, 2)
    inside = np.zeros(len(points), bool)
    for corners in lines_of(path):
        inside ^= Polygon(corners).contains_points(points)
    return inside.reshape(side, side)


@given(seed=st.integers(0, 2**31))
def test_an_outline_contains_the_pixels_above_the_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.random((6, 6))
    values = np.kron(coarse, np.ones((4, 4)))
    inside = filled(outline(values, 0.6), 24)
    # Borders run midway between pixels and are straightened: the pixels away from them decide.
    assert (inside[1::4, 1::4] == (coarse > 0.6)).mean() > 0.97


def test_outlines_have_holes_and_are_empty_where_nothing_is_inside() -> None:
    ring = np.zeros((8, 8))
    ring[1:7, 1:7] = 1
    ring[3:5, 3:5] = 0
    inside = filled(outline(ring, 0.5), 8)
    np.testing.assert_array_equal(inside, ring > 0.5)
    assert outline(np.zeros((4, 4)), 0.0) == ""
    assert filled(outline(np.ones((4, 4)), 0.5)).all()


def test_the_mask_of_a_cell_is_centered_on_its_receptive_field() -> None:
    span = FieldSpan(-12, 20, 8)
    layer = LayerInfo(name="x", type="Conv2d", units=1, height=8, width=8, field=FieldSpans(span, span))
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 2, 5] = 1
    path = MaskGrid(layer, (64, 64), Protocol()).outline(maps[0], 0.5)
    down, right = np.nonzero(filled(path))
    # Cell i is centered at input pixel -2.5 + 8 i, which is -4.5 + 16 i on an image of twice the size.
    assert (down.min() + down.max()) / 2 == pytest.approx(-4.5 + 16 * 2, abs=1)
    assert (right.min() + right.max()) / 2 == pytest.approx(-4.5 + 16 * 5, abs=1)


def test_a_layer_of_one_cell_is_active_everywhere_or_nowhere() -> None:
    layer = LayerInfo(name="x", type="Linear", units=1, height=1, width=1, field=None)
    masks = MaskGrid(layer, (64, 64), Protocol())
    everywhere, nowhere = (masks.outline(np.array([[value]], np.float32), 1.0) for value in (2.0, 1.0))
    assert filled(everywhere).all()
    assert nowhere == ""


def test_images_that_cannot_be_read_are_none(tmp_path: Path, data_set: ConceptData) -> None:
    whole = data_set.image_path(0).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "foreign.png").write_text("hello")
    (tmp_path / "inner").mkdir()
    for name in ("cut.png", "foreign.png", "gone.png", "inner/../cut.png", str(data_set.image_path(0))):
        assert read_image(tmp_path, name) is None


def test_an_image_is_whole_and_squashed(tmp_path: Path) -> None:
    wide = np.zeros((50, 200, 3), np.uint8)
    wide[:, 100:] = (250, 0, 0)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = read_image(tmp_path, "wide.png")
    assert pixels is not None
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels[:, 3 * SIDE // 4].tolist() == [[250, 0, 0]] * SIDE
    assert webp(pixels)[8:12] == b"WEBP"


@pytest.mark.real
def test_masks_of_a_real_unit_are_its_pixels_above_the_threshold(camvid: Result) -> None:
    layer = camvid.layers["_blocks.10"]
    info, limit = layer.info, layer.thresholds.filter(quantile=0.005, unit=4)["threshold"].item()
    masks, maps = MaskGrid(info, (224, 224), Protocol()), layer.top_maps[4]
    exact = masks.values(maps, Size(112, 112)) > np.float32(limit)
    assert exact.any(axis=(1, 2)).all()
    for cells, mask in zip(maps, exact, strict=True):
        np.testing.assert_array_equal(filled(masks.outline(cells, limit, Size(112, 112)), 112), mask)
