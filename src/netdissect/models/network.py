"""A network as the dissection sees it: a module, its name, and how its input is made from pixels."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from netdissect.concepts import Size
from netdissect.config import NetworkSource
from netdissect.errors import NetdissectError, NetworkError, ShapeError


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input: squashed to `size`, then normalized channel by channel.

    Attributes
    ----------
    size
        Height and width of the input in pixels.
    mean, std
        One number a channel, for pixels scaled to 0..1. A gray network has one channel.

    Raises
    ------
    NetworkError
        If a number is not finite, a deviation or a size is not above 0, or the channels disagree.
    """

    size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]

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

    @property
    def channels(self) -> int:
        """How many channels the input has."""
        return len(self.mean)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn pixels into the network's input.

        Parameters
        ----------
        images : uint8 (B, C, H, W)
            Pictures, already `size` large.

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
                f"{', '.join(map(str, expected))}). Resize the pictures to {self.size.height} x {self.size.width} "
                "pixels and keep them as bytes."
            )
        mean, deviation = (
            torch.tensor([255 * number for number in numbers], dtype=torch.float64).float().view(-1, 1, 1)
            for numbers in (self.mean, self.std)
        )
        return images.float().sub_(mean.to(images.device)).div_(deviation.to(images.device))

    def __call__(self, images: Tensor) -> Tensor:
        """Turn pixels into the network's input: see `normalize`."""
        return self.normalize(images)


@dataclass(eq=False)
class Network:
    """Any module with its preprocessing, ready to be looked into.

    The module is put in evaluation mode and its parameters are frozen.

    Attributes
    ----------
    name
        What reports and files call it.
    module
        Takes float32 (B, C, H, W).
    preprocessing
        How its input is made from pixels.
    bases
        Virtual layers: name -> (name of a layer, float32 (U', U)). Their units are the matrix times the
        layer's units, at each cell: a change of basis, as in the rotation experiment.
    source
        What it was loaded from by name; None: it was made in Python, and a run of it cannot load it again.

    Examples
    --------
    >>> module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    >>> network = Network("tiny", module, Preprocessing(Size(28, 28), mean=(0.5,), std=(0.25,)))
    >>> network.module.training
    False
    """

    name: str
    module: torch.nn.Module
    preprocessing: Preprocessing
    bases: Mapping[str, tuple[str, Tensor]] = field(default_factory=dict)
    source: NetworkSource | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.module, torch.nn.Module):
            raise NetworkError(
                f"Network {self.name!r} was given a {type(self.module).__name__} as its module. "
                "Expected a torch.nn.Module; wrap functions in one."
            )
        if not isinstance(self.preprocessing, Preprocessing):
            raise NetworkError(
                f"Network {self.name!r} was given a {type(self.preprocessing).__name__} as its preprocessing. "
                "Expected netdissect.models.Preprocessing(size, mean, std)."
            )
        self.module.eval().requires_grad_(False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over weights, bases and structure: names, classes and settings of all modules.

        Computed once: do not change the weights afterwards. The preprocessing is not part of it.
        """
        digest = hashlib.sha256()
        for name, module in self.module.named_modules():
            kind = f"{type(module).__module__}.{type(module).__qualname__}"
            # Some modules print functions among their settings, with an address that differs from run to run.
            settings = re.sub(r" at 0x[0-9a-f]+", "", module.extra_repr())
            digest.update(repr((name, kind, settings)).encode())
        bases = {f"{name} of {source}": matrix for name, (source, matrix) in self.bases.items()}
        for name, tensor in (self.module.state_dict() | bases).items():
            if isinstance(tensor, Tensor):
                digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the module's weights are; the CPU if it has none."""
        return next((tensor.device for tensor in self.module.state_dict().values()), torch.device("cpu"))

    def forward(self, images: Tensor) -> object:
        """Run the module on its input.

        Parameters
        ----------
        images : float32 (B, C, H, W)
            Normalized pictures.

        Raises
        ------
        NetworkError
            If the module's own code fails.
        """
        try:
            return self.module(images)
        except NetdissectError:
            raise
        except Exception as error:
            height, width = self.preprocessing.size
            raise NetworkError(
                f"Network {self.name!r} fails on an input of shape {tuple(images.shape)} with "
                f"{type(error).__name__}: {error}. Expected a module that takes (batch, {self.preprocessing.channels}, "
                f"{height}, {width}); give the size and channels that it was made for."
            ) from error
