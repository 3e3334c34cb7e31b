"""Read the transforms of torchvision, versions 1 and 2, that make a network's input from an image."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from netdissect.concepts import Size
from netdissect.errors import NetworkError

PACKAGES = ("torchvision.transforms.", "timm.data.transforms")
PRESETS = ("ImageClassification", "SemanticSegmentation")
NO_CHANGE = ("PILToTensor", "ToImage", "ToPureTensor", "Identity", "RGB")
"""Transforms that leave the values of an RGB image as they are."""

NO_BORDER = "label maps cover the whole image, which is stretched to the input without a border; leave it out"
REASONS = {
    "Grayscale": "a network with one input channel is given gray images; leave it out",
    "Lambda": "a function cannot be read; leave it out if it converts to RGB, as images are RGB already",
    "Pad": NO_BORDER,
    "CenterCropOrPad": NO_BORDER,
    "ObjectDetection": "it names no size, and detectors normalize in their own module",
}
READABLE = "Expected resize, center crop, conversion to a tensor or a type, and normalization"


@dataclass
class _Input:
    """What the transforms so far do: stretch to `size`, then ``(pixel / 255 - mean) / std``."""

    size: Size | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0,) * 3
    std: tuple[float, ...] = (1.0,) * 3
    floating: bool = False


def is_transform(source: object) -> bool:
    """Tell whether an object is a transform, a preset or a container of transforms, of torchvision or timm."""
    if isinstance(source, functools.partial):
        source = source.func
    if isinstance(source, (nn.Sequential, list, tuple)):
        return any(is_transform(part) for part in source)
    return _class_of(source).__module__.startswith(PACKAGES)


def read_transforms(transforms: object) -> dict[str, Any]:
    """Return transforms as arguments of `Preprocessing`.

    Parameters
    ----------
    transforms
        A ``Compose``, a list or ``torch.nn.Sequential`` of transforms, one transform, or the preset that
        ``weights.transforms()`` returns.

    Returns
    -------
    dict
        The size is that of the last resize or crop: the whole image is stretched to it.

    Raises
    ------
    NetworkError
        If one of them is neither resize, center crop, conversion to a tensor or a type, nor normalization; if no size
        is named; or if pixels are not converted to floating point.
    """
    if isinstance(transforms, (functools.partial, type)):
        name = _class_of(transforms.func if isinstance(transforms, functools.partial) else transforms).__name__
        raise NetworkError(
            f"The preprocessing is {name} as a class or function, which was not called. Expected the transforms "
            "themselves: weights.transforms()."
        )
    found = _Input()
    for step in _steps(transforms):
        _read_step(step, found)
    numbers = f"mean={_short(found.mean)}, std={_short(found.std)}, interpolation={found.interpolation!r}"
    if not found.floating:
        raise NetworkError(
            "The transforms do not convert pixels to floating-point numbers. Expected ToTensor, or ToImage and "
            "ToDtype(torch.float32, scale=True), before normalization; add them."
        )
    if found.size is None:
        raise NetworkError(
            "The transforms name no input size: there is neither a resize nor a center crop. Expected one; or give "
            f"the size: preprocessing=netdissect.Preprocessing(size=(224, 224), {numbers})."
        )
    return {"size": found.size, "mean": found.mean, "std": found.std, "interpolation": found.interpolation}


def _class_of(source: object) -> type:
    return source if isinstance(source, type) else type(source)


def _steps(transforms: Any) -> Iterator[object]:
    """Yield the single transforms of containers, in order."""
    if _is_of_library(transforms, ("Compose",)):
        transforms = transforms.transforms
    if isinstance(transforms, (nn.Sequential, list, tuple)):
        for part in transforms:
            yield from _steps(part)
    else:
        yield transforms


def _is_of_library(step: object, names: tuple[str, ...]) -> bool:
    return type(step).__module__.startswith(PACKAGES) and type(step).__name__ in names


def _read_step(step: Any, found: _Input) -> None:
    if _is_of_library(step, NO_CHANGE):
        return
    name = type(step).__name__
    if _is_of_library(step, PRESETS):
        _read_preset(step, found)
    elif _is_of_library(step, tuple(READERS)):
        READERS[name](step, found)
    else:
        raise NetworkError(_refusal(step))


def _read_preset(preset: Any, found: _Input) -> None:
    size = getattr(preset, "crop_size", None) or preset.resize_size
    if size and size[0]:
        found.size = Size(size[0], size[-1])
    found.interpolation = _filter(preset)
    found.mean, found.std, found.floating = tuple(preset.mean), tuple(preset.std), True


def _resize(step: Any, found: _Input) -> None:
    if step.max_size is not None or step.size is None:
        raise NetworkError(
            f"The transform Resize limits the longer edge to {step.max_size} pixels, so the input has no fixed size. "
            "Expected Resize(size); give the size of the network's input."
        )
    found.size, found.interpolation = _square(step.size), _filter(step)


def _center_crop(step: Any, found: _Input) -> None:
    found.size = _square(step.size)


def _to_tensor(_: object, found: _Input) -> None:
    found.floating = True


def _to_type(step: Any, found: _Input) -> None:
    dtype = step.dtype
    if not isinstance(dtype, torch.dtype) or not (dtype.is_floating_point or dtype == torch.uint8):
        raise NetworkError(
            f"The transform {type(step).__name__} converts images to {dtype}. Expected torch.float32 or torch.uint8."
        )
    if dtype.is_floating_point and not found.floating:
        if not getattr(step, "scale", True):
            found.std = (1 / 255,) * 3  # values from 0 to 255 are given to the network or normalized
        found.floating = True
    elif found.floating and not dtype.is_floating_point:
        raise NetworkError(
            "The transforms convert floating-point pixels back to torch.uint8, which rounds. Leave it out."
        )


def _normalize(step: Any, found: _Input) -> None:
    if not found.floating:
        raise NetworkError(
            "The transforms normalize pixels before they are converted to floating-point numbers. Expected ToTensor, "
            "or ToDtype(torch.float32, scale=True), before Normalize."
        )
    mean, std = ([float(number) for number in numbers] for numbers in (step.mean, step.std))
    # Normalization of a normalized image: ((x - a) / b - c) / d = (x - (a + b c)) / (b d).
    found.mean = tuple(a + b * c for a, b, c in zip(found.mean, found.std, mean, strict=False))
    found.std = tuple(b * d for b, d in zip(found.std, std, strict=False))


READERS: dict[str, Callable[[Any, _Input], None]] = {
    "Resize": _resize,
    "CenterCrop": _center_crop,
    "ToTensor": _to_tensor,
    "MaybeToTensor": _to_tensor,
    "ConvertImageDtype": _to_type,
    "ToDtype": _to_type,
    "Normalize": _normalize,
}


def _refusal(step: object) -> str:
    name = getattr(step, "__name__", type(step).__name__)
    reason = REASONS.get(type(step).__name__)
    if reason is None and type(step).__name__.startswith(("Rand", "Auto", "TrivialAugment", "AugMix")):
        reason = "it changes images at random, as in training; give the transforms of evaluation"
    if reason is None and callable(step) and not type(step).__module__.startswith(PACKAGES):
        reason = REASONS["Lambda"]
    return (
        f"The transform {name} cannot be used: {reason or 'it is none of those that can be read'}. {READABLE}, "
        "because label maps cover the whole image; or make a netdissect.Preprocessing(size, mean, std)."
    )


def _square(size: Any) -> Size:
    edges = [size] if isinstance(size, int) else list(size)
    return Size(int(edges[0]), int(edges[-1]))


def _filter(step: Any) -> str:
    """Return Pillow's name of an interpolation; ``nearest-exact`` is what Pillow calls nearest."""
    mode = step.interpolation
    return str(getattr(mode, "value", mode)).removesuffix("-exact")


def _short(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(number, 6) for number in numbers)
