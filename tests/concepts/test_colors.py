"""The color model: agreement with published names, and the table that replaces it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from netdissect.concepts.colors import (
    COEFFICIENTS,
    COLOR_NAMES,
    cell_centers,
    features,
    model_table,
    name_colors,
    read_color_table,
    to_lab,
)
from netdissect.errors import ConceptsError


def name_of(*rgb: int) -> str:
    return COLOR_NAMES[int(name_colors(np.array(rgb, dtype=np.uint8))) - 1]


def test_the_colors_that_everyone_agrees_on_have_their_names() -> None:
    agreed = {
        "black": [(0, 0, 0), (20, 20, 22)],
        "blue": [(0, 0, 255), (30, 60, 160), (70, 130, 220)],
        "brown": [(101, 67, 33), (120, 70, 40)],
        "grey": [(128, 128, 128), (160, 160, 158)],
        "green": [(0, 128, 0), (60, 179, 60), (0, 255, 0)],
        "orange": [(255, 140, 0), (240, 120, 20)],
        "pink": [(255, 192, 203), (255, 105, 180)],
        "purple": [(128, 0, 128), (110, 50, 150)],
        "red": [(255, 0, 0), (180, 20, 20)],
        "white": [(255, 255, 255), (245, 245, 243)],
        "yellow": [(255, 255, 0), (250, 220, 60)],
    }
    assert {name: [name_of(*rgb) for rgb in values] for name, values in agreed.items()} == {
        name: [name] * len(values) for name, values in agreed.items()
    }


def test_lab_is_that_of_published_colors() -> None:
    # Bruce Lindbloom's calculator for sRGB, D65, without adaptation.
    rgb = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]], dtype=np.float64)
    expected = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [53.59, 0.0, 0.0]]
    assert to_lab(rgb) == pytest.approx(np.array(expected), abs=0.03)


def test_no_cell_is_so_close_that_another_machine_could_name_it_otherwise() -> None:
    scores = np.sort(features(cell_centers()) @ np.array(COEFFICIENTS).T, axis=1)
    assert (scores[:, -1] - scores[:, -2]).min() > 1e-5
    assert np.array(COEFFICIENTS).size <= 110


def test_names_follow_the_table_cell_by_cell() -> None:
    table = np.random.default_rng(0).integers(0, 11, (32, 32, 32), dtype=np.uint8)
    rgb = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = [[table[r // 8, g // 8, b // 8] + 1 for r, g, b in row] for row in rgb.astype(int).tolist()]
    assert name_colors(rgb, table).tolist() == expected
    assert np.array_equal(name_colors(rgb), name_colors(rgb, model_table()))


@pytest.mark.real
@pytest.mark.parametrize(("images", "least"), [("camvid", 0.96), ("ccp", 0.96), ("dtd", 0.95)])
def test_names_agree_with_the_published_table_on_photographs_that_were_not_fitted(
    shared: Path, images: str, least: float
) -> None:
    published = read_color_table(shared / "reference" / "w2c-32.npy")
    agree = total = 0
    for path in sorted((shared / "data" / images / "images").rglob("*.jpg"))[::8]:
        rgb = np.asarray(Image.open(path).convert("RGB"))
        agree += int((name_colors(rgb) == name_colors(rgb, published)).sum())
        total += rgb.shape[0] * rgb.shape[1]
    assert agree / total > least


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((32, 32, 31), np.uint8), r"holds uint8 \(32, 32, 31\)"),
        (np.zeros((32, 32, 32)), "holds float64"),
        (np.full((32, 32, 32), 11), "holds values from 11 to 11"),
        (np.full((32, 32, 32), -1), "holds values from -1 to -1"),
    ],
)
def test_a_wrong_table_is_refused(table: npt.NDArray[np.generic], message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", table)
    with pytest.raises(ConceptsError, match=message):
        read_color_table(tmp_path / "table.npy")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.npy").write_text("x")
    with pytest.raises(ConceptsError, match="cannot be read as a color table"):
        read_color_table(tmp_path / "table.npy")
    with pytest.raises(ConceptsError, match="cannot be read as a color table"):
        read_color_table(tmp_path / "missing.npy")
    np.savez(tmp_path / "table.npz", a=np.zeros(3))
    with pytest.raises(ConceptsError, match="is an archive of several arrays"):
        read_color_table(tmp_path / "table.npz")
