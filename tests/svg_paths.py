"""Read the SVG paths of outlines."""

import re

import numpy as np
import numpy.typing as npt


def lines_of(path: str) -> list[npt.NDArray[np.float64]]:
    """Return the corners (N, 2) of each closed line of a path: an absolute start, and steps from corner to corner."""
    lines = []
    for start, steps in re.findall(r"M([^Ml]+)l([^z]+)z", path):
        numbers = [float(number) for part in (start, steps) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", part)]
        lines.append(np.array(numbers).reshape(-1, 2).cumsum(axis=0))
    rest = re.sub(r"M[-\d. ]+l[-\d. ]+z", "", path)
    assert not rest, f"not a line: {rest}"
    return lines


def held(path: str, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the pixels whose centers are inside a path by the rule evenodd: each edge flips all pixels to its left."""
    down, right = (2 * np.arange(count) + 1 for count in size)
    flips = np.zeros((size[0], size[1] + 1), np.int64)
    for x, y in (line.T for line in lines_of(path)):
        for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
            rows = np.arange(*np.searchsorted(down, sorted((y0, y1))))
            if len(rows):
                flips[rows, np.searchsorted(right, x0 + (down[rows] - y0) * (x1 - x0) / (y1 - y0))] += 1
    return flips[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] % 2 == 1
