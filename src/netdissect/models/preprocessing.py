"""How an image becomes a network's input."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

import torch
from torch import Tensor

from netdissect.concepts import Size
from netdissect.config import Interpolation
from netdissect.errors import NetworkError, ShapeError

LARGEST_MEAN, LARGEST_STD = 1.0, 2.0
"""Larger numbers are on the scale 0..255: means of pixels from 0 to 1 are at most 1, and deviations smaller."""

CONFIG_FILES = ("preprocessor_config.json", "processor_config.json", "config.json")
"""Files in which transformers and timm save a preprocessing configuration, in the folder of the weights."""

RESAMPLE: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Filters by their numbers in Pillow, which transformers uses."""


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the network's input: stretched to `size`, then normalized channel by channel.

    Attributes
    ----------
    size
        Height and width of the input in pixels.
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
        object.__setattr__(self, "size", Size(*self.size))
        object.__setattr__(self, "mean", tuple(float(number) for number in self.mean))
        object.__setattr__(self, "std", tuple(float(number) for number in self.std))
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

    @classmethod
    def from_config(cls, config: object) -> Self:
        """Read a preprocessing configuration of timm or transformers.

        Parameters
        ----------
        config
            timm: a model's ``pretrained_cfg``, what ``timm.data.resolve_model_data_config`` returns, or the
            ``config.json`` of weights from the hub. transformers: an image processor or its
            ``preprocessor_config.json``. A mapping, an object with ``to_dict()``, a JSON file, or the folder of one.

        Returns
        -------
        Preprocessing
            Without cropping: the whole image is stretched to the size that would be cropped.

        Raises
        ------
        NetworkError
            If it cannot be read, or needs what a `Preprocessing` cannot do, such as blue before red.

        Examples
        --------
        >>> config = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 384, "width": 384}}
        >>> Preprocessing.from_config(config | {"resample": 3, "rescale_factor": 1 / 255}).interpolation
        'bicubic'
        """
        return cls(**read_config(config))

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
        mean, deviation = (
            torch.tensor([255 * number for number in numbers], dtype=torch.float64).float().view(-1, 1, 1)
            for numbers in (self.mean, self.std)
        )
        return images.float().sub_(mean.to(images.device)).div_(deviation.to(images.device))

    def __call__(self, images: Tensor) -> Tensor:
        """Normalize pixels: see `normalize`."""
        return self.normalize(images)


def find_config(weights: Path) -> Path | None:
    """Return the preprocessing configuration file in the folder of a checkpoint; None: there is none."""
    for name in CONFIG_FILES:
        path = weights.parent / name
        if path.is_file() and _mapping_of(_content(path)) is not None:
            return path
    return None


def read_config(config: object) -> dict[str, Any]:
    """Return a configuration as arguments of `Preprocessing`; see `Preprocessing.from_config`."""
    if isinstance(config, (str, Path)):
        path = Path(config)
        if path.is_dir():
            config = find_config(path / "weights")
            if config is None:
                raise NetworkError(
                    f"The folder {path} holds no preprocessing configuration. Expected one of "
                    f"{', '.join(CONFIG_FILES)}, as timm and transformers write them."
                )
            path = config
        content, origin = _content(path), str(path)
    else:
        to_dict = getattr(config, "to_dict", None)
        content, origin = to_dict() if callable(to_dict) else config, f"a {type(config).__name__}"
    found = _mapping_of(content)
    if found is None:
        raise NetworkError(
            f"{origin} is no preprocessing configuration. Expected timm's (input_size, mean, std, interpolation) or "
            "that of an image processor of transformers (size or crop_size, image_mean, image_std, resample)."
        )
    try:
        return _of_timm(found) if "input_size" in found else _of_transformers(found)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise NetworkError(
            f"The preprocessing configuration of {origin} cannot be understood ({type(error).__name__}: {error}). "
            "Expected it as timm or transformers writes it; make a Preprocessing(size, mean, std, interpolation)."
        ) from error


def _content(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise NetworkError(
            f"The preprocessing configuration {path} cannot be read ({error}). Expected a JSON file of timm or "
            "transformers; restore it, or remove it and give mean, deviation and size."
        ) from error


def _mapping_of(content: object) -> Mapping[str, Any] | None:
    """Return the preprocessing part of a configuration; None: it has none."""
    if not isinstance(content, Mapping):
        return None
    for part in ("pretrained_cfg", "image_processor"):
        if isinstance(content.get(part), Mapping):
            return _mapping_of(content[part])
    timm = {"input_size", "mean", "std"} <= content.keys()
    return content if timm or {"image_mean", "image_std"} <= content.keys() else None


def _of_timm(config: Mapping[str, Any]) -> dict[str, Any]:
    _, height, width = config["input_size"]
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return {
        "size": Size(int(height), int(width)), "mean": mean, "std": std,
        "interpolation": config.get("interpolation") or "bilinear",
    }  # fmt: skip


def _of_transformers(config: Mapping[str, Any]) -> dict[str, Any]:
    if config.get("do_flip_channel_order"):
        raise ValueError("it puts blue before red, which only the network's own module can do")
    # The processors give (rescale * pixel - offset - mean) / std, of pixels from 0 to 255.
    rescale = float(config.get("rescale_factor") or 1 / 255) if config.get("do_rescale", True) else 1.0
    offset = 1.0 if config.get("rescale_offset") or config.get("offset") else 0.0
    mean, std = _numbers(config["image_mean"]), _numbers(config["image_std"])
    if not config.get("do_normalize", True):
        mean, std = [0.0] * len(mean), [1.0] * len(std)
    cropped = config.get("crop_size") is not None and config.get("do_center_crop", True)
    resample = config.get("resample")
    return {
        "size": _size(config["crop_size" if cropped else "size"]),
        "mean": tuple((number + offset) / (255 * rescale) for number in mean),
        "std": tuple(number / (255 * rescale) for number in std),
        "interpolation": "bilinear" if resample is None else RESAMPLE[int(resample)],
    }


def _numbers(value: float | Sequence[float]) -> list[float]:
    return [float(number) for number in value] if isinstance(value, Sequence) else [float(value)] * 3


def _size(size: Any) -> Size:
    if not isinstance(size, Mapping):
        height, width = (size, size) if isinstance(size, int) else size
    elif "height" in size:
        height, width = size["height"], size["width"]
    else:
        height = width = size["shortest_edge"] if "shortest_edge" in size else size["longest_edge"]
    return Size(int(height), int(width))
