"""Rotations are rotations, and a rotated layer is what a network with the rotation built in would give."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netdissect import Network, Preprocessing, dissect
from netdissect.concepts import ConceptData
from netdissect.errors import LayerError
from netdissect.models.dictionaries.basis import LinearBasis
from netdissect.models.surgery.rotations import random_rotation, rotated_name, with_rotations
from netdissect.synthetic import write_synthetic


@given(units=st.integers(1, 48), seed=st.integers(0, 10**6))
def test_a_random_rotation_is_orthogonal_with_determinant_one(units, seed):
    rotation = random_rotation(units, seed).double()
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(units).double(), atol=1e-5, rtol=0)
    assert torch.linalg.det(rotation).item() == pytest.approx(1, abs=1e-4)


def test_rotations_are_drawn_by_their_seed_and_lean_nowhere():
    assert torch.equal(random_rotation(8, 3), random_rotation(8, 3))
    assert not torch.equal(random_rotation(8, 3), random_rotation(8, 4))
    mean = torch.stack([random_rotation(4, seed) for seed in range(2000)]).mean(0)
    assert mean.abs().max() < 0.05  # a plain QR has a positive diagonal on average


@pytest.fixture
def world(tmp_path):
    return ConceptData.open(write_synthetic(tmp_path / "world", images=12, size=64))


def test_a_rotated_layer_is_the_layer_of_a_network_with_the_rotation_built_in(world):
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 6, 5, stride=4, padding=2)
    mixing = torch.nn.Conv2d(6, 6, 1, bias=False)
    preprocessing = Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3)
    network = with_rotations(Network("plain", torch.nn.Sequential(convolution), preprocessing), "0", [7])
    mixing.weight.data = random_rotation(6, 7)[:, :, None, None].clone()
    built_in = Network("built in", torch.nn.Sequential(convolution, mixing), preprocessing)
    found = dissect(network, world, layers=[rotated_name("0", 7)]).scores
    expected = dissect(built_in, world, layers=["1"]).scores
    apart = (found["intersection"] - expected["intersection"]).abs().sum()
    assert expected["intersection"].sum() > 300
    assert apart <= 2  # the sums are taken in another order: a value at the threshold may round otherwise


def test_all_bases_come_from_one_forward_pass_and_leave_the_layer_alone(world):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 5, stride=4, padding=2))
    network = Network("plain", module, Preprocessing((64, 64), (0.5,) * 3, (0.25,) * 3))
    rotated = with_rotations(network, "0", [0, 1])
    together = dissect(rotated, world, layers=["0", "0@*"])
    assert list(together.layers) == ["0", "0@rotation-0", "0@rotation-1"]
    assert together.layer("0").units.equals(dissect(network, world, layers=["0"]).layer("0").units)
    swap = torch.eye(6)[[1, 0, 2, 3, 4, 5]]
    permuted = dissect(replace(network, bases={"swapped": LinearBasis("0", swap)}), world, layers=["0", "swapped"])
    labels = [permuted.layer(name).units["label"].to_list() for name in ("0", "swapped")]
    assert [labels[0][i] for i in (1, 0, 2, 3, 4, 5)] == labels[1]


def test_a_layer_that_does_not_exist_cannot_be_rotated():
    network = Network("plain", torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1)), Preprocessing((8, 8), (0,) * 3, (1,) * 3))
    with pytest.raises(LayerError, match="conv9"):
        with_rotations(network, "conv9", [0])
