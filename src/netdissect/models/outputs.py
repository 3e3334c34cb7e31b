"""What a module returns, as one tensor."""

from collections.abc import Mapping

from torch import Tensor


def first_tensor(output: object) -> Tensor | None:
    """Return the output itself, or the first tensor of a tuple, list, mapping or nested such; None without any."""
    if isinstance(output, Tensor):
        return output
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return next((tensor for item in items if (tensor := first_tensor(item)) is not None), None)
