"""Whole runs against the oracle, fed by plain forward hooks."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from torchvision import transforms

import oracle
import run_asserts
import strategies
from netdissect.concepts import ConceptData
from netdissect.config import PROTOCOL_NAMES, DissectConfig, Execution, ProtocolName
from netdissect.dissect import dissect
from netdissect.models import Network
from netdissect.result import Result, tables
from networks import COVERAGE, FIELDS, SIDE, Spoiled, build, images

pytestmark = pytest.mark.usefixtures("tight")

LAYERS = ("wide_relu", "deep_relu", "fc")


def config(definition: strategies.Definition, **changes: object) -> DissectConfig:
    return DissectConfig(layers=LAYERS, protocol=definition.protocol, batch_size=3, top_images=4, **changes)


def assert_run_is_the_oracle_s(
    network: Network, root: Path, settings: DissectConfig, definition: strategies.Definition, execution: Execution
) -> None:
    result = dissect(network, root, config=settings, execution=execution)
    broden = oracle.read_broden(root, settings.categories)
    maps = run_asserts.hooked(network, root, broden.images, list(settings.layers), settings.batch_size)
    for name in settings.layers:
        rules = definition.rules
        if name not in FIELDS and rules.anchor.startswith("field"):
            rules = oracle.Rules(**{**vars(rules), "anchor": "half-pixel"})  # one cell: the anchor is of no account
        fields = FIELDS.get(name, (oracle.Field(0, 1, 1),) * 2)
        for fraction in settings.protocol.quantiles:
            level = oracle.Rules(**{**vars(rules), "fraction": fraction})
            expected = oracle.count(maps[name], broden.source_images, broden.category_of, level, (SIDE, SIDE), fields)
            run_asserts.assert_layer_is_the_oracle_s(result.layers[name], expected, broden, maps[name], fraction)


@pytest.mark.parametrize("how", [{"activation_cache": "sparse"}, {"activation_cache": "none"}, {"engine": "tensor"}])
@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_a_run_gives_the_counts_of_the_oracle(broden: Path, name: ProtocolName, how: dict[str, Any]) -> None:
    definition = strategies.definition(name, 0.05)
    execution = Execution(**how)
    assert_run_is_the_oracle_s(build(), broden, config(definition), definition, execution)


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_the_protocols_own_quantiles_give_the_counts_of_the_oracle(broden: Path, name: ProtocolName) -> None:
    definition = strategies.definition(name)
    assert_run_is_the_oracle_s(build(seed=5), broden, config(definition), definition, Execution())


def test_a_bare_module_with_transforms_is_dissected_as_the_network_that_was_made_of_it(broden: Path) -> None:
    network = build()
    mean, std = network.preprocessing.mean, network.preprocessing.std
    steps = [transforms.Resize(SIDE), transforms.ToTensor(), transforms.Normalize(mean, std)]
    settings = config(strategies.definition("paper", 0.05))
    bare = dissect(network.module, broden, config=settings, preprocessing=transforms.Compose(steps))
    whole = dissect(network, broden, config=settings)
    assert bare.info.network == whole.info.network.model_copy(update={"name": "Sequential"})
    for name in LAYERS:
        assert bare.layers[name].scores.equals(whole.layers[name].scores)
        assert np.array_equal(bare.layers[name].top_maps, whole.layers[name].top_maps)


def test_several_quantiles_in_one_run_are_those_of_the_oracle(broden: Path) -> None:
    definition = strategies.definition("paper")
    protocol = definition.protocol.model_copy(update={"quantiles": (0.02, 0.2, 0.005)})
    assert_run_is_the_oracle_s(
        build(), broden, config(strategies.Definition(protocol, definition.rules)), definition, Execution()
    )


@pytest.mark.parametrize("categories", [("object",), ("color", "object"), ("part", "color")])
def test_chosen_categories_are_all_that_is_read(broden: Path, categories: tuple[str, ...]) -> None:
    definition = strategies.definition("paper", 0.05)
    settings = config(definition, categories=categories)
    assert_run_is_the_oracle_s(build(), broden, settings, definition, Execution())


def test_a_gray_network_is_shown_gray_images(broden: Path) -> None:
    definition = strategies.definition("paper", 0.05)
    assert_run_is_the_oracle_s(build(channels=1), broden, config(definition), definition, Execution())


def test_images_of_another_size_are_stretched(tmp_path: Path) -> None:
    root = strategies.write_broden(tmp_path / "data", images(4), COVERAGE, image=(40, 31))
    definition = strategies.definition("paper", 0.05)
    assert_run_is_the_oracle_s(build(), root, config(definition), definition, Execution())


@pytest.mark.parametrize("count", [1, 3, 4])
def test_one_image_or_full_batches_can_be_dissected(tmp_path: Path, count: int) -> None:
    root = strategies.write_broden(tmp_path / "data", images(count), COVERAGE, image=(SIDE, SIDE))
    for name in ("paper", "lite"):
        definition = strategies.definition(name)
        assert_run_is_the_oracle_s(build(), root, config(definition), definition, Execution())


@pytest.fixture(scope="module")
def references(broden: Path) -> dict[str, Result]:
    """A run of each protocol that keeps everything, decoded by one worker."""
    execution = Execution(activation_cache="dense", workers=1)
    return {
        name: dissect(build(), broden, config=config(strategies.definition(name, 0.05)), execution=execution)
        for name in PROTOCOL_NAMES
    }


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
@pytest.mark.parametrize(
    "how",
    [
        {"activation_cache": "sparse", "workers": 5},
        {"activation_cache": "none", "workers": 3},
        {"activation_cache": "auto"},
        {"engine": "tensor"},
    ],
)
def test_stores_workers_and_engines_change_no_bit(
    broden: Path, references: dict[str, Result], name: ProtocolName, how: dict[str, Any]
) -> None:
    found = dissect(build(), broden, config=config(strategies.definition(name, 0.05)), execution=Execution(**how))
    run_asserts.assert_same_run(found, references[name])


@pytest.mark.parametrize("kept", [True, False])
def test_scores_that_are_written_block_by_block_are_those_of_one_table(
    broden: Path, references: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(tables, "BLOCK_SCORES", 10)  # counts of a unit or two
    out = tmp_path / "run" if kept else None
    found = dissect(build(), broden, config=config(strategies.definition("paper", 0.05)), out=out)
    run_asserts.assert_same_run(found, references["paper"])


def test_a_unit_with_an_empty_mask_is_dead_and_no_detector(broden: Path) -> None:
    network = build(head=Spoiled(0.0, unit=2))
    for name in ("paper", "pnas2020"):
        definition = strategies.definition(name, 0.05)
        settings = config(definition, min_iou=0.0)
        assert_run_is_the_oracle_s(network, broden, settings, definition, Execution())
        layer = dissect(network, broden, config=settings).layer("deep_relu")
        unit = layer.units.row(2, named=True)
        assert (unit["unit"], unit["dead"], unit["label"], unit["iou"]) == (2, True, None, 0.0)
        assert layer.scores.filter(unit=2)["intersection"].sum() == 0
        assert unit["category"] is None


@pytest.mark.parametrize("value", [6.0, -1.5, 0.1])
def test_a_unit_that_never_moves_has_an_empty_mask(broden: Path, value: float) -> None:
    layer = dissect(build(head=Spoiled(value, unit=0)), broden, layers=["deep_relu"]).layer("deep_relu")
    row = layer.units.row(0, named=True)
    assert (row["dead"], row["label"], row["threshold"]) == (True, None, np.float32(value))
    assert layer.scores.filter(unit=0)["mask_pixels"].sum() == 0


def test_a_category_without_any_label_is_reported_empty(tmp_path: Path) -> None:
    drawn = [oracle.OracleImage((np.full((12, 12), 1),), (2,), (12, 12)) for _ in range(3)]
    coverage = {"object": {1: 1.0}, "material": {9: 1.0}, "scene": {2: 1.0}, "empty": {}}
    cells = [["{}_0.png", "", "2", ""], ["{}_0.png", "", "", ""], ["", "", "2;0", "0"]]
    columns = [[cell.format(index) for cell in row] for index, row in enumerate(cells)]
    root = strategies.write_broden(tmp_path / "data", drawn, coverage, image=(SIDE, SIDE))
    shutil.rmtree(root)
    strategies.write_broden(root, drawn, coverage, image=(SIDE, SIDE), columns=columns)
    for index in range(3):
        strategies.write_label_map(root / "images" / f"{index}_0.png", drawn[index].label_channels[0])
    for name in ("paper", "lite"):
        definition = strategies.definition(name, 0.1)
        assert_run_is_the_oracle_s(build(), root, config(definition), definition, Execution())
    result = dissect(build(), root, config=config(strategies.definition("paper", 0.1)))
    assert result.concepts.filter(concept="concept 9")["concept_pixels"].to_list() == [0]
    units = result.layer("deep_relu").units
    for category in ("material", "empty"):
        assert units[f"{category}-label"].null_count() == units.height
        assert units[f"{category}-iou"].sum() == 0
    counts = [counted.count for counted in result.detectors("per-category")]
    assert [(count.detectors["material"], count.unique_detectors["empty"]) for count in counts] == [(0, 0)] * len(
        result.layers
    )


def test_the_table_of_concepts_counts_images_and_pixels(broden: Path) -> None:
    data = oracle.read_broden(broden)
    result = dissect(build(), broden, layers=["fc"])
    assert set(result.concepts["label_id"]) == set(data.category_of)
    for row in result.concepts.to_dicts():
        number, place = row["label_id"], data.category_of[row["label_id"]]
        held = [one for one in data.source_images if number in one.label_ids()]
        speaking = [one for one in data.source_images if any(data.category_of[n] == place for n in one.label_ids())]
        area = sum(one.size[0] * one.size[1] for one in speaking)
        pixels = sum(int(np.any([c == number for c in one.channels()], axis=0).sum()) for one in held)
        assert (row["images"], row["concept_pixels"], row["category"]) == (len(held), pixels, data.categories[place])
        assert row["pixel_share"] == pytest.approx(pixels / area if area else 0)


def test_progress_counts_the_images_of_both_passes(broden: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    dissect(
        build(), broden, config=config(strategies.definition("paper")), progress=lambda *report: seen.append(report)
    )
    for stage in ("thresholds", "counting"):
        assert [report[1:] for report in seen if report[0] == stage] == [(3, 7), (6, 7), (7, 7)]


def test_a_limit_draws_the_same_images_each_time(broden: Path) -> None:
    settings = config(strategies.definition("paper", 0.05), max_images=4, sample_seed=2)
    first, again = (dissect(build(), broden, config=settings) for _ in range(2))
    run_asserts.assert_same_run(again, first)
    data = ConceptData.open(broden, max_images=4, sample_seed=2)
    assert set(first.layer("fc").top["image"]) <= {row.image for row in data.rows}
    assert first.info.data.images == 4


def test_layers_are_recorded_together_as_each_alone(broden: Path) -> None:
    together = dissect(build(), broden, config=config(strategies.definition("paper", 0.05)))
    for name in ("wide_relu", "fc"):
        alone = dissect(
            build(), broden, config=config(strategies.definition("paper", 0.05)).model_copy(update={"layers": (name,)})
        )
        of_layer = {key: getattr(alone.info, key) for key in ("config", "layers", "fdr_limit", "fdr_limits")}
        run_asserts.assert_same_run(
            type(alone)(
                together.info.model_copy(update=of_layer),
                together.concepts,
                {name: together.layers[name]},
            ),
            alone,
        )


def test_a_planted_object_in_the_corner_is_found_there(tmp_path: Path) -> None:
    # The image is not cropped, and cells are at the centers of their receptive fields: the mask is the object.
    plane = np.zeros((12, 12), np.int64)
    plane[:3, :3] = 1
    rng = np.random.default_rng(0)
    drawn = [oracle.OracleImage((np.roll(plane, (0, 9)[index % 2], axis=1),), (), (12, 12)) for index in range(6)]
    root = strategies.write_broden(tmp_path / "data", drawn, {"object": {1: 1.0}}, image=(SIDE, SIDE))
    for index, one in enumerate(drawn):
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[np.kron(one.label_channels[0], np.ones((2, 2))) == 1] = 255
        strategies.write_image(root / "images" / f"{index}.png", pixels)
    module = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False))
    network = Network("bright", module, build().preprocessing)
    settings = DissectConfig(layers=("0",), protocol=strategies.definition("paper", 0.06).protocol)
    unit = dissect(network, root, config=settings).layer("0").units.row(0, named=True)
    assert unit["label"] == "concept 1"
    assert unit["iou"] > 0.9
