"""The experiments of the paper: a config in, a table and a verdict out.

    rotate(network, concepts, config, out=..., progress=...) -> Outcome -> netdissect.show.outcomes.save_outcome

outcome.py     what every experiment returns
counts.py      detectors of runs as tidy rows
intervals.py   means, differences and their intervals; what an interval decides
bench.py       a drawn world, and scene networks trained on it, kept in one folder
miniature.py   all experiments on a bench
full.py        those that need only networks and data, on one's own

Each experiment keeps its runs below its folder, and a second call takes up what is there. A module has another
name than its function. Names are loaded when they are first used, so that reading an outcome never waits for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netdissect.experiments.bench import SCALES as SCALES
    from netdissect.experiments.bench import Bench as Bench
    from netdissect.experiments.bench import Scale as Scale
    from netdissect.experiments.comparison import CompareConfig as CompareConfig
    from netdissect.experiments.comparison import compare as compare
    from netdissect.experiments.demonstration import FAST_DEMO as FAST_DEMO
    from netdissect.experiments.demonstration import FULL_DEMO as FULL_DEMO
    from netdissect.experiments.demonstration import Demo as Demo
    from netdissect.experiments.demonstration import DemoConfig as DemoConfig
    from netdissect.experiments.demonstration import demo as demo
    from netdissect.experiments.full import FullConfig as FullConfig
    from netdissect.experiments.full import full_paper as full_paper
    from netdissect.experiments.full import full_plan as full_plan
    from netdissect.experiments.layerwise import LayersConfig as LayersConfig
    from netdissect.experiments.layerwise import convolutions as convolutions
    from netdissect.experiments.layerwise import layers as layers
    from netdissect.experiments.miniature import miniature_plan as miniature_plan
    from netdissect.experiments.miniature import paper as paper
    from netdissect.experiments.outcome import Outcome as Outcome
    from netdissect.experiments.outcome import Verdict as Verdict
    from netdissect.experiments.recipe import Recipe as Recipe
    from netdissect.experiments.recipe import load_trained as load_trained
    from netdissect.experiments.rotations import RotateConfig as RotateConfig
    from netdissect.experiments.rotations import random_rotation as random_rotation
    from netdissect.experiments.rotations import rotate as rotate
    from netdissect.experiments.rotations import rotation_powers as rotation_powers
    from netdissect.experiments.rotations import with_rotations as with_rotations
    from netdissect.experiments.timeline import Snapshot as Snapshot
    from netdissect.experiments.timeline import SnapshotsConfig as SnapshotsConfig
    from netdissect.experiments.timeline import dissected_checkpoints as dissected_checkpoints
    from netdissect.experiments.timeline import dissected_runs as dissected_runs
    from netdissect.experiments.timeline import snapshots as snapshots
    from netdissect.experiments.trainings import variants as variants

_HOME = {
    "Bench": "bench",
    "CompareConfig": "comparison",
    "Demo": "demonstration",
    "DemoConfig": "demonstration",
    "FAST_DEMO": "demonstration",
    "FULL_DEMO": "demonstration",
    "FullConfig": "full",
    "LayersConfig": "layerwise",
    "Outcome": "outcome",
    "Recipe": "recipe",
    "RotateConfig": "rotations",
    "SCALES": "bench",
    "Scale": "bench",
    "Snapshot": "timeline",
    "SnapshotsConfig": "timeline",
    "Verdict": "outcome",
    "compare": "comparison",
    "convolutions": "layerwise",
    "demo": "demonstration",
    "dissected_checkpoints": "timeline",
    "dissected_runs": "timeline",
    "full_paper": "full",
    "full_plan": "full",
    "layers": "layerwise",
    "load_trained": "recipe",
    "miniature_plan": "miniature",
    "paper": "miniature",
    "random_rotation": "rotations",
    "rotate": "rotations",
    "rotation_powers": "rotations",
    "snapshots": "timeline",
    "variants": "trainings",
    "with_rotations": "rotations",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'netdissect.experiments' has no attribute {name!r}")
    return getattr(import_module(f"netdissect.experiments.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
