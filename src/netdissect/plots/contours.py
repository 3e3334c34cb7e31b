"""Compiled loops that turn an array into the outline of where it is above zero.

signed_distances(values, threshold)   scaled distances to a threshold
contour_path(values, ...)             the lines around what is above 0, simplified, as the text of an SVG path

Lines run where the linear interpolation between neighboring values is 0 (marching squares; where two diagonal
neighbors are inside, the mean of the four decides). Beyond the border everything is outside.
"""

import numpy as np
import numpy.typing as npt

from netdissect.jit import compiled

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Text = npt.NDArray[np.uint8]

TOP, RIGHT, BOTTOM, LEFT = 0, 1, 2, 3
MAX_CHARACTERS = 11
"""Of one coordinate in a path: a separator, a sign, three digits, a point and up to five more digits."""


@compiled
def signed_distances(values: npt.NDArray[np.float32], threshold: np.float32) -> Floats:
    """Return scaled distances to a threshold; see `netdissect.plots.outlines.signed`."""
    height, width = values.shape
    near = np.empty(height * width)
    count = 0
    for row in range(height):
        for column in range(width):
            inside = values[row, column] > threshold
            if (
                (row > 0 and (values[row - 1, column] > threshold) != inside)
                or (row + 1 < height and (values[row + 1, column] > threshold) != inside)
                or (column > 0 and (values[row, column - 1] > threshold) != inside)
                or (column + 1 < width and (values[row, column + 1] > threshold) != inside)
            ):
                near[count] = abs(np.float64(values[row, column]) - np.float64(threshold))
                count += 1
    scale = np.median(near[:count]) if count else 1.0
    if scale == 0:
        scale = 1.0
    distances = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            above = np.float64(values[row, column]) - np.float64(threshold)
            size = min(max(abs(above) / scale, 0.5), 1.5)
            distances[row, column] = size if values[row, column] > threshold else -size
    return distances


@compiled
def contour_path(values: Floats, side: float, tolerance: float, digits: int, min_area: float) -> Text:
    """Outline where values are above 0.

    Parameters
    ----------
    values
        float64 (H, W): values at the centers of the pixels of a square of `side`.
    side
        Height and width of the square.
    tolerance
        Points closer than this to the line that replaces them are dropped.
    digits
        Decimal digits of coordinates.
    min_area
        Lines around a smaller area are left out.

    Returns
    -------
    uint8 (N,)
        ASCII text: closed lines, each from an absolute point by relative steps.
    """
    height, width = values.shape
    nodes = np.full((height + 4, width + 4), -1.0)  # the border twice: once with the values at its pixels, then outside
    crossings = 0
    for row in range(1, height + 3):
        for column in range(1, width + 3):
            nodes[row, column] = values[min(max(row - 2, 0), height - 1), min(max(column - 2, 0), width - 1)]
    for row in range(1, height + 4):
        for column in range(1, width + 4):
            inside = nodes[row, column] > 0
            crossings += inside != (nodes[row, column - 1] > 0)
            crossings += inside != (nodes[row - 1, column] > 0)
    text = np.empty(crossings * 2 * MAX_CHARACTERS, np.uint8)
    used = 0
    if crossings:
        lines = np.empty((crossings, 2))
        steps = np.array([side / height, side / width])
        seen = np.zeros((height + 4, width + 4), np.bool_)
        for row in range(1, height + 3):
            for column in range(1, width + 3):
                if nodes[row, column] > 0 and nodes[row, column + 1] <= 0 and not seen[row, column]:
                    count = _trace(nodes, row, column, seen, lines, steps, side)
                    corners = _rounded(lines[:count], tolerance, digits)
                    if len(corners) > 2 and _area(corners) >= min_area * 100.0**digits:
                        used = _write_line(text, used, corners, digits)
    return text[:used]


@compiled
def _trace(
    nodes: Floats, row: int, column: int, seen: npt.NDArray[np.bool_], line: Floats, steps: Floats, side: float
) -> int:
    """Follow a line downward from the edge on the right of a node inside, until it is closed; return its points."""
    count, edge = 0, TOP
    start_row, start_column = row, column
    while True:
        # The point where the line enters the cell whose upper left node is (row, column).
        first_row, first_column = row + (edge == BOTTOM), column + (edge == RIGHT)
        across = edge in (TOP, BOTTOM)
        first = nodes[first_row, first_column]
        second = nodes[first_row, first_column + 1] if across else nodes[first_row + 1, first_column]
        share = first / (first - second)
        down = (first_row - 1.5 + (0.0 if across else share)) * steps[0]
        right = (first_column - 1.5 + (share if across else 0.0)) * steps[1]
        line[count, 0], line[count, 1] = min(max(right, 0.0), side), min(max(down, 0.0), side)
        count += 1
        if across and first > 0:
            seen[first_row, first_column] = True
        edge = _exit(
            nodes[row, column], nodes[row, column + 1], nodes[row + 1, column + 1], nodes[row + 1, column], edge
        )
        # The next cell, and the side on which the line enters it.
        row += (edge == BOTTOM) - (edge == TOP)
        column += (edge == RIGHT) - (edge == LEFT)
        edge = (edge + 2) % 4
        if edge == TOP and row == start_row and column == start_column:
            return count


@compiled
def _exit(top_left: float, top_right: float, bottom_right: float, bottom_left: float, edge: int) -> int:
    """Return the edge by which a line leaves a cell that it enters by `edge`."""
    corners = (top_left > 0, top_right > 0, bottom_right > 0, bottom_left > 0)
    if corners[0] == corners[2] and corners[1] == corners[3] and corners[0] != corners[1]:
        center = top_left + top_right + bottom_right + bottom_left > 0
        # The line goes around the corners that differ from the center: top left and bottom right, or the others.
        around_first = corners[0] != center
        if edge == TOP:
            return LEFT if around_first else RIGHT
        if edge == LEFT:
            return TOP if around_first else BOTTOM
        if edge == RIGHT:
            return BOTTOM if around_first else TOP
        return RIGHT if around_first else LEFT
    for other in range(4):
        if other != edge and corners[other] != corners[(other + 1) % 4]:
            return other
    return edge


@compiled
def _rounded(line: Floats, tolerance: float, digits: int) -> Ints:
    """Simplify a closed line (N, 2); return its corners as whole numbers of the last digit."""
    keep = _kept(line, tolerance)
    corners = np.empty((len(line), 2), np.int64)
    count, scale = 0, 10.0**digits
    for index in range(len(line)):
        if keep[index]:
            right, down = round(line[index, 0] * scale), round(line[index, 1] * scale)
            if count == 0 or right != corners[count - 1, 0] or down != corners[count - 1, 1]:
                corners[count, 0], corners[count, 1] = right, down
                count += 1
    if count > 1 and corners[0, 0] == corners[count - 1, 0] and corners[0, 1] == corners[count - 1, 1]:
        count -= 1
    return corners[:count]


@compiled
def _kept(line: Floats, tolerance: float) -> npt.NDArray[np.bool_]:
    """Choose the points to which a closed line is simplified (Douglas and Peucker 1973)."""
    count = len(line)
    keep = np.zeros(count, np.bool_)
    first = _farthest(line, _farthest(line, 0))
    second = _farthest(line, first)
    keep[first] = keep[second] = True
    stack = np.empty((count + 2, 2), np.int64)
    stack[0, 0], stack[0, 1] = first, second if second > first else second + count
    stack[1, 0], stack[1, 1] = second, first if first > second else first + count
    depth = 2
    while depth:
        depth -= 1
        start, stop = stack[depth, 0], stack[depth, 1]
        worst, distance = start, tolerance * tolerance
        for index in range(start + 1, stop):
            off = _distance(line[index % count], line[start % count], line[stop % count])
            if off > distance:
                worst, distance = index, off
        if worst > start:
            keep[worst % count] = True
            stack[depth, 0], stack[depth, 1] = start, worst
            stack[depth + 1, 0], stack[depth + 1, 1] = worst, stop
            depth += 2
    return keep


@compiled
def _farthest(line: Floats, origin: int) -> int:
    """Return the point of a line that is farthest from one of its points."""
    best, largest = origin, -1.0
    for index in range(len(line)):
        off = (line[index, 0] - line[origin, 0]) ** 2 + (line[index, 1] - line[origin, 1]) ** 2
        if off > largest:
            best, largest = index, off
    return best


@compiled
def _distance(point: Floats, start: Floats, stop: Floats) -> float:
    """Return the squared distance of a point from the line between two others."""
    right, down = stop[0] - start[0], stop[1] - start[1]
    length = right * right + down * down
    share = 0.0
    if length > 0:
        share = min(max(((point[0] - start[0]) * right + (point[1] - start[1]) * down) / length, 0.0), 1.0)
    return float((start[0] + share * right - point[0]) ** 2 + (start[1] + share * down - point[1]) ** 2)


@compiled
def _area(corners: Ints) -> float:
    """Return the area inside a closed line."""
    twice = np.int64(0)
    for index in range(len(corners)):
        after = (index + 1) % len(corners)
        twice += corners[index, 0] * corners[after, 1] - corners[after, 0] * corners[index, 1]
    return abs(twice) / 2


@compiled
def _write_line(text: Text, used: int, corners: Ints, digits: int) -> int:
    """Write a closed line at the position `used` of a text; return where it ends."""
    fraction = True  # whether the last number had a point, after which another point needs no separator
    for index in range(len(corners)):
        if index < 2:
            text[used] = ord("M") if index == 0 else ord("l")
            used += 1
        for axis in range(2):
            number = corners[index, axis] - (corners[index - 1, axis] if index else 0)
            bare = index < 2 and axis == 0
            used, fraction = _write_number(text, used, number, digits, bare, fraction)
    text[used] = ord("z")
    return used + 1


@compiled
def _write_number(text: Text, used: int, number: int, digits: int, bare: bool, fraction: bool) -> tuple[int, bool]:
    """Write one number in as few characters as a path needs; return where it ends, and whether it has a point."""
    scale = 10**digits
    whole, rest = abs(number) // scale, abs(number) % scale
    if number < 0:
        text[used] = ord("-")
        used += 1
    elif not bare and (whole > 0 or rest == 0 or not fraction):
        text[used] = ord(" ")
        used += 1
    if whole > 0 or rest == 0:
        place = 1
        while place * 10 <= whole:
            place *= 10
        while place:
            text[used] = ord("0") + whole // place % 10
            used, place = used + 1, place // 10
    if rest > 0:
        text[used] = ord(".")
        used += 1
        while rest:
            scale //= 10
            text[used] = ord("0") + rest // scale
            used, rest = used + 1, rest % scale
    return used, number % 10**digits != 0
