"""Find the first tensor in the output of a module."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass

from torch import Tensor


def first_tensor(output: object) -> Tensor | None:
    """Return the output itself, or the first tensor of a tuple, list, mapping, data class or nested such; else None."""
    if isinstance(output, Tensor):
        return output
    return next((tensor for item in _items(output) if (tensor := first_tensor(item)) is not None), None)


def _items(output: object) -> Iterable[object]:
    if isinstance(output, Mapping):
        return output.values()
    if is_dataclass(output) and not isinstance(output, type):
        return [getattr(output, field.name) for field in fields(output)]
    return output if isinstance(output, (tuple, list)) else ()
