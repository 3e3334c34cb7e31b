"""Linear heads: found where scores are linear in pooled units, refused elsewhere with the reason."""

import pytest
import torch
from torch import Tensor, nn

from netdissect import Network, Preprocessing
from netdissect.errors import NetworkError
from netdissect.models.surgery.linear_head import HeadRecorder, dummy_input, find_head
from netdissect.models.surgery.unit_ablation import unit_ablator
from netdissect.training.scene_net import preprocessing, scene_network

SMALL = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)


def classifier(*after: nn.Module, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network("small", nn.Sequential(nn.Conv2d(3, 6, 5, stride=4), *after), SMALL)


POOLED = (nn.BatchNorm2d(6), nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5))


def test_a_score_is_the_bias_and_the_sum_of_weights_times_pooled_units():
    network = classifier(*POOLED, nn.Linear(6, 4))
    head = find_head(network)
    assert (head.layer.name, head.name, tuple(head.weight.shape)) == ("0", "6", (4, 6))
    with HeadRecorder(network, head) as record:
        seen = record(dummy_input(network, 5))
    torch.testing.assert_close(seen.pooled @ head.weight.T + head.bias, seen.scores)
    torch.testing.assert_close(seen.scores, network.forward(dummy_input(network, 5)))
    assert seen.maps.shape == (5, 6, 7, 7)


def test_the_head_of_the_scene_network_pools_the_maxima_of_its_last_convolution():
    network = Network("scenes", scene_network((4, 4, 4, 4, 8)), preprocessing(64))
    assert find_head(network).layer.name == "conv5.0"
    head = find_head(network, "conv5")
    with HeadRecorder(network, head) as record:
        seen = record(dummy_input(network, 2))
    assert torch.equal(seen.maps.amax((2, 3)), seen.pooled)


def test_a_linear_layer_without_a_bias_has_a_bias_of_zero():
    assert find_head(classifier(*POOLED, nn.Linear(6, 4, bias=False))).bias.tolist() == [0, 0, 0, 0]


class _ChannelsLast(nn.Module):
    """As many units as rows and columns, (B, h, w, U), pooled into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last, self.head = nn.Conv2d(3, 7, 5, stride=4), nn.Identity(), nn.Linear(7, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.last(self.conv(images).permute(0, 2, 3, 1)).mean((1, 2)))


def test_units_of_a_channels_last_layer_with_as_many_rows_are_read_as_units():
    torch.manual_seed(0)
    network = Network("last", _ChannelsLast(), SMALL)
    head = find_head(network, "last")
    with HeadRecorder(network, head) as record:
        seen = record(dummy_input(network, 2))
    torch.testing.assert_close(seen.maps.mean((2, 3)), seen.pooled)
    torch.testing.assert_close(seen.maps, network.module.conv(dummy_input(network, 2)))


def test_units_of_a_channels_last_layer_with_as_many_rows_are_ablated():
    torch.manual_seed(0)
    module = nn.Sequential()
    module.add_module("body", _ChannelsLast())
    module.body.head = nn.Sequential(nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 4))  # not a linear head
    network = Network("last", module, SMALL)
    images = dummy_input(network, 2)
    (ablated,) = unit_ablator(network, "body.last").scores(images, [[2, 5]])
    pooled = module.body.conv(images).mean((2, 3))
    pooled[:, [2, 5]] = 0
    torch.testing.assert_close(ablated, module.body.head(pooled))


class Dictionary(nn.Module):
    """Returns no tensor."""

    def forward(self, scores: Tensor) -> dict[str, Tensor]:
        """Wrap the scores."""
        return {"scores": scores}


@pytest.mark.parametrize(
    ("after", "layer", "message"),
    [
        ((*POOLED, nn.Linear(6, 4), nn.Softmax(1)), None, r"does not end in a linear layer: .*'7', a Softmax"),
        ((nn.Flatten(), nn.Linear(294, 4)), None, r"takes 294 features, but layer '0' has 6 units"),
        ((nn.Flatten(), nn.Linear(294, 6), nn.Linear(6, 4)), None, r"depends on units of other indices"),
        ((nn.Conv2d(6, 6, 1), *POOLED, nn.Linear(6, 4)), "0", r"depends on units of other indices"),
        ((*POOLED, nn.Linear(6, 4)), "9", r"no layer '9' with a feature map"),
        ((*POOLED, nn.Linear(6, 4), Dictionary()), None, r"returns a dict. Expected a classifier"),
    ],
)
def test_a_network_without_a_linear_head_is_refused_with_the_reason(after, layer, message):
    with pytest.raises(NetworkError, match=message):
        find_head(classifier(*after), layer)


def test_a_head_with_swapped_units_is_refused():
    class Swap(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return maps[:, [1, 0, 2, 3, 4, 5]]

    with pytest.raises(NetworkError, match="depends on units of other indices"):
        find_head(classifier(Swap(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)))


def test_a_network_without_a_convolution_is_refused():
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    with pytest.raises(NetworkError, match="has no convolution"):
        find_head(Network("linear", module, SMALL))
