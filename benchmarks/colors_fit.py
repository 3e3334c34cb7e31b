"""Fit the color naming model of `netdissect.concepts.colors`, and say how well it agrees with a published table.

    python benchmarks/colors_fit.py TABLE.npy --fit DIR [--test DIR ...] [--refit]

TABLE.npy is uint8 (32, 32, 32), the name 0..10 of an RGB value at [r//8, g//8, b//8]; a DIR is searched for JPEGs.
Without --refit the shipped coefficients are measured; with it new ones are fitted, printed and measured.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.linear_model import LogisticRegression

from netdissect.concepts.colors import COEFFICIENTS, COLOR_NAMES, cell_centers, features, read_color_table

CELLS = 32**3
UNIFORM = 0.2  # share of the weight that lies evenly on the RGB cube: photographs hold hardly a saturated purple
PURE_BLUE = 0.01  # weight of the pure blues, see `fit`


def count_cells(folder: Path) -> npt.NDArray[np.int64]:
    """Count the pixels of the images below `folder` in each cell of the RGB cube."""
    counts = np.zeros(CELLS, dtype=np.int64)
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as image:
            r, g, b = np.moveaxis(np.asarray(image.convert("RGB")) >> 3, -1, 0).astype(np.int64)
        counts += np.bincount((r * 1024 + g * 32 + b).ravel(), minlength=CELLS)
    return counts


def fit(
    phi: npt.NDArray[np.float64], names: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Fit one row of coefficients for each name, rounded to two decimals.

    The published table calls (0, 0, b) purple for b from 150 to 250 and blue beyond. Nobody sees that, so
    these cells are given to blue here. In photographs they hardly occur.
    """
    r, g, b = np.unravel_index(np.arange(CELLS), (32, 32, 32))
    pure_blue = (r <= 2) & (g <= 2) & (b >= 10)
    weights = (1 - UNIFORM) * counts / counts.sum() + UNIFORM / CELLS + PURE_BLUE * pure_blue / pure_blue.sum()
    model = LogisticRegression(C=30.0, max_iter=20000, tol=1e-7, fit_intercept=False)
    model.fit(phi, np.where(pure_blue, COLOR_NAMES.index("blue"), names), sample_weight=1e5 * weights)
    rounded: npt.NDArray[np.float64] = np.round(model.coef_, 2)
    return rounded


def report(
    title: str, counts: npt.NDArray[np.int64], truth: npt.NDArray[np.uint8], ours: npt.NDArray[np.int64]
) -> None:
    """Print the agreement over pixels, in all and per color (of the table's, of ours)."""
    print(f"\n{title}: {counts.sum():,} pixels, {counts[truth == ours].sum() / counts.sum():.4f} agree")
    for code, name in enumerate(COLOR_NAMES):
        table, model = counts[truth == code].sum(), counts[ours == code].sum()
        both = counts[(truth == code) & (ours == code)].sum()
        print(
            f"  {name:7} {table / counts.sum():7.4f} of all; {both / max(table, 1):.3f} of the table's are ours, "
            f"{both / max(model, 1):.3f} of ours are the table's"
        )


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--fit", type=Path, required=True, metavar="DIR")
    parser.add_argument("--test", type=Path, nargs="*", default=[], metavar="DIR")
    parser.add_argument("--refit", action="store_true")
    options = parser.parse_args(None if arguments is None else list(arguments))
    truth = read_color_table(options.table).ravel()
    phi = features(cell_centers())
    fitted_on = count_cells(options.fit)
    coefficients = fit(phi, truth, fitted_on) if options.refit else COEFFICIENTS
    if options.refit:
        for name, row in zip(COLOR_NAMES, coefficients, strict=True):
            print(f"    ({', '.join(f'{value:.2f}' for value in row)}),  # {name}")
    scores = phi @ np.asarray(coefficients).T
    ours = scores.argmax(axis=1)
    best = np.sort(scores, axis=1)
    print(f"smallest margin between the two best names of a cell: {(best[:, -1] - best[:, -2]).min():.2e}")
    report(f"fitted on {options.fit.name}", fitted_on, truth, ours)
    others = [(folder.name, count_cells(folder)) for folder in options.test]
    for name, counts in others:
        report(f"held out: {name}", counts, truth, ours)
    if others:
        report("held out, together", sum((counts for _, counts in others), np.zeros(CELLS, np.int64)), truth, ours)
    report("every cell of the RGB cube once", np.ones(CELLS, np.int64), truth, ours)


if __name__ == "__main__":
    main()
