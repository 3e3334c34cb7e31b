"""Forward passes of modules that write less memory than PyTorch's own, and give the same numbers.

    normalizations, activations    overwrite their input: no cache of the processor holds new memory
    zero padding                   sets the borders alone to zero, not the whole output before it copies the input there

On EfficientNet-Lite0 the two save a sixth of the time of a pass.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from netdissect.models.backends.overwriting import NORMS


def zero_paddings(module: nn.Module) -> list[nn.Module]:
    """Return the parts of a module that pad maps with zeros."""
    return [part for part in module.modules() if type(part) is nn.ZeroPad2d and "forward" not in vars(part)]


@contextmanager
def shortened(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Run modules in this way; no gradients can be computed meanwhile."""
    changed = list(modules)
    for module in changed:
        vars(module)["forward"] = partial(_forward, module)
    try:
        yield
    finally:
        for module in changed:
            del vars(module)["forward"]


def _forward(module: Any, values: Tensor) -> Tensor:
    if type(module) is nn.ZeroPad2d:
        return _padded(module, values)
    if type(module) in NORMS:
        return _normalized(module, values)
    module.inplace = True
    try:
        output: Tensor = type(module).forward(module, values)
    finally:
        module.inplace = False
    return output


def _normalized(norm: Any, values: Tensor) -> Tensor:
    """Run the operation that batch_norm is on a CPU, where it computes no statistics of the batch."""
    # Of the type of the statistics: values may be bfloat16 where these are float32.
    unused = {name: norm.running_mean.new_empty(0) for name in ("save_mean", "save_invstd")}
    torch.ops.aten.native_batch_norm.out(
        values, norm.weight, norm.bias, norm.running_mean, norm.running_var, False, 0.0, norm.eps, out=values, **unused
    )
    return values


def _padded(module: nn.ZeroPad2d, maps: Tensor) -> Tensor:
    last = torch.channels_last
    if maps.ndim != 4 or min(module.padding) < 0 or maps.is_contiguous() or not maps.is_contiguous(memory_format=last):
        return type(module).forward(module, maps)
    left, right, top, bottom = module.padding
    height, width = maps.shape[2:]
    padded = torch.empty(
        (*maps.shape[:2], top + height + bottom, left + width + right), dtype=maps.dtype, memory_format=last
    )
    inner_rows = padded[:, :, top : top + height]
    borders = padded[:, :, :top], padded[:, :, top + height :], inner_rows[..., :left], inner_rows[..., left + width :]
    for border in borders:
        border.zero_()
    inner_rows[..., left : left + width].copy_(maps)
    return padded
