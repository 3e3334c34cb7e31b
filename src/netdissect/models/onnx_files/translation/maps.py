"""Convolutions, poolings, resizing and padding."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from netdissect.models.onnx_files.translation.node_inputs import Attributes, Operation, ints


def _ends(pads: Sequence[int]) -> list[int]:
    """Bring paddings to the order of PyTorch: the last dimension first, its begin and its end."""
    half = len(pads) // 2
    return [pads[dim + end] for dim in reversed(range(half)) for end in (0, half)]


def _windows(attributes: Attributes, image: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Return strides, dilations and paddings of the windows of an operation."""
    rank = len(kernel)
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    auto = attributes.get("auto_pad", "NOTSET")
    if not auto.startswith("SAME"):
        return strides, dilations, [0] * 2 * rank if auto == "VALID" else attributes.get("pads", [0] * 2 * rank)
    begins, ends = [], []
    for length, size, stride, dilation in zip(image.shape[2:], kernel, strides, dilations, strict=True):
        missing = max((math.ceil(length / stride) - 1) * stride + dilation * (size - 1) + 1 - length, 0)
        smaller, larger = missing // 2, missing - missing // 2
        begins.append(smaller if auto == "SAME_UPPER" else larger)
        ends.append(larger if auto == "SAME_UPPER" else smaller)
    return strides, dilations, begins + ends


def _padded(image: Tensor, pads: Sequence[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """Pad where begin and end differ; return the padding that is left to the operation itself."""
    half = len(pads) // 2
    if list(pads[:half]) == list(pads[half:]):
        return image, list(pads[:half])
    return functional.pad(image, _ends(pads), value=value), [0] * half


def _conv(attributes: Attributes, image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    strides, dilations, pads = _windows(attributes, image, weight.shape[2:])
    image, padding = _padded(image, pads)
    of_rank = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[weight.ndim - 2]
    return of_rank(image, weight, bias, strides, padding, dilations, attributes.get("group", 1))


def _conv_transpose(attributes: Attributes, image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    rank = weight.ndim - 2
    pads = attributes.get("pads", [0] * 2 * rank)
    if pads[:rank] != pads[rank:] or "output_shape" in attributes or attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    strides, dilations = (attributes.get(name, [1] * rank) for name in ("strides", "dilations"))
    of_rank: Any = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}[
        rank
    ]
    more = attributes.get("output_padding", [0] * rank)
    found: Tensor = of_rank(image, weight, bias, strides, pads[:rank], more, attributes.get("group", 1), dilations)
    return found


def _max_pool(attributes: Attributes, image: Tensor) -> Tensor:
    kernel = attributes["kernel_shape"]
    strides, dilations, pads = _windows(attributes, image, kernel)
    if any(2 * pad > size for pad, size in zip(pads, [*kernel, *kernel], strict=True)):
        image, padding = functional.pad(image, _ends(pads), value=-math.inf), [0] * len(kernel)
    else:
        image, padding = _padded(image, pads, -math.inf)
    of_rank = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}[len(kernel)]
    return of_rank(image, kernel, strides, padding, dilations, bool(attributes.get("ceil_mode", 0)))


def _average_pool(attributes: Attributes, image: Tensor) -> Tensor:
    kernel = attributes["kernel_shape"]
    strides, _, pads = _windows(attributes, image, kernel)
    image, padding = _padded(image, pads)
    of_rank: Any = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}[len(kernel)]
    counts = bool(attributes.get("count_include_pad", 0))
    found: Tensor = of_rank(image, kernel, strides, padding, bool(attributes.get("ceil_mode", 0)), counts)
    return found


def _global_pool(reduce: Callable[..., Tensor]) -> Operation:
    return lambda _attributes, image: reduce(image, dim=tuple(range(2, image.ndim)), keepdim=True)


def _pad(attributes: Attributes, values: Tensor, *inputs: Tensor | None) -> Tensor | None:
    pads, value, axes = (*inputs, None, None, None)[:3]
    ends = attributes["pads"] if pads is None else ints(pads) or []
    if axes is not None:
        dims, every = ints(axes) or [], [0] * 2 * values.ndim
        for index, dim in enumerate(dims):
            every[dim], every[values.ndim + dim % values.ndim] = ends[index], ends[len(dims) + index]
        ends = every
    mode = attributes.get("mode", "constant")
    if mode == "constant":
        return functional.pad(
            values, _ends(ends), value=attributes.get("value", 0.0) if value is None else value.item()
        )
    rank = values.ndim
    if any(ends[:2]) or any(ends[rank : rank + 2]):
        return None
    names = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    return functional.pad(values, _ends([*ends[2:rank], *ends[rank + 2 :]]), mode=names[mode])


def _depth_to_space(attributes: Attributes, image: Tensor) -> Tensor:
    size = attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(image, size)
    batch, channels, height, width = image.shape
    parts = image.reshape(batch, size, size, channels // size**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // size**2, height * size, width * size)


def _space_to_depth(attributes: Attributes, image: Tensor) -> Tensor:
    size = attributes["blocksize"]
    batch, channels, height, width = image.shape
    parts = image.reshape(batch, channels, height // size, size, width // size, size)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * size**2, height // size, width // size)


def _resize(attributes: Attributes, image: Tensor, *inputs: Tensor | None) -> Tensor | None:
    # Since opset 11: region of interest, scales, sizes; before: scales.
    scales, sizes = (inputs[0], None) if len(inputs) == 1 else (*inputs[1:], None)[:2]
    mode, where = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    wanted = ints(sizes)
    if wanted is None:
        factors = attributes["scales"] if scales is None else scales.tolist()
        wanted = [math.floor(length * factor) for length, factor in zip(image.shape, factors, strict=True)]
    if len(wanted) != image.ndim or wanted[:2] != list(image.shape[:2]) or image.ndim != 4:
        return None
    if mode == "nearest":
        return functional.interpolate(image, wanted[2:], mode="nearest")
    name = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    antialias = bool(attributes.get("antialias", 0))
    return functional.interpolate(
        image, wanted[2:], mode=name, align_corners=where == "align_corners", antialias=antialias
    )


OPERATIONS: dict[str, Operation] = {
    "AveragePool": _average_pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "GlobalAveragePool": _global_pool(torch.mean),
    "GlobalMaxPool": _global_pool(torch.amax),
    "MaxPool": _max_pool,
    "Pad": _pad,
    "Resize": _resize,
    "SpaceToDepth": _space_to_depth,
    "Upsample": _resize,
}
