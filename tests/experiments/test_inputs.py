"""Networks of an experiment: a name with options, or what Python has already."""

import pytest
import torch

from netdissect.config import LoadOptions
from netdissect.errors import ConfigError, NetworkError
from netdissect.experiments.inputs import NetworkInputs
from netdissect.models import Network, Preprocessing

SQUEEZE = "torchvision:squeezenet1_1"
GRAY = Preprocessing((24, 24), (0.5,), (0.25,))


def opened(model, preprocessing=None, **options):
    return NetworkInputs(model=model, loading=LoadOptions(**options), preprocessing=preprocessing).load()


def bare():
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3))


def test_a_name_is_loaded_with_the_options_of_the_command(tmp_path):
    first = opened(SQUEEZE, weights="none", weights_seed=3, size=64, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert first.preprocessing == Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3)
    torch.save(first.module.state_dict(), tmp_path / "w.pt")
    again = opened(SQUEEZE, weights=str(tmp_path / "w.pt"), interpolation="nearest")
    assert torch.equal(again.module.features[0].weight, first.module.features[0].weight)
    assert again.preprocessing.interpolation == "nearest"
    assert again.digest == opened(f"{SQUEEZE}@{tmp_path / 'w.pt'}").digest


def test_a_network_is_used_as_it_is_and_a_module_with_its_preprocessing():
    network = Network("mine", bare(), GRAY)
    assert opened(network) is network
    module = bare()
    found = opened(module, GRAY)
    assert (found.module, found.preprocessing) == (module, GRAY)
    with pytest.raises(NetworkError, match="preprocessing="):
        opened(module)


def test_weights_are_named_once():
    with pytest.raises(ConfigError, match="names its weights, and so do the options"):
        opened(f"{SQUEEZE}@none", weights="none")


@pytest.mark.parametrize("model", [Network("mine", bare(), GRAY), bare()])
def test_options_of_loading_are_refused_for_what_is_loaded_already(model):
    with pytest.raises(ConfigError, match=r"input_size and weights would say .* the model is a (Network|Sequential)"):
        opened(model, weights="none", size=32)


def test_a_network_that_an_experiment_trained_keeps_its_preprocessing(tmp_path):
    with pytest.raises(ConfigError, match="was trained by an experiment"):
        opened(str(tmp_path / "task.safetensors"), size=32)
