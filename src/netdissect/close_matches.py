"""What was probably meant by a name that is not known."""

from collections.abc import Iterable
from difflib import get_close_matches

SHORTEST = 3
"""Letters from which on a name counts as the beginning of another."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return a sentence with the names that are most similar, or begin like it, after a space; empty if none is.

    >>> did_you_mean("objct", ["object", "part"]), did_you_mean("texture", ["object", "part"])
    (' Did you mean object?', '')
    >>> did_you_mean("onnx", ["eager", "onnxruntime"])
    ' Did you mean onnxruntime?'
    """
    text, listed = str(name), list(known)
    found = get_close_matches(text, listed, 3, 0.6)
    if not found and len(text) >= SHORTEST:
        found = [one for one in listed if one.startswith(text)][:3]
    return f" Did you mean {' or '.join(found)}?" if found else ""
