"""Do 95 % intervals hold the truth in 95 of 100 data sets? The short form of the benchmark."""

import pytest
from benchmarks.coverage import KINDS, Firing, counted, simulated, thresholded


def test_intervals_of_known_ious_cover_93_to_97_percent() -> None:
    shares = simulated(KINDS[:4], 300, images=1200)
    assert 0.93 <= shares.mean() <= 0.97
    assert shares.min() >= 0.90


def test_an_interval_of_half_its_width_fails_the_coverage_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdissect.scoring.statistics.jackknife.CONFIDENCE_LEVEL", 0.67)
    assert simulated(KINDS[:1], 200, images=1200).max() < 0.8


@pytest.mark.parametrize(("firing", "fixed"), [(Firing(1.0, 0.0), 0.98), (Firing(0.1, 2.0), 0.93)])
def test_intervals_cover_although_each_data_set_has_its_own_threshold(firing: Firing, fixed: float) -> None:
    found = thresholded(firing, 300)
    assert 0.93 <= found.covered <= 0.97
    assert found.replicated == pytest.approx(1, abs=0.12)
    # Purpose of the threshold shift: with thresholds taken as fixed, intervals are too wide or too narrow.
    assert found.covered_if_fixed == pytest.approx(fixed, abs=0.015)


def test_intervals_of_counts_and_of_their_differences_cover_where_percentiles_do_not() -> None:
    found = counted(100, replicates=100)
    assert min(found.counts, found.differences) >= 0.93
    assert found.plain_counts < 0.5
    assert found.plain_differences < 0.1
