"""What a full run will cost, measured on a few images of the user's own data with the user's own network."""

import shutil
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Execution
from netdissect.dissect.plan import Plan, make_plan
from netdissect.dissect.run import dissect
from netdissect.models import Network, resolve_layers

SAMPLE = 64


@dataclass(frozen=True)
class Prediction:
    """What a run of all images is expected to take.

    Attributes
    ----------
    plan
        Passes, and what is kept where.
    seconds
        Wall time of each stage.
    memory_bytes
        Peak of this process: what it holds now and after the sample, and what grows with the number of images.
    disk_bytes
        At most, while the run goes on.
    """

    plan: Plan
    seconds: dict[str, float]
    memory_bytes: int
    disk_bytes: int
