"""Names of points that cover neither each other nor the points, each linked to its point by a line.

Names are placed greedily, in the order in which they are given: each takes the free position closest to its point,
and one without a free position is left out. The same points give the same positions.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netdissect.plots.style import FAINT, INK, NAMES, text_width

DISTANCES = (7.0, 12.0, 18.0, 26.0, 36.0, 48.0)
"""Points from the point to the nearest side of its name."""
DIRECTIONS = 16
POINT = 3.0
"""Half of the side of a point, with the space around it."""
SPACE = 1.0
Boxes = npt.NDArray[np.float64]


def label_points(
    axes: Axes,
    named: Mapping[str, tuple[float, float]],
    points: Sequence[Sequence[float]],
    lines: Sequence[Sequence[float]] = (),
) -> list[str]:
    """Write names next to points of axes whose limits are set, linked by lines.

    Parameters
    ----------
    axes
        With everything else drawn.
    named
        Name -> position (x, y) in data coordinates, the most important first.
    points
        Positions of all points, which no name covers.
    lines
        Positions along lines, which no name covers; links may cross them.

    Returns
    -------
    list of str
        The names that had space.
    """
    figure = axes.get_figure(root=True)
    if not isinstance(figure, Figure) or not named:
        return []
    figure.draw_without_rendering()  # the layout decides where points are
    scale = 72 / figure.dpi
    every, along = (
        scale * axes.transData.transform(np.asarray(at, np.float64).reshape(-1, 2)) for at in (points, lines)
    )
    frame = scale * axes.bbox.get_points().ravel()
    taken = np.hstack([every - POINT, every + POINT])
    lined = np.hstack([along - SPACE, along + SPACE])
    shown = []
    for name, at in named.items():
        point = scale * axes.transData.transform(np.asarray(at, np.float64))
        half = np.array([text_width(name, NAMES), 1.2 * NAMES]) / 2 + SPACE
        center = _free(point, half, (taken, lined), frame)
        if center is None:
            continue
        taken = np.vstack([taken, [*(center - half), *(center + half)], *_along(point, center, half)])
        shown.append(name)
        offset = center - point
        link = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2.5}
        axes.annotate(
            name, at, (float(offset[0]), float(offset[1])), textcoords="offset points", ha="center", va="center",
            fontsize=NAMES, color=INK, parse_math=False, arrowprops=link, bbox={"visible": False, "pad": 1},
        )  # fmt: skip
    return shown


def _free(point: Boxes, half: Boxes, taken: tuple[Boxes, Boxes], frame: Boxes) -> Boxes | None:
    """Return the center of the closest free box around a point, whose link crosses nothing; None: there is none.

    Parameters
    ----------
    point, half
        (x, y), and half of the width and height of the box.
    taken
        Boxes that neither name nor link may cover, and those that a link may.
    frame
        Box of the axes.
    """
    angles = 2 * np.pi * (np.arange(DIRECTIONS) + 0.5) / DIRECTIONS
    for distance, angle in product(DISTANCES, angles):
        direction = np.array([np.cos(angle), np.sin(angle)])
        center = point + direction * distance + np.sign(direction) * half * np.minimum(1, 2 * np.abs(direction))
        box = np.concatenate([center - half, center + half])
        if (box[:2] < frame[:2]).any() or (box[2:] > frame[2:]).any() or any(_overlap(box, each) for each in taken):
            continue
        if not any(_overlap(step, taken[0]) for step in _along(point, center, half)):
            return np.asarray(center)
    return None


def _along(point: Boxes, center: Boxes, half: Boxes) -> list[Boxes]:
    """Return small boxes along the link to a name, from outside of its point on."""
    way = np.clip(point, center - half, center + half) - point
    length = float(np.hypot(*way))
    steps = point + way * (np.arange(POINT + SPACE, length - SPACE, 2)[:, None] / length)
    return [np.concatenate([step - 0.5, step + 0.5]) for step in steps]


def _overlap(box: Boxes, boxes: Boxes) -> bool:
    return bool(((box[:2] < boxes[:, 2:]) & (box[2:] > boxes[:, :2])).all(axis=1).any())
