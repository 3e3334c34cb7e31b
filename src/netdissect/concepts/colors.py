"""Name the color of every pixel with one of the 11 basic color terms.

The model is ours and small: each name scores a pixel with a quadratic function of its CIELAB coordinates, and the
highest score wins. That is a multinomial logistic model, or a Gaussian-like membership for each name with
curved borders between them; parametric naming models in CIELAB with as few parameters are those of Benavente,
Vanrell and Baldrich, *Parametric fuzzy sets for automatic color naming*, JOSA A 25, 2008. The 11 x 10 coefficients
were fitted by ``benchmarks/colors_fit.py`` to the names that van de Weijer et al. (2009) learned, weighted
by how often colors occur in 394 photographs (nine tenths) and evenly over the RGB cube (one tenth).

Agreement with that table over the pixels of 1,152 other photographs (streets, people, textures; 91 million pixels):
96.8 % in all; of the table's black 99.2 %, blue 92.6, brown 96.4, grey 99.4, green 95.6, orange 86.5, pink 89.9,
purple 83.5, red 93.3, white 99.2, yellow 93.1. On the photographs of the fit 97.3 %; over the RGB cube 93.8 %.
"""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.errors import ConceptsError

COLOR_NAMES = ("black", "blue", "brown", "grey", "green", "orange", "pink", "purple", "red", "white", "yellow")

ColorTable = npt.NDArray[np.uint8]
"""Color name 0..10 of an RGB value at ``[r // 8, g // 8, b // 8]``, uint8 (32, 32, 32)."""

TABLE_SHAPE = (32, 32, 32)

# A row for each name: coefficients of 1, L, a, b, L^2, a^2, b^2, La, Lb, ab, with L, a, b in hundreds.
COEFFICIENTS = (
    (17.99, 12.38, -40.01, -43.58, -89.37, -19.85, -35.44, -1.49, -26.21, 15.29),  # black
    (7.38, -17.55, -54.32, -128.56, 18.17, 77.27, -24.40, -55.30, -29.56, -22.89),  # blue
    (7.10, -9.79, 41.63, 62.04, 1.46, -41.39, -37.48, 2.27, 37.55, -30.12),  # brown
    (-5.73, 78.85, -27.83, -30.06, -71.89, -61.29, -14.09, 25.17, 15.33, -0.58),  # grey
    (8.57, -19.61, -134.75, 47.09, 7.90, -4.33, 26.82, -57.73, -11.39, -12.71),  # green
    (-3.74, -27.28, 66.47, 46.64, 26.06, -13.04, 23.61, 20.24, 47.17, 5.50),  # orange
    (-5.82, 4.99, 67.59, -8.62, 15.96, 19.31, 32.26, 38.96, 9.68, -16.58),  # pink
    (8.21, -17.69, 43.37, -46.23, 19.47, 42.19, 17.21, 27.72, -20.91, 14.31),  # purple
    (4.20, -26.83, 70.65, 19.71, 24.95, -1.38, -1.37, 34.92, -4.90, 51.47),  # red
    (-26.27, 26.35, -11.61, -10.06, 29.96, -11.07, -24.69, -4.91, -23.75, -1.00),  # white
    (-11.90, -3.81, -21.18, 91.63, 17.33, 13.56, 37.57, -29.86, 6.98, -2.69),  # yellow
)

# sRGB (IEC 61966-2-1) to XYZ, and its white (D65).
RGB_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]],
)
WHITE = np.array([0.9505, 1.0, 1.089])


def name_colors(rgb: npt.NDArray[np.uint8], table: ColorTable | None = None) -> npt.NDArray[np.uint8]:
    """Name every pixel.

    Parameters
    ----------
    rgb : uint8 (..., 3)
        sRGB pixels.
    table
        A published table of names; None: our model, tabulated at the same resolution.

    Returns
    -------
    uint8 (...)
        1 to 11, the place of the name in `COLOR_NAMES`.

    Examples
    --------
    >>> pixels = np.array([[255, 0, 0], [250, 250, 250], [90, 60, 20]], dtype=np.uint8)
    >>> [COLOR_NAMES[n - 1] for n in name_colors(pixels)]
    ['red', 'white', 'brown']
    """
    table = model_table() if table is None else table
    r, g, b = np.moveaxis(rgb >> 3, -1, 0)
    named: npt.NDArray[np.uint8] = np.add(table[r, g, b], 1, dtype=np.uint8)
    return named


@cache
def model_table() -> ColorTable:
    """Tabulate the model at the center of every cell of the RGB cube."""
    scores = features(cell_centers()) @ np.array(COEFFICIENTS).T
    table: ColorTable = scores.argmax(axis=1).astype(np.uint8).reshape(TABLE_SHAPE)
    table.setflags(write=False)
    return table


def read_color_table(path: str | Path) -> ColorTable:
    """Read a published table of color names, uint8 (32, 32, 32).

    Raises
    ------
    ConceptsError
        If the file is missing, is no NumPy array, or has another shape or other values.
    """
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConceptsError(
            f"{path} cannot be read as a color table ({error}). Expected a NumPy file (.npy) of whole numbers 0 to 10 "
            "in the shape (32, 32, 32)."
        ) from error
    if not isinstance(table, np.ndarray) or table.shape != TABLE_SHAPE or table.dtype.kind not in "iu":
        seen = f"{table.dtype} {table.shape}" if isinstance(table, np.ndarray) else "an archive of arrays"
        raise ConceptsError(
            f"{path} holds {seen}. Expected whole numbers in the shape (32, 32, 32): the color name, "
            "0 to 10, of an RGB value at [r // 8, g // 8, b // 8]."
        )
    if table.min() < 0 or table.max() >= len(COLOR_NAMES):
        raise ConceptsError(
            f"{path} holds values from {table.min()} to {table.max()}. Expected 0 to 10: "
            f"{', '.join(COLOR_NAMES)}, in this order."
        )
    return np.ascontiguousarray(table, dtype=np.uint8)


def cell_centers() -> npt.NDArray[np.float64]:
    """Return the centers of the 32 x 32 x 32 cells of the RGB cube, float64 (32768, 3) in 0..255."""
    axis = np.arange(32) * 8 + 3.5
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def features(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return 1, L, a, b, L^2, a^2, b^2, La, Lb, ab of sRGB values (N, 3) in 0..255; L, a, b in hundreds."""
    lightness, a, b = (to_lab(rgb) / 100).T
    linear = (np.ones_like(lightness), lightness, a, b)
    squares = (lightness * lightness, a * a, b * b, lightness * a, lightness * b, a * b)
    return np.stack([*linear, *squares], axis=-1)


def to_lab(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Convert sRGB values (N, 3) in 0..255 to CIELAB (CIE 1976, D65).

    Examples
    --------
    >>> to_lab(np.array([[255.0, 255.0, 255.0], [0.0, 0.0, 0.0]])).round(6) + 0.0
    array([[100.,   0.,   0.],
           [  0.,   0.,   0.]])
    """
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    relative = linear @ RGB_TO_XYZ.T / WHITE
    epsilon, kappa = 216 / 24389, 24389 / 27
    x, y, z = np.where(relative > epsilon, np.cbrt(relative), (kappa * relative + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
