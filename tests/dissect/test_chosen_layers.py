"""What a run records of the layers that were chosen by a word or a glob."""

from pathlib import Path

import pytest
from torch import nn

import netdissect
import strategies
from netdissect.dissect.verify import repair, verify_sample
from netdissect.models import Network, Preprocessing
from netdissect.result import load_result
from netdissect.result.run_config import read_config
from networks import COVERAGE, SIDE, build, images


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", images(), COVERAGE, image=(SIDE, SIDE))


def test_a_run_records_the_layers_that_a_word_meant_and_is_the_run_of_their_names(root: Path, tmp_path: Path) -> None:
    result = netdissect.dissect(build(), root, layers="auto", out=tmp_path / "run")
    assert list(result.layers) == ["wide_relu", "deep_relu"]
    assert result.info.config.layers == read_config(tmp_path / "run").config.layers == ("wide_relu", "deep_relu")
    finished = (tmp_path / "run" / "run.json").read_bytes()
    for layers in (["wide_relu", "deep_relu"], ["*_relu"], ["blocks"]):
        netdissect.dissect(build(), root, layers=layers, out=tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_bytes() == finished


class Named(nn.Sequential):
    """A network whose container of blocks is called as the set of layers."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("stem", "blocks"):
            self.add_module(name, nn.Sequential(nn.Conv2d(3 if name == "stem" else 4, 4, 3, 2, 1), nn.Sigmoid()))


def test_a_layer_that_is_called_like_a_word_is_recorded_as_itself(root: Path, tmp_path: Path) -> None:
    network = Network("named", Named(), Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))
    run = tmp_path / "run"
    result = netdissect.dissect(network, root, layers="[b]locks", out=run)
    assert list(result.layers) == ["blocks"]
    assert result.info.config.layers == ("[b]locks",)
    assert max(mask.largest_difference for mask in verify_sample(result, 3, network=network, root=root)) == 0
    (next((run / "layers").rglob("units.csv"))).write_bytes(b"damaged")
    assert len(repair(run, network=network, root=root)) == 1
    assert list(load_result(run).layers) == ["blocks"]


def test_more_than_20_layers_of_one_glob_are_dissected_if_all_are_wanted(root: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), *(nn.ReLU() for _ in range(20)))
    network = Network("deep", module, Preprocessing((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))
    with pytest.raises(netdissect.errors.LayerError, match=r"'\*' matches 21 layers.*all_matching=True"):
        netdissect.dissect(network, root, layers="*")
    result = netdissect.dissect(network, root, layers="*", all_matching=True)
    assert len(result.layers) == 21
    assert (result.info.config.layers[0], result.info.config.all_matching) == ("0", False)
