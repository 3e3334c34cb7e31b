"""The experiments of the paper: a config in, a table out."""

from netdissect.experiments.demo import FAST_DEMO, FULL_DEMO, Demo, DemoConfig, demo
from netdissect.experiments.rotate import random_rotation, with_rotations

__all__ = ["FAST_DEMO", "FULL_DEMO", "Demo", "DemoConfig", "demo", "random_rotation", "with_rotations"]
