"""Samples of a generator in the place of images: their seeds and indices, read from the names of their images.

A data set of samples holds what a generator drew, ``samples/SEED/THOUSANDS/INDEX.png``. The generator is not given
these images but draws them again, from the latents of the same samples.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.activations.image_reader import ImageReader
from netdissect.errors import ConceptsError

NAME = re.compile(r"samples/(\d+)/\d+/(\d+)(\.\w+)?")


def sample_name(seed: int, index: int) -> str:
    """Return the name of a sample in a data set.

    >>> sample_name(0, 1234)
    'samples/0/001/001234'
    """
    return f"samples/{seed}/{index // 1000:03d}/{index:06d}"


@dataclass(frozen=True)
class SampleReader(ImageReader):
    """The samples of a data set, as a generator takes them."""

    def read(self, rows: Sequence[int]) -> npt.NDArray[Any]:
        """Return seed and index of the samples `rows`, int64 (B, 2).

        Raises
        ------
        ConceptsError
            If an image is no sample of a generator.
        """
        return np.array([self._sample(self.data.rows[row].image) for row in rows], np.int64).reshape(len(rows), 2)

    def _sample(self, image: str) -> tuple[int, int]:
        found = NAME.fullmatch(image)
        if found is None:
            raise ConceptsError(
                f"{self.data.root} holds {image}, which is no sample of a generator. A generator is dissected on its "
                "own samples: 'netdissect run GENERATOR --samples 10000 --segmenter SPEC' writes them, as does "
                "netdissect.segment_samples."
            )
        return int(found[1]), int(found[2])
