"""Numbers as text: rounded, but never so far that the text shows another decision than the number.

iou_text(0.03996, 0.04)   0.03996, not 0.040: the unit is not a detector
p_text(0.04999)           0.04999, not 0.05: p is below 0.05
change_text(-0.00001)     -0.001, not -0.00: the area becomes smaller
"""

from collections.abc import Callable

from netdissect.config import Rule
from netdissect.scoring.detectors import passes
from netdissect.scoring.statistics.multiple_testing import SIGNIFICANT

MOST_DIGITS = 17
ROUNDING_DIGITS = 12  # of a mean of shares: the smallest change of one pixel in a million images is larger


def iou_text(iou: float, min_iou: float | None = None, rule: Rule = "top-label", *, digits: int = 3) -> str:
    """Format an IoU, with more digits where rounding would move it to the other side of the limit.

    Parameters
    ----------
    iou
        The IoU, or an attainable IoU.
    min_iou
        The limit of a detector; None: no decision depends on it.
    rule
        Rule by which detectors are counted.
    digits
        Decimals that suffice elsewhere.

    Examples
    --------
    >>> iou_text(0.0412, 0.04), iou_text(0.04, 0.04), iou_text(0.0396, 0.04), iou_text(0.03996, 0.04)
    ('0.041', '0.040', '0.0396', '0.03996')
    >>> iou_text(0.04001, 0.04), iou_text(0.04001, 0.04, "per-category"), iou_text(0.0396)
    ('0.040', '0.04001', '0.040')
    """
    return decisive_text(iou, f"{digits}f", lambda value: min_iou is not None and bool(passes(value, rule, min_iou)))


def p_text(value: float) -> str:
    """Format a p- or q-value.

    >>> p_text(0.0012), p_text(0.0496), p_text(0.04996), p_text(0.05), p_text(0.3)
    ('0.0012', '0.0496', '0.04996', '0.05', '0.3')
    """
    return decisive_text(value, "2g", lambda shown: shown < SIGNIFICANT)


def change_text(share: float) -> str:
    """Format a change of a share in percentage points, with more digits where rounding would make it 0.

    A mean of shares of which the sum is 0 is a rounding error, some 1e-17.

    >>> change_text(0.0123), change_text(-0.00001), change_text(0.0), change_text(-5e-17)
    ('+1.23', '-0.001', '0.00', '0.00')
    """
    points = 100 * round(share, ROUNDING_DIGITS) + 0.0
    text = decisive_text(points, "2f", lambda shown: (shown > 0) - (shown < 0))
    return f"+{text}" if points > 0 else text


def decisive_text(value: float, form: str, holds: Callable[[float], object]) -> str:
    """Format a number with as many digits as the decision needs.

    Parameters
    ----------
    value
        The number.
    form
        Digits that suffice elsewhere, and the presentation type: ``3f`` or ``2g``.
    holds
        The decision on a number.
    """
    decided = holds(value)
    texts = (f"{value:.{digits}{form[-1]}}" for digits in range(int(form[:-1]), MOST_DIGITS))
    return next((text for text in texts if holds(float(text)) == decided), f"{value!r}")
