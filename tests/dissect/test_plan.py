"""The plan of a layer before its threshold pass."""

from netdissect.concepts import Size
from netdissect.config import DissectConfig, Protocol
from netdissect.dissect.cost_plan import LayerPlan
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
