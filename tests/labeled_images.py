"""Folders of tiny images with a class each."""

from pathlib import Path

import numpy as np
from PIL import Image

from netdissect.training.classification_data import LabeledImages, labeled_folder


def write_classes(
    root: Path, count: int = 12, names: tuple[str, ...] = ("blue", "green", "red"), side: int = 32
) -> Path:
    """Write noisy images in one folder a class; the class's channel is a little brighter."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 200, (side, side, 3))
            pixels[..., channel % 3] += rng.integers(0, 55)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index:03d}.png")
    return root


def images(root: Path, count: int = 12) -> LabeledImages:
    """Write and read three classes."""
    return labeled_folder(write_classes(root / "classes", count))
