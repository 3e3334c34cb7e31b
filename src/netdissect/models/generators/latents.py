"""The input of a generator: latents that depend only on a seed and the index of a sample.

    LatentInput.latents(samples)   int64 (B, 2) of seed and index -> the arguments of the module, each (B, ...)
    LatentInput.pixels(output)     the module's output -> uint8 (B, H, W, C)

A sample is the same in every batch size, shard and resumed run, because each one has a random generator of its own.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from netdissect.errors import NetworkError, ShapeError
from netdissect.models.preprocessing import Preprocessing

Sampler = Callable[[torch.Generator], Tensor | Sequence[Tensor]]
"""Draws the latents of one sample, without a batch dimension: one tensor, or one for each argument of the module."""

ODD = 2_654_435_761
"""Times this, modulo 2^32, indices are spread over all seeds, and no two samples of a run share one."""


@dataclass(frozen=True)
class LatentInput(Preprocessing):
    """How the input of a generator is drawn, and how its output becomes an image.

    `size` is that of the output. `mean` and `std` relate it to pixels as for any network: an output in [-1, 1] has mean
    0.5 and deviation 0.5, one in [0, 1] has mean 0 and deviation 1.

    Attributes
    ----------
    sampler
        Draws the latents of one sample with the random generator that it is given.
    """

    sampler: Sampler = field(kw_only=True)

    def normalize(self, images: Tensor) -> Tensor:
        """Return samples as they are: their latents are drawn when the module runs.

        Parameters
        ----------
        images : int64 (B, 2)
            Seed and index of each sample.

        Raises
        ------
        ShapeError
            If they are images.
        """
        if images.dtype != torch.int64 or images.ndim != 2 or images.shape[1] != 2:
            raise ShapeError(
                f"The input is {images.dtype} {tuple(images.shape)}, but a generator takes no images. Expected int64 "
                "(batch, 2): the seed and the index of each sample."
            )
        return images

    def noise(self, count: int) -> Tensor:
        """Return the first samples of seed 0, int64 (count, 2)."""
        return torch.stack([torch.zeros(count, dtype=torch.int64), torch.arange(count)], dim=1)

    def latents(self, samples: Tensor) -> tuple[Tensor, ...]:
        """Draw the latents of samples, int64 (B, 2): one tensor (B, ...) for each argument of the module.

        Raises
        ------
        NetworkError
            If the sampler fails, returns something else than tensors, or other shapes for other samples.
        """
        drawn = [self._draw(seed, index) for seed, index in samples.tolist()]
        shapes = {tuple(tuple(tensor.shape) for tensor in tensors) for tensors in drawn}
        if len(shapes) > 1:
            first, other, *_ = shapes
            raise NetworkError(
                f"The latent sampler gives tensors of shapes {_text(first)} for one sample and {_text(other)} for "
                "another. Expected the same for every sample."
            )
        return tuple(torch.stack(tensors) for tensors in zip(*drawn, strict=True))

    def pixels(self, output: Tensor) -> Tensor:
        """Return the images of an output.

        Parameters
        ----------
        output : float (B, C, H, W)
            Of the module.

        Returns
        -------
        uint8 (B, H, W, C)
            Its `levels`, rounded; values outside the range become 0 or 255.
        """
        return self.levels(output).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def levels(self, output: Tensor) -> Tensor:
        """Return ``255 (std x + mean)`` of an output, float32 (B, C, H, W): its images before they are rounded."""
        mean, std = (
            output.new_tensor(numbers, dtype=torch.float32)[:, None, None] for numbers in (self.mean, self.std)
        )
        return 255 * (output.float() * std + mean)

    @property
    def output_range(self) -> tuple[float, float]:
        """The values of black and white, of all channels."""
        pairs = list(zip(self.mean, self.std, strict=True))
        return min(0.0 - mean / std for mean, std in pairs), max((1 - mean) / std for mean, std in pairs)

    def _draw(self, seed: int, index: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(random_seed(seed, index))
        try:
            drawn = self.sampler(generator)
        except Exception as error:  # the sampler is the user's own code
            raise NetworkError(
                f"The latent sampler fails with {type(error).__name__}: {error}. Expected a function of one "
                "torch.Generator that returns the latents of one sample, such as lambda generator: torch.randn(128, "
                "generator=generator)."
            ) from error
        tensors = (drawn,) if isinstance(drawn, Tensor) else drawn
        if not isinstance(tensors, Sequence) or not tensors or not all(isinstance(one, Tensor) for one in tensors):
            raise NetworkError(
                f"The latent sampler returned a {type(drawn).__name__}. Expected the latents of one sample: a tensor "
                "without batch dimension, or a tuple of tensors, one for each argument of the module."
            )
        return tuple(tensors)


def random_seed(seed: int, index: int) -> int:
    """Return the seed of the random generator of sample `index`: 32 bits, since torch ignores the others on a CPU.

    >>> len({random_seed(0, index) for index in range(1000)})
    1000
    """
    begin = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big")
    return (begin + index) * ODD % 2**32


def _text(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
