"""Every experiment as a user types it: files, figure, conclusion, progress, resuming, and errors."""

import inspect
import json
import tomllib
from pathlib import Path

import polars as pl
import pytest
import torch
from PIL import Image

import experiment_files
import netdissect
from generated_pages import documented_columns
from netdissect import experiments, load_network
from netdissect.experiments import result_files
from netdissect.experiments.outcome import Conclusion
from netdissect.experiments.registry import REGISTRY, draw_figure, load_experiment
from netdissect.experiments.training_conditions.conditions import CONDITIONS
from printed import printed
from workspaces import SCALE

FILES = {"table.parquet", "table.csv", "figure.svg", "figure.pdf", "figure.png", "conclusion.txt", "conclusion.json"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("place")
    experiment_files.write_files(root)
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


def called(place, name, out):
    """Call the function of an experiment with the values of its command."""
    positional, options = [], {}
    arguments = iter(typed(place, name))
    for argument in arguments:
        if argument.startswith("--"):
            options.setdefault(argument[2:].replace("-", "_"), []).append(next(arguments))
        else:
            positional.append(argument)
    named = {option: values[0] if len(values) == 1 else values for option, values in options.items()}
    if "concepts" in named:
        named["data"] = named.pop("concepts")
    function = getattr(experiments, name.replace("-", "_"))
    first = next(iter(inspect.signature(function).parameters))
    return function(*([positional] if first in ("models", "sources") else positional), **named, out=out)


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
    for width in (3.3, 6.8):
        assert printed(draw_figure(saved, width)).problems() == []
    drawn = netdissect("figure", "experiment", folder, "--width", 3.3, "-o", tmp_path / "narrow.svg")
    assert drawn.code == 0, drawn.err
    assert 'width="237.6pt"' in (tmp_path / "narrow.svg").read_text()
    monkeypatch.setattr(result_files, "save_figure", lambda *_: None)  # it takes longer than the experiment
    again = called(place, name, out)
    assert (folder / "table.csv").read_bytes() == table
    assert repr(again) == repr(saved)


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
    need_nothing = {"rotate", "layer-profile", "compare", "formulas", "labelers", "concept-vectors", "bases"}
    assert set(needs) == set(CASES) - need_nothing
    assert all("needs --" in words for words in needs.values()), needs
    assert [name for name, words in whole.items() if "left out" in words] == ["causes"]  # these networks draw nothing
    assert "2 times one forward pass on cpu in batches of 32 over 12 images" in whole["training-dynamics"]
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
    assert {one.name for one in found} == set(CASES) - {*CONDITIONS, "supervision", "causes"}
    contributed = next(one for one in found if one.name == "attribution")
    assert "iou" in contributed.table.columns  # labels are those of compare's run
