"""What networks that take no images are given in their place: numbers that follow from the names of the images.

    SampleReader     seeds and indices, for a generator
    StoredRowReader  positions in the list of stored activations

A data set of samples holds what a generator drew, ``samples/SEED/THOUSANDS/INDEX.png``. The generator is not given
these images but draws them again, from the latents of the same samples.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
        samples = [read_sample(self.data.rows[row].image, self.data.root) for row in rows]
        return np.array(samples, np.int64).reshape(len(rows), 2)


def read_sample(image: str, root: Path) -> npt.NDArray[Any]:
    """Return seed and index of the sample that an image of a data set shows, int64 (2,).

    Raises
    ------
    ConceptsError
        If it is no sample of a generator.
    """
    found = NAME.fullmatch(image)
    if found is None:
        raise ConceptsError(
            f"{root} holds {image}, which is no sample of a generator. A generator is dissected on its own samples: "
            "'netdissect run GENERATOR --samples 10000 --segmenter SPEC' writes them, as does "
            "netdissect.segment_samples."
        )
    return np.array([int(found[1]), int(found[2])], np.int64)


@dataclass(frozen=True)
class StoredRowReader(ImageReader):
    """The images of a data set, as stored activations take them.

    Attributes
    ----------
    rows
        Positions by the name of the image.

    Raises
    ------
    ConceptsError
        If there are no activations of an image of the data set.
    """

    rows: Mapping[str, int] = field(kw_only=True)

    def __post_init__(self) -> None:
        missing = [row.image for row in self.data.rows if row.image not in self.rows]
        if missing:
            raise ConceptsError(
                f"the activations are of {len(self.rows):,} images, and {len(missing):,} of the {len(self.data):,} "
                f"images of {self.data.root} are not among them, such as {missing[0]}. Expected activations of every "
                "image, by their names in index.csv."
            )

    def read(self, rows: Sequence[int]) -> npt.NDArray[Any]:
        """Return the positions of the images `rows`, int64 (B, 1)."""
        return np.array([[self.rows[self.data.rows[row].image]] for row in rows], np.int64).reshape(len(rows), 1)
