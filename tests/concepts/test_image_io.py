"""Images of every kind become RGB, upright, and whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from netdissect.concepts.image_io import read_upright, stretch
from netdissect.concepts.resize import CropBox
from netdissect.errors import SourceError

RED, GREEN = (200, 30, 40), (20, 180, 60)


def two_halves(mode: str = "RGB") -> Image.Image:
    image = Image.new("RGB", (40, 24), RED)
    image.paste(GREEN, (20, 0, 40, 24))
    return image.convert(mode)


def colors_at(path: Path, *places: tuple[int, int]) -> list[Any]:
    image = read_upright(path).image
    assert image.mode == "RGB"
    return [image.getpixel(place) for place in places]


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("RGB", "a.png"),
        ("P", "a.png"),
        ("P", "a.gif"),
        ("CMYK", "a.jpg"),
        ("CMYK", "a.tif"),
        ("YCbCr", "a.jpg"),
        ("RGBA", "a.png"),
    ],
)
def test_colors_survive_every_mode(mode: str, name: str, tmp_path: Path) -> None:
    two_halves(mode).save(tmp_path / name)
    seen = np.array(colors_at(tmp_path / name, (5, 12), (34, 12)), dtype=int)
    assert np.abs(seen - [RED, GREEN]).max() <= 30  # palettes and JPEG are not exact


def test_gray_and_one_bit_images_become_gray(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 77).save(tmp_path / "gray.png")
    Image.new("1", (4, 4), 1).save(tmp_path / "bit.png")
    assert colors_at(tmp_path / "gray.png", (0, 0)) == [(77, 77, 77)]
    assert colors_at(tmp_path / "bit.png", (0, 0)) == [(255, 255, 255)]


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_gray_keeps_its_high_byte(name: str, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535], [32768, 255]], dtype=np.uint16)).save(tmp_path / name)
    assert [c[0] for c in colors_at(tmp_path / name, (0, 0), (1, 0), (0, 1), (1, 1))] == [0, 255, 128, 0]


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    image = two_halves("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 24))
    image.save(tmp_path / "a.png")
    assert colors_at(tmp_path / "a.png", (5, 5), (34, 5)) == [(255, 255, 255), GREEN]


def test_images_are_turned_upright_as_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    two_halves().save(tmp_path / "a.png", exif=exif)
    image = read_upright(tmp_path / "a.png").image
    assert image.size == (24, 40)
    assert (image.getpixel((12, 5)), image.getpixel((12, 34))) == (RED, GREEN)


def test_floating_point_pixels_have_no_white(tmp_path: Path) -> None:
    Image.new("F", (4, 4), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(SourceError, match="floating-point"):
        read_upright(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.95])
def test_a_truncated_image_is_named(name: str, kept: float, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(SourceError, match=rf"{name} cannot be read as an image"):
        read_upright(tmp_path / name)


def test_a_folder_or_nothing_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read as an image"):
        read_upright(tmp_path)
    with pytest.raises(SourceError, match="does not exist"):
        read_upright(tmp_path / "a.png")


@pytest.mark.parametrize(("height", "width", "size"), [(1, 1, 3), (7, 5, 4), (213, 319, 112), (4, 4, 4), (3, 9, 7)])
def test_squashed_values_are_pillows_nearest(height: int, width: int, size: int) -> None:
    # Sizes without ties: where a center falls on an edge, Pillow follows the rounding of a sum of floats.
    values = np.random.default_rng(height).integers(0, 256, (height, width), dtype=np.uint8)
    expected = Image.fromarray(values).resize((size, size), Image.Resampling.NEAREST)
    assert np.array_equal(CropBox.of(*values.shape[:2], "stretch").values(values, size), np.asarray(expected))


def test_an_image_of_the_right_size_is_not_touched() -> None:
    image = two_halves().resize((24, 24))
    assert stretch(image, 24) is image
    assert stretch(image, 12).size == (12, 12)
