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
    from netdissect.experiments.ablation import AblateConfig as AblateConfig
    from netdissect.experiments.ablation import ablate as ablate
    from netdissect.experiments.bench import SCALES as SCALES
    from netdissect.experiments.bench import Bench as Bench
    from netdissect.experiments.bench import Scale as Scale
    from netdissect.experiments.classes import class_names as class_names
    from netdissect.experiments.comparison import CompareConfig as CompareConfig
    from netdissect.experiments.comparison import compare as compare
    from netdissect.experiments.contributions import ContributionConfig as ContributionConfig
    from netdissect.experiments.contributions import contribution as contribution
    from netdissect.experiments.demonstration import FAST_DEMO as FAST_DEMO
    from netdissect.experiments.demonstration import FULL_DEMO as FULL_DEMO
    from netdissect.experiments.demonstration import Demo as Demo
    from netdissect.experiments.demonstration import DemoConfig as DemoConfig
    from netdissect.experiments.demonstration import demo as demo
    from netdissect.experiments.full import full_paper as full_paper
    from netdissect.experiments.full import full_plan as full_plan
    from netdissect.experiments.full_job import FullConfig as FullConfig
    from netdissect.experiments.labeled import LabeledPictures as LabeledPictures
    from netdissect.experiments.labeled import labeled_by as labeled_by
    from netdissect.experiments.labeled import labeled_folder as labeled_folder
    from netdissect.experiments.labeled import picture_files as picture_files
    from netdissect.experiments.layerwise import LayersConfig as LayersConfig
    from netdissect.experiments.layerwise import convolutions as convolutions
    from netdissect.experiments.layerwise import layers as layers
    from netdissect.experiments.miniature import miniature_plan as miniature_plan
    from netdissect.experiments.miniature import paper as paper
    from netdissect.experiments.opening import trained_network as trained_network
    from netdissect.experiments.outcome import Outcome as Outcome
    from netdissect.experiments.outcome import Verdict as Verdict
    from netdissect.experiments.ratings import AgreementConfig as AgreementConfig
    from netdissect.experiments.ratings import agreement as agreement
    from netdissect.experiments.ratings import read_ratings as read_ratings
    from netdissect.experiments.recipe import Recipe as Recipe
    from netdissect.experiments.recipe import load_trained as load_trained
    from netdissect.experiments.rotations import RotateConfig as RotateConfig
    from netdissect.experiments.rotations import random_rotation as random_rotation
    from netdissect.experiments.rotations import rotate as rotate
    from netdissect.experiments.rotations import rotation_powers as rotation_powers
    from netdissect.experiments.rotations import with_rotations as with_rotations
    from netdissect.experiments.supervision import TasksConfig as TasksConfig
    from netdissect.experiments.supervision import tasks as tasks
    from netdissect.experiments.svm import Subject as Subject
    from netdissect.experiments.svm import TransferConfig as TransferConfig
    from netdissect.experiments.svm import transfer as transfer
    from netdissect.experiments.task_pictures import TaskPictures as TaskPictures
    from netdissect.experiments.task_pictures import folder_pictures as folder_pictures
    from netdissect.experiments.task_pictures import synthetic_pictures as synthetic_pictures
    from netdissect.experiments.timeline import Snapshot as Snapshot
    from netdissect.experiments.timeline import SnapshotsConfig as SnapshotsConfig
    from netdissect.experiments.timeline import dissected_checkpoints as dissected_checkpoints
    from netdissect.experiments.timeline import dissected_runs as dissected_runs
    from netdissect.experiments.timeline import snapshots as snapshots
    from netdissect.experiments.trainings import variants as variants

_HOME = {
    "AblateConfig": "ablation",
    "AgreementConfig": "ratings",
    "Bench": "bench",
    "CompareConfig": "comparison",
    "ContributionConfig": "contributions",
    "Demo": "demonstration",
    "DemoConfig": "demonstration",
    "FAST_DEMO": "demonstration",
    "FULL_DEMO": "demonstration",
    "FullConfig": "full_job",
    "LabeledPictures": "labeled",
    "LayersConfig": "layerwise",
    "Outcome": "outcome",
    "Recipe": "recipe",
    "RotateConfig": "rotations",
    "SCALES": "bench",
    "Scale": "bench",
    "Snapshot": "timeline",
    "SnapshotsConfig": "timeline",
    "Subject": "svm",
    "TaskPictures": "task_pictures",
    "TasksConfig": "supervision",
    "TransferConfig": "svm",
    "Verdict": "outcome",
    "ablate": "ablation",
    "agreement": "ratings",
    "class_names": "classes",
    "compare": "comparison",
    "contribution": "contributions",
    "convolutions": "layerwise",
    "demo": "demonstration",
    "dissected_checkpoints": "timeline",
    "dissected_runs": "timeline",
    "folder_pictures": "task_pictures",
    "full_paper": "full",
    "full_plan": "full",
    "labeled_by": "labeled",
    "labeled_folder": "labeled",
    "layers": "layerwise",
    "load_trained": "recipe",
    "miniature_plan": "miniature",
    "paper": "miniature",
    "picture_files": "labeled",
    "random_rotation": "rotations",
    "read_ratings": "ratings",
    "rotate": "rotations",
    "rotation_powers": "rotations",
    "snapshots": "timeline",
    "synthetic_pictures": "task_pictures",
    "tasks": "supervision",
    "trained_network": "opening",
    "transfer": "svm",
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
