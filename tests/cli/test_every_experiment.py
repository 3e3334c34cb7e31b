"""Every experiment as a user types it: files, figure, verdict, progress, taken up, and what a mistake is answered."""

import inspect
import json

import pytest
import torch
from PIL import Image

import labeled_images
import netdissect
from netdissect import experiments, load_network
from netdissect.cli.experiments.app import HELP
from netdissect.experiments import outcome_files
from netdissect.experiments.ablate import experiment as ablate_experiment
from netdissect.experiments.compare import experiment as compare_experiment
from netdissect.experiments.layer_profile import experiment as layer_profile_experiment
from netdissect.experiments.linear_probe import experiment as linear_probe_experiment
from netdissect.experiments.outcome import Conclusion
from netdissect.experiments.rater_agreement import experiment as rater_agreement_experiment
from netdissect.experiments.rotate import experiment as rotate_experiment
from netdissect.experiments.supervision import experiment as supervision_experiment
from netdissect.experiments.training_conditions import experiment as training_conditions_experiment
from netdissect.experiments.training_dynamics import experiment as training_dynamics_experiment
from netdissect.synthetic import write_synthetic
from netdissect.training.choices import CONDITIONS
from netdissect.training.scene_net import TrainConfig
from netdissect.training.task_images import folder_images
from netdissect.training.task_networks import trained_task
from workspaces import SCALE

FACTORIES = '''
import torch
from netdissect import Preprocessing

def classifier():
    """Three units, pooled, decide between three classes."""
    torch.manual_seed(0)
    pooled = (torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3))
    body = (torch.nn.Conv2d(3, 4, 5, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 3), *pooled)
    return torch.nn.Sequential(*body), Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3)

def flat():
    module, preprocessing = classifier()
    return torch.nn.Sequential(*module[:1], torch.nn.Flatten(), torch.nn.Linear(4 * 15 * 15, 3)), preprocessing
'''
RECIPE = TrainConfig(size=64, pictures=24, held_out=8, units=(4, 6, 8), steps=1, batch_size=8, precision="float32")
RATINGS = """run,layer,unit,label,iou,rater,rating,time
r,conv1,0,red,0.1,ann,yes,2024-05-01T12:00:00Z
r,conv1,1,blue,0.05,ann,no,2024-05-01T12:00:01Z
r,conv5,0,car,0.2,ann,yes,2024-05-01T12:00:02Z
r,conv5,0,car,0.2,bob,no,2024-05-01T12:00:03Z
"""
FILES = {"table.parquet", "table.csv", "figure.svg", "figure.pdf", "figure.png", "verdict.txt", "verdict.json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set, images with classes, ratings, checkpoints and networks of tasks, all tiny."""
    root = tmp_path_factory.mktemp("place")
    write_synthetic(root / "world", images=12, size=64)
    labeled_images.write_classes(root / "classes", count=14, side=64)
    (root / "names.txt").write_text("blue\ngreen\nred\n")
    (root / "ratings.csv").write_text(RATINGS)
    (root / "factories_of_experiments.py").write_text(FACTORIES)
    shown = folder_images(root / "classes", 64)
    for task in ("rotation", "random"):
        trained_task(task, shown, RECIPE, root / "trained")
    names: dict[str, object] = {}
    exec(FACTORIES, names)  # noqa: S102 - our own text
    (root / "checkpoints").mkdir()
    for step in (1, 20):
        torch.save(names["classifier"]()[0].state_dict(), root / "checkpoints" / f"step-{step}.pt")
    return root


@pytest.fixture(autouse=True)
def small(monkeypatch, place):
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setitem(netdissect.training.SCALES, "tiny", SCALE)


NETWORK = "python:factories_of_experiments:classifier"
DATA = ("--concepts", "{place}/world")
MEASURED = (*DATA, "--quantile", "0.05")
COMMANDS = {
    "rotate": (NETWORK, "--layer", "2", *MEASURED, "--rotation-seeds", "0", "--steps", "1"),
    "layer-profile": (NETWORK, *MEASURED),
    "compare": (
        NETWORK, "{place}/trained/*.safetensors", "--layer", "0", "--layer", "conv3", "--layer", "conv3", *MEASURED,
    ),
    "training-dynamics": ("{place}/checkpoints", "--network", NETWORK, "--layer", "2", *MEASURED),
    **dict.fromkeys(CONDITIONS, ("--scale", "tiny", "--seeds", "1", "--steps", "1")),
    "supervision": (
        *MEASURED, "--train-images", "{place}/classes", "--task", "scene", "--task", "random", "--training-seeds", "0",
        "--steps", "1", "--input-size", "64", "--num-images", "42",
    ),
    "linear-probe": (
        "{place}/trained/*.safetensors", "--layer", "conv3", "--class-images", "{place}/classes", *MEASURED,
    ),
    "rater-agreement": ("{place}/ratings.csv", "--layer", "conv1", "--layer", "conv5"),
    "attribution": (NETWORK, "{place}/classes", "--classes", "{place}/names.txt", "--shown", "2"),
    "ablate": (
        NETWORK, "--layer", "0", "--class-images", "{place}/classes", "--classes", "{place}/names.txt", "--units", "1",
        "--units", "2", "--random-sets", "2",
    ),
}  # fmt: skip
"""Name -> arguments; the other one of two runs of a command has the same."""

PROGRESS = {
    "rater-agreement": None,
    "attribution": "images",
    "ablate": "single units",
    "training-dynamics": "snapshots",
}
"""What the bars of an experiment name, where it is not the looks of a dissection; a file of ratings takes no time."""

HOLDS = {
    "compare": "rotation, seed 0", "training-dynamics": "20", "supervision": "supervised",
    "linear-probe": "rotation, seed 0",
    "rater-agreement": "all layers", "attribution": "class", "ablate": "others",
}  # fmt: skip
"""What stands in an experiment's table; networks of tasks are opened by their files and called by their task."""


CONCLUSIONS = {
    "rotate": (rotate_experiment.conclude, experiments.RotateConfig),
    "layer-profile": (layer_profile_experiment.conclude, experiments.LayerProfileConfig),
    "compare": (compare_experiment.conclude, experiments.CompareConfig),
    "training-dynamics": (training_dynamics_experiment.conclude, experiments.TrainingDynamicsConfig),
    **dict.fromkeys(
        CONDITIONS, (training_conditions_experiment.conclude, training_conditions_experiment.VariantsConfig)
    ),
    "supervision": (supervision_experiment.conclude, experiments.SupervisionConfig),
    "linear-probe": (linear_probe_experiment.conclude, experiments.LinearProbeConfig),
    "rater-agreement": (rater_agreement_experiment.conclude, experiments.RaterAgreementConfig),
    "ablate": (ablate_experiment.conclude, experiments.AblateConfig),
}
"""Name -> how it concludes, and from which configuration; contribution saves another layer than it was asked for."""


def concluded_again(outcome):
    """Conclude once more, from nothing but what was saved."""
    conclude, kind = CONCLUSIONS[outcome.name]
    config = kind.model_validate({name: outcome.config[name] for name in kind.model_fields})
    needed = {"extra": outcome.further} if "extra" in inspect.signature(conclude).parameters else {}
    return conclude(outcome.table, config, **needed)


def typed(place, name):
    """Return the arguments of a command, with patterns expanded as a shell does."""
    for argument in COMMANDS[name]:
        written = argument.format(place=place)
        yield from sorted(map(str, place.glob(written.removeprefix(f"{place}/")))) if "*" in written else [written]


def test_every_experiment_is_tried_here():
    assert set(HELP) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_experiment_ends_with_its_files_and_is_taken_up(netdissect, place, tmp_path, monkeypatch, name):
    # Variants share the networks of one folder, as a user's would.
    out = place / "variants" if name in CONDITIONS else tmp_path / "out"
    done = netdissect("experiment", name, *typed(place, name), "--out", out)
    assert done.code == 0, done.err
    folder = out / name if name in CONDITIONS else out
    assert {path.name for path in folder.iterdir()} >= FILES
    with Image.open(folder / "figure.png") as image:
        assert len(image.convert("RGB").getcolors(2**24)) > 2  # something is drawn
    verdict = Conclusion.model_validate(json.loads((folder / "verdict.json").read_text())["verdict"])
    assert name not in CONCLUSIONS or concluded_again(outcome_files.load_outcome(folder)) == verdict
    flat = " ".join(done.out.split())
    assert f"Found: {verdict.finding}" in flat
    assert f"Agreement: {verdict.agreement}" in flat
    stage = PROGRESS.get(name, "look")
    assert stage is None or stage in done.err
    table = (folder / "table.csv").read_bytes()
    assert HOLDS.get(name, "conv5" if name in CONDITIONS else "per-category") in table.decode()
    monkeypatch.setattr(outcome_files, "save_figure", lambda *_: None)  # it takes longer than the experiment
    again = netdissect("experiment", name, *typed(place, name), "--out", out)
    assert again.code == 0, again.err
    assert (folder / "table.csv").read_bytes() == table


MISTAKES = {
    "rotate": ((NETWORK, "--layer", "nowhere", *DATA), "LayerError", "nowhere"),
    "layer-profile": ((NETWORK, "--concepts", "{place}/classes"), "ConceptsError", "index.csv"),
    "compare": ((NETWORK,), "ConfigError", "--concepts"),
    "training-dynamics": (
        ("{place}/classes", "--network", NETWORK, "--layer", "2", *DATA), "ResultError", "checkpoint",
    ),
    **dict.fromkeys(CONDITIONS, (("--scale", "huge"), "Invalid value", "huge")),
    "supervision": ((*DATA, "--train-images", "{place}/classes", "--task", "dreaming"), "ConfigError", "dreaming"),
    "linear-probe": (
        ("{place}/checkpoints/step-1.safetensors", "--class-images", "{place}/classes", *DATA), "CheckpointError",
        "step-1",
    ),
    "rater-agreement": (("{place}/names.txt",), "ResultError", "names.txt"),
    "attribution": (("python:factories_of_experiments:flat", "{place}/classes"), "NetworkError", "900 features"),
    "ablate": ((NETWORK, "--layer", "0", "--class-images", "{place}/classes"), "ConfigError", "--classes"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_mistake_ends_with_one_paragraph_and_code_2(netdissect, place, tmp_path, name):
    arguments, *words = MISTAKES[name]
    done = netdissect("experiment", name, *(one.format(place=place) for one in arguments), "--out", tmp_path / "out")
    assert done.code == 2, done
    assert "Traceback" not in done.out + done.err
    assert all(word in done.err for word in words), done.err
    assert not (tmp_path / "out" / "verdict.json").exists()


def test_a_file_of_weights_alone_is_no_network(netdissect, place, tmp_path):
    import safetensors.torch

    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / "bare.safetensors")
    done = netdissect(
        "experiment", "layer-profile", tmp_path / "bare.safetensors", "--concepts", place / "world", "--out", tmp_path
    )
    assert done.code == 2
    assert "NETWORK@bare.safetensors" in done.err


FULL = ("reproduce", "--scale", "full", "--network", NETWORK, "--layer", "2", "--concepts", "{place}/world")
FILES_OF_FULL = (
    "--checkpoints", "{place}/checkpoints", "--train-images", "{place}/classes", "--class-images", "{place}/classes",
    "--classes", "{place}/names.txt", "--ratings", "{place}/ratings.csv", "--train", "tiny",
)  # fmt: skip


def test_the_full_paper_plans_every_experiment_or_says_what_it_needs(netdissect, place, tmp_path):
    def planned(*more):
        arguments = [one.format(place=place) for one in (*FULL, *more)]
        done = netdissect(*arguments, "--dry-run", "--out", tmp_path / "paper")
        assert done.code == 0, done.err
        assert not (tmp_path / "paper").exists()
        _data, *lines, _all = done.out.splitlines()
        return dict(line.split(": ", 1) for line in lines)

    bare, whole = planned(), planned(*FILES_OF_FULL)
    assert set(bare) == set(whole) == set(COMMANDS)
    needs = {name: words for name, words in bare.items() if "left out" in words}
    assert set(needs) == set(COMMANDS) - {"rotate", "layer-profile", "compare"}
    assert all("needs --" in words for words in needs.values()), needs
    assert not [words for words in whole.values() if "left out" in words]
    assert "2 times one forward pass over 12 images" in whole["training-dynamics"]
    assert "4 ratings" in whole["rater-agreement"]
    assert "the network runs once" in whole["ablate"]


def test_a_file_that_the_full_paper_cannot_use_stops_its_plan(netdissect, place, tmp_path):
    common = [one.format(place=place) for one in FULL]
    for option, words in (("--checkpoints", "no checkpoint files"), ("--ratings", "cannot be read as a table")):
        done = netdissect(*common, option, place / "classes", "--dry-run", "--out", tmp_path / "paper")
        assert done.code == 2
        assert words in done.err
    flat = [NETWORK.replace("classifier", "flat") if one == NETWORK else one for one in common]
    done = netdissect(
        *flat[:6], "0", *flat[7:], "--class-images", place / "classes", "--dry-run", "--out", tmp_path / "paper"
    )
    assert done.code == 0, done.err
    assert "attribution: left out (Network" in done.out
    assert "ablate: left out (needs --classes FILE" in done.out


def test_the_full_paper_is_carried_out_as_planned(place, tmp_path):
    network = load_network(NETWORK)
    config = experiments.ReproduceConfig(
        names=(NETWORK,), layers=("2",), rotations=(0,), steps=1, checkpoints=place / "checkpoints",
        train_images=place / "classes", class_images=place / "classes", classes=place / "names.txt",
        ratings=place / "ratings.csv",
    )  # fmt: skip
    found = list(experiments.reproduce([network], place / "world", config, out=tmp_path))
    assert {one.name for one in found} == set(COMMANDS) - {*CONDITIONS, "supervision"}
    contributed = next(one for one in found if one.name == "attribution")
    assert "iou" in contributed.table.columns  # labels are those of compare's run
