"""The experiments from Python: the parameters of the commands, and what Python has open already."""

import inspect
import subprocess
import sys
import tempfile

import pytest
import torch
import typer

import experiment_files
from generated_pages import GENERATE
from netdissect import Network, Preprocessing, experiments
from netdissect.cli.app import app
from netdissect.concepts import ConceptData
from netdissect.errors import ConfigError, NetworkError
from netdissect.experiments import functions, read_ratings
from netdissect.experiments.make_function import COMMON
from netdissect.experiments.registry import REGISTRY
from netdissect.result import load_result
from netdissect.training import labeled_folder

SPEC = "python:factories_of_experiments:classifier"
QUANTILE = 0.05
ORDERS = {
    "functions first": "from netdissect.experiments import rotate, compare",
    "packages first": "import netdissect.experiments.rotate.experiment, netdissect.experiments.compare.figure",
}
"""Orders of import: several functions have the name of the package in which their experiment is."""
FUNCTIONS_IN_EVERY_ORDER = """
import inspect, sys, netdissect
from netdissect.experiments.registry import load_experiment
for name in ("rotate", "compare"):
    function = getattr(netdissect.experiments, name)
    assert inspect.isfunction(function), function
    load_experiment(name)
    assert getattr(netdissect.experiments, name) is function
import netdissect.experiments.rotate as imported
assert imported is netdissect.experiments.rotate and inspect.isfunction(imported)
assert not {"torchvision", "torch._dynamo", "scipy.stats"} & set(sys.modules), "loaded before they are used"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("place")
    experiment_files.write_files(root)
    return root


@pytest.fixture(autouse=True)
def _importable(monkeypatch, place):
    monkeypatch.syspath_prepend(str(place))


def titles():
    return {name.replace("-", "_"): name for name in REGISTRY}


def flags(name):
    """Return the names of the options of a command, from its parser, without --out and arguments."""
    commands = dict(GENERATE.leaf_commands(typer.main.get_command(app)))
    options = [one.opts[0] for one in commands["netdissect", "experiment", name].params]
    return {one.removeprefix("--").replace("-", "_") for one in options if one.startswith("--")} - {"out", "help"}


@pytest.mark.parametrize("order", ORDERS)
def test_an_experiment_is_a_function_in_every_order_of_imports(order):
    code = ORDERS[order] + FUNCTIONS_IN_EVERY_ORDER
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_experiment_has_a_function():
    assert titles().keys() <= set(experiments.__all__)
    assert titles() == functions.NAMES
    assert not hasattr(functions, "dreams")


@pytest.mark.parametrize("title", titles())
def test_a_function_has_the_parameters_of_its_command(title):
    function = getattr(experiments, title)
    parameters = inspect.signature(function).parameters
    by_name = {name for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}
    expected = flags(titles()[title])
    assert by_name - COMMON.keys() == expected - {"concepts"}
    assert ("data" in parameters) == ("concepts" in expected)
    assert ("preprocessing" in parameters) == ("weights" in expected or title == "training_dynamics")
    assert {"out", "progress"} <= by_name
    for name in parameters:
        assert f"\n{name} : " in function.__doc__


def test_editors_read_the_parameters_that_the_functions_have():
    assert GENERATE.EXPERIMENT_STUB.read_text(encoding="utf-8") == GENERATE.experiment_stub(), "run docs/generate.py"


def test_a_module_and_an_open_data_set_give_the_table_of_their_names(place, tmp_path, monkeypatch):
    named = experiments.layer_profile(SPEC, place / "world", quantile=QUANTILE, out=tmp_path / "named")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    module, preprocessing = experiment_files.classifier()
    data = ConceptData.open(place / "world")
    opened = experiments.layer_profile(module, data, preprocessing=preprocessing, quantile=[QUANTILE])
    assert opened.table.equals(named.table)
    assert opened.conclusion == named.conclusion
    assert opened.figure.axes
    assert not list((tmp_path / "temporary").iterdir()), "nothing is kept without out="
    assert (tmp_path / "named" / "conclusion.json").is_file()


def test_progress_is_reported_to_a_function(place):
    stages = []
    experiments.layer_profile(
        SPEC, place / "world", quantile=QUANTILE, bootstrap=0, progress=lambda stage, *_counts: stages.append(stage)
    )
    assert {"thresholds", "counting"} <= set(stages)
    with pytest.raises(ConfigError, match="progress cannot be 'bar'"):
        experiments.layer_profile(SPEC, place / "world", progress="bar")


def test_networks_with_their_own_preprocessing_are_compared_with_a_run(place, tmp_path):
    module, preprocessing = experiment_files.classifier()
    gray = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 5, stride=2))
    networks = [Network("color", module, preprocessing), Network("gray", gray, Preprocessing((32, 32), (0.5,), (0.5,)))]
    found = experiments.compare(networks, place / "world", layer="0", quantile=QUANTILE, out=tmp_path)
    assert found.table["network"].unique(maintain_order=True).to_list() == ["color", "gray"]
    runs = [load_result(path) for path in sorted((tmp_path / "runs").iterdir())]
    again = experiments.compare([runs[0], networks[1]], place / "world", layer="0", quantile=QUANTILE)
    assert again.table.equals(found.table)
    one = experiments.compare(runs[1])
    assert one.table.equals(found.table.filter(network="gray"))


def test_the_network_of_checkpoints_may_be_a_module(place):
    module, preprocessing = experiment_files.classifier()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(-1)  # the weights of the checkpoints replace these in a copy
    before = {name: value.clone() for name, value in module.state_dict().items()}
    options = {"layer": "2", "quantile": QUANTILE}
    folder, world = place / "checkpoints", place / "world"
    found = experiments.training_dynamics(folder, world, network=module, preprocessing=preprocessing, **options)
    named = experiments.training_dynamics(folder, world, network=SPEC, **options)
    assert found.table.equals(named.table)
    assert found.table["step"].unique().sort().to_list() == [1, 20]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_linear_probe_has_the_batch_size_that_its_run_found(place):
    found = experiments.linear_probe(
        str(next(iter((place / "trained").iterdir()))), place / "world", class_images=labeled_folder(place / "classes"),
        layer="conv3", quantile=QUANTILE, bootstrap=0, batch_size="auto",
    )  # fmt: skip
    assert isinstance(found.config["batch_size"], int)


def test_ratings_and_images_and_runs_may_be_open_already(place, tmp_path):
    ratings = experiments.rater_agreement(read_ratings(place / "ratings.csv"), layer=["conv1", "conv5"])
    assert ratings.table.equals(experiments.rater_agreement(place / "ratings.csv", layer=["conv1", "conv5"]).table)
    module, preprocessing = experiment_files.classifier()
    network = Network("mine", module, preprocessing)
    experiments.compare(network, place / "world", layer="2", quantile=QUANTILE, out=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    names, run = ("blue", "green", "red"), load_result(folder)
    ablated = experiments.ablate(
        network, class_images=labeled_folder(place / "classes"), classes=names, layer="2", units=(1, 2),
        random_sets=2, rank="iou", run=run,
    )  # fmt: skip
    assert set(ablated.table["class"]) == set(names)
    explained = experiments.attribution(network, place / "classes", classes=names, shown=2, run=folder)
    assert {"label", "iou", "detector"} <= set(explained.table.columns)


MISTAKES = [
    ({"layers": "2"}, ConfigError, r"rotate\(\) has no option 'layers'\. Did you mean layer=\.\.\.\? Known: model, "),
    ({}, ConfigError, r"rotate\(\): layer is missing\. See help\(netdissect\.experiments\.rotate\)"),
    ({"layer": "2", "rotations": -1}, ConfigError, "rotations cannot be -1: input should be greater than"),
    ({"layer": "2", "protocol": "light"}, ConfigError, "cannot be 'light': expected one of paper, original"),
    ({"layer": "2", "weights": "none", "input_size": 32}, ConfigError, "input_size and weights would say"),
    ({"layer": "2", "preprocessing": None}, NetworkError, "preprocessing="),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "words"), MISTAKES)
def test_a_mistake_is_named(place, options, error, words):
    module, preprocessing = experiment_files.classifier()
    with pytest.raises(error, match=words):
        experiments.rotate(module, place / "world", **{"preprocessing": preprocessing} | options)


def test_too_many_values_by_position_are_refused(place):
    with pytest.raises(ConfigError, match=r"called with 3 values by position .* Expected model, data by position"):
        experiments.rotate(SPEC, place / "world", "2")
