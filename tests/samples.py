"""Samples to write data sets of, and tables to read back."""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.concepts.build.sample import Channel, Sample


def random_image(seed: int, height: int = 9, width: int = 12) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def one_sample(name: str = "src/one", concept: str = "sky") -> Sample:
    return Sample(name, random_image(0), {"object": [Channel(np.ones((9, 12), np.uint8), {1: concept})]})


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
