"""The tables of label sets of a run: they hold the counts of the run, and survive an interruption."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from netdissect.config import Execution
from netdissect.dissect.compose import label_set_pass
from netdissect.dissect.compose.label_set_pass import LabelSetPass, LabelSets, chosen_quantile
from netdissect.dissect.reload import data_of
from netdissect.errors import ConfigError, ResultError
from netdissect.result import Result


def pass_of(run: Result, folder: Path, **changes: Any) -> LabelSetPass:
    return replace(LabelSetPass(run, data_of(run.info), 0.05, folder, Execution()), **changes)


def frames(tables: LabelSets) -> dict[str, pl.DataFrame]:
    return {path.name: pl.read_parquet(path) for path in sorted(tables.folder.path.glob("*.parquet"))}


@pytest.mark.parametrize("quantile", [0.05, 0.2])
def test_the_table_has_the_pixels_of_each_concept_and_its_intersection_with_each_unit(
    kept_run: Result, tmp_path: Path, quantile: float
) -> None:
    tables = pass_of(kept_run, tmp_path, quantile=quantile).tables(["wide_relu", "fc"])
    image_rows, every_image = tables.image_rows(), np.ones(40, bool)
    _, same_rows = image_rows.of_images(every_image)
    for name, layer in kept_run.layers.items():
        entries = tables.mask_rows(name).collect()
        for unit, of_unit in entries.group_by("unit"):
            active = of_unit.group_by("row").agg(pl.col("active").sum())
            by_row = np.zeros(len(image_rows.table), np.int64)
            by_row[same_rows[active["row"].to_numpy()]] = active["active"].to_numpy()
            scores = layer.scores.filter(quantile=quantile, unit=unit[0])
            for concept in scores.iter_rows(named=True):
                rows = image_rows.table.has_label(concept["label_id"])
                assert by_row[rows].sum() == concept["intersection"]
                assert image_rows.table.pixels[rows].sum() == concept["concept_pixels"]
        assert entries["active"].sum() > 0


def test_an_interrupted_pass_resumes_with_the_blocks_that_it_counted(
    kept_run: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = frames(pass_of(kept_run, tmp_path / "whole").tables(["wide_relu", "fc"]))
    monkeypatch.setattr(label_set_pass, "BLOCK", 7)
    seen = []

    def interrupt(stage: str, done: int, total: int | None) -> None:
        seen.append((stage, done, total))
        if done == 21 and len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pass_of(kept_run, tmp_path / "parts", progress=interrupt).tables(["wide_relu", "fc"])
    blocks = sorted(path.name for path in tmp_path.glob("parts/*/blocks-*/*"))
    assert blocks == ["0.block", "14.block", "7.block"]
    again = pass_of(kept_run, tmp_path / "parts", progress=interrupt).tables(["wide_relu", "fc"])
    assert seen[-1] == ("label sets", 40, 40)
    found = frames(again)
    assert found.keys() == whole.keys() == {f"{name}.parquet" for name in NAMES}
    assert all(found[name].equals(whole[name]) for name in whole)
    assert not list(tmp_path.glob("parts/*/blocks-*"))


NAMES = ("image_label_sets", "label_sets", "mask_rows-0", "mask_rows-1")


def test_a_layer_that_is_counted_later_fits_the_tables_of_the_others(kept_run: Result, tmp_path: Path) -> None:
    together = frames(pass_of(kept_run, tmp_path / "together").tables(["wide_relu", "fc"]))
    one = pass_of(kept_run, tmp_path / "apart")
    one.tables(["fc"])
    assert one.missing(["wide_relu", "fc"]) == ["wide_relu"]
    apart = frames(one.tables(["wide_relu", "fc"]))
    assert all(apart[name].equals(together[name]) for name in together)


def test_damaged_tables_and_blocks_are_named(kept_run: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = pass_of(kept_run, tmp_path).tables(["fc"])
    table = tables.folder.path / "label_sets.parquet"
    content = bytearray(table.read_bytes())
    content[20] ^= 1
    table.write_bytes(content)
    with pytest.raises(ResultError, match=r"label_sets.parquet is missing or damaged .*remove the folder"):
        tables.image_rows()
    shutil.rmtree(tables.folder.path)
    one = pass_of(kept_run, tmp_path, progress=lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        one.tables(["fc"])
    (block,) = tmp_path.glob("*/blocks-*/0.block")
    block.write_bytes(block.read_bytes()[:-1])
    with pytest.raises(ResultError, match=r"0.block is damaged .*Remove this file"):
        pass_of(kept_run, tmp_path).tables(["fc"])


def test_a_run_without_masks_names_the_command_that_keeps_them(kept_run: Result, tmp_path: Path) -> None:
    layers = {name: replace(layer, statistics={}) for name, layer in kept_run.layers.items()}
    with pytest.raises(ResultError, match=r"kept no masks.*netdissect run --config RUN --keep-masks --out NEW"):
        pass_of(replace(kept_run, layers=layers), tmp_path).tables(["fc"])


def test_a_quantile_that_the_run_does_not_have_is_refused(kept_run: Result) -> None:
    assert chosen_quantile(kept_run, None) == 0.05
    assert chosen_quantile(kept_run, 0.2) == 0.2
    with pytest.raises(ConfigError, match=r"has no quantile 0.1; it has 0.05, 0.2"):
        chosen_quantile(kept_run, 0.1)


def test_more_counts_than_memory_are_refused_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda _: 1000)
    label_set_pass.check_memory(1_000_000, 5)
    with pytest.raises(ResultError, match=r"have 5,000 runs of pixels, .* take about 2 MB .*--layer"):
        label_set_pass.check_memory(2_000_000, 5_000)
