"""Numbers with their nouns, in the singular or plural, and sizes in bytes."""

ENDINGS = (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("xes", "x"), ("s", ""))


def counted(number: int, nouns: str) -> str:
    """Return a number with its noun.

    Parameters
    ----------
    number
        How many.
    nouns
        What, in the plural.

    Examples
    --------
    >>> counted(1, "units"), counted(2000, "units"), counted(1, "categories"), counted(1, "unique detectors")
    ('1 unit', '2,000 units', '1 category', '1 unique detector')
    """
    return f"{number:,} {noun(number, nouns)}"


def noun(number: float, nouns: str) -> str:
    """Return the singular of a plural if the number is 1 or -1.

    >>> noun(1, "classes"), noun(-1, "batches"), noun(0, "boxes"), noun(1, "boxes")
    ('class', 'batch', 'boxes', 'box')
    """
    if abs(number) != 1:
        return nouns
    plural, singular = next(pair for pair in ENDINGS if nouns.endswith(pair[0]) or not pair[1])
    return nouns.removesuffix(plural) + singular


def size_text(count: float) -> str:
    """Return a number of bytes in words.

    >>> size_text(700), size_text(48_375_000_000)
    ('700 B', '48.4 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
