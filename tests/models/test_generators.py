"""Generators: latents that depend on the sample alone, images, layers, and where their cells are on the output."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netdissect.concepts import Size
from netdissect.config import Assumed
from netdissect.errors import ConfigError, LayerError, NetworkError, ShapeError
from netdissect.models import ActivationRecorder, Generator, as_generator, list_layers, load_network, resolve_layers
from netdissect.models.generators.cell_check import check_cells
from netdissect.models.generators.latents import random_seed
from netdissect.models.surgery.layer_edits import layer_editor, with_units

SAMPLES = torch.tensor([[0, 0], [0, 7], [3, 7]])


class Draws(nn.Module):
    """A class-conditional generator of 32 x 32 images, with a constant that no latent changes."""

    def __init__(self, last: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.label = nn.Embedding(5, 4)
        self.code = nn.Linear(8, 6 * 8 * 8)
        self.constant = nn.Conv2d(1, 6, 1)
        self.up1 = nn.ConvTranspose2d(6, 10, 4, 2, 1)
        self.up2 = nn.ConvTranspose2d(10, 3, 4, 2, 1)
        self.last = last

    def forward(self, label: Tensor, style: Tensor) -> Tensor:
        """Draw images."""
        code = self.code(torch.cat([self.label(label), style], 1)).view(-1, 6, 8, 8)
        return self.last(self.up2(self.up1(code + self.constant(torch.ones(1, 1, 8, 8))).relu()))


def sampler(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.randint(5, (), generator=generator), torch.randn(4, generator=generator)


def made() -> tuple[nn.Module, Any]:
    """What a factory of the command line returns."""
    return Draws(), sampler


@pytest.fixture(scope="module")
def generator() -> Generator:
    return as_generator(Draws(), sampler)


def test_a_sample_depends_on_seed_and_index_alone(generator: Generator) -> None:
    labels, styles = generator.latent_input.latents(SAMPLES)
    for row, (seed, index) in enumerate(SAMPLES.tolist()):
        own = torch.Generator().manual_seed(random_seed(seed, index))
        label, style = sampler(own)
        assert torch.equal(labels[row], label)
        assert torch.equal(styles[row], style)
    alone = torch.cat([generator.images(SAMPLES[row : row + 1]) for row in range(3)])
    assert (alone.int() - generator.images(SAMPLES).int()).abs().max() <= 1
    assert not torch.equal(styles[1], styles[2])


def test_no_two_samples_of_a_run_share_their_random_numbers() -> None:
    assert len({random_seed(5, index) for index in range(100_000)}) == 100_000
    assert max(random_seed(5, index) for index in range(1000)) < 2**32


def test_its_images_are_its_output_in_pixels(generator: Generator) -> None:
    output = generator.forward(SAMPLES)
    assert isinstance(output, Tensor)
    expected = [[[round(255 * (value + 1) / 2) for value in row] for row in channel] for channel in output[1].tolist()]
    images = generator.images(SAMPLES)
    assert images.dtype == torch.uint8
    assert images.shape == (3, 32, 32, 3)
    assert images[1].permute(2, 0, 1).tolist() == expected


def test_its_layers_are_read_as_maps_that_cover_the_output(generator: Generator) -> None:
    layers = {layer.name: layer for layer in list_layers(generator)}
    assert [*layers] == ["label", "code", "up1", "up2"]
    up1 = layers["up1"]
    assert (up1.units, up1.grid, up1.field) == (10, Size(16, 16), None)
    assert up1.layout is not None
    assert (up1.layout.name, up1.layout.source) == ("NCHW", "assumed")
    with ActivationRecorder(generator, [up1]) as record:
        maps = record(SAMPLES)["up1"]
    assert maps.shape == (3, 10, 16, 16)


def test_a_layer_that_depends_on_no_latent_is_refused(generator: Generator) -> None:
    with pytest.raises(LayerError, match=r"'constant'.* not computed from the latent: it is the same for every sample"):
        resolve_layers(generator, ["constant"])


def test_a_receptive_field_of_a_generator_is_refused(generator: Generator) -> None:
    with pytest.raises(ConfigError, match=r"whose layers have none: their cells are placed evenly"):
        list_layers(generator, Assumed(receptive_field=(0.0, 3.0, 2.0)))


def test_it_takes_no_images(generator: Generator) -> None:
    with pytest.raises(ShapeError, match=r"a generator takes no images. Expected int64 \(batch, 2\)"):
        generator.preprocessing.normalize(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("module", "drawn", "message"),
    [
        (
            nn.Linear(4, 3),
            lambda g: torch.randn(4, generator=g),
            r"returned a tensor of shape \(2, 3\). Expected images",
        ),
        (Draws(), lambda g: torch.randn(4, generator=g), r"fails on latents of shape \(2, 4\) with TypeError"),
        (Draws(), lambda g: (torch.tensor(1), torch.randn(1, 4, generator=g)), r"latents of shape \(2,\), \(2, 1, 4\)"),
        (Draws(), lambda _: (torch.tensor(1), torch.randn(4)), r"draws other latents each time"),
        (Draws(), lambda _: 3, r"sampler returned a int. Expected the latents of one sample"),
        (Draws(), lambda: None, r"The latent sampler fails with TypeError"),
        (
            Draws(),
            lambda g: torch.randn(int(torch.randint(3, 99, (), generator=g)), generator=g),
            r"shapes \(\d+,\) for",
        ),
        (Draws(torch.sigmoid), sampler, r"draws values from 0\.\d+ to 0\.\d+ .*Expected -1 .* output_range=\(0, 1\)"),
        (Draws(lambda x: 9 * x), sampler, r"draws values from -"),
    ],
)
def test_what_draws_no_image_is_refused(module: nn.Module, drawn: Any, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        as_generator(module, drawn)


def test_an_output_from_0_to_1_is_taken_where_it_is_said() -> None:
    generator = as_generator(Draws(torch.sigmoid), sampler, output_range=(0, 1))
    output = generator.forward(SAMPLES)
    assert isinstance(output, Tensor)
    assert generator.images(SAMPLES)[0, 5, 6, 1] == round(255 * float(output[0, 1, 5, 6]))
    with pytest.raises(NetworkError, match=r"Expected 0 \(black\) to 1 \(white\)"):
        as_generator(Draws(), sampler, output_range=(0, 1))


def test_a_factory_returns_a_module_with_its_sampler() -> None:
    network = load_network(f"python:{__name__}:made")
    assert isinstance(network, Generator)
    assert network.preprocessing.size == Size(32, 32)
    with pytest.raises(NetworkError, match=r"draws values from -.* Expected 0 \(black\)"):
        load_network(f"python:{__name__}:made", mean=(0, 0, 0), std=(1, 1, 1))
    with pytest.raises(ConfigError, match=r"is a generator, which takes no images"):
        load_network(f"python:{__name__}:made", size=64)


def test_an_ablated_unit_is_zero_for_the_layers_behind(generator: Generator) -> None:
    layer = resolve_layers(generator, ["up1"])[0]
    editor = layer_editor(generator, layer)
    (ablated,) = editor.outputs(SAMPLES, [lambda output: with_units(output, layer, [2, 4])])
    module = Draws()
    label, style = generator.latent_input.latents(SAMPLES)
    code = module.code(torch.cat([module.label(label), style], 1)).view(-1, 6, 8, 8)
    maps = module.up1(code + module.constant(torch.ones(1, 1, 8, 8)))
    maps[:, [2, 4]] = 0
    assert isinstance(ablated, Tensor)
    torch.testing.assert_close(ablated, torch.tanh(module.up2(maps.relu())))


class Turned(nn.Module):
    """Gives the maps of a layer in another order to the layers behind."""

    def __init__(self, change: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.change, self.back = change, back
        self.code = nn.Linear(4, 8 * 16 * 16)
        self.layer = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), _Change(change))
        self.last = nn.ConvTranspose2d(16, 3, 4, 2, 1)

    def forward(self, style: Tensor) -> Tensor:
        """Draw images."""
        return self.last(self.back(self.layer(self.code(style).view(-1, 8, 16, 16)))).tanh()


class _Change(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, maps: Tensor) -> Tensor:
        return self.change(maps)


def same(maps: Tensor) -> Tensor:
    return maps


def flipped(maps: Tensor) -> Tensor:
    return maps.flip(3)


def channels_last(maps: Tensor) -> Tensor:
    return maps.permute(0, 2, 3, 1)


def channels_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("change", "back", "layout", "verdict"),
    [
        (same, same, None, "confirmed"),
        (flipped, flipped, None, "contradicted"),
        (flipped, same, None, "confirmed"),
        (channels_last, channels_first, None, "contradicted"),
        (channels_last, channels_first, "NHWC", "confirmed"),
    ],
)
def test_a_changed_cell_changes_the_output_where_the_cell_is(
    change: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], layout: str | None, verdict: str
) -> None:
    generator = as_generator(Turned(change, back), lambda drawn: torch.randn(4, generator=drawn))
    layer = resolve_layers(generator, ["layer"], Assumed(layout=layout))[0]
    assert check_cells(generator, layer, SAMPLES[:2]).verdict == verdict


def test_a_map_of_two_cells_a_side_is_checked_too() -> None:
    module = nn.Sequential(
        nn.Linear(4, 32), nn.Unflatten(1, (8, 2, 2)), nn.Upsample(scale_factor=8), nn.Conv2d(8, 3, 3, 1, 1), nn.Tanh()
    )
    generator = as_generator(module, lambda drawn: torch.randn(4, generator=drawn))
    check = check_cells(generator, resolve_layers(generator, ["1"])[0], SAMPLES[:2])
    assert check.verdict == "confirmed"
