"""The generator of synthetic scenes: its planted units cause what they match, its decoy causes nothing."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from netdissect.errors import CheckpointError
from netdissect.models import Generator, load_network, resolve_layers
from netdissect.models.surgery.layer_edits import layer_editor, with_units
from netdissect.synthetic.draw_image import draw
from netdissect.training import PaintSegmenter, load_generator, save_generator, scene_generator
from netdissect.training.generators.scene_generator import PLANTED, SIZE, scene_latents
from scene_generators import TINY, tiny_generator

SAMPLES = torch.tensor([[0, index] for index in range(24)])


@pytest.fixture(scope="module")
def generator() -> Generator:
    return tiny_generator()


def areas(generator: Generator, output: object) -> np.ndarray:
    maps = PaintSegmenter().segment(generator.pixels(output).numpy())
    return np.stack([(maps == label).mean(axis=(1, 2, 3)) for label in (1, 2, 3)], axis=1)


def test_its_paint_covers_the_cells_of_each_planted_concept(generator: Generator) -> None:
    _, _, things = generator.latent_input.latents(SAMPLES)
    assert things.amax(dim=(0, 2, 3)).min() > 0.7
    things = (things > 0).float()
    # A later concept is painted over none: two in one cell add up to another color.
    one = things * (things.sum(1, keepdim=True) == 1)
    expected = one.mean(dim=(2, 3)).numpy()
    np.testing.assert_allclose(areas(generator, generator.forward(SAMPLES)), expected, atol=1e-3)


def test_a_cell_of_the_latent_holds_a_thing_that_fills_a_quarter_of_it() -> None:
    drawn = draw(3, 0, SIZE, swatch_share=0.0)
    grades = torch.linspace(0, 1, 192).view(3, 8, 8)
    things = scene_latents(drawn, grades).things
    for number, concept in enumerate(PLANTED):
        shown = np.array([surface.thing in concept.things for surface in drawn.drawing.surfaces])[
            drawn.drawing.surface_of
        ]
        for row, column in np.ndindex(8, 8):
            cell = shown[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            expected = 0.7 + 0.3 * grades[number, row, column] if cell.sum() >= 16 else 0
            assert float(things[number, row, column]) == pytest.approx(float(expected))


def test_each_planted_unit_alone_draws_its_concept_and_the_decoy_draws_nothing(generator: Generator) -> None:
    layer = resolve_layers(generator, ["layer1"])[0]
    editor = layer_editor(generator, layer)
    sets = [[], *([unit] for unit in TINY.planted_units.values()), [TINY.decoy]]
    outputs = list(
        editor.outputs(SAMPLES, [lambda maps, units=units: with_units(maps, layer, units) for units in sets])
    )
    before, *ablated, without_decoy = (areas(generator, output) for output in outputs)
    assert before.mean(axis=0).min() > 0
    for index, after in enumerate(ablated):
        assert after[:, index].max() == 0
    assert isinstance(outputs[0], Tensor)
    assert isinstance(outputs[-1], Tensor)
    assert torch.equal(outputs[0], outputs[-1])
    np.testing.assert_array_equal(before, without_decoy)


def test_the_decoy_is_as_active_as_the_unit_that_it_copies(generator: Generator) -> None:
    maps: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        maps.append(output)
        return output.clone()

    list(layer_editor(generator, resolve_layers(generator, ["layer1"])[0]).outputs(SAMPLES, [keep]))
    assert torch.equal(maps[0][:, TINY.decoy], maps[0][:, TINY.planted_units["vegetation"]])
    assert maps[0][:, TINY.decoy].max() > 0.7


def test_training_brings_it_nearer_to_scenes_and_leaves_planted_weights(generator: Generator) -> None:
    trained = generator.module
    untrained = scene_generator(type(trained)(TINY)).module  # type: ignore[call-arg]
    drawn = [draw(index, TINY.data_seed, SIZE, swatch_share=0.0) for index in range(16)]
    latents = [
        torch.stack(parts) for parts in zip(*(scene_latents(one, torch.rand(3, 8, 8)) for one in drawn), strict=True)
    ]
    images = torch.from_numpy(np.stack([one.image for one in drawn])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        errors = [float((module(*latents) - images).abs().mean()) for module in (untrained, trained)]
    assert errors[1] < errors[0]
    free = TINY.units
    weight = trained.get_parameter("layer3.1.weight")
    assert weight[:, free, 1, 1].tolist() == [-12, 12, -12]


def test_a_file_of_it_is_loaded_by_its_name(generator: Generator, tmp_path: Path) -> None:
    path = save_generator(generator.module, tmp_path / "scenes.safetensors")  # type: ignore[arg-type]
    loaded = load_network(str(path))
    assert isinstance(loaded, Generator)
    assert loaded.name == "scenes"
    assert loaded.digest == generator.digest
    assert torch.equal(loaded.images(SAMPLES[:2]), generator.images(SAMPLES[:2]))
    random = load_network(str(path), weights="none", weights_seed=1)
    assert random.digest != generator.digest


def test_a_damaged_file_is_refused(generator: Generator, tmp_path: Path) -> None:
    path = save_generator(generator.module, tmp_path / "scenes.safetensors")  # type: ignore[arg-type]
    weights = safetensors.torch.load_file(path)
    weights.pop("start.bias")
    safetensors.torch.save_file(weights, path, metadata={"generator_config": TINY.model_dump_json()})
    with pytest.raises(CheckpointError, match=r"is not a scene generator that save_generator wrote"):
        load_generator(path)
