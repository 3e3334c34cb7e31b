"""Masks as they were scored: pages, figures and the explorer all make masks here.

MaskGrid(layer, network's input, protocol).mask(cells, threshold)   bool (sh, sw), the scored mask bit for bit
mask_path(mask)                                                     an SVG path for a page
mask_runs_text(mask)                                                fewer characters, which a page's script draws
enlarged(mask, side)                                                pixels for a figure
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.config import Protocol
from netdissect.jit import compiled
from netdissect.result import LayerInfo, LayerResult, RunInfo
from netdissect.scoring import Upsampler, make_upsampler

T = TypeVar("T", bound=np.generic)
Maps = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Text = npt.NDArray[np.uint8]

TOP, RIGHT, BOTTOM, LEFT = 0, 1, 2, 3
MAX_CHARACTERS = 7
"""Of one coordinate in a path: a separator, a sign and five digits."""
TOLERANCE = 0.66
"""Half pixels by which simplified lines may be off: centers of pixels are at least 0.7 away from a line."""


@dataclass(frozen=True)
class MaskGrid:
    """Make masks of the activation maps of one layer.

    Attributes
    ----------
    layer
        Its receptive field and the size of its maps are used.
    source
        Height and width of the network's input.
    protocol
        The run's.
    labels
        Size of the label maps of images without label maps; None: half the network's input, as in the published
        data.
    """

    layer: LayerInfo
    source: tuple[int, int]
    protocol: Protocol
    labels: Size | None = None

    @classmethod
    def of(cls, info: RunInfo, layer: LayerResult) -> "MaskGrid":
        """Return the grid of one layer of a run."""
        first = layer.top.select("label_height", "label_width").head(1).rows()
        return cls(layer.info, info.network.size, info.config.protocol, Size(*first[0]) if first else None)

    def size(self, labels: Size | None = None) -> Size:
        """Return the grid on which masks of an image are scored, by the size of its label maps."""
        side = self.protocol.segmentation_size
        if side is not None:
            return Size(side, side)
        return labels or self.labels or Size(max(1, self.source[0] // 2), max(1, self.source[1] // 2))

    def upsampler(self, labels: Size | None = None) -> Upsampler:
        """Return what interpolates maps to the grid on which masks of an image are scored."""
        cells = Size(self.layer.height, self.layer.width)
        return make_upsampler(cells, self.size(labels), Size(*self.source), self.layer.field, self.protocol.anchor)

    def values(self, maps: Maps, labels: Size | None = None) -> Maps:
        """Interpolate maps as they were scored: a mask is where they exceed the unit's threshold.

        Parameters
        ----------
        maps
            float32 (..., h, w).
        labels
            Size of the image's label maps; None: see the class.

        Returns
        -------
        float32 (..., sh, sw)
        """
        return self.upsampler(labels).upsample(np.asarray(maps))

    def mask(self, cells: Maps, threshold: float, labels: Size | None = None) -> Mask:
        """Return the mask of one map, float32 (h, w), at a unit's threshold, bool (sh, sw)."""
        return self.values(cells, labels) > np.float32(threshold)


def enlarged(values: npt.NDArray[T], side: int) -> npt.NDArray[T]:
    """Enlarge an array (sh, sw) to (side, side) by its nearest pixels."""
    down, right = (((np.arange(side) + 0.5) * count / side).astype(int) for count in values.shape)
    return np.asarray(values[down[:, None], right])


def mask_path(mask: Mask) -> str:
    """Outline a mask of pixels.

    Parameters
    ----------
    mask
        bool (H, W).

    Returns
    -------
    str
        An SVG path of closed lines in a box of 2 W x 2 H: its units are half pixels. Filled by the rule ``evenodd``
        it contains the centers of exactly the pixels of the mask. Empty where the mask is.

    Examples
    --------
    >>> mask_path(np.array([[False, True, True], [False, True, True]]))
    'M6 0l0 4-4 0 0-4z'
    """
    text: bytes = _path_text(np.asarray(mask, np.bool_)).tobytes()
    return text.decode("ascii")


def mask_runs_text(mask: Mask) -> str:
    """Write a mask in few characters, for a script to draw: a noisy mask takes a fifth of its outline.

    Numbers of inactive and of active pixels in turn, row by row from the top left; from the third on, less the number
    before the last; five bits a character from the lowest, the sixth says that more follow, and 63 is added: the
    compressed run-length encoding of COCO by rows, with characters that HTML does not escape.

    Parameters
    ----------
    mask
        bool (H, W).
    """
    edges = np.flatnonzero(np.diff(mask.ravel(), prepend=False, append=False))
    numbers = np.diff(edges, prepend=0)
    text: bytes = _packed(np.append(numbers[:2], numbers[2:] - numbers[:-2])).tobytes()
    return text.decode("ascii")


def view_box(size: Size) -> str:
    """Return the box of the paths of `mask_path` for masks of a size, as SVG writes it."""
    return f"0 0 {2 * size.width} {2 * size.height}"


@compiled
def _path_text(mask: Mask) -> Text:
    """Return the text of `mask_path`, uint8 (N,): ASCII characters.

    Lines run halfway between the centers of neighboring pixels (marching squares); beyond the border everything is
    outside. Then they are simplified.
    """
    height, width = mask.shape
    nodes = np.zeros((height + 4, width + 4), np.bool_)  # the border twice: once with its pixels, then outside
    crossings = 0
    for row in range(1, height + 3):
        for column in range(1, width + 3):
            nodes[row, column] = mask[min(max(row - 2, 0), height - 1), min(max(column - 2, 0), width - 1)]
    for row in range(1, height + 4):
        for column in range(1, width + 4):
            crossings += nodes[row, column] != nodes[row, column - 1]
            crossings += nodes[row, column] != nodes[row - 1, column]
    text = np.empty(crossings * 2 * MAX_CHARACTERS, np.uint8)
    used = 0
    if crossings:
        lines = np.empty((crossings, 2), np.int64)
        seen = np.zeros((height + 4, width + 4), np.bool_)
        for row in range(1, height + 3):
            for column in range(1, width + 3):
                if nodes[row, column] and not nodes[row, column + 1] and not seen[row, column]:
                    count = _trace(nodes, row, column, seen, lines)
                    corners = _simplified(lines[:count])
                    if len(corners) > 2:
                        used = _write_line(text, used, corners)
    return text[:used]


@compiled
def _trace(nodes: Mask, row: int, column: int, seen: Mask, line: Ints) -> int:
    """Follow a line downward from the edge on the right of a node inside, until it is closed; return its points."""
    count, edge = 0, TOP
    start_row, start_column = row, column
    bottom, end = 2 * (nodes.shape[0] - 4), 2 * (nodes.shape[1] - 4)
    while True:
        # The point where the line enters the cell whose upper left node is (row, column): between two nodes.
        first_row, first_column = row + (edge == BOTTOM), column + (edge == RIGHT)
        across = edge in (TOP, BOTTOM)
        right, down = 2 * first_column - 3 + across, 2 * first_row - 3 + (not across)
        line[count, 0], line[count, 1] = min(max(right, 0), end), min(max(down, 0), bottom)
        count += 1
        if across and nodes[first_row, first_column]:
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
def _exit(top_left: bool, top_right: bool, bottom_right: bool, bottom_left: bool, edge: int) -> int:
    """Return the edge by which a line leaves a cell that it enters by `edge`."""
    corners = (top_left, top_right, bottom_right, bottom_left)
    if top_left == bottom_right and top_right == bottom_left and top_left != top_right:
        # Two pixels that touch at a corner: the line goes around each.
        if top_left:
            return LEFT if edge == TOP else TOP if edge == LEFT else BOTTOM if edge == RIGHT else RIGHT
        return RIGHT if edge == TOP else BOTTOM if edge == LEFT else TOP if edge == RIGHT else LEFT
    for other in range(4):
        if other != edge and corners[other] != corners[(other + 1) % 4]:
            return other
    return edge


@compiled
def _simplified(line: Ints) -> Ints:
    """Return the corners of a closed line (N, 2)."""
    keep = _kept(line.astype(np.float64), TOLERANCE)
    corners = np.empty((len(line), 2), np.int64)
    count = 0
    for index in range(len(line)):
        right, down = line[index]
        if keep[index] and (count == 0 or right != corners[count - 1, 0] or down != corners[count - 1, 1]):
            corners[count, 0], corners[count, 1] = right, down
            count += 1
    if count > 1 and corners[0, 0] == corners[count - 1, 0] and corners[0, 1] == corners[count - 1, 1]:
        count -= 1
    return corners[:count]


@compiled
def _kept(line: Floats, tolerance: float) -> Mask:
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
def _write_line(text: Text, used: int, corners: Ints) -> int:
    """Write a closed line at the position `used` of a text; return where it ends."""
    for index in range(len(corners)):
        if index < 2:
            text[used] = ord("M") if index == 0 else ord("l")
            used += 1
        for axis in range(2):
            number = corners[index, axis] - (corners[index - 1, axis] if index else 0)
            used = _write_number(text, used, number, index < 2 and axis == 0)
    text[used] = ord("z")
    return used + 1


@compiled
def _write_number(text: Text, used: int, number: int, bare: bool) -> int:
    """Write one number, after a space unless it is `bare` or has a sign; return where it ends."""
    if number < 0 or not bare:
        text[used] = ord("-") if number < 0 else ord(" ")
        used += 1
    place = 1
    while place * 10 <= abs(number):
        place *= 10
    while place:
        text[used] = ord("0") + abs(number) // place % 10
        used, place = used + 1, place // 10
    return used


@compiled
def _packed(numbers: Ints) -> Text:
    """Write each number in as few characters as `mask_runs_text` says."""
    text, used = np.empty(len(numbers) * 8, np.uint8), 0
    for index in range(len(numbers)):
        number, more = numbers[index], True
        while more:
            bits = number & 31
            number >>= 5
            more = number != -1 if bits & 16 else number != 0
            text[used] = 63 + bits + (32 if more else 0)
            used += 1
    return text[:used]
