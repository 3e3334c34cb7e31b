"""The registry: what follows from it holds for every experiment."""

import subprocess
import sys

import pytest

from netdissect.config_fields import leaves
from netdissect.errors import ResultError
from netdissect.experiments.outcome import Conclusion, ExperimentResult
from netdissect.experiments.registry import REGISTRY, load_experiment

LIGHT = """
import sys
from importlib import import_module
from netdissect.experiments.registry import REGISTRY
loaded = {"torch", "polars", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
for entry in REGISTRY.values():
    import_module(f"netdissect.experiments.{entry.path.partition('.')[0]}.figure").draw
assert "torch" not in sys.modules
"""


def test_the_registry_is_read_without_torch_or_polars_and_figures_need_no_torch():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", REGISTRY)
def test_every_option_of_an_experiment_has_a_name_of_its_own_and_a_description(name):
    options = list(leaves(load_experiment(name).inputs))
    assert sorted(option.flag for option in options) == sorted({option.flag for option in options})
    assert [option.flag for option in options if not option.field.description] == []


def test_a_result_of_an_unknown_experiment_has_no_figure():
    conclusion = Conclusion(question="?", finding="!", outcome="agrees")
    with pytest.raises(ResultError, match="no figure for an experiment 'dreams'"):
        ExperimentResult("dreams", None, conclusion).figure  # noqa: B018


NETWORK_OPTIONS = {
    "--weights", "--state-dict", "--weights-seed", "--input-size", "--mean", "--std", "--interpolation", "--device",
}  # fmt: skip
TAKE_NETWORKS = {
    "rotate", "layer-profile", "compare", "training-dynamics", "linear-probe", "attribution", "ablate", "formulas",
    "labelers", "causes", "concept-vectors", "bases",
}  # fmt: skip


@pytest.mark.parametrize("name", REGISTRY)
def test_every_command_that_takes_a_network_says_how_it_is_loaded_and_where_it_runs(name):
    options = {option.flag.partition("/")[0] for option in leaves(load_experiment(name).inputs)} & NETWORK_OPTIONS
    if name not in TAKE_NETWORKS:
        assert options <= {"--device", "--input-size"}  # of networks that are trained here
    elif name == "training-dynamics":
        assert options == NETWORK_OPTIONS - {"--weights", "--weights-seed"}  # weights are those of the checkpoints
    else:
        assert options == NETWORK_OPTIONS
