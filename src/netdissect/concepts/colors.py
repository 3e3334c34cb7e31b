"""Name the color of every pixel with one of the 11 basic color terms.

Each name has a quadratic function of CIELAB coordinates as its score, and the name of the highest score is taken (a
multinomial logistic model). Benavente, Vanrell and Baldrich, *Parametric fuzzy sets for automatic color naming*, JOSA A
25, 2008, describe models in CIELAB with similarly few parameters. The 11 x 10 coefficients were fitted by
``benchmarks/colors_fit.py`` to the names that van de Weijer et al. (2009) learned, weighted by the frequency of colors
in 394 photographs (four fifths) and evenly over the RGB cube (one fifth). Pure blues (0, 0, b), some of which the
learned names call purple, were assigned to blue.

Agreement with that table over the pixels of 1,152 other photographs (streets, people, textures; 91 million pixels):
97.0 % in all; of the table's black 99.2 %, blue 93.1, brown 96.4, grey 99.4, green 95.9, orange 87.7, pink 90.0,
purple 82.4, red 93.4, white 99.6, yellow 93.5. Agreement on the photographs of the fit is 97.4 %, over the RGB cube
93.7 %. It is lowest for colors near gray: purple on clothes 60 % (most others are named black or grey), blue in street
scenes 77 % (most others are named white).
"""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.concepts.array_file import read_array
from netdissect.errors import ConceptsError

COLOR_NAMES = ("black", "blue", "brown", "grey", "green", "orange", "pink", "purple", "red", "white", "yellow")

ColorTable = npt.NDArray[np.uint8]
"""Color name 0..10 of an RGB value at ``[r // 8, g // 8, b // 8]``, uint8 (32, 32, 32)."""

TABLE_SHAPE = (32, 32, 32)

# A row for each name: coefficients of 1, L, a, b, L^2, a^2, b^2, La, Lb, ab, with L, a, b in hundreds.
COEFFICIENTS = (
    (17.47, 11.24, -40.42, -42.24, -84.43, -21.16, -32.65, -1.05, -25.81, 15.75),  # black
    (6.91, -15.26, -56.04, -126.80, 16.00, 79.72, -30.22, -49.45, -23.43, -35.18),  # blue
    (6.62, -8.82, 39.41, 62.25, 1.20, -40.52, -36.85, 2.28, 33.23, -27.35),  # brown
    (-5.73, 77.30, -27.84, -29.80, -70.41, -59.54, -14.55, 23.39, 16.15, 2.24),  # grey
    (8.51, -19.53, -129.05, 45.20, 8.32, -6.83, 31.21, -59.04, -11.75, -3.91),  # green
    (-3.95, -28.09, 67.26, 46.09, 26.10, -16.95, 22.33, 20.27, 48.07, 4.81),  # orange
    (-4.98, 3.30, 64.15, -6.90, 16.34, 20.57, 32.90, 38.07, 8.43, -18.77),  # pink
    (7.37, -16.20, 42.70, -46.24, 18.56, 43.46, 17.36, 23.75, -20.79, 15.30),  # purple
    (3.51, -25.18, 69.92, 20.56, 23.17, -5.56, -4.84, 35.94, -8.29, 54.90),  # red
    (-24.72, 25.28, -11.76, -10.23, 28.21, -11.38, -23.46, -4.06, -21.11, -1.41),  # white
    (-11.01, -4.04, -18.34, 88.11, 16.93, 18.19, 38.77, -30.09, 5.29, -6.38),  # yellow
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
        1 to 11, the position of the name in `COLOR_NAMES`, counted from 1.

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
        If the file is missing, is not a NumPy array, or has another shape or other values.
    """
    try:
        table = read_array(Path(path))
    except (OSError, ValueError, EOFError) as error:
        raise ConceptsError(
            f"{path} cannot be read as a color table ({error}). Expected a NumPy file (.npy) of whole numbers 0 to 10 "
            "in the shape (32, 32, 32)."
        ) from error
    if table.shape != TABLE_SHAPE or table.dtype.kind not in "iu":
        raise ConceptsError(
            f"{path} holds {table.dtype} {table.shape}. Expected whole numbers in the shape (32, 32, 32): the color "
            "name, 0 to 10, of an RGB value at [r // 8, g // 8, b // 8]."
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
