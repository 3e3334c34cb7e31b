"""Units that are off are units whose weights are zero."""

import copy

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

import labeled_pictures
from netdissect import Network, Preprocessing
from netdissect.errors import ConfigError, LayerError
from netdissect.experiments import AblateConfig, ablate
from netdissect.experiments.ablation import balanced_terms
from netdissect.experiments.switch import modules_behind, switchboard

SMALL = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)


class Wrapped(nn.Module):
    """No sequence to the eye of the library."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """Run the body."""
        return self.body(images)


def network(*, wrapped: bool = False) -> Network:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=4),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    body[2][1].running_mean.uniform_(-0.1, 0.1)
    body[2][1].bias.data.uniform_(-0.2, 0.2)
    return Network("small", Wrapped(body) if wrapped else body, SMALL)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return labeled_pictures.pictures(tmp_path_factory.mktemp("pictures"))


def zeroed(found: Network, name: str, units: list[int]) -> nn.Module:
    """Return the module with the weights and biases of these units at zero."""
    module = copy.deepcopy(found.module)
    convolution = module.get_submodule(name)
    convolution.weight.data[units] = 0
    convolution.bias.data[units] = 0
    return module


@pytest.mark.parametrize(
    ("wrapped", "layer", "how"),
    [(False, "2.0", "head"), (False, "0", "tail"), (True, "body.0", "hooks"), (True, "body.2.0", "head")],
)
def test_switching_units_off_is_zeroing_their_weights(pictures, wrapped, layer, how):
    small = network(wrapped=wrapped)
    board = switchboard(small, layer, pictures, batch_size=7)
    assert board.how == how
    images = torch.cat([small.preprocessing(torch.from_numpy(one)) for one in pictures.batches(SMALL)])
    for units in ([], [2], [0, 3, 5], list(range(6))):
        expected = zeroed(small, layer, units)(images)
        torch.testing.assert_close(board.scores(units), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(board.scores([2]), board.scores([]))
    torch.testing.assert_close(small.module(images), zeroed(small, layer, [])(images), rtol=0, atol=0)


def test_all_ways_to_switch_units_off_agree(pictures):
    plain, wrapped = network(), network(wrapped=True)
    boards = [switchboard(plain, "0", pictures), switchboard(wrapped, "body.0", pictures)]
    for units in ([], [1, 4]):
        torch.testing.assert_close(boards[0].scores(units), boards[1].scores(units))


def test_what_runs_behind_a_layer_is_told_for_sequences_only():
    assert [type(one).__name__ for one in modules_behind(network().module, "2.1")] == [
        "ReLU", "AdaptiveAvgPool2d", "Flatten", "Linear",
    ]  # fmt: skip
    assert modules_behind(network(wrapped=True).module, "body.0") is None


def test_balanced_accuracy_is_scikit_learn_s_and_linear_in_the_pictures():
    rng = np.random.default_rng(0)
    named, labels = rng.integers(0, 4, (2, 50))
    for label in range(4):
        expected = balanced_accuracy_score(labels == label, named == label)
        assert 0.5 + balanced_terms(named, labels, label).sum() == pytest.approx(expected, rel=1e-12)


def test_sets_are_measured_on_the_other_half_and_drops_are_differences(pictures):
    found = ablate(network(), pictures, AblateConfig(layer="2.0", sizes=(1, 3), random_sets=2, resamples=100))
    assert found.table.columns == ["class", "kind", "n", "off", "draw", "balanced", "drop", "accuracy"]
    assert len(found.table) == 3 * 2 * (3 + 2)
    assert found.table.filter(kind="others", n=3)["off"].to_list() == [5] * 3
    whole = found.table["balanced"] + found.table["drop"]
    for name in pictures.classes:
        assert whole.filter(found.table["class"] == name).n_unique() == 1
    units = found.further["units"]
    assert len(units) == 3 * 8
    for name in pictures.classes:
        here = units.filter(units["class"] == name).sort("rank")
        assert here["drop"].is_sorted(descending=True)
    assert found.verdict.agreement in ("agrees", "disagrees", "not established")


def test_a_unit_that_decides_everything_is_found(tmp_path):
    """Three units, each the mean of one channel, decide for the class of that channel."""
    shown = labeled_pictures.pictures(tmp_path, count=30)
    convolution, linear = nn.Conv2d(3, 5, 1), nn.Linear(5, 3)
    convolution.weight.data = torch.zeros(5, 3, 1, 1)
    convolution.weight.data[torch.arange(3), torch.arange(3)] = 1.0
    convolution.bias.data = torch.tensor([2.0, 2.0, 2.0, 0.0, 0.0])
    linear.weight.data = torch.zeros(3, 5)
    linear.weight.data[torch.arange(3), torch.arange(3)] = 1.0
    linear.bias.data.zero_()
    module = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    outcome = ablate(Network("planted", module, SMALL), shown, AblateConfig(layer="0", sizes=(1,), random_sets=20))
    best = outcome.further["units"].filter(rank=0)
    assert dict(zip(best["class"], best["unit"], strict=True)) == {"blue": 0, "green": 1, "red": 2}
    assert outcome.table.filter(kind="worst")["drop"].to_list() == [0, 0, 0]
    assert outcome.verdict.agreement == "agrees"


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (AblateConfig(layer="2.0", sizes=(9,)), ConfigError, "sets of 9 units were asked for; layer '2.0' has 8"),
        (AblateConfig(layer="2.0", rank="iou", sizes=(1,)), ConfigError, "ranked by IoU.* there is none"),
        (AblateConfig(layer="nowhere"), LayerError, "nowhere"),
    ],
)
def test_what_cannot_be_is_refused(pictures, config, error, message):
    with pytest.raises(error, match=message):
        ablate(network(), pictures, config)


def test_few_pictures_establish_nothing(pictures):
    few = pictures.taken(np.array([0, 1, 12, 13, 24, 25]))
    found = ablate(network(), few, AblateConfig(layer="2.0", sizes=(3,), resamples=100))
    assert found.verdict.agreement == "not established"


def test_a_class_with_one_picture_is_refused(pictures):
    lonely = pictures.taken(np.array([0, 12, 13]))
    with pytest.raises(ConfigError, match="class 'blue' has 1 of 3 pictures"):
        ablate(network(), lonely, AblateConfig(layer="2.0", sizes=(1,)))
