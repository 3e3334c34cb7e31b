"""Every experiment as a user types it: files, figure, conclusion, progress, resuming, and errors."""

import json
import tomllib
from pathlib import Path

import polars as pl
import pytest
import torch
from PIL import Image

import labeled_images
import netdissect
from generated_pages import documented_columns
from netdissect import experiments, load_network
from netdissect.experiments import result_files
from netdissect.experiments.outcome import Conclusion
from netdissect.experiments.registry import REGISTRY, load_experiment
from netdissect.experiments.training_conditions.conditions import CONDITIONS
from netdissect.synthetic import write_synthetic
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
RECIPE = TrainConfig(size=64, num_images=24, held_out=8, units=(4, 6, 8), steps=1, batch_size=8, precision="float32")
RATINGS = """run,layer,unit,label,iou,rater,rating,time
r,conv1,0,red,0.1,ann,yes,2024-05-01T12:00:00Z
r,conv1,1,blue,0.05,ann,no,2024-05-01T12:00:01Z
r,conv5,0,car,0.2,ann,yes,2024-05-01T12:00:02Z
r,conv5,0,car,0.2,bob,no,2024-05-01T12:00:03Z
"""
FILES = {"table.parquet", "table.csv", "figure.svg", "figure.pdf", "figure.png", "conclusion.txt", "conclusion.json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data set, pictures with classes, ratings, checkpoints and networks of tasks, all tiny."""
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
CASES = {
    name: case
    for path in sorted((Path(__file__).parents[1] / "experiments").glob("*/command.toml"))
    for name, case in tomllib.loads(path.read_text()).items()
}
"""For each experiment, from its folder of tests: a command, a stage of its progress and a value in its table; a command
with a mistake, and the words of the error."""


def concluded_again(result):
    """Conclude once more, from nothing but what was saved."""
    experiment = load_experiment(result.name)
    return experiment.conclude(result.table, experiment.config.model_validate(result.config), extra=result.extra_tables)


def typed(place, name):
    """Return the arguments of a command, with patterns expanded as a shell does."""
    for argument in CASES[name]["command"]:
        written = argument.format(place=place)
        yield from sorted(map(str, place.glob(written.removeprefix(f"{place}/")))) if "*" in written else [written]


def test_every_experiment_has_a_case():
    assert set(REGISTRY) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_an_experiment_writes_its_files_and_resumes(netdissect, place, tmp_path, monkeypatch, name):
    # Conditions share the networks of one folder.
    out = place / "conditions" if name in CONDITIONS else tmp_path / "out"
    done = netdissect("experiment", name, *typed(place, name), "--out", out)
    assert done.code == 0, done.err
    folder = out / name if name in CONDITIONS else out
    assert {path.name for path in folder.iterdir()} >= FILES
    with Image.open(folder / "figure.png") as image:
        assert len(image.convert("RGB").getcolors(2**24)) > 2  # something is drawn
    conclusion = Conclusion.model_validate(json.loads((folder / "conclusion.json").read_text())["conclusion"])
    saved = result_files.load_experiment_result(folder)
    assert concluded_again(saved) == conclusion
    assert set(saved.extra_tables) <= set(load_experiment(name).extra_tables)
    columns = {column for table in folder.glob("*.parquet") for column in pl.read_parquet_schema(table)}
    assert columns <= documented_columns(name)
    flat = " ".join(done.out.split())
    assert f"Found: {conclusion.finding}" in flat
    assert f"{name}: {conclusion.outcome}" in flat
    assert CASES[name].get("stage", "") in done.err
    table = (folder / "table.csv").read_bytes()
    assert CASES[name]["cell"] in table.decode()
    monkeypatch.setattr(result_files, "save_figure", lambda *_: None)  # it takes longer than the experiment
    again = netdissect("experiment", name, *typed(place, name), "--out", out)
    assert again.code == 0, again.err
    assert (folder / "table.csv").read_bytes() == table


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_ends_with_one_paragraph_and_code_2(netdissect, place, tmp_path, name):
    arguments, words = CASES[name]["mistake"], CASES[name]["error"]
    done = netdissect("experiment", name, *(one.format(place=place) for one in arguments), "--out", tmp_path / "out")
    assert done.code == 2, done
    assert "Traceback" not in done.out + done.err
    assert all(word in done.err for word in words), done.err
    assert not (tmp_path / "out" / "conclusion.json").exists()


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


def test_reproduce_full_plans_every_experiment_or_says_what_it_needs(netdissect, place, tmp_path):
    def planned(*more):
        arguments = [one.format(place=place) for one in (*FULL, *more)]
        done = netdissect(*arguments, "--dry-run", "--out", tmp_path / "paper")
        assert done.code == 0, done.err
        assert not (tmp_path / "paper").exists()
        _data, *lines, _all = done.out.splitlines()
        return dict(line.split(": ", 1) for line in lines)

    bare, whole = planned(), planned(*FILES_OF_FULL)
    assert set(bare) == set(whole) == set(CASES)
    needs = {name: words for name, words in bare.items() if "left out" in words}
    assert set(needs) == set(CASES) - {"rotate", "layer-profile", "compare"}
    assert all("needs --" in words for words in needs.values()), needs
    assert not [words for words in whole.values() if "left out" in words]
    assert "2 times one forward pass over 12 images" in whole["training-dynamics"]
    assert "4 ratings" in whole["rater-agreement"]
    assert "the network runs once" in whole["ablate"]


def test_a_file_that_reproduce_full_cannot_use_stops_its_plan(netdissect, place, tmp_path):
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


def test_reproduce_full_is_carried_out_as_planned(place, tmp_path):
    network = load_network(NETWORK)
    config = experiments.ReproduceConfig(
        names=(NETWORK,), layers=("2",), rotations=1, steps=1, checkpoints=place / "checkpoints",
        train_images=place / "classes", class_images=place / "classes", classes=place / "names.txt",
        ratings=place / "ratings.csv",
    )  # fmt: skip
    found = list(experiments.reproduce([network], place / "world", config, out=tmp_path))
    assert {one.name for one in found} == set(CASES) - {*CONDITIONS, "supervision"}
    contributed = next(one for one in found if one.name == "attribution")
    assert "iou" in contributed.table.columns  # labels are those of compare's run
