"""Strengths of units: the planted causes come out first, a unit that only correlates does not."""

from pathlib import Path

import numpy as np
import pytest
import torch

import netdissect
from netdissect.errors import SegmenterError
from netdissect.experiments.interventions.ace import Training, optimize_strengths
from netdissect.experiments.interventions.ace_cells import Cells, CellSearch
from netdissect.experiments.interventions.areas import AreaMeter
from netdissect.experiments.interventions.intervene import intervene
from netdissect.experiments.interventions.intervene_config import AceConfig, InterveneConfig
from netdissect.models.surgery.layer_edits import mixed
from netdissect.segmenters import Segmenter, load_segmenter
from netdissect.training import PaintSegmenter
from scene_generators import PAINT, TINY, tiny_generator

SETTINGS = AceConfig(search_samples=48, train_cells=16, heldout_cells=4, epochs=30, learning_rate=0.05)


def meter(layer: str = "layer1") -> AreaMeter:
    generator = tiny_generator()
    samples = torch.tensor([[0, index] for index in range(24)])
    return AreaMeter(generator, netdissect.models.resolve_layers(generator, [layer])[0], load_segmenter(PAINT), samples)


def test_planted_units_have_the_largest_strength_and_the_decoy_has_none(run: Path) -> None:
    config = InterveneConfig(concept="vegetation", units="ace:1", samples=24, random_sets=2, ace=SETTINGS)
    found = intervene(run, config, segmenter=PAINT, progress=False)
    strength = dict(zip(found.strengths["unit"], found.strengths["strength"], strict=True))
    iou = dict(zip(found.strengths["unit"], found.strengths["iou"], strict=True))
    planted = TINY.planted_units["vegetation"]
    assert found.units == ((planted,),)
    assert iou[TINY.decoy] == pytest.approx(iou[planted], rel=0.05)  # the decoy begins as high
    assert strength[planted] > 0.9
    assert strength[TINY.decoy] < 0.05
    assert max(strength[unit] for unit in range(TINY.units)) < 0.05
    # The unit of another paint is in the way where its cells get vegetation.
    assert all(strength[other] < 0.75 for name, other in TINY.planted_units.items() if name != "vegetation")
    assert found.table["excess_high"][0] < 0
    losses = found.epochs["heldout_loss"].to_list()
    assert losses[-1] < -0.5  # the score is 0 where the unit is ablated, and near 1 where it is inserted
    assert not (run / "interventions").exists()


def test_cells_show_the_concept_or_gain_it(run: Path) -> None:
    search = CellSearch(meter(), 0, 0, 6, None, None)
    samples = torch.tensor([[1, index] for index in range(24)])
    present, values, popularity = search.present(samples)
    maps = PaintSegmenter().segment(tiny_generator().images(samples).numpy())[:, 0] == 1
    shares = maps.reshape(24, 16, 4, 16, 4).mean(axis=(2, 4))
    best = shares.reshape(24, -1).max(1)
    assert sorted(best[present.samples[:, 1]]) == sorted(best)[-6:]
    assert (shares[present.samples[:, 1], *present.cells.T] == best[present.samples[:, 1]]).all()
    assert popularity.sum() == 6
    with netdissect.models.ActivationRecorder(tiny_generator(), [meter().layer]) as record:
        activations = record(samples)["layer1"].double().numpy()
    expected = (activations * shares[:, None]).sum(axis=(0, 2, 3)) / shares.sum()
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    absent = search.absent(samples, values, popularity)
    assert (shares[absent.samples[:, 1], *absent.cells.T] == 0).all()


def test_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    measured, rng = meter(), np.random.default_rng(0)
    samples = measured.samples[:3]
    cells = Cells(samples, rng.integers(0, 16, (3, 2)))
    training = Training(measured, 0, PaintSegmenter().module, torch.rand(10), AceConfig(), 0)
    strengths = torch.rand(10).requires_grad_()
    gradients = []
    for split in (True, False):
        if not split:
            monkeypatch.setattr("netdissect.models.surgery.layer_edits.split_after", lambda *_: None)
        fresh = Training(meter(), 0, training.scores, training.values, AceConfig(), 0)
        assert fresh.meter.editor.mode == ("partial" if split else "full")
        gradients.append(torch.autograd.grad(fresh.loss(strengths, cells, cells), strengths)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    for unit in range(10):
        step = torch.zeros(10)
        step[unit] = 1e-2
        with torch.no_grad():
            ends = [training.loss(strengths + sign * step, cells, cells).item() for sign in (1, -1)]
        assert gradients[0][unit].item() == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-3)


def test_one_cell_of_each_image_is_mixed() -> None:
    layer = netdissect.models.resolve_layers(tiny_generator(), ["layer1"])[0]
    maps, strengths, values = torch.rand(2, 10, 16, 16), torch.rand(10), torch.rand(10).double()
    changed = mixed(maps, layer, strengths, values, np.array([[3, 4], [15, 0]]))
    expected = maps.clone()
    for image, (row, column) in enumerate([(3, 4), (15, 0)]):
        for unit in range(10):
            kept = (1 - strengths[unit]) * maps[image, unit, row, column]
            expected[image, unit, row, column] = kept + strengths[unit] * values[unit].float()
    torch.testing.assert_close(changed, expected)


def test_an_interrupted_optimization_goes_on_where_it_was(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = SETTINGS.model_copy(update={"epochs": 3})
    config = InterveneConfig(concept="vehicle", units="ace:1", samples=8, random_sets=1, ace=few)
    stages: list[str] = []

    def stop(stage: str, done: int, _total: int | None) -> None:
        stages.append(stage)
        if stage == "epochs" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        intervene(run, config, segmenter=PAINT, progress=stop)
    stages.clear()
    resumed = intervene(run, config, segmenter=PAINT, progress=lambda stage, *_: stages.append(stage))
    assert stages.count("epochs") == 1
    assert "cells with the concept" not in stages
    whole = intervene(run, config, segmenter=PAINT, progress=False)
    assert resumed.strengths.equals(whole.strengths)
    assert resumed.table.equals(whole.table)


def test_strengths_may_begin_without_a_unit_that_overlaps() -> None:
    few = SETTINGS.model_copy(update={"epochs": 3, "learning_rate": 0.2})
    found = optimize_strengths(meter(), 2, np.zeros(10), few, 0)
    assert found.strengths.argmax() == TINY.planted_units["vehicle"]
    assert np.isfinite(found.strengths).all()


def test_a_segmenter_without_gradients_is_refused(run: Path) -> None:
    paint = load_segmenter(PAINT)
    plain = Segmenter("onnx:labels.onnx", paint.labels, paint.digest, paint.label_maps)
    with pytest.raises(SegmenterError, match=r"onnx:labels.onnx' gives label maps, through which no gradient goes"):
        intervene(run, InterveneConfig(concept="vehicle", units="ace:1", samples=4), segmenter=plain, progress=False)
