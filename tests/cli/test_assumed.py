"""Layers whose layout or field cannot be traced: refused, or dissected as the user says."""

import re

import pytest

import networks
import strategies
from netdissect import load_result

FACTORY = '''
import torch
from netdissect import Preprocessing

class Leaves(torch.nn.Module):
    """A map of redness, and the same map after a detour through NumPy, channels last."""

    def __init__(self):
        super().__init__()
        self.map, self.detour = torch.nn.Conv2d(3, 2, 4, 4), torch.nn.Identity()
        with torch.no_grad():
            self.map.weight.zero_()
            self.map.weight[0, 0] = 1
            self.map.weight[1, 1] = 1

    def forward(self, x):
        x = self.map(x)
        return x, self.detour(torch.from_numpy(x.permute(0, 2, 3, 1).numpy().copy()))

def make():
    torch.manual_seed(0)
    return Leaves(), Preprocessing((48, 48), (0.5,) * 3, (0.25,) * 3)
'''


@pytest.fixture
def leaves(tmp_path, monkeypatch):
    name = f"leaves_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"python:{name}:make"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return strategies.write_broden(
        tmp_path_factory.mktemp("data") / "broden", networks.images(8), networks.COVERAGE, image=(48, 48)
    )


def test_untraceable_layers_are_listed_with_the_reason_and_as_they_are_assumed(netdissect, leaves):
    listed = netdissect("layers", leaves, "--all")
    assert "Cannot be dissected because its elements cannot be traced to the image: the trace ends where" in listed.out
    assert "detour" in listed.out.rpartition("Cannot be dissected")[2]
    assumed = netdissect("layers", leaves, "--all", "--assume-layout", "NHWC", "--receptive-field", "0,4,4")
    row = next(line for line in assumed.out.splitlines() if "detour" in line)
    assert re.split("  +", row) == [
        "detour", "Identity (= its input)", "NHWC (assumed)", "2", "12 x 12", "4", "4", "0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "ends where its code leaves torch.*--assume-layout"),
        (["--assume-layout", "NHWC"], "no receptive field could be traced for detour.*--receptive-field"),
        (["--assume-layout", "HWC"], "--assume-layout cannot be 'HWC': expected NCHW|NHWC|tokens[:PREFIX]"),
        (["--assume-layout", "tokens"], "ends where its code leaves torch"),
        (["--receptive-field", "0,4"], "--receptive-field cannot be '0,4': expected OFFSET,SIZE,STEP"),
        (["--receptive-field", "0,4,0"], "--receptive-field cannot be '0,4,0': expected OFFSET,SIZE,STEP"),
    ],
)
def test_an_untraceable_layer_is_refused_unless_its_layout_is_assumed(
    netdissect, leaves, data, tmp_path, options, message
):
    outcome = netdissect("run", leaves, "--concepts", data, "--layer", "detour", "--out", tmp_path / "run", *options)
    assert outcome.code == 2
    said = " ".join(outcome.err.split())
    head, _, tail = message.partition(".*")
    assert head in said
    assert tail in said


def test_an_assumed_layer_scores_as_its_map_and_the_run_records_the_assumption(netdissect, leaves, data, tmp_path):
    run = tmp_path / "run"
    common = ["--concepts", data, "--quantile", 0.05, "--bootstrap", 0, "--permutations", 0]
    options = ["--assume-layout", "NHWC", "--receptive-field", "0,4,4"]
    made = netdissect("run", leaves, *common, "--layer", "map", "--layer", "detour", *options, "--out", run)
    assert made.code == 0
    result = load_result(run)
    assert result.layer("detour").scores.equals(result.layer("map").scores)
    assert [layer.layout_source for layer in result.info.layers] == ["traced", "assumed"]
    shown = " ".join(netdissect("show", run, "--statistics").out.split())
    assert "detour: layout NHWC was assumed" in shown
    assert "receptive field 0,4,4 was assumed" in shown
    assert "map: layout" not in shown
    again = netdissect("run", "--config", run, "--trust-network", "--out", tmp_path / "again")
    assert again.code == 0
    assert load_result(tmp_path / "again").info.layers == result.info.layers
