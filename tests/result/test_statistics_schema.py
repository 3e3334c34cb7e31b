"""The columns of the tables of statistics."""

import polars as pl
import pytest

from netdissect.result.statistics_schema import LABELS, complete


def test_a_column_that_was_not_measured_is_null():
    frame = complete(pl.DataFrame({"pixels": [3], "image_index": [1]}), LABELS)
    assert frame.schema == dict.fromkeys(("image_index", "label_id", "pixels", "image_pixels"), pl.UInt32)
    assert frame.rows() == [(1, None, 3, None)]


def test_a_column_that_the_table_does_not_have_is_refused():
    renamed = pl.DataFrame({"image_index": [1], "number": [2], "pixels": [3]})
    with pytest.raises(ValueError, match="the columns number are not in the table, which has image_index, label_id"):
        complete(renamed, LABELS)
