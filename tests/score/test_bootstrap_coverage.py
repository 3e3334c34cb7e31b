"""Do 95 % intervals hold the truth in 95 of 100 data sets? The short form of the benchmark."""

import pytest
from benchmarks.coverage import KINDS, simulated


def test_intervals_of_known_ious_cover_93_to_97_percent() -> None:
    shares = simulated(KINDS[:4], 300, images=1200)
    assert 0.93 <= shares.mean() <= 0.97
    assert shares.min() >= 0.90


def test_an_interval_at_half_its_width_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdissect.score.intervals.LEVEL", 0.67)
    assert simulated(KINDS[:1], 200, images=1200).max() < 0.8
