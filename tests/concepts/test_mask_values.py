"""Pixels of masks are the numbers that were written, or the mask is refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from encoded_images import COLOR, COLOR_ALPHA, GRAY, GRAY_ALPHA, INDEXED, Numbers, png, tiff
from netdissect.concepts.broden_files import read_label_map
from netdissect.concepts.image_io import turn
from netdissect.concepts.labels import Size
from netdissect.concepts.sources.mask_values import Stored, plain_values, read_stored
from netdissect.errors import ConceptsError, SourceError


def random_numbers(bits: int, *shape: int) -> Numbers:
    numbers = np.random.default_rng(bits).integers(0, 2**bits, shape)
    numbers.ravel()[0] = 2**bits - 1
    return numbers


@pytest.mark.parametrize("filtered", [0, 1])
@pytest.mark.parametrize(
    ("bits", "kind", "channels"),
    [
        *((bits, GRAY, ()) for bits in (1, 2, 4, 8, 16)),
        *((bits, INDEXED, ()) for bits in (1, 2, 4, 8)),
        *((bits, COLOR, (3,)) for bits in (8, 16)),
        *((bits, COLOR_ALPHA, (4,)) for bits in (8, 16)),
    ],
)
def test_every_kind_of_png_gives_the_numbers_that_were_written(
    bits: int, kind: int, channels: tuple[int, ...], filtered: int
) -> None:
    numbers = random_numbers(bits, 5, 7, *channels)
    assert np.array_equal(read_stored(png(numbers, bits, kind, filtered), "m.png").pixels, numbers)


@pytest.mark.parametrize("bits", [8, 16])
def test_alpha_beside_gray_changes_no_value(bits: int) -> None:
    numbers = random_numbers(bits, 5, 7, 2)
    assert np.array_equal(read_stored(png(numbers, bits, GRAY_ALPHA), "m.png").pixels, numbers[..., 0])


def test_1000_in_16_bits_is_1000_in_gray_in_red_and_in_three_equal_channels() -> None:
    gray = np.full((2, 3), 1000)
    red, equal = np.zeros((2, 3, 3), int), np.full((2, 3, 3), 1000)
    red[..., 0] = 1000
    files = [
        png(gray, 16, GRAY),
        png(red, 16, COLOR),
        png(equal, 16, COLOR),
        png(np.dstack([equal, gray]), 16, COLOR_ALPHA),
    ]
    for data in (*files, png(np.dstack([gray, gray * 0 + 9]), 16, GRAY_ALPHA)):
        assert np.array_equal(plain_values(read_stored(data, "m.png"), "m.png"), gray)


def test_label_maps_of_a_finished_data_set_give_the_numbers_that_were_written(tmp_path: Path) -> None:
    for bits, kind in ((1, GRAY), (2, GRAY), (4, GRAY), (8, GRAY), (16, GRAY), (4, INDEXED)):
        numbers = random_numbers(bits, 5, 7)
        (tmp_path / "m.png").write_bytes(png(numbers, bits, kind))
        assert np.array_equal(read_label_map(tmp_path / "m.png", Size(5, 7)), numbers)
    (tmp_path / "m.png").write_bytes(png(random_numbers(16, 5, 7, 3), 16, COLOR))
    with pytest.raises(ConceptsError, match=r"m\.png has 16 bits a channel"):
        read_label_map(tmp_path / "m.png", Size(5, 7))


@pytest.mark.parametrize("largest", [1, 5, 20, 100, 254, 255, 256, 1000, 4095, 65534, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_gray_maps_of_netpbm_keep_their_values_whatever_their_maximum(largest: int, plain: bool) -> None:
    values = np.unique(np.linspace(0, largest, 400).astype(int))
    body = b" ".join(b"%d" % v for v in values) if plain else values.astype("u1" if largest < 256 else ">u2").tobytes()
    data = b"P%d # by hand\n%d 1\n# 7\n%d\n" % (2 if plain else 5, len(values), largest) + body
    assert read_stored(data, "m.pgm").pixels[0].tolist() == values.tolist()


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_of_either_byte_order_give_the_numbers_that_were_written(order: str) -> None:
    for numbers in (random_numbers(16, 5, 7, 3), random_numbers(16, 5, 7)):
        assert np.array_equal(read_stored(tiff(numbers.astype(np.uint16), order), "m.tif").pixels, numbers)
    labels = random_numbers(8, 5, 7).astype(np.uint8)
    assert np.array_equal(read_stored(tiff(labels, order, white_is_zero=True), "m.tif").pixels, labels)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("JPEG", {}, "is a JPEG compressed with loss"),
        ("WEBP", {}, "is a WEBP compressed with loss"),
        ("TIFF", {"compression": "jpeg"}, "is a TIFF compressed with loss"),
        ("GIF", {}, "is a GIF, whose writers renumber values"),
        ("EPS", {}, "cannot be read as a mask"),
    ],
)
def test_formats_that_change_values_are_refused(kind: str, options: dict[str, str], message: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(file, kind, **options)
    with pytest.raises(SourceError, match=message):
        read_stored(file.getvalue(), "m.png")


def test_a_mask_of_several_pages_is_refused() -> None:
    pages = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (1, 2)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(SourceError, match="is a TIFF of 2 pages, of which only the first would be read"):
        read_stored(file.getvalue(), "m.tif")


def test_a_tiff_whose_second_page_is_damaged_is_refused() -> None:
    data = tiff(random_numbers(8, 5, 7).astype(np.uint8), "<")
    empty = len(data).to_bytes(4, "little")  # a next page without any tag
    with pytest.raises(SourceError, match=r"m\.tif cannot be read as a mask \(Missing dimensions\)"):
        read_stored(data[:-4] + empty + bytes(6), "m.tif")


def test_a_lossless_webp_and_packed_tiffs_are_read() -> None:
    values = random_numbers(8, 6, 5).astype(np.uint8)
    for kind, options in (("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})):
        file = io.BytesIO()
        Image.fromarray(values).save(file, kind, **options)
        assert np.array_equal(plain_values(read_stored(file.getvalue(), "m"), "m"), values)


def test_colors_of_16_bits_that_cannot_be_told_are_refused() -> None:
    wide = b"P6 1 1 65535\n" + bytes(6)
    with pytest.raises(SourceError, match="its colors have 16 bits"):
        read_stored(wide, "m.ppm")
    both = Stored(np.array([[[1000, 3, 0]]], np.uint16), "RGB")
    with pytest.raises(SourceError, match=r"m\.png holds blue pixels"):
        plain_values(both, "m.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_are_those_of_pillow(orientation: int) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels)
    image.info["exif"] = exif.tobytes()
    assert np.array_equal(turn(pixels, orientation), np.asarray(ImageOps.exif_transpose(image)))


def test_a_mask_with_a_turn_of_its_own_says_so(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, own in (("m.png", 6), ("m.tif", 1)):  # Pillow turns a TIFF itself
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
        stored = read_stored((tmp_path / name).read_bytes(), name)
        assert stored.orientation == own
        assert turn(stored.pixels, own).tolist() == [[3, 0], [4, 1], [5, 2]]
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    assert read_stored((tmp_path / "plain.png").read_bytes(), "plain.png").orientation is None
