"""The plan of a layer before its threshold pass."""

import pytest

from netdissect.concepts import Size
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.dissect.cost_plan import CostPlan, LayerPlan
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


def test_the_disk_of_a_plan_holds_the_masks_of_the_permutation_test() -> None:
    layer = Layer("layer3", "Sequential", 512, Size(14, 14), None)

    def disk_bytes(permutations: int, *quantiles: float) -> int:
        statistics = StatisticsConfig(permutations=permutations)
        config = DissectConfig(layers=("layer3",), protocol=Protocol(quantiles=quantiles), statistics=statistics)
        plan = LayerPlan(layer, Size(224, 224), 63_305, config)
        return CostPlan((plan,), "none", tensor=False, spilled=frozenset()).disk_bytes

    # A ResNet-18 on street images has 3.66 runs of 3.79 bytes for each unit and image.
    measured = 3.66 * 3.79 * 63_305 * 512
    assert measured < disk_bytes(100, 0.005) < 1.25 * measured
    assert disk_bytes(0, 0.005) == 0
    assert disk_bytes(1, 0.005, 0.01) == pytest.approx(3 * disk_bytes(100, 0.005), abs=3)
