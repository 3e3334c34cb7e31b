"""Tables as CSV files: no text in them is taken for a formula; see `netdissect.csv_cells`."""

import polars as pl

from netdissect.csv_cells import ESCAPED, FORMULA, escaped, plain


def escaped_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table as it is written: all texts, and the names of its columns."""
    texts = pl.selectors.string() | pl.selectors.categorical()
    written = frame.with_columns(texts.cast(pl.String).str.replace(FORMULA, "'${1}"))
    return written.rename({name: escaped(name) for name in frame.columns})


def plain_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table as it was before it was written."""
    read = frame.with_columns(pl.selectors.string().str.replace(ESCAPED, "${1}"))
    return read.rename({name: plain(name) for name in frame.columns})
