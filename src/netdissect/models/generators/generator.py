"""A generator: a network that draws an image from latents."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netdissect.concepts import Size
from netdissect.config import Assumed
from netdissect.errors import ConfigError, NetworkError
from netdissect.models.generators.latents import LatentInput, Sampler
from netdissect.models.network import Network
from netdissect.models.outputs import first_tensor

CHECKED_SAMPLES = 4
MARGIN, MOST_OUTSIDE = 0.05, 0.1
"""A value is outside the range of an output if it exceeds it by this share, and so many values may be outside."""


@dataclass(eq=False)
class Generator(Network):
    """A network whose input is a latent and whose output is an image; see `as_generator`.

    Its `preprocessing` is a `LatentInput`. Whatever takes images of a network takes samples of a generator: int64
    (B, 2), seed and index.
    """

    @property
    def latent_input(self) -> LatentInput:
        """How latents are drawn, and how its output becomes an image."""
        assert isinstance(self.preprocessing, LatentInput)  # noqa: S101 - `__post_init__` refuses others
        return self.preprocessing

    @property
    def draws(self) -> bool:
        """True."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.preprocessing, LatentInput):
            raise NetworkError(
                f"The generator {self.name!r} has a preprocessing of images. Expected netdissect.as_generator(module, "
                "sampler)."
            )

    def arguments(self, images: Tensor) -> tuple[Tensor, ...]:
        """Draw the latents of samples, int64 (B, 2), on the module's device and in its floating-point type."""
        return self._on_device(self.latent_input.latents(images), self.dtype)

    @torch.no_grad()
    def images(self, samples: Tensor) -> Tensor:
        """Draw the images of samples, int64 (B, 2): uint8 (B, H, W, C).

        Raises
        ------
        NetworkError
            If the output is no image.
        """
        return self.pixels(self.forward(samples))

    def pixels(self, output: object) -> Tensor:
        """Return the images of the module's output, uint8 (B, H, W, C).

        Raises
        ------
        NetworkError
            If it is no image of the generator's size.
        """
        return self.latent_input.pixels(self._image(output))

    def levels(self, output: object) -> Tensor:
        """Return the images of the module's output before they are rounded, float32 (B, C, H, W) from 0 to 255.

        Raises
        ------
        NetworkError
            If it is no image of the generator's size.
        """
        return self.latent_input.levels(self._image(output))

    def _image(self, output: object) -> Tensor:
        image = _image_of(self.name, output)
        size = (self.latent_input.channels, *self.latent_input.size)
        if tuple(image.shape[1:]) != size:
            raise NetworkError(
                f"Generator {self.name!r} drew an image of {tuple(image.shape[1:])} (channels, height, width), but "
                f"{size} before. Expected images of one size."
            )
        return image

    def assumed(self, given: Assumed) -> Assumed:
        """Return what is assumed of its layers: (B, U, h, w), and cells that are placed evenly over the output.

        Raises
        ------
        ConfigError
            If a receptive field is given.
        """
        if given.receptive_field not in (None, "half-pixel"):
            raise ConfigError(
                f"a receptive field {given.receptive_field} was given for the generator {self.name!r}, whose layers "
                "have none: their cells are placed evenly over the output (half-pixel). Leave it out."
            )
        return Assumed(layout=given.layout or "NCHW", receptive_field="half-pixel")

    def _noise_arguments(self, dtype: torch.dtype, memory_format: torch.memory_format) -> tuple[Tensor, ...]:  # noqa: ARG002
        return self._on_device(self.latent_input.latents(self.latent_input.noise(2)), dtype)

    def _on_device(self, latents: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
        return tuple(
            latent.to(self.device, dtype if latent.is_floating_point() else latent.dtype) for latent in latents
        )

    def _failure(self, arguments: Sequence[Tensor]) -> tuple[str, str]:
        shapes = ", ".join(str(tuple(argument.shape)) for argument in arguments)
        return (
            f"latents of shape {shapes}",
            "a sampler that returns the latents of one sample, without batch dimension, in the order of the module's "
            "arguments",
        )


def as_generator(
    module: nn.Module, sampler: Sampler, *, output_range: tuple[float, float] = (-1.0, 1.0), name: str | None = None
) -> Generator:
    """Make a generator of a module and its latent sampler.

    Parameters
    ----------
    module
        Returns an image (B, C, H, W), of one or three channels, for the tensors that the sampler gives.
    sampler
        Draws the latents of one sample: a function of a ``torch.Generator`` that returns a tensor without batch
        dimension, or a tuple with one tensor for each argument of the module, such as a latent and a class label.
    output_range
        The values of black and white.
    name
        In reports and files. None: the name of its class.

    Returns
    -------
    Generator
        A `Network`, of which sample i of a seed is the same in every batch.

    Raises
    ------
    NetworkError
        If the output is no image, or its values are not in the range; or if the sampler fails or draws other latents
        each time.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(8, 48), nn.Tanh(), nn.Unflatten(1, (3, 4, 4)))
    >>> generator = as_generator(module, lambda generator: torch.randn(8, generator=generator))
    >>> generator.images(torch.tensor([[0, 0], [0, 1]])).shape
    torch.Size([2, 4, 4, 3])
    """
    name = type(module).__name__ if name is None else name
    return checked(Generator(name, module, latent_input(name, module, sampler, output_range)))


def latent_input(
    name: str, module: nn.Module, sampler: Sampler, output_range: tuple[float, float] = (-1.0, 1.0)
) -> LatentInput:
    """Run a generator once to learn the size of its images; see `as_generator`."""
    low, high = output_range
    if not low < high:
        raise ConfigError(
            f"the output range is {output_range}. Expected the values of black and white, such as (-1, 1)."
        )
    mean, std = -low / (high - low), 1 / (high - low)
    unsized = Generator(name, module, LatentInput(Size(1, 1), (mean,), (std,), sampler=sampler))
    samples = unsized.latent_input.noise(2)
    _check_repeats(name, unsized.latent_input, samples)
    with torch.no_grad():
        image = _image_of(name, unsized.forward(samples))
    channels = image.shape[1]
    return LatentInput(Size(*image.shape[2:]), (mean,) * channels, (std,) * channels, sampler=sampler)


def checked(generator: Generator) -> Generator:
    """Return a generator whose output has the values that it states.

    Raises
    ------
    NetworkError
        If it has not.
    """
    with torch.no_grad():
        image = _image_of(generator.name, generator.forward(generator.latent_input.noise(CHECKED_SAMPLES)))
    low, high = generator.latent_input.output_range
    margin = MARGIN * (high - low)
    outside = float(((image < low - margin) | (image > high + margin)).float().mean())
    least, most = float(image.min()), float(image.max())
    if outside > MOST_OUTSIDE or not image.isfinite().all() or (low < 0 <= least):
        raise NetworkError(
            f"Generator {generator.name!r} draws values from {least:.3g} to {most:.3g} on {CHECKED_SAMPLES} samples. "
            f"Expected {low:.3g} (black) to {high:.3g} (white). If it draws in [0, 1], say so: "
            "as_generator(..., output_range=(0, 1)), on the command line --mean 0,0,0 --std 1,1,1; for [-1, 1] "
            "output_range=(-1, 1), --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5."
        )
    return generator


def _image_of(name: str, output: object) -> Tensor:
    """Return the image of an output; of several tensors the first."""
    image = first_tensor(output)
    if image is None or image.ndim != 4 or image.shape[1] not in (1, 3):
        found = type(output).__name__ if image is None else f"a tensor of shape {tuple(image.shape)}"
        raise NetworkError(
            f"Generator {name!r} returned {found}. Expected images (batch, channels, height, width) with 1 or 3 "
            "channels; wrap the module so that it returns them."
        )
    return image


def _check_repeats(name: str, latents: LatentInput, samples: Tensor) -> None:
    one, again = latents.latents(samples), latents.latents(samples)
    if not all(torch.equal(first, second) for first, second in zip(one, again, strict=True)):
        raise NetworkError(
            f"The latent sampler of {name!r} draws other latents each time. Expected the same for one torch.Generator: "
            "pass it on, as in torch.randn(128, generator=generator)."
        )
