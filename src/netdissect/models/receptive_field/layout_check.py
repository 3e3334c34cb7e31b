"""Whether a layer's cells lie where they are said to lie: seen from its answers, not from the code that made them.

    two images, each eight times with one square spot          -> 18 inputs of one forward pass
    activations (18, U, h, w)                                  -> how much each cell answers to each spot
    answers, and the stated centers of the cells               -> confirmed, contradicted or no evidence

The check knows nothing of operations, so no operation can fool it as it can fool the trace. A shift by one cell is
below its resolution.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netdissect.concepts import Size
from netdissect.models.receptive_field.axis import ReceptiveField, ReceptiveFieldAxis

Verdict = Literal["confirmed", "contradicted", "no evidence"]
Reason = Literal["", "outside", "displaced", "stretched", "scattered", "diffuse", "silent", "few cells"]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

IMAGES, PAIRS = 2, 8  # images, and pairs of spots on both together
SIDE = 10  # spots that would fit along a side
CLIP = 3.0  # of a unit's change, in its standard deviations
FLOOR = 0.1  # of a unit's deviation, in the median one of the layer's units
ROUNDING = 1e-5  # of a unit's largest value: a smaller deviation is rounding
FEWEST_CELLS, FEWEST_SPOTS = 6, 8  # along a side; that are answered
FEWEST_UNITS = 3  # attention over cells (CSATv2, MobileViTv2) has one or two, whose answers no mean makes steady

# Of 6,400 right layers of 30 networks all that answer in few cells correlate at 0.88 or more, have a slope between 0.69
# and 1.09, and are displaced by less than a step.
CORRELATED = 0.6
FLATTEST, STEEPEST = 0.35, 1.4
STEPS, ERRORS = 1.0, 3.0  # of displacement: cells, or standard errors of the median
DISPLACED = 1.5  # steps: enlarged branches of HRNet carry the answers 1.1 steps beside the branch that decides
SHARP = 2.0  # steps: with a wider tolerance, half a window could pass
OUTSIDE = 1.5  # steps
CONCENTRATED, PEAK = 0.35, 3.0  # share of the cells; medians
PEAK_OUTSIDE = 2.0  # medians, for answers that follow the spots while some are stated outside the image
COMMON = 0.75  # of the answers: more in deep layers of random weights where few cells are alive
MOST = 1000.0  # medians: the largest peak that is told
ERROR_OF_MEDIAN = 1.2533  # sqrt(pi / 2) standard errors of a mean, for normal values


class Probe(NamedTuple):
    """Images with and without spots.

    Attributes
    ----------
    images
        uint8 (18, C, H, W): two images as they are, then with one spot each.
    original
        int64 (16,): which of the two each spot was put on.
    spots
        float64 (16, 2): row and column of each spot's center, in pixels.
    """

    images: Pixels
    original: npt.NDArray[np.int64]
    spots: Floats


@dataclass(frozen=True, slots=True)
class LayoutCheck:
    """What the spots say of one layer; pairs of numbers are vertical and horizontal.

    Attributes
    ----------
    verdict
        Whether cells lie where they are stated to lie.
    reason
        Why not confirmed. ``outside``: cells that answer are stated outside the image. ``displaced``, ``stretched``:
        answers follow the spots, elsewhere or at another step. ``scattered``: answers are concentrated and do not
        follow the spots. ``diffuse``: they do not follow, and are spread, or in the same cells whatever the spot.
        ``silent``: too few spots are answered. ``few cells``: fewer than six along a side.
    correlation
        Of the answers' centers with the spots' centers.
    slope
        Pixels by which answers move for each pixel by which spots do: a median over pairs of spots.
    displacement
        Median of the answers' centers less the spots', in steps between cells.
    tolerance
        Up to which displacement is put down to chance, in steps.
    share, peak
        Effective share of the cells that answer; the largest answer in medians of the map, at most 1000.
    common
        Share of the answers that go to any spot of an image.
    outside
        Steps by which the stated centers of cells that answer reach beyond the image; at most 0 if they do not.
    """

    verdict: Verdict
    reason: Reason = ""
    correlation: tuple[float, float] = (0.0, 0.0)
    slope: tuple[float, float] = (0.0, 0.0)
    displacement: tuple[float, float] = (0.0, 0.0)
    tolerance: tuple[float, float] = (0.0, 0.0)
    share: float = 1.0
    peak: float = 0.0
    common: float = 0.0
    outside: float = 0.0


def probe(images: Pixels) -> Probe:
    """Put a spot on each of sixteen copies of two images.

    Parameters
    ----------
    images : uint8 (2, C, H, W)
        Two images of the data set. One serves twice where there are no two.

    Notes
    -----
    A spot is a tenth of the image's height and width; its values are shifted by half their range, modulo the range.
    Spots lie on a jittered 4 x 4 grid, in pairs symmetric about the image's center. Always the same ones.
    """
    size = Size(*images.shape[2:])
    spot = Size(*(max(1, round(length / SIDE)) for length in size))
    room = np.array([size.height - spot.height, size.width - spot.width])
    jitter = np.random.default_rng(0).random((PAIRS, 2))
    shown, original, corners = list(images), [], []
    for pair, within in enumerate(jitter):
        row, column = divmod(pair, 4)
        corner = np.rint((np.array([row, column]) + within) / 4 * room).astype(np.int64)
        for top, left in (corner, room - corner):
            # Both images get spots in every row and every column of the grid.
            which = (row + column) % IMAGES
            spotted = images[which].copy()
            spotted[:, top : top + spot.height, left : left + spot.width] += np.uint8(128)
            shown.append(spotted)
            original.append(which)
            corners.append((top, left))
    centers = np.array(corners, np.float64) + (np.array([spot.height, spot.width]) - 1) / 2
    return Probe(np.stack(shown), np.array(original), centers)


def half_pixel(grid: Size, size: Size) -> ReceptiveField:
    """Return the centers of cells that cover the image evenly, as a field of one pixel."""
    return ReceptiveField(
        *(ReceptiveFieldAxis(0, 1, 1).resampled(length / cells) for length, cells in zip(size, grid, strict=True))
    )


class CellResponses:
    """How much each cell of one layer answers to each spot, collected batch by batch.

    Parameters
    ----------
    original
        Of the probe.
    """

    def __init__(self, original: npt.NDArray[np.int64]) -> None:
        self.units = 0
        self._original = original.tolist()
        self._plain: list[Tensor] = []
        self._changes: list[Tensor] = []
        self._scales: Tensor | None = None

    def update(self, maps: Tensor) -> None:
        """Take the layer's activations, float32 (B, U, h, w), on the next images of the probe.

        Notes
        -----
        The answer of a cell is the mean over units of the change that the spot makes, in the unit's standard deviations
        over the two images (but at least a tenth of the layer's median one, of units that vary at all), each
        clipped at 3.
        """
        self.units = maps.shape[1]
        for one in maps:
            if len(self._plain) < IMAGES:
                self._plain.append(one.clone())
                continue
            plain = self._plain[self._original[len(self._changes)]]
            if self._scales is None:
                self._scales = _scales(torch.stack(self._plain))
            self._changes.append((one - plain).abs_().div_(self._scales).clamp_(max=CLIP).mean(0))

    @property
    def maps(self) -> Floats:
        """float64 (16, h, w), once all images of the probe were seen."""
        return torch.stack(self._changes).double().cpu().numpy()


def _scales(plain: Tensor) -> Tensor:
    """Return what each unit's changes are measured in, (U, 1, 1); infinite where no unit varies."""
    deviations = plain.std(dim=(0, 2, 3), correction=0)
    varying = deviations[deviations > ROUNDING * plain.abs().amax(dim=(0, 2, 3))]
    floor = FLOOR * float(varying.median()) if len(varying) else torch.inf
    return deviations.clamp(min=floor)[:, None, None]


def judge(
    answered: Floats, field: ReceptiveField, size: Size, shown: Probe, *, units: int = FEWEST_UNITS
) -> LayoutCheck:
    """Tell from its answers whether the cells of a layer lie where its field says.

    Parameters
    ----------
    answered : float64 (16, h, w)
        From `CellResponses`.
    field
        Where the cells are stated to lie: only their centers count.
    size
        Of the network's input.
    shown
        What was answered to.
    units
        Over how many the answers are means: those of one or two are no evidence against a layer for being scattered.

    Returns
    -------
    LayoutCheck
        ``no evidence``, too, where activations are not finite.
    """
    if not np.isfinite(answered).all():
        return LayoutCheck("no evidence", "silent")
    above = np.clip(answered - np.median(answered, axis=(1, 2), keepdims=True), 0, None)
    own = np.clip(answered - _common(answered, shown.original), 0, None)
    weights = np.clip(own - np.median(own, axis=(1, 2), keepdims=True), 0, None)
    heard = weights.max(axis=(1, 2)) > 0
    if heard.sum() < FEWEST_SPOTS:
        return LayoutCheck("no evidence", "silent")
    centers, spots = _centers(weights[heard] ** 2, field), shown.spots[heard]
    displacements = (centers - spots) / [field.vertical.step, field.horizontal.step]
    displacement = np.median(displacements, axis=0)
    # From the median deviation: cells that a roll has carried around the edge must not widen the tolerance.
    spread = 1.4826 * np.median(np.abs(displacements - displacement), axis=0)
    share, peak = _concentration(answered[heard])
    measured = LayoutCheck(
        "no evidence",
        correlation=_pair(_correlation(*pair) for pair in zip(centers.T, spots.T, strict=True)),
        slope=_pair(_slope(*three) for three in zip(centers.T, spots.T, size, strict=True)),
        displacement=_pair(displacement),
        tolerance=_pair(np.maximum(STEPS, ERRORS * ERROR_OF_MEDIAN * spread / np.sqrt(len(spots)))),
        share=round(share, 3),
        peak=round(peak, 3),
        common=round(float(_common(above, shown.original).sum() / above.sum()), 3),
        outside=round(_outside(own.max(axis=0) > 0, field, size), 3),
    )
    verdict, reason = _verdict(measured, few=min(answered.shape[1:]) < FEWEST_CELLS, thin=units < FEWEST_UNITS)
    return replace(measured, verdict=verdict, reason=reason)


def _common(answered: Floats, original: npt.NDArray[np.int64]) -> Floats:
    """Return what each cell answers to any spot of an image: trained transformers have tokens that any change moves."""
    each = np.stack([np.median(answered[original == image], axis=0) for image in range(IMAGES)])
    return np.asarray(each[original])


def _concentration(answered: Floats) -> tuple[float, float]:
    """Return the effective share of the cells that answer, and the largest answer in medians: medians over spots."""
    medians, largest = np.median(answered, axis=(1, 2)), answered.max(axis=(1, 2))
    weights = np.clip(answered - medians[:, None, None], 0, None)
    squares = np.maximum((weights**2).sum(axis=(1, 2)), np.finfo(np.float64).tiny)
    shares = weights.sum(axis=(1, 2)) ** 2 / (weights[0].size * squares)
    return float(np.median(shares)), float(np.median(largest / np.maximum(medians, largest / MOST)))


def _verdict(seen: LayoutCheck, *, few: bool, thin: bool) -> tuple[Verdict, Reason]:
    concentrated = seen.share <= CONCENTRATED and seen.peak >= PEAK
    outside = seen.outside > OUTSIDE
    follows = min(seen.correlation) >= CORRELATED
    near = all(abs(moved) <= most for moved, most in zip(seen.displacement, seen.tolerance, strict=True))
    stretched = max(seen.slope) > STEEPEST
    # First, since cells on a wide padding lie outside by right. Spread answers to doubled steps can look like these.
    spread = seen.share > CONCENTRATED or seen.peak < PEAK_OUTSIDE
    if follows and near and not stretched and min(seen.slope) >= FLATTEST and not (outside and spread):
        sharp = max(seen.tolerance) <= SHARP
        return ("no evidence", "few cells") if few else ("confirmed", "") if sharp else ("no evidence", "diffuse")
    if outside:
        return "contradicted", "outside"
    if few:
        return "no evidence", "few cells"
    # Centers of spread answers are less certain than they look: between once and twice the limit, they say nothing.
    margin = 1 if concentrated else 2
    pairs = zip(seen.displacement, seen.tolerance, strict=True)
    if follows and any(abs(moved) > max(margin * most, DISPLACED) for moved, most in pairs):
        return "contradicted", "displaced"
    if follows and max(seen.slope) > margin * STEEPEST:
        return "contradicted", "stretched"
    if follows and not near and not stretched and min(seen.slope) >= FLATTEST:
        return "no evidence", "displaced"
    # Answers in the same few cells, whatever the spot, say nothing: units that are alive nowhere else, say.
    moved = seen.common <= COMMON and not thin
    return ("contradicted", "scattered") if concentrated and moved else ("no evidence", "diffuse")


def _centers(weights: Floats, field: ReceptiveField) -> Floats:
    """Return the weighted mean of the cells' stated centers, float64 (spots, 2), of weights (spots, h, w)."""
    rows, columns = (_stated(axis, cells) for axis, cells in zip(_axes(field), weights.shape[1:], strict=True))
    total = weights.sum(axis=(1, 2))
    return np.stack([weights.sum(axis=2) @ rows / total, weights.sum(axis=1) @ columns / total], axis=1)


def _correlation(centers: Floats, spots: Floats) -> float:
    varies = np.ptp(centers) > 0 and np.ptp(spots) > 0
    return float(np.corrcoef(centers, spots)[0, 1]) if varies else 0.0


def _slope(centers: Floats, spots: Floats, length: int) -> float:
    """Return the median of the slopes between all two spots that lie apart (Theil and Sen)."""
    one, other = np.triu_indices(len(spots), 1)
    apart = spots[one] - spots[other]
    far = np.abs(apart) > length / SIDE
    return float(np.median((centers[one] - centers[other])[far] / apart[far])) if far.any() else 0.0


def _outside(answers_at_all: npt.NDArray[np.bool_], field: ReceptiveField, size: Size) -> float:
    reach = []
    for axis, length, other in zip(_axes(field), size, (1, 0), strict=True):
        along: npt.NDArray[np.bool_] = np.asarray(answers_at_all.any(axis=other))
        centers = _stated(axis, len(along))[along]
        reach += [-centers.min() / axis.step, (centers.max() - (length - 1)) / axis.step]
    return float(max(reach))


def _stated(axis: ReceptiveFieldAxis, cells: int) -> Floats:
    return axis.center(0) + axis.step * np.arange(cells, dtype=np.float64)


def _axes(field: ReceptiveField) -> tuple[ReceptiveFieldAxis, ReceptiveFieldAxis]:
    return field.vertical, field.horizontal


def _pair(numbers: Iterable[float]) -> tuple[float, float]:
    vertical, horizontal = (round(float(number), 3) for number in numbers)
    return vertical, horizontal
