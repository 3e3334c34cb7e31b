"""A tiny scene generator, trained once for all tests."""

from functools import cache

from netdissect.models import Generator
from netdissect.training import GeneratorConfig, scene_generator, train_generator

TINY = GeneratorConfig(units=6, num_images=16, steps=3, batch_size=8)
PAINT = "python:netdissect.training:PaintSegmenter"


@cache
def tiny_generator() -> Generator:
    """Return the generator; planted units draw exactly, free ones badly."""
    return scene_generator(train_generator(TINY))
