"""The synthetic data set: equal seeds give equal images, labels are exact, scenes are varied."""

import hashlib
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from netdissect.concepts import ConceptData
from netdissect.concepts.build.vocabulary import normalize_name
from netdissect.concepts.colors import COLOR_NAMES, name_colors
from netdissect.concepts.image_io import read_upright
from netdissect.concepts.resize import CropBox
from netdissect.errors import ConceptsError, ConfigError
from netdissect.synthetic import (
    MATERIAL_NAMES,
    SCENE_NAMES,
    STUFF_NAMES,
    TEXTURE_NAMES,
    THING_NAMES,
    render,
    training_set,
    write_synthetic,
)
from netdissect.synthetic.draw_image import draw
from netdissect.synthetic.scenes import SCENES

SAMPLE = 400


@pytest.fixture(scope="module")
def drawings():
    return [draw(index, seed=5, size=64) for index in range(SAMPLE)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("synthetic") / "data", images=40, size=64, seed=2)


def test_the_same_number_and_seed_give_the_same_image_and_labels():
    for index in range(6):
        once, again = draw(index, seed=3), draw(index, seed=3)
        assert np.array_equal(once.image, again.image)
        assert np.array_equal(once.drawing.surface_of, again.drawing.surface_of)
        assert once.drawing.surfaces == again.drawing.surfaces


def test_other_numbers_and_other_seeds_give_other_images():
    images = [draw(index, seed).image.tobytes() for index, seed in itertools.product(range(5), range(3))]
    assert len(set(images)) == 15


def test_an_image_does_not_depend_on_what_was_drawn_before():
    alone = draw(7, seed=1).image
    draw(3, seed=9)
    assert np.array_equal(draw(7, seed=1).image, alone)


def test_every_pixel_of_a_scene_shows_an_object_and_a_texture_image_shows_only_textures(drawings):
    for one in drawings:
        shown = [one.drawing.surfaces[i] for i in np.unique(one.drawing.surface_of)]
        if one.scene is None:
            assert all(surface.thing is None and surface.paint.texture for surface in shown)
        else:
            assert all(surface.thing for surface in shown)


def test_a_part_lies_inside_an_object(drawings):
    for one in drawings:
        for surface in one.drawing.surfaces:
            assert surface.part is None or surface.thing in THING_NAMES


def test_a_sample_names_each_pixels_object_part_material_and_texture():
    for index in range(0, 30, 3):
        drawing, labels = draw(index, seed=6).drawing, render(index, seed=6).read_labels()
        told = {
            "object": [surface.thing for surface in drawing.surfaces],
            "part": [surface.part for surface in drawing.surfaces],
            "material": [surface.paint.material for surface in drawing.surfaces],
            "texture": [surface.paint.texture for surface in drawing.surfaces],
        }
        for category, names in told.items():
            (channel,) = labels[category]
            for place in itertools.product(range(0, 96, 5), repeat=2):
                name = channel.names.get(int(channel.values[place]))
                assert name == names[drawing.surface_of[place]]


def test_the_synthetic_data_set_is_as_varied_as_documented(drawings):
    shown = [one.drawing.surfaces[i] for one in drawings for i in np.unique(one.drawing.surface_of)]
    assert len({surface.thing for surface in shown} & set(THING_NAMES)) >= 60
    assert len({surface.part for surface in shown} - {None}) >= 60
    assert {surface.paint.material for surface in shown} - {None} == set(MATERIAL_NAMES)
    assert {surface.paint.texture for surface in shown} - {None} == set(TEXTURE_NAMES)
    assert len(SCENE_NAMES) >= 16
    assert len(MATERIAL_NAMES) >= 6
    assert len(TEXTURE_NAMES) >= 8


def test_no_scene_takes_more_than_eight_percent_of_the_images():
    # Scenes are drawn evenly; 400 drawings are too few to measure a share near 8 %.
    assert 1 / len(SCENE_NAMES) < 0.05
    scenes = Counter(draw(index, seed=8, size=64).scene for index in range(300))
    assert len(scenes) == len(SCENE_NAMES) + 1
    assert max(count for scene, count in scenes.items() if scene) <= 0.08 * 300


def test_no_thing_gives_its_scene_away():
    for name in {name for scene in SCENES.values() for name in scene.thing_counts}:
        expected = [scene.thing_counts.get(name, 0.0) for scene in SCENES.values()]
        assert sum(number > 0 for number in expected) >= 2, name
        assert max(expected) <= 0.8 * sum(expected) + 1e-9, name


def test_no_name_stands_in_two_categories(drawings):
    parts = {surface.part for one in drawings for surface in one.drawing.surfaces} - {None}
    groups = {
        "object": {*THING_NAMES, *STUFF_NAMES},
        "part": parts,
        "material": set(MATERIAL_NAMES),
        "texture": set(TEXTURE_NAMES),
        "scene": set(SCENE_NAMES),
        "color": set(COLOR_NAMES),
    }
    spelled = {category: {normalize_name(name, category) for name in names} for category, names in groups.items()}
    for (_, one), (_, other) in itertools.combinations(spelled.items(), 2):
        assert one & other == set()


def test_things_and_stuff_are_every_object_and_listed_apart(drawings):
    assert set(THING_NAMES) & set(STUFF_NAMES) == set()
    things = {surface.thing for one in drawings for surface in one.drawing.surfaces} - {None}
    assert things <= {*THING_NAMES, *STUFF_NAMES}


def test_most_things_cover_little_enough_to_be_found_at_the_papers_quantile(drawings):
    # At most q of all cells are on, so IoU <= q / coverage: 0.04 needs a coverage below 12.5 % at q = 0.005.
    coverage: Counter[str] = Counter()
    for one in drawings:
        for surface, pixels in zip(
            one.drawing.surfaces,
            np.bincount(one.drawing.surface_of.ravel(), minlength=len(one.drawing.surfaces)),
            strict=True,
        ):
            coverage[surface.thing or ""] += int(pixels)
    assert max(coverage[name] for name in THING_NAMES) < 0.05 * 64 * 64 * SAMPLE


def test_a_label_map_on_disk_is_the_drawings_own_at_half_the_size(dataset):
    data = ConceptData.open(dataset)
    names = {concept.label_id: concept.name for concept in data.concepts}
    for row in range(0, len(data), 7):
        index = int(Path(data.rows[row].image).stem)
        sample = render(index, seed=2, size=64)
        labels = data.labels(row)
        bearing = {names[number] for number in np.unique(labels.label_channels) if number}
        expected: set[str] = set()
        for category in ("object", "part", "material", "texture"):
            channel = sample.read_labels()[category][0]
            small = CropBox.of(*channel.values.shape[:2], "stretch").values(channel.values, 32)
            for value, name in channel.names.items():
                if (small == value).any():
                    expected.add(name)
                    number = next(number for number, spelled in names.items() if spelled == name)
                    assert np.array_equal((labels.label_channels == number).any(axis=0), small == value)
        assert {name for name in bearing if not name.endswith("-c")} == expected


def test_the_image_on_disk_is_lossless_and_its_colors_are_named_from_it(dataset):
    data = ConceptData.open(dataset, categories=["color"])
    number = {concept.name: concept.label_id for concept in data.concepts}
    for row in (0, 11):
        image = np.asarray(read_upright(data.image_path(row)).image)
        drawn = draw(int(Path(data.rows[row].image).stem), seed=2, size=64).image
        assert np.array_equal(image, drawn)
        colors = name_colors(CropBox.of(*image.shape[:2], "stretch").values(image, 32))
        expected = np.array([number.get(f"{name}-c", 0) for name in COLOR_NAMES])[colors - 1]
        assert np.array_equal(data.labels(row).label_channels[0], expected)


@pytest.mark.slow
def test_the_files_are_the_same_for_any_number_of_workers(dataset, tmp_path):
    again = write_synthetic(tmp_path / "again", images=40, size=64, seed=2, workers=2)
    assert _digests(again) == _digests(dataset)


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_progress_counts_images_and_label_maps_with_their_total(tmp_path):
    told = []
    write_synthetic(tmp_path / "data", images=12, size=64, progress=lambda *event: told.append(event))
    assert told == [(stage, done, 12) for stage in ("images", "label maps") for done in range(1, 13)]


def test_training_images_are_scenes_drawn_from_their_numbers():
    images, scenes = training_set(70, size=64, seed=4, workers=1)
    assert images.shape == (70, 64, 64, 3)
    for index in (0, 63, 64, 69):
        one = draw(index, seed=4, size=64, swatch_share=0)
        assert np.array_equal(images[index], one.image)
        assert SCENE_NAMES[scenes[index]] == one.scene


@pytest.mark.parametrize("size", [62, 130, 97])
def test_a_size_out_of_range_is_refused(size, tmp_path):
    for ask in (lambda: render(0, 0, size), lambda: training_set(1, size=size), lambda: _write(tmp_path, size=size)):
        with pytest.raises(ConfigError, match=f"images is {size} pixels. Expected an even size from 64 to 128"):
            ask()


def _write(folder: Path, **options: int) -> Path:
    return write_synthetic(folder / "data", **options)


def test_no_images_at_all_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="number of synthetic images is 0"):
        _write(tmp_path, images=0)


def test_a_finished_data_set_is_replaced_only_with_overwrite(dataset):
    with pytest.raises(ConceptsError, match="already holds a finished data set"):
        write_synthetic(dataset, images=1)
