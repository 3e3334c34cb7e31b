"""Bilinear upsampling of activation maps to the size of the label map.

    receptive field, map size, input size, label size -> make_upsampler -> Upsampler -> kernel.py, Upsampler.upsample

Upsampling is separable: each pixel of the label map is a weighted sum of two neighboring cells per axis. A pixel beyond
the outermost anchors takes the edge value.

Sources: Bau et al. 2017 :cite:p:`bau2017network`, section 2.2 (bilinear, anchored at the centers of the
receptive fields); Pillow's BILINEAR filter for the 2018 rewrite.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import floor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netdissect.concepts import Size
from netdissect.config import Anchor
from netdissect.errors import ShapeError

Floats = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]


EQUAL_WEIGHTS = 1e-9
"""Difference up to which weights are taken for equal: those of Pillow are rounded."""


class FieldSpan(NamedTuple):
    """A receptive field along one axis: cell i covers `size` input pixels from ``offset + i * step`` on."""

    offset: float
    size: float
    step: float


class FieldSpans(NamedTuple):
    """The receptive field of the cells of a layer along both axes."""

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
        float64 (pixels, cells) if a pixel needs more than two cells (Pillow when it shrinks). Maps are multiplied by it
        first, and the other attributes are then the identity.
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
        """Pixels of the label map along this axis."""
        return len(self.lower_weight)

    @cached_property
    def part_starts(self) -> npt.NDArray[np.int64]:
        """Split the pixels of each cell into those that only it determines, then the others: int64 (2 cells + 1,).

        The others lie between it and the next cell and have weights of both. `cells` are those behind a resample
        matrix, if there is one.
        """
        alone = [np.count_nonzero(self.upper_weight[first:last] == 0) for first, last in itertools.pairwise(self.start)]
        return np.append(np.stack([self.start[:-1], self.start[:-1] + alone], axis=1).ravel(), self.start[-1])

    @cached_property
    def least_weight(self) -> float:
        """The smallest weight that is not 0; 0 where a pixel has no weight of its own cell."""
        weights = np.concatenate([self.lower_weight, self.upper_weight[self.upper_weight > 0]])
        return float(weights.min(initial=1))

    @cached_property
    def cell_starts(self) -> npt.NDArray[np.int64]:
        """Pixels ``cell_starts[i]`` to ``cell_starts[i + 1]`` belong to cell i, int64 (cells + 1,).

        A pixel belongs to the cell of its largest weight; of two weights that are equal up to rounding, to the lower.
        """
        if self.resample_matrix is not None:
            largest = self.resample_matrix.max(axis=1, keepdims=True)
            nearest = np.argmax(self.resample_matrix > largest - EQUAL_WEIGHTS, axis=1)
        else:
            lower = np.repeat(np.arange(self.cells), np.diff(self.start))
            is_upper = self.upper_weight > self.lower_weight + EQUAL_WEIGHTS
            nearest = np.where(is_upper, np.minimum(lower + 1, self.cells - 1), lower)
        return np.searchsorted(nearest, np.arange(self.cells + 1)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Upsampler:
    """Upsamples the maps of one layer to the size of the label map.

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

    @property
    def shrinks(self) -> bool:
        """Whether a pixel needs more than two cells of an axis: `resample` is then not the identity."""
        return self.rows.resample_matrix is not None or self.columns.resample_matrix is not None

    def check_cells(self, shape: tuple[int, ...]) -> None:
        """Check the size of maps, (..., h, w).

        Raises
        ------
        ShapeError
            If they have another size.
        """
        if shape[-2:] != (self.rows.cells, self.columns.cells):
            raise ShapeError(
                f"activation maps are {shape[-2]} x {shape[-1]} (height x width) but the upsampler was made "
                f"for {self.rows.cells} x {self.columns.cells}. Make one for this size with make_upsampler()."
            )

    def resample(self, maps: Maps) -> Maps:
        """Apply the resample matrices of the axes: the identity unless Pillow shrinks.

        Parameters
        ----------
        maps
            float32 (..., h, w).

        Returns
        -------
        float32 (..., h', w')

        Raises
        ------
        ShapeError
            If the maps have another size.
        """
        self.check_cells(maps.shape)
        if self.columns.resample_matrix is not None:
            maps = (maps.astype(np.float64) @ self.columns.resample_matrix.T).astype(np.float32)
        if self.rows.resample_matrix is not None:
            maps = (self.rows.resample_matrix @ maps.astype(np.float64)).astype(np.float32)
        return maps

    def upsample(self, maps: Maps) -> Maps:
        """Interpolate whole maps; the scoring kernel computes the same values at the pixels that can be active.

        Parameters
        ----------
        maps
            float32 (..., h, w), finite.

        Returns
        -------
        float32 (..., sh, sw)
            Interpolated in float64 and rounded once (twice under `round_rows`).
        """
        cells = self.resample(maps).astype(np.float64)
        wide_rows = _interpolate(cells, self.columns)
        if self.round_rows:
            wide_rows = wide_rows.astype(np.float32).astype(np.float64)
        return np.swapaxes(_interpolate(np.swapaxes(wide_rows, -1, -2), self.rows), -1, -2).astype(np.float32)


def make_upsampler(
    cells: Size, label_size: Size, input_size: Size, field: FieldSpans | None, anchor: Anchor
) -> Upsampler:
    """Make the upsampler of the maps of one layer.

    Parameters
    ----------
    cells
        Size of the layer's maps.
    label_size
        Size of the label maps.
    input_size
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
        _axis(cells.height, label_size.height, input_size.height, vertical, anchor),
        _axis(cells.width, label_size.width, input_size.width, horizontal, anchor),
        round_rows=anchor == "half-pixel-pillow",
    )


@lru_cache(maxsize=256)
def _axis(cells: int, pixels: int, input_size: int, span: FieldSpan | None, anchor: Anchor) -> UpsamplingAxis:
    if anchor == "half-pixel-pillow":
        weights = _pillow_weights(cells, pixels)
        if cells > pixels:
            identity = _two_taps([Fraction(pixel) for pixel in range(pixels)], pixels)
            return UpsamplingAxis(identity.start, identity.lower_weight, identity.upper_weight, weights)
        return _pillow_taps(weights)
    first, step = _anchors(cells, pixels, input_size, span, anchor)
    return _two_taps([(pixel - first) / step for pixel in range(pixels)], cells)


def _anchors(
    cells: int, pixels: int, input_size: int, span: FieldSpan | None, anchor: Anchor
) -> tuple[Fraction, Fraction]:
    """Return the position of cell 0 on the label map, and the distance between cells, in pixels.

    Fractions keep a position midway between two cells exact, and a weight is rounded once.
    """
    half = Fraction(1, 2)
    if anchor == "half-pixel" or span is None:
        return half * pixels / cells - half, Fraction(pixels, cells)
    offset, size, step = (Fraction(number) for number in span)
    whole_ratio = max(1, round(input_size / pixels))  # 227 / 113 is 2 in the authors' Caffe code
    # Its integer step becomes 0 where cells are denser than pixels: the exact rule is used there.
    if anchor == "receptive-field-integer" and step // whole_ratio >= 1:
        return Fraction((size // 2 + offset) // whole_ratio), Fraction(step // whole_ratio)
    ratio = Fraction(input_size, pixels)
    return (offset + (size - 1) / 2 + half) / ratio - half, step / ratio


def _two_taps(positions: Sequence[Fraction], cells: int) -> UpsamplingAxis:
    """Split positions, in cells, into the lower cell and the weights of it and of the next cell."""
    clamped = [min(max(position, Fraction(0)), Fraction(cells - 1)) for position in positions]
    lower = np.array([floor(position) for position in clamped])
    upper_weight = np.array([float(position - floor(position)) for position in clamped])
    start = np.searchsorted(lower, np.arange(cells + 1)).astype(np.int64)
    return UpsamplingAxis(start, 1 - upper_weight, upper_weight)


def _pillow_weights(cells: int, pixels: int) -> Floats:
    """Return Pillow's BILINEAR weights, (pixels, cells): a triangle, widened when shrinking, normalized."""
    if cells == pixels:
        return np.eye(pixels)
    scale = cells / pixels
    width = max(scale, 1.0)
    centers = ((np.arange(pixels) + 0.5) * scale)[:, None]
    cell = np.arange(cells)[None, :]
    weights = np.clip(1 - np.abs((cell - centers + 0.5) * (1 / width)), 0, None)
    # Pillow uses whole cells within this reach; beyond it, rounding must not leave a weight of 1e-17.
    weights[(cell < np.trunc(centers - width + 0.5)) | (cell >= np.trunc(centers + width + 0.5))] = 0
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


def _pillow_taps(weights: Floats) -> UpsamplingAxis:
    pixels, cells = weights.shape
    lower = np.argmax(weights > 0, axis=1)
    lower_weight = weights[np.arange(pixels), lower]
    upper = np.minimum(lower + 1, cells - 1)
    upper_weight = np.where(upper > lower, weights[np.arange(pixels), upper], 0.0)
    start = np.searchsorted(lower, np.arange(cells + 1)).astype(np.int64)
    return UpsamplingAxis(start, lower_weight, upper_weight)


def _interpolate(values: Floats, axis: UpsamplingAxis) -> Floats:
    """Interpolate the last axis of `values` (..., cells) to (..., pixels)."""
    lower = np.repeat(np.arange(len(axis.start) - 1), np.diff(axis.start))
    upper = np.minimum(lower + 1, len(axis.start) - 2)
    return np.asarray(values[..., lower] * axis.lower_weight + values[..., upper] * axis.upper_weight)
