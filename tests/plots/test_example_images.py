"""Images of units: outlines are at the active pixels, and files that cannot be read are left out."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netdissect.concepts import ConceptData, Size
from netdissect.config import Protocol
from netdissect.plots.example_images import SIDE, read_image, webp
from netdissect.plots.outlines import MaskGrid, mask_path
from netdissect.result import LayerInfo
from netdissect.scoring import FieldSpan, FieldSpans
from svg_paths import held


def test_outlines_have_holes_and_are_empty_where_nothing_is_inside() -> None:
    ring = np.zeros((8, 8), bool)
    ring[1:7, 1:7] = True
    ring[3:5, 3:5] = False
    np.testing.assert_array_equal(held(mask_path(ring), (8, 8)), ring)
    assert mask_path(ring).count("M") == 2
    assert mask_path(np.zeros((4, 4), bool)) == ""
    assert mask_path(np.ones((4, 4), bool)) == "M8 0l0 8-8 0 0-8z"


def test_the_mask_of_a_cell_is_centered_on_its_receptive_field() -> None:
    span = FieldSpan(-12, 20, 8)
    layer = LayerInfo(name="x", type="Conv2d", units=1, height=8, width=8, field=FieldSpans(span, span))
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 2, 5] = 1
    mask = MaskGrid(layer, (64, 64), Protocol()).mask(maps[0], 0.5, Size(128, 128))
    down, right = np.nonzero(mask)
    # Cell i is centered at input pixel -2.5 + 8 i, which is -4.5 + 16 i on an image of twice the size.
    assert (down.min() + down.max()) / 2 == pytest.approx(-4.5 + 16 * 2, abs=1)
    assert (right.min() + right.max()) / 2 == pytest.approx(-4.5 + 16 * 5, abs=1)


def test_a_layer_of_one_cell_is_active_everywhere_or_nowhere() -> None:
    layer = LayerInfo(name="x", type="Linear", units=1, height=1, width=1, field=None)
    masks = MaskGrid(layer, (64, 64), Protocol())
    everywhere, nowhere = (masks.mask(np.array([[value]], np.float32), 1.0) for value in (2.0, 1.0))
    assert everywhere.all()
    assert not nowhere.any()


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
