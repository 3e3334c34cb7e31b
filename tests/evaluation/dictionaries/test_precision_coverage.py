"""Do 95 % intervals of the mean average precision hold that of as many images? The short form of the benchmark."""

from benchmarks.precision_coverage import covered


def test_intervals_of_the_mean_average_precision_cover_where_percentiles_do_not() -> None:
    found = covered(150, 60)
    assert 0.93 <= found.precision <= 0.99
    assert found.plain_precision <= 0.92
    assert found.truth > found.of_many + 0.02  # of few images average precision is higher
