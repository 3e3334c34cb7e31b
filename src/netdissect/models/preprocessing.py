"""How an image becomes a network's input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

import torch
from torch import Tensor

from netdissect.concepts import Size
from netdissect.config import Interpolation
from netdissect.errors import NetworkError, ShapeError
from netdissect.models.preprocessing_configs import read_config
from netdissect.models.torchvision_transforms import is_transform, read_transforms

LARGEST_MEAN, LARGEST_STD = 1.0, 2.0
"""Larger numbers are on the scale 0..255: means of pixels from 0 to 1 are at most 1, and deviations smaller."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input: stretched to `size`, then normalized channel by channel.

    Attributes
    ----------
    size
        Height and width of the input in pixels; one number: a square.
    mean, std
        One number for each channel, for pixels scaled to 0..1. Gray input has one channel, input with transparency has
        four (red, green, blue, alpha).
    interpolation
        Filter with which an image of another size is stretched, as Pillow names and implements it.

    Raises
    ------
    NetworkError
        If a number is not finite, a standard deviation or a size is not above 0, `mean` and `std` differ in length,
        there is no such filter, or the numbers are on the scale 0..255.
    """

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _input_size(self.size))
        for name in ("mean", "std"):
            object.__setattr__(self, name, one_a_channel(name, getattr(self, name)))
        if min(self.size) <= 0:
            raise NetworkError(
                f"The network's input is {self.size.height} x {self.size.width} pixels (height x width). "
                "Expected both above 0; correct the size of the preprocessing."
            )
        if not self.mean or len(self.mean) != len(self.std):
            raise NetworkError(
                f"The preprocessing has {len(self.mean)} means and {len(self.std)} standard deviations. "
                "Expected as many of each as the network's input has channels (3 for RGB, 1 for gray)."
            )
        if not all(math.isfinite(number) for number in self.mean + self.std) or min(self.std) <= 0:
            raise NetworkError(
                f"The preprocessing has mean {self.mean} and standard deviation {self.std}. Expected finite numbers "
                "on the scale of pixels from 0 to 1, and deviations above 0."
            )
        if max(self.mean) > LARGEST_MEAN or max(self.std) > LARGEST_STD:
            small = [tuple(round(number / 255, 6) for number in numbers) for numbers in (self.mean, self.std)]
            raise NetworkError(
                f"The preprocessing has mean {self.mean} and standard deviation {self.std}, as for pixels from 0 to "
                f"255. Expected numbers for pixels scaled to 0..1: divided by 255, mean {small[0]} and deviation "
                f"{small[1]}."
            )
        if self.interpolation not in get_args(Interpolation):
            raise NetworkError(
                f"The preprocessing names the interpolation {self.interpolation!r}. Expected one of "
                f"{', '.join(get_args(Interpolation))}."
            )

    @staticmethod
    def read(source: object) -> "Preprocessing":
        """Read the preprocessing that another library wrote down.

        Parameters
        ----------
        source
            torchvision: the preset that ``weights.transforms()`` returns, a ``Compose`` (versions 1 and 2) or a list of
            transforms; they may resize, crop the center, convert to a tensor or a type, and normalize.
            timm: a model's ``pretrained_cfg``, what ``timm.data.resolve_model_data_config`` returns, the ``Compose`` of
            ``timm.data.create_transform``, or the ``config.json`` of weights from the hub.
            transformers: an image processor or its ``preprocessor_config.json``.
            Configurations: a mapping, an object with ``to_dict()``, a JSON file, or the folder of one.
            A `Preprocessing` is returned as it is.

        Returns
        -------
        Preprocessing
            Without cropping: the whole image is stretched to the size that would be cropped, because label maps cover
            the whole image.

        Raises
        ------
        NetworkError
            If it cannot be read, or needs what a `Preprocessing` cannot do, such as random changes or blue before red.

        Examples
        --------
        >>> from torchvision.models import ResNet18_Weights
        >>> Preprocessing.read(ResNet18_Weights.DEFAULT.transforms()).size
        Size(height=224, width=224)
        >>> config = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 384, "width": 384}}
        >>> Preprocessing.read(config | {"resample": 3, "rescale_factor": 1 / 255}).interpolation
        'bicubic'
        """
        if isinstance(source, Preprocessing):
            return source
        return Preprocessing(**(read_transforms(source) if is_transform(source) else read_config(source)))

    @property
    def channels(self) -> int:
        """Number of channels of the input."""
        return len(self.mean)

    def normalize(self, images: Tensor) -> Tensor:
        """Normalize pixels.

        Parameters
        ----------
        images : uint8 (B, C, H, W)
            Images of the input's size.

        Returns
        -------
        float32 (B, C, H, W)
            ``(pixel - 255 * mean) / (255 * std)``.

        Raises
        ------
        ShapeError
            If the images are not uint8, or not of the input's channels and size.

        Notes
        -----
        The constants are rounded once, from float64: a mean of 127/255 and a deviation of 128/255
        give (pixel - 127) / 128 to the last bit.
        """
        expected = (self.channels, *self.size)
        if images.dtype != torch.uint8 or images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ShapeError(
                f"The images are {images.dtype} {tuple(images.shape)}; the network takes torch.uint8 (batch, "
                f"{', '.join(map(str, expected))}). Resize the images to {self.size.height} x {self.size.width} "
                "pixels and keep them as bytes."
            )
        mean, deviation = (_scaled(numbers, images.device) for numbers in (self.mean, self.std))
        pixels = images.permute(0, 2, 3, 1)
        if self.channels == 1 or not pixels.is_contiguous():
            return images.float().sub_(mean.view(-1, 1, 1)).div_(deviation.view(-1, 1, 1))
        # Row by row: a loop over three channels inside one over pixels takes six times as long.
        width = self.size.width
        rows = pixels.flatten(2).float().sub_(mean.repeat(width)).div_(deviation.repeat(width))
        return rows.view(pixels.shape).permute(0, 3, 1, 2)

    def noise(self, count: int) -> Tensor:
        """Return images of noise as `normalize` takes them, uint8 (count, C, H, W), the same ones each time."""
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (count, self.channels, *self.size), dtype=torch.uint8, generator=generator)

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize pixels: see `normalize`."""
        return self.normalize(images)


@lru_cache(maxsize=64)
def _scaled(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    """Return 255 times some numbers, float32, rounded once; copied to a device once, since it waits for each copy."""
    return torch.tensor([255 * number for number in numbers], dtype=torch.float64).float().to(device)


def _input_size(value: Any) -> Size:
    """Return height and width in pixels; one number is the side of a square."""
    sides = (value, value) if isinstance(value, int) else value
    if not (isinstance(sides, Sequence) and len(sides) == 2 and all(type(side) is int for side in sides)):
        raise NetworkError(
            f"The size of the preprocessing is {value!r}. Expected height and width in whole pixels, such as "
            "(224, 224), or one number for a square."
        )
    return Size(*sides)


def one_a_channel(name: str, value: Any) -> tuple[float, ...]:
    """Return the means or standard deviations of channels as a tuple.

    Raises
    ------
    NetworkError
        If it is no sequence of numbers.
    """
    try:
        return tuple(float(number) for number in value)
    except (TypeError, ValueError):
        raise NetworkError(
            f"The {name} of the preprocessing is {value!r}. Expected a number for each channel of the input, for "
            "pixels scaled to 0..1, such as (0.5, 0.5, 0.5)."
        ) from None
