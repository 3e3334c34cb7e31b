"""Whether the images of a data set of samples are those that a generator draws for them."""

import numpy as np
import torch

from netdissect.activations.image_batches import read_image
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import ConceptsError
from netdissect.models.generators.generator import Generator

MOST_LEVELS = 8
"""Largest difference of a pixel that is taken for rounding on another machine."""


def check_samples(source: DissectionInputs) -> None:
    """Draw two samples of the data of a generator again and compare them with their images; do nothing for images.

    Raises
    ------
    ConceptsError
        If they differ: the labels then belong to other images.
    """
    network = source.network
    if not isinstance(network, Generator):
        return
    rows = sorted({0, len(source.data) // 2})
    drawn = network.images(torch.from_numpy(source.images.read(rows))).cpu().numpy()
    for row, image in zip(rows, drawn, strict=True):
        stored = read_image(source.data.image_path(row), network.preprocessing)
        difference = int(np.abs(stored.astype(np.int64) - image).max())
        if difference > MOST_LEVELS:
            raise ConceptsError(
                f"{source.data.image_path(row)} is not what {network.name!r} draws for this sample: they differ by up "
                f"to {difference} of 255 levels. Expected the samples of this very generator; write them anew, by "
                "--samples with another --out."
            )
