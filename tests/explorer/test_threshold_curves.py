"""Thresholds between the run's quantiles: exact where the run knows them, bounded where it does not."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from netdissect.errors import RequestError
from netdissect.explorer.threshold_curves import ThresholdCurves, nearest
from netdissect.result import LayerResult

if TYPE_CHECKING:
    from explorer_client import Pair

LAYERS = st.sampled_from(["wide_relu", "deep_relu"])
HISTOGRAMS = st.sampled_from(["none", "own", "even"])


def curves_of(pair: "Pair", name: str, histogram: str = "none") -> ThresholdCurves:
    """Curves without a histogram, with the run's own, or with one of 16 even bins."""
    layer = pair.results[0].layers[name]
    info = pair.results[0].info
    tables = {"none": {}, "own": layer.statistics, "even": {"histogram": histogram_of(pair, name).lazy()}}
    return ThresholdCurves(replace(layer, statistics=tables[histogram]), info.config.protocol, info.data.images)


def histogram_of(pair: "Pair", name: str, bins: int = 16) -> pl.DataFrame:
    frames = []
    for unit, values in enumerate(np.moveaxis(pair.maps[name], 1, 0)):
        counts, edges = np.histogram(values.astype(np.float64), bins)
        frames.append(
            pl.DataFrame(
                {"unit": np.full(bins, unit, np.int32), "bin_low": edges[:-1], "bin_high": edges[1:], "count": counts}
            )
        )
    return pl.concat(frames)


def by_sorting(pair: "Pair", name: str, quantile: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    rules = replace(oracle.RULES["paper"], fraction=quantile)
    return oracle.thresholds(pair.maps[name], rules)


# Whole numbers of cells, too: there a histogram's edge and the threshold just below it are told apart.
QUANTILES = st.floats(0.0021, 0.2) | st.integers(1, 96).map(lambda cells: cells / 480)


@given(name=LAYERS, quantile=QUANTILES, histogram=HISTOGRAMS)
def test_every_threshold_is_exact_or_between_its_bounds(
    pair: "Pair", name: str, quantile: float, histogram: str
) -> None:
    found = curves_of(pair, name, histogram).at(quantile)
    wanted = by_sorting(pair, name, quantile)
    np.testing.assert_array_equal(found.values[found.exact], wanted[found.exact])
    assert (found.low <= wanted).all()
    assert (wanted <= found.high).all()
    assert (found.low <= found.values).all()
    assert (found.values <= found.high).all()


@given(name=LAYERS, quantiles=st.tuples(QUANTILES, QUANTILES), histogram=HISTOGRAMS)
def test_a_larger_quantile_never_has_a_higher_threshold(
    pair: "Pair", name: str, quantiles: tuple[float, float], histogram: str
) -> None:
    curves = curves_of(pair, name, histogram)
    low, high = sorted(quantiles)
    assert (curves.at(low).values >= curves.at(high).values).all()


def test_the_run_s_quantiles_give_its_thresholds(pair: "Pair") -> None:
    for name, layer in pair.results[0].layers.items():
        for quantile in (0.02, 0.2):
            found = curves_of(pair, name).at(quantile)
            assert found.exact.all()
            assert found.values.tolist() == layer.thresholds.filter(quantile=quantile)["threshold"].to_list()


def test_the_upper_tail_is_exact_and_the_middle_is_not(pair: "Pair") -> None:
    curves = curves_of(pair, "wide_relu")
    assert curves.at(0.0005).exact.all()
    assert not curves.at(0.1).exact.all()


@pytest.mark.parametrize("histogram", ["own", "even"])
def test_a_histogram_narrows_the_bounds_and_widens_the_range(pair: "Pair", histogram: str) -> None:
    without, with_it = curves_of(pair, "wide_relu"), curves_of(pair, "wide_relu", histogram)
    widths = [found.high - found.low for found in (without.at(0.1), with_it.at(0.1))]
    assert widths[1].sum() < widths[0].sum()
    assert with_it.range[1] == 0.5
    wanted, found = by_sorting(pair, "wide_relu", 0.4), with_it.at(0.4)
    assert ((found.low <= wanted) & (wanted <= found.high)).all()


def test_a_quantile_out_of_range_is_an_error(pair: "Pair") -> None:
    with pytest.raises(RequestError, match=r"thresholds at the quantile 0\.3 are unknown"):
        curves_of(pair, "wide_relu").at(0.3)


@given(name=LAYERS, unit=st.integers(0, 3), position=st.floats(0, 1))
def test_the_share_above_a_value_in_the_upper_tail_is_counted(
    pair: "Pair", name: str, unit: int, position: float
) -> None:
    curves = curves_of(pair, name)
    values = pair.maps[name][:, unit]
    value = float(np.float32(curves.tails[unit][-1] + position * (values.max() - curves.tails[unit][-1])))
    assert curves.share_above(unit, value) == np.count_nonzero(values > value) / values.size


def test_the_share_above_falls_with_the_value_and_stops_at_the_largest_known_share(pair: "Pair") -> None:
    curves = curves_of(pair, "deep_relu")
    shares = [curves.share_above(0, value) for value in np.linspace(-1, float(pair.maps["deep_relu"].max()) + 1, 50)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(0.2)
    assert shares[-1] == 0


def test_thresholds_of_upsampled_values_are_known_only_at_the_run_s_quantiles(pair: "Pair") -> None:
    layer: LayerResult = pair.results[0].layers["wide_relu"]
    protocol = pair.results[0].info.config.protocol.model_copy(update={"threshold_grid": 56})
    curves = ThresholdCurves(layer, protocol, 24)
    assert curves.range == (0.02, 0.2)
    assert not curves.at(0.05).exact.any()


def test_the_nearest_quantile_is_nearest_in_ratio() -> None:
    assert nearest(0.009, (0.005, 0.02)) == 0.005
    assert nearest(0.011, (0.005, 0.02)) == 0.02
