"""Formulas of a run: their numbers by sets of pixels, resumption, the null, and what is refused."""

import importlib
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import netdissect
from netdissect.dissect.compose import permuted_rows, unit_search
from netdissect.dissect.reload import data_of
from netdissect.errors import ConfigError, ResultError
from netdissect.progress import Display
from netdissect.result import Result
from netdissect.result.folder_lock import lock_folder
from netdissect.result.formulas.formula_result import Formulas, load_formulas, main_formulas
from netdissect.scoring.formulas.image_rows import MaskRows
from netdissect.scoring.statistics.holdout import is_held_out

compose_module = importlib.import_module("netdissect.dissect.compose.compose")

Pixels = list[tuple[frozenset[str], bool]]


def folder_of(run: Result) -> Path:
    assert run.origin is not None
    return run.origin.folder


@pytest.fixture(scope="module")
def run(kept_run: Result, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Copy the run: formulas are written into its folder."""
    copy = tmp_path_factory.mktemp("composed") / "run"
    shutil.copytree(folder_of(kept_run), copy)
    return netdissect.load_result(copy)


@pytest.fixture(scope="module")
def found(run: Result) -> Formulas:
    return netdissect.compose(run, bootstrap=99, quantile=0.2, permutations=3)


class PixelSets:
    """The pixels of each image, one by one: names of their labels, and whether a unit is active there."""

    def __init__(self, run: Result) -> None:
        self.data = data_of(run.info)
        names = {concept.label_id: concept.name for concept in self.data.concepts}
        self.labels = [self._labels(image, names) for image in range(len(self.data))]
        masks = (run.layer(name).statistics["masks"].filter(quantile=0.2).collect() for name in run.layers)
        self.runs = {
            name: table.rows_by_key(["unit", "image_index"]) for name, table in zip(run.layers, masks, strict=True)
        }

    def _labels(self, image: int, names: dict[int, str]) -> list[frozenset[str]]:
        labels = self.data.labels(image)
        height, width = labels.size
        whole = {names[number] for number in labels.image_level.tolist()}
        channels = [channel.ravel().tolist() for channel in labels.label_channels]
        pixels = range(height * width)
        return [frozenset({names[here[pixel]] for here in channels if here[pixel]} | whole) for pixel in pixels]

    def of(self, layer: str, unit: int, image: int, labels_of: int | None = None) -> Pixels:
        """Return the pixels of one image, with the labels of another one if it is named."""
        labels = self.labels[image if labels_of is None else labels_of]
        active = [False] * len(labels)
        for _, start, length in self.runs[layer].get((unit, image), ()):
            active[start : start + length] = [True] * length
        return list(zip(labels, active, strict=True))


@pytest.fixture(scope="module")
def sets(run: Result) -> PixelSets:
    return PixelSets(run)


def iou_by_sets(pixels: Pixels, formula: str) -> float:
    """Evaluate a formula on the labels of each pixel, in Python's own words."""
    text = formula.replace(" AND NOT ", " and not ").replace(" AND ", " and ").replace(" OR ", " or ")
    text = re.sub(r"concept \d+", lambda name: f"({name[0]!r} in labels)", text)
    covers = eval(f"lambda labels: {text}")  # noqa: S307 - of our own formula
    covered = [bool(covers(labels)) for labels, _ in pixels]
    active = [on for _, on in pixels]
    both, either = (sum(map(kind, covered, active)) for kind in (min, max))
    return both / either if either else 0.0


def test_the_numbers_of_a_unit_are_those_of_sets_of_pixels(sets: PixelSets, found: Formulas) -> None:
    data = sets.data
    heldout = is_held_out(0, np.arange(len(data)), 0.5)
    assert 0 < heldout.sum() < len(data)
    for row in found.units.filter(pl.col("formula").is_not_null()).iter_rows(named=True):
        images = [sets.of(row["layer"], row["unit"], image) for image in range(len(data))]
        chosen, scored = (
            [pixel for image, held in zip(images, heldout, strict=True) if held == side for pixel in image]
            for side in (False, True)
        )
        everything = [pixel for image in images for pixel in image]
        assert row["mask_pixels"] == sum(active for _, active in everything)
        for pixels, formula, column in (
            (everything, "formula", "iou"),
            (everything, "concept", "concept_iou"),
            (chosen, "selected_formula", "selection_iou"),
            (scored, "selected_formula", "heldout_iou"),
            (scored, "selected_concept", "heldout_concept_iou"),
        ):
            assert row[column] == pytest.approx(iou_by_sets(pixels, row[formula]), rel=1e-15), column
        best = max(iou_by_sets(everything, concept.name) for concept in data.concepts)
        assert row["concept_iou"] == pytest.approx(best, rel=1e-15)
        assert row["gain"] == row["heldout_iou"] - row["heldout_concept_iou"]
        assert row["gain_ci_low"] <= row["gain_ci_high"]
        assert row["iou_ci_low"] <= row["iou_ci_high"]
        assert row["optimal"]
        assert row["iou_upper_bound"] == row["iou"] >= row["concept_iou"]


def test_q_values_are_those_of_benjamini_and_hochberg_over_the_units_of_a_layer(found: Formulas) -> None:
    for _, layer in found.units.group_by("layer"):
        rows = layer.filter(pl.col("p_value").is_not_null()).sort("p_value")
        p, count = rows["p_value"].to_list(), rows.height
        expected = [min(p[later] * count / (later + 1) for later in range(index, count)) for index in range(count)]
        assert rows["q_value"].to_list() == pytest.approx(expected, rel=1e-12)
        assert rows["gain_established"].to_list() == [
            q <= 0.05 and gain > 0 for q, gain in rows.select("q_value", "gain").iter_rows()
        ]


def test_the_own_labels_of_the_run_are_beside_the_formulas(run: Result, found: Formulas) -> None:
    own = run.units.filter(quantile=0.2).select("layer", "unit", run_label="label", run_iou="iou")
    assert found.units.select(own.columns).equals(own)


def without_time(formulas: Formulas) -> pl.DataFrame:
    return formulas.units.drop("seconds")


def test_an_interrupted_search_resumes_with_the_next_unit(run: Result, found: Formulas) -> None:
    options = {"bootstrap": 99, "quantile": 0.2, "permutations": 3, "stats_seed": 0}
    folder = next(folder_of(run).glob("formulas/formulas-*"))
    log, whole = folder / "units.log", (folder / "units.log").read_bytes()
    lines = whole.splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]) + lines[3][:20])  # killed while the fourth unit was written
    stages = []
    again = netdissect.compose(run, **options, progress=lambda *each: stages.append(each))
    assert stages[0] == ("formulas", 4, 7)
    assert without_time(again).equals(without_time(found))
    assert again.permuted.equals(found.permuted)
    stages.clear()
    assert without_time(netdissect.compose(run, **options, progress=lambda *each: stages.append(each))).equals(
        without_time(found)
    )
    assert not stages
    assert without_time(main_formulas(netdissect.load_result(folder_of(run)))).equals(without_time(found))
    log.write_bytes(whole.replace(b'"unit"', b'"Unit"') if b'"unit"' in whole else whole.replace(b"iou", b"IOU", 1))
    with pytest.raises(ResultError, match=r"units.log is damaged: its line 1 .*Remove this file"):
        netdissect.compose(run, **options)
    log.write_bytes(whole)


def test_some_units_are_those_of_all_and_only_they_are_returned(run: Result, found: Formulas) -> None:
    one = netdissect.compose(run, layer="fc", unit=[2], bootstrap=99, quantile=0.2, permutations=3)
    assert one.units["unit"].to_list() == [2]
    assert one.units["formula"].to_list() == found.units.filter(layer="fc", unit=2)["formula"].to_list()
    alone = netdissect.compose(run, layer="fc", unit=[2], bootstrap=0, holdout=None, workers=1)
    assert alone.by_layer()["established"].to_list() == [None]
    assert alone.units["iou_ci_low"].is_null().all()
    assert alone.units["p_value"].is_null().all()
    assert alone.units.select((pl.col("iou") - pl.col("concept_iou") == pl.col("gain")).all()).item()
    assert len(load_formulas(run)) == 2


def test_a_run_in_memory_has_the_same_formulas(run: Result, found: Formulas) -> None:
    in_memory = replace(run, origin=None)
    assert without_time(netdissect.compose(in_memory, bootstrap=99, quantile=0.2)).equals(without_time(found))


def test_permuted_masks_are_those_of_images_of_the_same_stratum(
    run: Result, sets: PixelSets, found: Formulas, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sets.data
    names = {concept.name for concept in data.concepts}
    strata: dict[object, list[int]] = {}
    for image in range(len(data)):
        present = frozenset[str]().union(*sets.labels[image])
        categories = {concept.category for concept in data.concepts if concept.name in present}
        strata.setdefault((tuple(data.rows[image].size), frozenset(categories)), []).append(image)
    assert max(map(len, strata.values())) > 2
    for layer, unit, permutation, iou in found.permuted.select("layer", "unit", "permutation", "concept_iou").rows():
        moved: Pixels = []
        for images in strata.values():
            drawn = np.random.default_rng((0, permutation, images[0])).permutation(len(images))
            for image, other in zip(images, drawn, strict=True):
                moved += sets.of(layer, unit, image, labels_of=images[other])
        assert iou == pytest.approx(max(iou_by_sets(moved, name) for name in names), rel=1e-15)
    monkeypatch.setattr(permuted_rows, "MAX_BYTES", 1)
    shutil.rmtree(next(folder_of(run).glob("formulas/formulas-*")))
    again = netdissect.compose(run, bootstrap=99, quantile=0.2, permutations=3)
    assert again.permuted.equals(found.permuted)


def test_what_cannot_be_composed_is_refused_with_a_remedy(run: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_search, "MAX_WEIGHTS", 1_000_000)
    for options, message in (
        ({"unit": 9}, r"the layer 'wide_relu' has 4 units, 0 to 3; there is no unit 9"),
        ({"layer": "wide"}, r"the run has no layer 'wide'"),
        ({"operators": "xor"}, r"netdissect.compose\(\): operators .*See help\(netdissect.compose\)"),
        ({"lenght": 2}, r"netdissect.compose\(\) has no option 'lenght'.*length"),
        ({"length": 6}, r"netdissect.compose\(\): length .*"),
        ({"quantile": 0.1}, r"the run has no quantile 0.1; it has 0.05, 0.2"),
        ({"holdout": 1e-9}, r"holds out 0 of 40 images; .*--holdout 0.5"),
        ({"bootstrap": 100_000}, r"40 images in 100,000 replicates, which takes 4 MB .*--bootstrap 25000"),
    ):
        with pytest.raises((ConfigError, ResultError), match=message):
            netdissect.compose(run, **options)
    with pytest.raises(ResultError, match=r"is a path. Expected a finished run"):
        netdissect.compose(folder_of(run))


def test_a_layer_without_a_mask_is_refused(run: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = run.layer("fc").statistics["masks"].filter(unit=99)
    layers = {"fc": replace(run.layer("fc"), statistics={"masks": empty})}
    with pytest.raises(ResultError, match=r"no unit has a mask at the quantile 0.05: all are dead there"):
        netdissect.compose(replace(run, origin=None, layers=layers))


def copied(run: Result, folder: Path) -> Result:
    shutil.copytree(folder_of(run), folder, ignore=shutil.ignore_patterns("formulas"))
    return netdissect.load_result(folder)


def test_a_folder_that_cannot_be_written_or_is_in_use_is_refused(run: Result, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "run")
    formulas = tmp_path / "run" / "formulas"
    formulas.touch()
    with pytest.raises(ResultError, match=r"formulas cannot be written .*run the same command again"):
        netdissect.compose(other)
    formulas.unlink()
    formulas.mkdir()
    lock = lock_folder(formulas)
    with pytest.raises(ResultError, match=r"run is being written by process \d+"):
        netdissect.compose(other)
    lock.release()


def test_a_damaged_list_of_tables_is_named(run: Result, found: Formulas, tmp_path: Path) -> None:
    shutil.copytree(folder_of(run), tmp_path / "run")
    other = netdissect.load_result(tmp_path / "run")
    (tmp_path / "run" / "formulas" / "formulas-0").mkdir()
    (tmp_path / "run" / "formulas" / "formulas-0" / "tables.json").write_text("{}")
    with pytest.raises(ResultError, match=r"formulas-0/tables.json is missing or damaged .*remove the folder"):
        load_formulas(other)


def test_a_run_that_is_replaced_meanwhile_gets_no_formulas_of_the_other(run: Result, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "run")

    def replaced(stage: str, done: int, total: int | None) -> None:
        (tmp_path / "run" / "run.json").touch()

    with pytest.raises(ResultError, match=r"run.json was replaced, changed or removed"):
        netdissect.compose(other, progress=replaced, bootstrap=0)
    netdissect.compose(netdissect.load_result(tmp_path / "run"), bootstrap=0, length=1)
    config = other.info.config.model_copy(update={"batch_size": 3})
    another = replace(other, info=other.info.model_copy(update={"config": config}))
    assert len(load_formulas(other)) == 1
    assert not load_formulas(another)


def test_the_time_is_told_after_the_first_units_and_before_the_null(
    run: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose_module, "FIRST_UNITS", 4)
    lines = []

    class Lines(Display):
        def line(self, text: str) -> None:
            lines.append(text)

    netdissect.compose(replace(run, origin=None), bootstrap=0, length=1, permutations=2, quantile=0.2, progress=Lines())
    assert re.fullmatch(r"about \d+ s for the other 3 units", lines[2])
    assert re.fullmatch(r"null of wide_relu: 4 units in 2 permutations, 8 searches; about \d+ s", lines[3])


def test_an_interruption_ends_the_searches_of_other_threads(
    run: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, ended = copied(run, tmp_path / "run"), []

    def endless(searches: unit_search.UnitSearches, _: object) -> dict[str, object]:
        begin = time.monotonic()
        while not searches.whole.search.stopped and time.monotonic() < begin + 5:
            time.sleep(0.001)
        ended.append(searches.whole.search.stopped)
        return {}

    search = unit_search.UnitSearches.record

    def record(searches: unit_search.UnitSearches, of_unit: MaskRows) -> dict[str, object]:
        return endless(searches, of_unit) if of_unit.units.any() else search(searches, of_unit)  # the first: unit 0

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if stage == "formulas":
            raise KeyboardInterrupt

    monkeypatch.setattr(unit_search.UnitSearches, "record", record)
    with pytest.raises(KeyboardInterrupt):
        netdissect.compose(other, bootstrap=0, quantile=0.2, progress=interrupt, workers=2)
    assert ended
    assert all(ended)
    monkeypatch.undo()
    stages = []
    resumed = netdissect.compose(other, bootstrap=0, quantile=0.2, progress=lambda *each: stages.append(each))
    assert stages[0] == ("formulas", 2, 7)
    assert resumed.units.height == 7


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_an_interruption_does_not_wait_for_the_end_of_a_search(run: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def endless(searches: unit_search.UnitSearches, _: object) -> dict[str, object]:
        time.sleep(0.2)  # until the main thread waits
        os.kill(os.getpid(), signal.SIGINT)
        begin = time.monotonic()
        while not searches.whole.search.stopped and time.monotonic() < begin + 5:
            time.sleep(0.001)
        ended.append(searches.whole.search.stopped)
        return {}

    monkeypatch.setattr(unit_search.UnitSearches, "record", endless)
    # A shell lets what it starts in the background ignore SIGINT.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.siginterrupt(signal.SIGINT, False)  # as polars does when it is imported
    try:
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            netdissect.compose(replace(run, origin=None), bootstrap=0, quantile=0.2, progress=False, workers=1)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert ended == [True]
