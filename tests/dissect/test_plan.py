"""The plan of a layer before its threshold pass."""

from pathlib import Path

import pytest

from netdissect.concepts import ConceptData, Size
from netdissect.concepts.broden_files import IndexRow
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.dissect.cost_plan import CostPlan, LayerPlan
from netdissect.dissect.statistics.permutation_cost import PermutationCost
from netdissect.models import Layer


def test_the_largest_quantile_decides_how_many_values_are_kept() -> None:
    layer = Layer("layer", "Conv2d", 32, Size(14, 14), None)

    def plan(*quantiles: float) -> LayerPlan:
        config = DissectConfig(layers=("layer",), protocol=Protocol(quantiles=quantiles))
        return LayerPlan(layer, Size(224, 224), 100, config)

    few, many = plan(0.005), plan(0.05)
    for both in (plan(0.005, 0.05), plan(0.05, 0.005)):
        assert both.keep == many.keep > few.keep
        assert both.sparse_bytes == many.sparse_bytes > few.sparse_bytes


def test_the_disk_of_a_plan_holds_the_masks_of_all_images_with_and_without_permutations() -> None:
    layer = Layer("layer3", "Sequential", 512, Size(14, 14), None)

    maxima = 4 * 63_305 * 512

    def disk_bytes(permutations: int, *quantiles: float) -> int:
        statistics = StatisticsConfig(permutations=permutations)
        config = DissectConfig(layers=("layer3",), protocol=Protocol(quantiles=quantiles), statistics=statistics)
        plan = LayerPlan(layer, Size(224, 224), 63_305, config)
        return CostPlan((plan,), "none", tensor=False, spilled=frozenset()).disk_bytes - maxima

    # A ResNet-18 on street images has 3.66 runs of 3.79 bytes for each unit and image.
    measured = 3.66 * 3.79 * 63_305 * 512
    assert measured < disk_bytes(100, 0.005) < 1.25 * measured
    assert disk_bytes(0, 0.005) == disk_bytes(100, 0.005)
    assert disk_bytes(1, 0.005, 0.01) == pytest.approx(3 * disk_bytes(100, 0.005), abs=3)


def test_the_cost_of_permutations_is_expected_from_quantiles_units_and_label_maps() -> None:
    layers = [Layer("fine", "Conv2d", 10, Size(28, 28), None), Layer("coarse", "Conv2d", 20, Size(7, 7), None)]
    config = DissectConfig(layers=("fine", "coarse"), protocol=Protocol(quantiles=(0.005, 0.02)))
    plans = [LayerPlan(layer, Size(224, 224), 3, config) for layer in layers]
    rows = [IndexRow("0.jpg", "train", Size(*size), (), ()) for size in ((100, 200), (100, 200), (60, 10))]
    cost = PermutationCost.expected(plans, ConceptData(Path("nowhere"), (), (), tuple(rows)), config)
    # A share of the pixels in runs two cells long, as if each row of a label map had 14 or 3.5 places for them, or 10.
    assert cost.runs == round(0.025 * (10 * (200 * 14 + 60 * 10) + 20 * 260 * 3.5))
    assert (cost.layers, cost.images) == (2, 3)
    assert cost.nanoseconds == 6 * cost.runs + 1000 * 2 * 3
    assert cost.text(100) == "100 permutations, about 0 s of computing"
