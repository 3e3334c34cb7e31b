"""Parse numbers in cells of tables: return the number, or None for any other text."""

import math

LARGEST = 2**31 - 1
"""Larger whole numbers are read as this one, which is beyond any label id and image size."""


def whole_number(text: str) -> int | None:
    """Return the whole number in a cell, at most `LARGEST`; None for any other text.

    Notes
    -----
    ``int`` alone is not enough: ``str.strip`` removes characters that ``int`` does not (U+001C to U+001F), and ``int``
    refuses more than 4,300 digits.

    >>> whole_number(" 12 "), whole_number("-1"), whole_number("9" * 5000) == LARGEST
    (12, None, True)
    """
    digits = text.strip()
    if not digits.isdecimal():
        return None
    try:
        return min(int(digits.lstrip("0") or "0"), LARGEST)
    except ValueError:  # more digits than Python converts
        return LARGEST


def real_number(text: str) -> float | None:
    """Return the finite number in a cell; None for any other text.

    >>> real_number("0.5"), real_number("nan"), real_number("1e999"), real_number("x")
    (0.5, None, None, None)
    """
    try:
        number = float(text.strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None
