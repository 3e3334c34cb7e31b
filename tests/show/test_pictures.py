"""Pictures of units: the right pixels are bright, and files that cannot be read are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netdissect.concepts import ConceptData
from netdissect.result import LayerInfo, Result
from netdissect.score import Field, Span
from netdissect.show.pictures import EDGE, GAP, OUTLINE, Tiles, draw_mask, sheet, unit_masks


def test_a_cell_lights_up_the_place_of_its_receptive_field() -> None:
    span = Span(-12, 20, 8)
    layer = LayerInfo(name="x", kind="Conv2d", units=1, height=8, width=8, field=Field(span, span))
    maps = np.zeros((1, 8, 8), np.float32)
    maps[0, 2, 5] = 1
    (mask,) = unit_masks(maps, 0.5, layer, (64, 64), "receptive-field")
    down, right = np.nonzero(mask)
    # Cell i is centered at input pixel -2.5 + 8 i, which is -4.5 + 16 i on a tile of twice the size.
    assert (down.min() + down.max()) / 2 == -4.5 + 16 * 2
    assert (right.min() + right.max()) / 2 == -4.5 + 16 * 5


def test_a_layer_of_one_cell_is_on_everywhere_or_nowhere() -> None:
    layer = LayerInfo(name="x", kind="Linear", units=1, height=1, width=1, field=None)
    masks = unit_masks(np.array([[[2.0]], [[1.0]]], np.float32), 1.0, layer, (64, 64), "receptive-field")
    assert masks[0].all()
    assert not masks[1].any()


def test_inside_the_mask_pixels_are_untouched_and_outside_they_are_darker() -> None:
    pixels = np.random.default_rng(0).integers(40, 255, (EDGE, EDGE, 3)).astype(np.uint8)
    mask = np.zeros((EDGE, EDGE), bool)
    mask[20:60, 30:80] = True
    drawn = draw_mask(pixels, mask)
    np.testing.assert_array_equal(drawn[mask], pixels[mask])
    outline = (drawn == OUTLINE.astype(np.uint8)).all(axis=2)
    assert outline[18:20, 30:80].all()
    assert not outline[:17].any()
    rest = ~mask & ~outline
    assert (drawn[rest].sum(axis=1) < pixels[rest].sum(axis=1)).all()


def test_a_sheet_has_transparent_gaps_and_gray_where_a_picture_is_missing() -> None:
    tile = np.full((EDGE, EDGE, 3), 200, np.uint8)
    page = np.asarray(sheet([tile, None, tile, tile], np.ones((4, EDGE, EDGE), bool), columns=3))
    assert page.shape == (2 * EDGE + GAP, 3 * EDGE + 2 * GAP, 4)
    assert page[0, EDGE, 3] == 0
    assert page[0, EDGE + GAP].tolist() == [128, 128, 128, 255]
    assert page[-1, 0].tolist() == [200, 200, 200, 255]
    assert page[-1, -1, 3] == 0


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path, world: ConceptData) -> None:
    whole = world.image_path(0).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "foreign.png").write_text("hello")
    tiles = Tiles(tmp_path)
    names = ["cut.png", "foreign.png", "gone.png", "../cut.png", str(world.image_path(0))]
    assert [tiles.tile(name) for name in names] == [None] * 5
    assert tiles.missing == set(names)


def test_tiles_are_the_whole_picture_squashed_and_forgotten_in_turn(tmp_path: Path) -> None:
    wide = np.zeros((50, 200, 3), np.uint8)
    wide[:, 100:] = (250, 0, 0)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    tiles = Tiles(tmp_path, remembered=1)
    tile = tiles.tile("wide.png")
    assert tile is not None
    assert tile.shape == (EDGE, EDGE, 3)
    assert tile[:, 3 * EDGE // 4].tolist() == [[250, 0, 0]] * EDGE
    (tmp_path / "wide.png").unlink()
    assert tiles.tile("wide.png") is tile
    tiles.tile("other.png")
    assert tiles.tile("wide.png") is None


@pytest.mark.real
def test_masks_of_a_real_unit_hold_about_the_quantile_of_its_top_pictures(camvid: Result) -> None:
    layer = camvid.layers["_blocks.10"]
    info, limit = layer.info, layer.thresholds.filter(quantile=0.005, unit=4)["threshold"].item()
    masks = unit_masks(layer.top_maps[4], limit, info, (224, 224), "receptive-field")
    assert masks.any(axis=(1, 2)).all()
    assert 0.005 < masks.mean() < 0.2
