"""Numbers in the cells of tables, whoever wrote them: a number, or None, and never an error of Python's own."""

import math

LARGEST = 2**31 - 1
"""Larger whole numbers are read as this one, which no table and no image reaches."""


def whole_number(text: str) -> int | None:
    """Return the whole number that a cell holds, at most `LARGEST`; None: it holds something else.

    Notes
    -----
    ``str.strip`` takes away marks that ``int`` does not (U+001C to U+001F), and ``int`` refuses more than 4,300
    digits: `str.isdecimal` does not say that ``int`` takes a text.

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
    """Return the finite number that a cell holds; None: it holds something else.

    >>> real_number("0.5"), real_number("nan"), real_number("1e999"), real_number("x")
    (0.5, None, None, None)
    """
    try:
        number = float(text.strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None
