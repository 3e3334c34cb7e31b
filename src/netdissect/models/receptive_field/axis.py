"""Receptive fields along one direction: which input pixels a cell of a feature map sees.

Offset is the first pixel of the field of cell 0, size its number of pixels, step the distance to the field of the next
cell. The input itself is (0, 1, 1); each method composes one more operation. Numbers are real: upsampling places cells
between pixels.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReceptiveFieldAxis:
    """Receptive fields along one direction of a feature map, in input pixels.

    Attributes
    ----------
    offset
        First pixel that cell 0 sees; negative where it reaches into the padding.
    size
        Pixels that one cell spans.
    step
        Pixels between the fields of neighboring cells.
    """

    offset: float
    size: float
    step: float

    def center(self, cell: float) -> float:
        """Return the center of a cell's receptive field: ``offset + (size - 1) / 2 + cell * step``.

        Examples
        --------
        >>> ReceptiveFieldAxis(offset=-64, size=163, step=16).center(0)  # AlexNet conv5 at 227 pixels
        17.0
        """
        return self.offset + (self.size - 1) / 2 + cell * self.step

    def window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "ReceptiveFieldAxis":
        """Compose a convolution or a pooling; `padding` is the left or the top one.

        Examples
        --------
        >>> ReceptiveFieldAxis(0, 1, 1).window(kernel=11, stride=4, padding=2)
        ReceptiveFieldAxis(offset=-2, size=11, step=4)
        """
        span = dilation * (kernel - 1)
        return ReceptiveFieldAxis(self.offset - padding * self.step, self.size + span * self.step, self.step * stride)

    def transposed(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "ReceptiveFieldAxis":
        """Compose a transposed convolution.

        Notes
        -----
        Output cell o meets input cells (o + padding - dilation * k) / stride that are whole; which ones depends on
        the phase of o, so the center is that of all phases together and the size that of the widest.
        """
        span = dilation * (kernel - 1)
        return self._around((padding - span / 2) / stride, 1 / stride, span // stride)

    def resampled(self, scale: float, support: int = 1, first: float | None = None) -> "ReceptiveFieldAxis":
        """Compose an interpolation whose cell i is at ``first + i * scale`` on the old grid.

        Parameters
        ----------
        scale
            Old cells per new cell: below 1 for upsampling.
        support
            Old cells that one new cell may meet: 1 for nearest, 2 for bilinear.
        first
            Position of cell 0; None: half-pixel centers, ``scale / 2 - 1 / 2``.

        Examples
        --------
        >>> ReceptiveFieldAxis(0, 1, 2).resampled(scale=0.5)  # nearest neighbor, twice as fine
        ReceptiveFieldAxis(offset=-0.5, size=1, step=1.0)
        """
        return self._around(scale / 2 - 0.5 if first is None else first, scale, support - 1)

    def widened(self, size: float) -> "ReceptiveFieldAxis":
        """Return fields of another size around the same centers."""
        return self if size == self.size else ReceptiveFieldAxis(self.center(0) - (size - 1) / 2, size, self.step)

    def _around(self, cell: float, scale: float, more: int) -> "ReceptiveFieldAxis":
        size = self.size + more * self.step
        return ReceptiveFieldAxis(self.center(cell) - (size - 1) / 2, size, self.step * scale)


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """Receptive fields of a feature map, vertical and horizontal apart."""

    vertical: ReceptiveFieldAxis
    horizontal: ReceptiveFieldAxis
