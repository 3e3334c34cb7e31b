"""Interventions recover planted causes, and find no effect of a unit that only correlates."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy import stats
from typer.testing import CliRunner

import netdissect
from netdissect.cli.app import app
from netdissect.concepts.colors import COLOR_NAMES, name_colors
from netdissect.dissect.work_dir import work_dir
from netdissect.errors import ConfigError
from netdissect.experiments.interventions.areas import AreaMeter
from netdissect.experiments.interventions.change_units import Intervention
from netdissect.experiments.interventions.intervene import intervene
from netdissect.experiments.interventions.intervene_config import InterveneConfig
from netdissect.experiments.interventions.intervention_files import read_intervention
from netdissect.experiments.interventions.unit_choice import control_sets
from netdissect.models import as_network
from netdissect.models.surgery.layer_edits import with_units
from netdissect.segmenters import SegmentLabel, load_segmenter
from netdissect.training import PaintSegmenter
from netdissect.training.generators.scene_generator import SceneGenerator
from scene_generators import PAINT, TINY, tiny_generator

COUNT = 96


def done(run: Path, **fields: object) -> Intervention:
    config = InterveneConfig(**({"samples": COUNT, "random_sets": 3} | fields))  # type: ignore[arg-type]
    return intervene(run, config, segmenter=PAINT, progress=False)


@pytest.mark.parametrize(("concept", "column"), [("vegetation", 0), ("building", 1), ("vehicle", 2)])
def test_the_planted_cause_comes_first_of_all_units(run: Path, concept: str, column: int) -> None:
    found = done(run, concept=concept, units="each")
    own = found.table.filter(concept=concept).sort("effect", "set")
    planted = own.row(0, named=True)
    assert found.units[planted["set"]] == (TINY.planted_units[concept],)
    samples = torch.tensor([[0, index] for index in range(COUNT)])
    maps = PaintSegmenter().segment(tiny_generator().images(samples).numpy())
    share = (maps == column + 1).mean(axis=(1, 2, 3))
    assert planted["effect"] == pytest.approx(-share.mean(), abs=1e-12)
    low, high = stats.t.interval(0.95, COUNT - 1, -share.mean(), stats.sem(share))
    assert (planted["ci_low"], planted["ci_high"]) == pytest.approx((low, high), abs=1e-9)
    assert planted["ci_high"] < 0
    assert own["effect"][1] > 0.1 * planted["effect"]


def test_the_unit_that_only_correlates_has_no_effect(run: Path) -> None:
    top = done(run, concept="vegetation", units="top:2")
    assert set(top.units[0]) == {TINY.decoy, TINY.planted_units["vegetation"]}
    row = done(run, concept="vegetation", units=str(TINY.decoy)).table.row(0, named=True)
    assert row["ci_low"] <= 0 <= row["ci_high"]
    assert abs(row["effect"]) <= 0.1 * abs(top.table["effect"][0])


def test_an_inserted_unit_draws_its_concept_where_it_is_inserted(run: Path) -> None:
    found = done(run, concept="vehicle", units="top:1", how="insert", at=(33, 18), map_samples=4)
    row = found.table.row(0, named=True)
    assert row["effect"] > 0
    assert row["excess_low"] > 0
    assert row["effect"] <= 16 / 64**2
    assert found.map.height == 64
    assert found.map["effect"].min() >= 0
    generator, module = tiny_generator(), tiny_generator().module
    assert isinstance(module, SceneGenerator)
    threshold = netdissect.load_result(run).layer("layer1").thresholds.sort("unit")["threshold"]
    unit, before, after = TINY.planted_units["vehicle"], [], []
    for index in range(COUNT):
        scene, style, things = generator.latent_input.latents(torch.tensor([[0, index]]))
        with torch.no_grad():
            code = module.start(torch.cat([module.scene(scene), style], 1)).relu().unflatten(1, (-1, 8, 8))
            maps = module.layer1(torch.cat([code, things], 1))
            changed = maps.clone()
            changed[0, unit, 18 // 4, 33 // 4] = threshold[unit]
            for values, areas in ((maps, before), (changed, after)):
                drawn = generator.pixels(module.layer3(module.layer2(values)).tanh()).numpy()
                areas.append((PaintSegmenter().segment(drawn) == 3).mean())
    assert row["effect"] == pytest.approx(np.mean(after) - np.mean(before), abs=1e-12)


def test_an_interrupted_intervention_goes_on_where_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdissect.experiments.interventions.intervene.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(work_dir, "MAX_LOST_SECONDS", 0.0)  # on a slow disk, too
    config = InterveneConfig(concept="vehicle", units="each", samples=12, random_sets=2, batch_size=4)
    measured: list[int] = []

    def stop(stage: str, done: int, _total: int | None) -> None:
        measured.append(done)
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        intervene(run, config, segmenter=PAINT, progress=stop)
    resumed = intervene(run, config, segmenter=PAINT, progress=lambda _stage, done, _total: measured.append(done))
    assert measured in ([4, 8, 12], [4, 8, 8, 12])  # a checkpoint that was slow to write is followed by a pause
    assert resumed.table.equals(intervene(run, config, segmenter=PAINT, progress=False).table)
    assert not (run / "interventions").exists()


def test_inserted_units_get_the_published_quantile_of_their_activations(run: Path) -> None:
    generator = tiny_generator()
    layer = netdissect.models.resolve_layers(generator, ["layer1"])[0]
    samples = torch.tensor([[0, index] for index in range(7)])
    values = AreaMeter(generator, layer, load_segmenter(PAINT), samples, 3).exceeded_values(0.005)
    with netdissect.models.ActivationRecorder(generator, [layer]) as record:
        cells = record(samples)["layer1"].transpose(0, 1).flatten(1)
    expected = cells.sort(descending=True).values[:, int(0.005 * 7 * 256)]
    assert values.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    by_quantile = done(run, concept="vehicle", units="top:1", how="insert", insert_quantile=0.9, samples=8)
    assert by_quantile.table["effect"][0] == 0  # nine tenths of its activations are 0
    assert done(run, concept="vehicle", units="top:1", how="insert", samples=8).table["effect"][0] > 0


def test_colors_are_concepts_whose_area_is_measured(run: Path) -> None:
    found = done(run, concept="green-c", units=str(TINY.planted_units["vegetation"]))
    samples = torch.tensor([[0, index] for index in range(COUNT)])
    green = name_colors(tiny_generator().images(samples).numpy()) == 1 + COLOR_NAMES.index("green")
    row = found.table.row(0, named=True)
    assert (row["concept"], row["category"]) == ("green-c", "color")
    assert row["before"] == pytest.approx(green.mean(), abs=1e-12)
    assert row["ci_high"] < 0
    best = done(run, concept="green-c", units="top:1", samples=8)
    assert set(best.units[0]) <= {TINY.planted_units["vegetation"], TINY.decoy}


def test_labels_are_named_as_in_the_data_set(run: Path) -> None:
    paint = load_segmenter(PAINT)
    spelled = replace(paint, labels=tuple(SegmentLabel(f"{label.name.title()}_;thing") for label in paint.labels))
    config = InterveneConfig(concept="vehicle", units="top:1", samples=8, random_sets=1)
    found = intervene(run, config, segmenter=spelled, progress=False)
    assert found.table.equals(intervene(run, config, segmenter=PAINT, progress=False).table)


def test_random_and_matched_sets_are_other_units_of_equal_size() -> None:
    means = np.array([0.0, 5.0, 1.0, 4.9, 0.1, 3.0])
    sets = control_sets([(1, 4)], means, 4, seed=0)
    assert sets.matched == ((0, 3),)
    assert len(sets.random) == 4
    assert all(len(set(units)) == 2 and not {1, 4} & {*units} for units in sets.random)
    with pytest.raises(ConfigError, match=r"1 of 1 units are changed, so that there are too few others"):
        control_sets([(0,)], np.ones(1), 1, seed=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"concept": "vegetatoin"},
            r"has no label 'vegetatoin'. Did you mean vegetation.* its 14 labels: [a-z, -]*vegetation",
        ),
        ({"concept": "vehicle", "units": "top"}, r"the units of an intervention are 'top'. Expected top:N"),
        ({"concept": "vehicle", "units": "3,99"}, r"name unit 99, but layer 'layer1' has the units 0 to 9"),
        ({"concept": "vehicle", "units": "top:11"}, r"overlap with 'vehicle', but the best 11 are asked for"),
        ({"concept": "vehicle", "units": "0,1,2,3,4,5"}, r"6 of 10 units are changed, .* too few others"),
        ({"concept": "vehicle", "units": "1", "at": (1, 1)}, r"units are ablated everywhere. Expected --how insert"),
        ({"concept": "vehicle", "units": "1", "how": "insert", "at": (64, 1)}, r"outside the output of 64 x 64 pixels"),
        ({"concept": "vehicle", "units": "1", "layer": "layer2"}, r"layer2"),
        ({"concept": "vehicle", "units": "1", "insert_quantile": 0.1}, r"units are ablated. Expected --how insert"),
        ({"concept": "vehicle", "units": "ace"}, r"the units of an intervention are 'ace'. Expected top:N .* ace:N"),
        ({"concept": "vehicle", "units": "ace:6"}, r"6 of 10 units are changed, .* too few others"),
        ({"concept": "vehicle", "units": "ace:0"}, r"the units of an intervention are 'ace:0'. Expected top:N"),
        ({"concept": "vehicle", "units": "top:0"}, r"the units of an intervention are 'top:0'. Expected top:N"),
        ({"concept": "vehicle", "units": ""}, r"the units of an intervention are ''. Expected top:N"),
        ({"concept": "green"}, r"has no label 'green'. Did you mean green-c"),
        ({"concept": "vehicle", "map_samples": 1}, r"expected 0, or at least 2 samples"),
    ],
)
def test_what_cannot_be_done_is_refused(run: Path, fields: dict[str, object], message: str) -> None:
    with pytest.raises(netdissect.NetdissectError, match=message):
        done(run, **fields)


def test_a_concept_that_no_sample_shows_is_refused_before_units_are_changed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AreaMeter, "areas", lambda *_: pytest.fail("units were changed"))
    paint = load_segmenter(PAINT)
    with_ship = replace(paint, labels=(*paint.labels, SegmentLabel("ship")))
    config = InterveneConfig(concept="ship", units="1", samples=COUNT)
    with pytest.raises(ConfigError, match=f"none of {COUNT} samples shows 'ship'"):
        intervene(run, config, segmenter=with_ship, progress=False)


def test_a_run_of_a_network_that_draws_nothing_is_refused(tmp_path: Path) -> None:
    data = netdissect.write_synthetic(tmp_path / "data", images=4, size=64, progress=False)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU())
    network = as_network(module, netdissect.Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3))
    result = netdissect.dissect(network, data, layers="1", bootstrap=0, permutations=0, progress=False)
    with pytest.raises(netdissect.NetdissectError, match=r"was made in Python, and its source is not recorded"):
        intervene(result, InterveneConfig(concept="car"), progress=False)
    with pytest.raises(ConfigError, match=r"which takes images and draws none"):
        intervene(result, InterveneConfig(concept="car"), generator=network, progress=False)  # type: ignore[arg-type]


def test_the_command_prints_a_table_and_json(run: Path, tmp_path: Path) -> None:
    command = ["intervene", str(run), "--concept", "building", "--units", "top:1", "--samples", "12"]
    text = CliRunner().invoke(app, [*command, "--segmenter", PAINT], catch_exceptions=False)
    assert text.exit_code == 0
    assert "building" in text.stdout
    printed = CliRunner().invoke(app, [*command, "--json", "--trust-network"], catch_exceptions=False)
    found = json.loads(printed.stdout)
    assert found["units"] == [[TINY.planted_units["building"]]]
    (tmp_path / "found.json").write_text(printed.stdout)
    saved, info = read_intervention(tmp_path / "found.json"), netdissect.load_result(run).info
    assert (saved.generator_digest, saved.segmenter, saved.samples) == (info.network.digest, PAINT, 12)
    assert saved.table.equals(pl.DataFrame(found["effects"], schema=saved.table.schema))
    assert saved.map_table.is_empty()
    with pytest.raises(ConfigError, match=r"code that a file of others names is not run"):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_an_edit_leaves_the_output_that_it_is_given(run: Path) -> None:
    layer = netdissect.models.resolve_layers(tiny_generator(), ["layer1"])[0]
    maps = torch.ones(1, 10, 16, 16)
    changed = with_units(maps, layer, [2])
    assert maps.min() == 1
    assert changed[0, 2].max() == 0
    assert netdissect.load_result(run).layer("layer1").info.units == 10
