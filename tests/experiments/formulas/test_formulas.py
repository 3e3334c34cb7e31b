"""What formulas gain: decided tables in each direction, and the difference from the control."""

import polars as pl
import pytest

from netdissect.config import DissectConfig
from netdissect.experiments.formulas.experiment import FormulasConfig, conclude

CONFIG = FormulasConfig(dissect=DissectConfig(layers=("conv5",)))


def row(network, gain, low, high, units=40, layer=None, null=0.004):
    return {
        "network": network, "layer": layer, "units": units, "gain": gain, "gain_low": low, "gain_high": high,
        "established": 3, "iou": 0.03, "concept_iou": 0.02, "null_gain": null,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "low", "high", "outcome"),
    [
        (0.01, 0.002, 0.02, "agrees"),
        (-0.01, -0.02, -0.002, "disagrees"),
        (0.01, -0.002, 0.02, "inconclusive"),
    ],
)
def test_the_mean_gain_of_all_units_decides(gain, low, high, outcome):
    layers = [row("net", -gain, -high, -low, layer="conv5"), row("net", gain, low, high)]
    conclusion = conclude(pl.DataFrame(layers), CONFIG)
    assert conclusion.outcome == outcome
    assert "a difference of 0.01 (0.004 under the null)" in conclusion.finding
    assert "established for 3 of 40 units" in conclusion.finding


def test_few_units_decide_nothing():
    assert conclude(pl.DataFrame([row("net", 0.01, 0.002, 0.02, units=2)]), CONFIG).outcome == "inconclusive"


def test_the_control_has_a_difference_and_no_say_in_the_outcome():
    table = pl.DataFrame([row("net", -0.01, -0.02, -0.002), row("random", 0.02, 0.01, 0.03)])
    units = pl.DataFrame({"network": ["net"] * 3 + ["random"] * 3, "gain": [-0.01] * 3 + [0.02] * 3})
    conclusion = conclude(table, CONFIG, extra={"units": units})
    assert conclusion.outcome == "disagrees"
    assert "Mean gain less that of the control: -0.03 " in conclusion.finding
