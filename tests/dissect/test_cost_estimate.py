"""What a run is predicted to take."""

from pathlib import Path

import numpy as np
import pytest
import torch

import strategies
from netdissect.activations import ActivationStore
from netdissect.activations.image_values import ImageValues
from netdissect.concepts import Size
from netdissect.config import DissectConfig, Execution
from netdissect.dissect import cost_estimate
from netdissect.dissect.cost_plan import LayerPlan
from netdissect.dissect.layer_state import Collector
from netdissect.models import Layer
from networks import COVERAGE, SIDE, build, images

SETTINGS = DissectConfig(layers=("wide_relu", "deep_relu"), batch_size=3, top_images=3)


@pytest.mark.parametrize("kind", ["normal", "relu", "rare"])
def test_the_expected_size_of_a_sparse_store_is_the_real_one_within_a_tenth(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    maps = strategies.activations(rng, kind, (3000, 7, 7))[:, None] + np.zeros((1, 2, 1, 1), np.float32)
    plan = LayerPlan(Layer("layer", "Random", 2, Size(7, 7), None), Size(14, 14), 3000, SETTINGS)
    store = ActivationStore(tmp_path / "maps", 2, Size(7, 7), dense=False)
    collector = Collector(plan, ImageValues(tmp_path / "maxima", 2), store, None)
    for start in range(0, 3000, 30):
        batch = np.ascontiguousarray(maps[start : start + 30])
        collector.update(torch.from_numpy(batch), np.arange(start, start + 30))
    expected = cost_estimate._expected_share(np.ascontiguousarray(maps[:300]), plan, tmp_path)
    assert expected == pytest.approx(store.offsets[-1] / maps.nbytes, rel=0.1)


def test_a_prediction_names_passes_stages_and_bytes(broden: Path) -> None:
    found = cost_estimate.estimate(build(), broden, config=SETTINGS, sample=6)
    assert (found.images, found.plan.passes) == (7, 1)
    assert set(found.seconds) == {"thresholds", "counting", "permutations", "tables"}
    assert found.total_seconds == sum(found.seconds.values()) > 0
    assert found.memory_bytes > 50e6
    assert found.disk_bytes > 1000
    twice = cost_estimate.estimate(
        build(), broden, config=SETTINGS, execution=Execution(activation_cache="none"), sample=6
    )
    assert twice.plan.passes == 2


def test_the_pace_of_a_stage_that_is_done_at_once_is_that_of_all_its_images() -> None:
    run = cost_estimate._RunSize(8, reports={"counting": [(8, 12.0)]}, starts={"counting": 10.0})
    assert run.seconds_per_image("counting", 2) == pytest.approx(0.25)


def test_the_pace_is_that_of_the_batches_in_the_middle() -> None:
    run = cost_estimate._RunSize(18, reports={"thresholds": [(3, 10.0), (6, 11.0), (9, 12.0), (12, 12.1), (15, 12.2)]})
    assert run.seconds_per_image("thresholds", 2) == pytest.approx(1 / 3)


def test_more_images_are_expected_to_take_more_never_less(tmp_path: Path) -> None:
    assert cost_estimate._line((10, 1.0), (20, 2.0), 100) == pytest.approx(10)
    assert cost_estimate._line((10, 2.0), (20, 1.0), 100) == pytest.approx(1)
    root = strategies.write_broden(tmp_path / "data", images(2), COVERAGE, image=(SIDE, SIDE))
    assert cost_estimate.estimate(build(), root, config=SETTINGS).images == 2, "fewer images than the sample"
