"""Where a cell of an activation map lies on the segmentation, and how pixels between cells are weighted.

    receptive field, map size, input size, segmentation size -> Grid(rows, columns) -> kernel, upsample()

Upsampling is separable: every pixel of the segmentation is a weighted sum of two neighboring cells per
axis. A pixel beyond the outermost anchors takes the edge value.

Sources: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (bilinear, anchored at the centers of the
receptive fields); Pillow's BILINEAR filter for the 2018 rewrite.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.config import Anchor
from netdissect.errors import ShapeError

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]


class FieldSpan(NamedTuple):
    """A receptive field along one axis, in input pixels: cell i covers offset + i * step onwards, size pixels."""

    offset: float
    size: float
    step: float


class FieldSpans(NamedTuple):
    """The receptive field of a layer's cells along both axes."""

    vertical: FieldSpan
    horizontal: FieldSpan


@dataclass(frozen=True, eq=False)
class UpsamplingAxis:
    """One axis of the upsampling.

    Attributes
    ----------
    start
        int64 (cells + 1,): pixels ``start[i]`` to ``start[i + 1]`` lie between cell i and cell i + 1
        (the last cell is its own neighbor).
    lower_weight, upper_weight
        float64 (pixels,): weights of cell i and of cell i + 1.
    resample_matrix
        float64 (pixels, cells) if a pixel needs more than two cells (Pillow when it shrinks): maps are
        brought to the segmentation's size with it first, and the other attributes are then the identity.
    """

    start: npt.NDArray[np.int64]
    lower_weight: Floats
    upper_weight: Floats
    resample_matrix: Floats | None = None

    @property
    def cells(self) -> int:
        """Cells of the map along this axis."""
        return len(self.start) - 1 if self.resample_matrix is None else self.resample_matrix.shape[1]

    @property
    def pixels(self) -> int:
        """Pixels of the segmentation along this axis."""
        return len(self.lower_weight)


@dataclass(frozen=True, eq=False)
class Upsampler:
    """How maps of one layer are brought to the segmentation's grid.

    Attributes
    ----------
    rows, columns
        The two axes.
    round_rows
        Whether a row is rounded to float32 before the columns are interpolated, as Pillow does.
    """

    rows: UpsamplingAxis
    columns: UpsamplingAxis
    round_rows: bool

    def resample(self, maps: Maps) -> Maps:
        """Bring maps to the size that the axes expect: the identity unless Pillow shrinks.

        Parameters
        ----------
        maps
            float32 (..., h, w).

        Returns
        -------
        float32 (..., h', w')
        """
        if maps.shape[-2:] != (self.rows.cells, self.columns.cells):
            raise ShapeError(
                f"activation maps are {maps.shape[-2]} x {maps.shape[-1]} (height x width) but the grid was made for "
                f"{self.rows.cells} x {self.columns.cells}. Make a grid of the maps' own size with grid()."
            )
        if self.columns.resample_matrix is not None:
            maps = (maps.astype(np.float64) @ self.columns.resample_matrix.T).astype(np.float32)
        if self.rows.resample_matrix is not None:
            maps = (self.rows.resample_matrix @ maps.astype(np.float64)).astype(np.float32)
        return maps

    def upsample(self, maps: Maps) -> Maps:
        """Interpolate whole maps: what the scoring kernel computes pixel by pixel where it matters.

        Parameters
        ----------
        maps
            float32 (..., h, w), finite.

        Returns
        -------
        float32 (..., sh, sw)
            Interpolated in float64 and rounded once (twice under `round_rows`).
        """
        wide = self.resample(maps).astype(np.float64)
        across = _interpolate(wide, self.columns)
        if self.round_rows:
            across = across.astype(np.float32).astype(np.float64)
        return np.swapaxes(_interpolate(np.swapaxes(across, -1, -2), self.rows), -1, -2).astype(np.float32)


def make_upsampler(
    cells: Size, segmentation: Size, source: Size, field: FieldSpans | None, anchor: Anchor
) -> Upsampler:
    """Make the grid that brings maps of one layer to a segmentation.

    Parameters
    ----------
    cells
        Size of the layer's maps.
    segmentation
        Size of the label maps.
    source
        Size of the network's input in pixels.
    field
        The layer's receptive field; None: the map covers the image evenly (half-pixel centers).
    anchor
        How cells are anchored; see `netdissect.config.Protocol`.
    """
    if field is None and anchor.startswith("receptive-field"):
        anchor = "half-pixel"
    vertical, horizontal = field if field is not None else (None, None)
    return Upsampler(
        _axis(cells.height, segmentation.height, source.height, vertical, anchor),
        _axis(cells.width, segmentation.width, source.width, horizontal, anchor),
        round_rows=anchor == "half-pixel-pillow",
    )


@lru_cache(maxsize=256)
def _axis(cells: int, pixels: int, source: int, span: FieldSpan | None, anchor: Anchor) -> UpsamplingAxis:
    if anchor == "half-pixel-pillow":
        weights = _pillow_weights(cells, pixels)
        if cells > pixels:
            identity = _two_taps([Fraction(pixel) for pixel in range(pixels)], pixels)
            return UpsamplingAxis(identity.start, identity.lower_weight, identity.upper_weight, weights)
        return _pillow_taps(weights)
    first, step = _anchors(cells, pixels, source, span, anchor)
    return _two_taps([(pixel - first) / step for pixel in range(pixels)], cells)


def _anchors(cells: int, pixels: int, source: int, span: FieldSpan | None, anchor: Anchor) -> tuple[Fraction, Fraction]:
    """Return where cell 0 lies on the segmentation's grid, and the distance from cell to cell.

    In fractions: a place midway between two cells is to be exactly that, and a weight is rounded once.
    """
    half = Fraction(1, 2)
    if anchor == "half-pixel" or span is None:
        return half * pixels / cells - half, Fraction(pixels, cells)
    offset, size, step = (Fraction(number) for number in span)
    whole = max(1, round(source / pixels))  # 227 pixels over 113 are 2 to the first program
    # Its integer step becomes 0 where cells are denser than pixels: the exact rule serves there.
    if anchor == "receptive-field-integer" and step // whole >= 1:
        return Fraction((size // 2 + offset) // whole), Fraction(step // whole)
    ratio = Fraction(source, pixels)
    return (offset + (size - 1) / 2 + half) / ratio - half, step / ratio


def _two_taps(places: Sequence[Fraction], cells: int) -> UpsamplingAxis:
    """Split places, in cells, into a lower cell and the weights of it and of its neighbor."""
    clamped = [min(max(place, Fraction(0)), Fraction(cells - 1)) for place in places]
    lower = np.array([floor(place) for place in clamped])
    far = np.array([float(place - floor(place)) for place in clamped])
    start = np.searchsorted(lower, np.arange(cells + 1)).astype(np.int64)
    return UpsamplingAxis(start, 1 - far, far)


def _pillow_weights(cells: int, pixels: int) -> Floats:
    """Return Pillow's BILINEAR weights, (pixels, cells): a triangle, widened when shrinking, normalized."""
    if cells == pixels:
        return np.eye(pixels)
    scale = cells / pixels
    width = max(scale, 1.0)
    centers = ((np.arange(pixels) + 0.5) * scale)[:, None]
    cell = np.arange(cells)[None, :]
    weights = np.clip(1 - np.abs((cell - centers + 0.5) * (1 / width)), 0, None)
    # Pillow looks at whole cells within this reach; beyond it, rounding must not leave a weight of 1e-17.
    weights[(cell < np.trunc(centers - width + 0.5)) | (cell >= np.trunc(centers + width + 0.5))] = 0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def _pillow_taps(weights: Floats) -> UpsamplingAxis:
    pixels, cells = weights.shape
    lower = np.argmax(weights > 0, axis=1)
    near = weights[np.arange(pixels), lower]
    upper = np.minimum(lower + 1, cells - 1)
    far = np.where(upper > lower, weights[np.arange(pixels), upper], 0.0)
    start = np.searchsorted(lower, np.arange(cells + 1)).astype(np.int64)
    return UpsamplingAxis(start, near, far)


def _interpolate(values: Floats, axis: UpsamplingAxis) -> Floats:
    """Interpolate the last axis of `values` (..., cells) to (..., pixels)."""
    lower = np.repeat(np.arange(len(axis.start) - 1), np.diff(axis.start))
    upper = np.minimum(lower + 1, len(axis.start) - 2)
    return np.asarray(values[..., lower] * axis.lower_weight + values[..., upper] * axis.upper_weight)
