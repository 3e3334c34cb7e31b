"""What was probably meant by a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a sentence with the names that are most similar, after a space; empty if none is.

    >>> did_you_mean("objct", ["object", "part"]), did_you_mean("texture", ["object", "part"])
    (' Did you mean object?', '')
    """
    found = get_close_matches(str(name), list(known), 3, 0.6)
    return f" Did you mean {' or '.join(found)}?" if found else ""
