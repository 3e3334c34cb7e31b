"""Words and types that need no pydantic: what computes imports these alone."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar, get_args

Anchor = Literal["receptive-field", "receptive-field-integer", "half-pixel", "half-pixel-pillow"]
Threshold = Literal["exact", "interpolated", "hazen"]
Restriction = Literal["annotated", "overlap", "none"]
Duplicates = Literal["once", "each"]
ProtocolName = Literal["paper", "original", "lite", "pnas2020"]
Rule = Literal["top-label", "per-category"]
MaskMode = Literal["dim", "outline", "both"]
Palette = Literal["safe", "paper"]
Split = Literal["train", "val"]
Resize = Literal["stretch", "crop", "pad"]
NullModel = Literal["images", "locations"]
Precision = Literal["float32", "bfloat16"]
BackendName = Literal["eager", "compile", "onnxruntime", "openvino"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]

BASIS_OF = "basis of "
"""Begins the type of a virtual layer, before the name of the layer from whose units its own are computed."""
PROTOCOL_NAMES: tuple[ProtocolName, ...] = get_args(ProtocolName)
RULES: tuple[Rule, ...] = get_args(Rule)

Progress = Callable[[str, int, int | None], None]
"""Called as ``progress(stage, done, total)``; `total` is None where the number is not known."""

T = TypeVar("T")


def one_or_more(values: Iterable[T]) -> tuple[T, ...]:
    """Return values as a tuple, a single one included: a string is one name, and never its letters.

    >>> one_or_more("layer4"), one_or_more(["layer3", "layer4"])
    (('layer4',), ('layer3', 'layer4'))
    """
    given: Any = values  # types cannot tell a string from a list of strings, nor keep a path from coming alone
    several = isinstance(given, Iterable) and not isinstance(given, str)
    found: tuple[T, ...] = tuple(given) if several else (given,)
    return found
