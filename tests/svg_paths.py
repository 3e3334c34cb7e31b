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
