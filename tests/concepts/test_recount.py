"""Frequencies and coverages counted again by other means: polars over the pixels of the PNG files."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.build.writer import write_dataset
from netdissect.concepts.sources import parse_source


def recount(root: Path, category: str) -> pl.DataFrame:
    """Count by number the images and the share of pixels, as sets: a pixel of an image counts once for a label."""
    index = pl.read_csv(root / "index.csv", infer_schema=False)
    items = (
        index.with_row_index("row")
        .select("row", "sh", "sw", pl.col(category).str.split(";").alias("item"))
        .explode("item", empty_as_null=True)
        .filter(pl.col("item").is_not_null() & (pl.col("item") != ""))
    )
    tables = []
    for row, height, width, item in items.iter_rows():
        area = int(height) * int(width)
        if item.isdecimal():
            numbers = np.full(area, int(item), dtype=np.int64)
        else:
            with Image.open(root / "images" / item) as image:
                numbers = np.asarray(image).astype(np.int64).reshape(area, 3) @ np.array([1, 256, 0])
        tables.append(pl.DataFrame({"number": numbers}).with_row_index("pixel").with_columns(row=row, area=area))
    return (
        pl.concat(tables)
        .filter(pl.col("number") > 0)
        .unique(["row", "pixel", "number"])
        .group_by("number", "row")
        .agg(share=pl.len() / pl.col("area").first())
        .group_by("number")
        .agg(frequency=pl.len(), coverage=pl.col("share").sum())
        .sort("number")
    )


def check_tables(root: Path) -> None:
    labels = pl.read_csv(root / "label.csv", infer_schema_length=None)
    categories = pl.read_csv(root / "category.csv")
    totals = []
    for category, first, last, count, frequency in categories.iter_rows():
        counted = recount(root, category)
        stated = pl.read_csv(root / f"c_{category}.csv").sort("number")
        assert stated["number"].to_list() == counted["number"].to_list()
        assert stated["frequency"].to_list() == counted["frequency"].to_list()
        assert stated["coverage"].to_list() == pytest.approx(counted["coverage"].to_list(), abs=1e-8)
        numbers = counted["number"]
        assert (first, last, count, frequency) == (
            numbers.min(),
            numbers.max(),
            len(numbers),
            counted["frequency"].sum(),
        )
        totals.append(counted)
    total = pl.concat(totals).group_by("number").agg(pl.col("frequency").sum(), pl.col("coverage").sum()).sort("number")
    assert labels["number"].to_list() == total["number"].to_list() == list(range(1, len(labels) + 1))
    assert labels["frequency"].to_list() == total["frequency"].to_list()
    assert labels["coverage"].to_list() == pytest.approx(total["coverage"].to_list(), abs=1e-7)
    order = total.sort(["frequency", "coverage"], descending=True)
    assert order["frequency"].to_list() == labels["frequency"].to_list()


def test_polars_counts_the_same_on_drawn_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = ["sky", "car;auto", "auto", "dog;hound", "hound", "wall", ""]
    samples = []
    for number in range(25):
        names = dict(enumerate(rng.permutation(raw).tolist(), start=1))
        planes = [Channel(rng.integers(0, 8, (17, 12)) * rng.integers(0, 2, (17, 12)), names) for _ in range(3)]
        part: list[Channel | str] = [planes[2], "hound", "rare"]
        labels: dict[str, list[Channel | str]] = {"object": [*planes[:2]], "part": part[: int(rng.integers(1, 4))]}
        image = rng.integers(0, 256, (17, 12, 3), dtype=np.uint8)
        samples.append(Sample(f"{'ab'[number % 2]}/{number}", image, labels))
    check_tables(write_dataset(tmp_path / "all", samples, WriteOptions(size=22, colors=True)))
    options = WriteOptions(size=22, colors=True, min_images=12, min_coverage=2.0, resize="pad")
    check_tables(write_dataset(tmp_path / "some", samples, options))


@pytest.mark.real
@pytest.mark.slow
def test_polars_counts_the_same_on_real_images(shared: Path, tmp_path: Path) -> None:
    data = shared / "data"
    words = [f"masks:{data / 'camvid'}", f"masks:{data / 'ccp'}=part", f"folders:{data / 'scene15'}=scene"]
    options = WriteOptions(size=96, colors=True, min_images=10, min_coverage=0.5)
    out = build_dataset(tmp_path / "real", [parse_source(text) for text in words], options)
    check_tables(out)
