"""Units planted in a network come back out of the files with their labels and their counts."""

import numpy as np
import pytest
import torch
from PIL import Image

from netdissect.concepts import ConceptData
from netdissect.config import DissectConfig, Protocol
from netdissect.dissect import dissect
from netdissect.errors import ConceptsError, ConfigError
from netdissect.synthetic.planted import (
    CODES,
    LAYER,
    OBJECTS,
    PARTS,
    PlantedUnit,
    planted_counts,
    planted_dataset,
    planted_network,
)

SIZE = 64
UNITS = (
    *(PlantedUnit(name) for name in (*OBJECTS, *PARTS)),
    PlantedUnit("bell", shift=(2, -3)),
    PlantedUnit("crate", blur=2),
    PlantedUnit("drum", keep=0.3),
    PlantedUnit("easel", other="funnel", share=0.5),
    PlantedUnit("rim", shift=(1, 0), blur=1, keep=0.5, other="bell", share=0.1),
    PlantedUnit("corner stone", shift=(1, 1)),
    PlantedUnit("anvil", keep=0.0),
    PlantedUnit("funnel", graded=False),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ConceptData:
    folder = planted_dataset(tmp_path_factory.mktemp("planted") / "data", images=40, size=SIZE, seed=1)
    return ConceptData.open(folder)


def _dissect(data: ConceptData, units: tuple[PlantedUnit, ...], quantile: float):
    config = DissectConfig(layers=(LAYER,), protocol=Protocol(quantiles=(quantile,)), batch_size=16)
    return dissect(planted_network(units, SIZE), data, config=config).layers[LAYER]


@pytest.mark.parametrize("quantile", [0.005, 0.2])
def test_every_count_of_every_unit_and_concept_comes_back_to_the_integer(data, quantile):
    scores = _dissect(data, UNITS, quantile).scores
    found = {
        (unit, concept): (intersection, activation, truth)
        for unit, concept, intersection, activation, truth in scores.select(
            "unit", "concept", "intersection", "mask_pixels", "concept_pixels"
        ).iter_rows()
    }
    for index, unit in enumerate(UNITS):
        for concept in data.concepts:
            counts = planted_counts(data, unit, concept.name, quantile)
            assert found[index, concept.name] == (counts.intersection, counts.activation, counts.concept_pixels)


def test_an_exact_unit_of_a_small_concept_has_its_label_and_an_iou_of_one(tmp_path):
    # Fully labeled, and every concept smaller than the quantile: mask and concept are the same cells.
    data = ConceptData.open(planted_dataset(tmp_path / "data", images=20, size=SIZE, unlabeled=0))
    units = tuple(PlantedUnit(name) for name in CODES)
    table = _dissect(data, units, 0.3).units
    assert table["label"].to_list() == list(CODES)
    assert table["iou"].to_list() == [1.0] * len(CODES)


def test_a_unit_of_a_large_concept_reaches_the_quantile_over_the_concept(tmp_path):
    data = ConceptData.open(planted_dataset(tmp_path / "data", images=20, size=SIZE, unlabeled=0))
    cells = 20 * (SIZE // 2) ** 2
    table = _dissect(data, (PlantedUnit("anvil"),), 0.005).units
    anvil = next(concept for concept in data.concepts if concept.name == "anvil")
    truth = round(anvil.coverage * (SIZE // 2) ** 2)
    assert truth > int(0.005 * cells)
    assert table["iou"][0] == int(0.005 * cells) / truth


def test_a_thinned_unit_has_about_the_share_that_was_kept(tmp_path):
    data = ConceptData.open(planted_dataset(tmp_path / "data", images=40, size=SIZE, unlabeled=0))
    for keep in (0.25, 0.5, 0.75):
        counts = planted_counts(data, PlantedUnit("crate", keep=keep), "crate", 0.3)
        assert counts.iou == pytest.approx(keep, abs=0.05)
        assert _dissect(data, (PlantedUnit("crate", keep=keep),), 0.3).units["iou"][0] == counts.iou


def test_a_thing_in_the_last_corner_is_found_where_it_is(data):
    # A resize-and-crop of the image, or map cells anchored elsewhere, would lose these six cells.
    counts = planted_counts(data, PlantedUnit("corner stone"), "corner stone", 0.01)
    assert counts.intersection == counts.concept_pixels > 0
    assert planted_counts(data, PlantedUnit("corner stone", shift=(-3, 0)), "corner stone", 0.01).intersection == 0
    unit = OBJECTS.index("corner stone")
    assert _dissect(data, UNITS, 0.01).units["label"][unit] == "corner stone"


def test_a_unit_without_grades_on_a_large_concept_has_an_empty_mask_and_no_label(data):
    table = _dissect(data, (PlantedUnit("funnel", graded=False),), 0.005).units
    assert table["label"].to_list() == [None]
    assert table["iou"].to_list() == [0.0]


def test_what_fires_where_its_category_is_not_annotated_is_not_held_against_it(data):
    labeled = planted_counts(data, PlantedUnit("anvil"), "anvil", 0.3)
    scene = planted_counts(data, PlantedUnit("anvil"), "planted-s", 0.3)
    assert labeled.iou == 1.0
    assert scene.activation > labeled.activation  # the unit does fire where objects are not labeled


def test_values_of_a_unit_are_distinct_wherever_it_fires(data):
    network = planted_network((PlantedUnit("anvil"),), SIZE)
    images = torch.stack([_pixels(data, row) for row in range(len(data))])
    values = network.module(network.preprocessing(images))
    fired = values[values > 0]
    assert len(fired) > 500
    assert len(fired.unique()) == len(fired)


def _pixels(data: ConceptData, row: int) -> torch.Tensor:
    with Image.open(data.image_path(row)) as image:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concept": "anchor"}, "no concept 'anchor' is planted"),
        ({"concept": "bell", "other": "bull"}, "no concept 'bull' is planted"),
        ({"concept": "bell", "other": "bell"}, "cannot mix 'bell' with itself"),
        ({"concept": "bell", "blur": -1}, "blur -1, keep 1.0 and share 0.0"),
        ({"concept": "bell", "keep": 1.5}, "keep 1.5"),
    ],
)
def test_a_unit_that_cannot_be_planted_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        PlantedUnit(**options)


def test_a_network_without_units_is_refused():
    with pytest.raises(ConfigError, match="without units"):
        planted_network(())


@pytest.mark.parametrize(("images", "size"), [(0, 64), (1, 63), (1, 30), (9000, 64)])
def test_images_that_cannot_carry_their_labels_are_refused(images, size, tmp_path):
    with pytest.raises(ConfigError, match=f"asked for: {images} of {size} pixels"):
        planted_dataset(tmp_path / "data", images=images, size=size)


def test_a_finished_planted_data_set_is_not_replaced_unless_told(tmp_path):
    planted_dataset(tmp_path / "data", images=1)
    with pytest.raises(ConceptsError, match="already holds a finished data set"):
        planted_dataset(tmp_path / "data", images=1)
