"""Ratings: read with care, summed up as by hand."""

import itertools

import krippendorff
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from netdissect.errors import ResultError
from netdissect.experiments import read_ratings
from netdissect.experiments.rater_agreement.experiment import (
    ALL,
    RaterAgreementConfig,
    conclude,
    rater_agreement,
    weighted_alpha,
    weighted_auroc,
)
from netdissect.experiments.rater_agreement.rating_tables import COLUMNS
from netdissect.experiments.result_files import load_experiment_result, save_experiment_result

HEADER = ",".join(COLUMNS)
QUICK = {"resamples": 100}


def write(path, rows, header=HEADER):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def line(layer="conv5", unit=0, label="tree", iou=0.1, rater="ann", rating="yes", time="2024-05-01T12:00:00Z"):
    return f"run,{layer},{unit},{label},{iou},{rater},{rating},{time}"


def answers(layer, shares, raters=4):
    """Make rows in which unit k is accepted by `shares[k]` of the raters, with an IoU that rises with k."""
    return [
        line(layer, unit, f"thing {unit}", 0.02 + unit / 100, f"rater {rater}", "yes" if rater < share else "no")
        for unit, share in enumerate(shares)
        for rater in range(raters)
    ]


def test_shares_consistency_and_areas_are_those_counted_by_hand(tmp_path):
    shares = [0, 1, 2, 3, 4, 4]
    result = rater_agreement(write(tmp_path / "r.csv", answers("conv5", shares)), RaterAgreementConfig(**QUICK))
    row = result.table.row(0, named=True)
    assert (row["labels"], row["raters"], row["ratings"], row["accepted"]) == (6, 4, 24, 3)
    assert row["accepted_share"] == 0.5
    pairs = [(a, b) for share in shares for a, b in itertools.permutations([n < share for n in range(4)], 2)]
    assert row["percent_agreement"] == pytest.approx(np.mean([a == b for a, b in pairs]))
    assert row["auroc"] == 1.0
    assert row["detectors"] == 4  # from 0.04 on, as units are counted by their label
    assert result.table["layer"].to_list() == ["conv5", ALL]
    assert result.conclusion.outcome == "not compared"


@given(st.lists(st.integers(0, 3), min_size=3, max_size=12))
def test_alpha_is_that_of_its_definition(shares):
    """Krippendorff 2011: 1 - observed / expected disagreement of pairs."""
    rows = pl.DataFrame(
        [
            {"run": "r", "layer": "l", "unit": unit, "label": "x", "iou": 0.1, "rater": str(n), "accepted": n < share}
            for unit, share in enumerate(shares)
            for n in range(3)
        ]
    )
    found = rater_agreement(rows, RaterAgreementConfig(**QUICK)).table.row(0, named=True)["alpha"]
    values = [[n < share for n in range(3)] for share in shares]
    pooled = [one for unit in values for one in unit]
    observed = np.mean([a != b for unit in values for a, b in itertools.permutations(unit, 2)])
    expected = np.mean([a != b for a, b in itertools.permutations(pooled, 2)])
    if expected == 0:
        assert found is None
    else:
        assert found == pytest.approx(1 - observed / expected, abs=1e-9)


def test_weighted_values_are_the_libraries_on_repeated_labels():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 5, (9, 2)).astype(float)
    yes, no = rng.integers(0, 6, 7) / 10, rng.integers(0, 6, 5) / 10
    for _ in range(20):
        weights = rng.integers(0, 3, 9)
        repeated = counts.repeat(weights, axis=0)
        expected = krippendorff.alpha(value_counts=repeated, level_of_measurement="nominal")
        assert weighted_alpha(counts, weights[None].astype(float)) == pytest.approx(expected)
        left, right = rng.integers(1, 4, 7), rng.integers(1, 4, 5)
        values = np.concatenate([yes.repeat(left), no.repeat(right)])
        expected = roc_auc_score(np.arange(len(values)) < left.sum(), values)
        found = weighted_auroc(yes, no, left[None].astype(float), right[None].astype(float))
        assert found == pytest.approx(expected)


def test_a_rise_from_the_first_to_the_last_layer_agrees_with_the_paper(tmp_path):
    rows = answers("accepted_share_ci_low", [0] * 20 + [4] * 2) + answers("accepted_share_ci_high", [4] * 20 + [0] * 2)
    path = write(tmp_path / "r.csv", rows)
    assert rater_agreement(path, RaterAgreementConfig(**QUICK)).conclusion.outcome == "agrees"
    turned = RaterAgreementConfig(layers=("accepted_share_ci_high", "accepted_share_ci_low"), **QUICK)
    assert rater_agreement(path, turned).conclusion.outcome == "disagrees"
    even = write(
        tmp_path / "e.csv", answers("accepted_share_ci_low", [0, 4] * 5) + answers("accepted_share_ci_high", [0, 4] * 5)
    )
    result = rater_agreement(even, RaterAgreementConfig(**QUICK))
    assert result.conclusion.outcome == "inconclusive"
    saved = save_experiment_result(result, tmp_path / "out")
    assert (saved / "figure.svg").is_file()
    again = load_experiment_result(saved)
    assert conclude(again.table, RaterAgreementConfig(**QUICK), extra=again.extra_tables) == result.conclusion


def test_the_later_answer_of_a_rater_counts_whatever_the_order_and_zone(tmp_path):
    rows = [
        line(rating="no", time="2024-05-01T12:00:00+02:00"),
        line(rating="YES", time="2024-05-01T09:00:00Z"),
        line(rater="bob", rating="no", time="2024-05-01 12:00:00"),
    ]
    found = read_ratings(write(tmp_path / "r.csv", rows))
    assert found.select("rater", "accepted").rows() == [("ann", False), ("bob", False)]


def test_what_the_explorer_or_a_spreadsheet_writes_is_read(tmp_path):
    path = tmp_path / "r.csv"
    quoted = 'run,conv5,1,"tall, ""old"" tree",0.1,"O\'Neil, é",yes,2024-05-01T12:00:00.123+00:00'
    path.write_bytes(("\ufeff" + HEADER + ",note\r\n" + quoted + ",fine\r\n").encode())
    found = read_ratings(path).row(0, named=True)
    assert (found["label"], found["rater"]) == ('tall, "old" tree', "O'Neil, é")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (line(unit=-1), "line 3: unit is '-1'. Expected a whole number from 0"),
        (line(unit="1e3"), "line 3: unit is '1e3'"),
        (line(unit=10**30), "line 3: unit is '1000000"),
        (line(iou="nan"), "line 3: iou is 'nan'. Expected a number from 0 to 1"),
        (line(iou=1.5), "line 3: iou is '1.5'"),
        (line(iou=""), "line 3: iou is empty"),
        (line(rating="maybe"), "line 3: rating is 'maybe'. Expected yes or no"),
        (line(rater=" "), "line 3: rater is empty"),
        (line(label=""), "line 3: label is empty"),
        (line(time="yesterday"), "line 3: time is 'yesterday'"),
        (line() + ",a,b", "cannot be read as a table of ratings"),
        ('"open', "cannot be read as a table of ratings|line 3: "),
        ("=cmd|' /C calc'!A0,,,,,,,", "line 3: layer is empty"),
    ],
)
def test_a_row_that_cannot_be_is_named(tmp_path, row, message):
    with pytest.raises(ResultError, match=message):
        read_ratings(write(tmp_path / "r.csv", [line(), row]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table of ratings"),
        (HEADER.encode(), "holds no rating"),
        (b"run,layer\na,b\n", "lacks the column 'unit'"),
        (b"\xff\xfe\x00", "cannot be read as a table of ratings"),
        (b"\x00" * 100, "lacks the column 'run'|cannot be read"),
    ],
)
def test_a_file_that_is_no_table_of_ratings_is_named(tmp_path, content, message):
    path = tmp_path / "r.csv"
    path.write_bytes(content)
    with pytest.raises(ResultError, match=message):
        read_ratings(path)


def test_a_missing_file_and_an_unknown_layer_are_named(tmp_path):
    with pytest.raises(ResultError, match=r"none\.csv cannot be read"):
        read_ratings(tmp_path / "none.csv")
    with pytest.raises(ResultError, match="no rating is about layer 'conv9'; the ratings are about conv5"):
        rater_agreement(write(tmp_path / "r.csv", [line()]), RaterAgreementConfig(layers=("conv9",)))


@given(st.binary(max_size=300))
def test_no_file_breaks_the_reader_but_by_its_own_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "r.csv"
    path.write_bytes(HEADER.encode() + b"\n" + content)
    try:
        read_ratings(path)
    except ResultError as error:
        assert str(path) in str(error)  # noqa: PT017 - any other error fails the test
