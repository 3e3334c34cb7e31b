"""A run on disk: whole or not at all, and read back as it was."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from netdissect.errors import ResultError
from netdissect.result import LayerResult, Result, load_result, save_result
from netdissect.result.files import write_whole

ODD = "layers/features.0%2Fodd%20name"
PER_LAYER = ("thresholds.parquet", "scores.parquet", "units.parquet", "units.csv", "top.parquet", "top_maps.npy")
FILES = ("run.json", "concepts.parquet", *(f"{layer}/{name}" for layer in (ODD, "layers/layer4") for name in PER_LAYER))


@pytest.fixture(scope="module")
def pristine(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_result(result, tmp_path_factory.mktemp("runs") / "pristine")


@pytest.fixture
def run(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "run"))


def assert_same_layer(found: LayerResult, wanted: LayerResult) -> None:
    assert found.info == wanted.info
    for name in ("thresholds", "units", "top", "scores"):
        left, right = getattr(found, name), getattr(wanted, name)
        assert left.schema == right.schema, name
        assert left.equals(right), name
    assert found.top_maps.dtype == np.float32
    assert found.top_maps.tobytes() == wanted.top_maps.tobytes()


def read_all(run: Path) -> Result:
    """Read every table of a run, the ones that are read when asked for too."""
    found = load_result(run)
    for layer in found.layers.values():
        assert layer.scores.height
        assert np.asarray(layer.top_maps).size
    return found


def test_a_run_of_a_layer_with_negative_activations_is_read_back(result: Result, tmp_path: Path) -> None:
    layer = result.layer("layer4")
    below = layer.top.with_columns(pl.lit(-1, pl.Float32).alias("max_activation"))
    changed = replace(result, layers={**result.layers, "layer4": replace(layer, top=below)})
    assert load_result(save_result(changed, tmp_path / "run")).layer("layer4").top.equals(below)


def test_a_run_is_read_back_bit_for_bit(result: Result, pristine: Path) -> None:
    found = load_result(pristine)
    assert found.info == result.info
    assert found.concepts.equals(result.concepts)
    assert found.concepts.schema == result.concepts.schema
    assert list(found.layers) == list(result.layers)
    for name, layer in found.layers.items():
        assert_same_layer(layer, result.layers[name])
    for rule in ("top-label", "per-category"):
        assert found.detectors(rule) == result.detectors(rule)
    assert found.units.equals(result.units)
    assert found.scores.height == result.scores.height


def test_a_run_folder_holds_just_what_it_names(pristine: Path) -> None:
    found = {path.relative_to(pristine).as_posix() for path in pristine.rglob("*") if path.is_file()}
    assert found == set(FILES)


def test_a_finished_run_is_not_overwritten(result: Result, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ResultError, match=re.escape(f"{run} already holds a finished run")):
        save_result(result, run)
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=re.escape(f"{tmp_path} is no run folder")):
        load_result(tmp_path)
    with pytest.raises(ResultError, match="is no run folder"):
        load_result(tmp_path / "absent")
    (tmp_path / "work").mkdir()
    with pytest.raises(ResultError, match="holds a run that is not finished"):
        load_result(tmp_path)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def _flip_start(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 0x55
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "halved": _halve,
    "one byte short": _shorten,
    "a byte flipped in the middle": _flip_middle,
    "a byte flipped at the start": _flip_start,
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "replaced by text": lambda path: path.write_text("not what you think\n"),
    "replaced by JSON": lambda path: path.write_text(json.dumps({"schema_version": 1})),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused_by_name(run: Path, name: str, damage: str) -> None:
    DAMAGES[damage](run / name)
    wanted = run if name == "run.json" and damage == "deleted" else run / name
    with pytest.raises(ResultError, match=re.escape(str(wanted))):
        read_all(run)


@pytest.mark.parametrize("name", [name for name in PER_LAYER if name != "units.csv"])
def test_a_table_of_another_layer_is_refused_by_name(run: Path, name: str) -> None:
    shutil.copy(run / ODD / name, run / "layers/layer4" / name)
    with pytest.raises(ResultError, match=re.escape(f"layers/layer4/{name}")):
        read_all(run)


@pytest.mark.parametrize("name", ["thresholds", "units", "top", "scores"])
def test_a_table_of_another_kind_is_refused_by_name(run: Path, name: str) -> None:
    shutil.copy(run / "concepts.parquet", run / f"layers/layer4/{name}.parquet")
    with pytest.raises(ResultError, match=re.escape(f"layers/layer4/{name}.parquet")):
        read_all(run)


@pytest.mark.parametrize(
    ("name", "frame", "column"),
    [
        ("labels", {"image_index": [0], "number": [3]}, "number"),
        ("evidence", {"unit": [0]}, "unit"),
    ],
)
def test_a_table_of_statistics_of_another_program_is_refused(
    result: Result, tmp_path: Path, name: str, frame: dict[str, list[int]], column: str
) -> None:
    layer = replace(result.layer("layer4"), statistics={name: pl.LazyFrame(frame)})
    save_result(replace(result, layers={**result.layers, "layer4": layer}), tmp_path / "run")
    with pytest.raises(
        ResultError, match=rf"statistics/{name}\.parquet .* has no column '{column}' in a table '{name}'"
    ):
        load_result(tmp_path / "run")


def test_maps_that_are_pickled_objects_are_refused(run: Path) -> None:
    path = run / "layers/layer4/top_maps.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ResultError, match=re.escape(str(path))):
        load_result(run)


def test_a_run_of_another_version_is_refused(run: Path) -> None:
    path = run / "run.json"
    content = json.loads(path.read_text())
    changes = {
        r"run\.json has version 2 of the run format, .*which reads version 1\.": {"schema_version": 2},
        r"run\.json is not a run description of this version": {"surprise": 1},
    }
    for message, change in changes.items():
        path.write_text(json.dumps(content | {"run": content["run"] | change}))
        with pytest.raises(ResultError, match=message):
            load_result(run)


def test_a_layer_name_cannot_lead_out_of_the_run(run: Path) -> None:
    path = run / "run.json"
    content = json.loads(path.read_text())
    content["run"]["layers"][1]["name"] = ".."
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=r"missing or damaged"):
        load_result(run)


@pytest.mark.parametrize("fails", ["concepts.parquet", "units.csv", "scores.parquet", "top_maps.npy", "run.json"])
def test_a_failing_disk_leaves_no_run_that_seems_finished(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == fails:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ResultError, match=re.escape(f"{tmp_path / 'run'} cannot be written") + ".*No space left"):
        save_result(result, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    save_result(result, tmp_path / "run")
    read_all(tmp_path / "run")


@pytest.mark.parametrize("limit", [200, 2000])
def test_a_full_disk_is_a_typed_error_and_leaves_no_run(pristine: Path, tmp_path: Path, limit: int) -> None:
    # A limit on the size of files is the full disk that a test can have.
    script = f"""
        import resource, signal, sys
        from netdissect.errors import ResultError
        from netdissect.result import load_result, save_result
        result = load_result(sys.argv[1])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            save_result(result, sys.argv[2])
        except ResultError as error:
            sys.exit(0 if sys.argv[2] + " cannot be written" in str(error) else 3)
        sys.exit(4)
    """
    target = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(script), str(pristine), str(target)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not (target / "run.json").exists()


def test_a_target_that_is_a_file_is_a_typed_error(result: Result, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(ResultError, match=re.escape(f"{tmp_path / 'run'} cannot be written")):
        save_result(result, tmp_path / "run")


def test_an_unknown_layer_is_named_with_those_that_exist(result: Result) -> None:
    with pytest.raises(ResultError, match=r"no layer 'layer5'; it has .*layer4"):
        result.layer("layer5")


def test_unit_tables_hold_the_best_concepts_of_the_score_table(result: Result) -> None:
    for layer in result.layers.values():
        scores = layer.scores.to_dicts()
        for row in layer.units.to_dicts():
            its = [s for s in scores if (s["unit"], s["quantile"]) == (row["unit"], row["quantile"])]
            for category in result.info.data.categories:
                met = [s for s in its if s["category"] == category and s["intersection"] > 0]
                best = max(met, key=lambda s: (s["iou"], -s["label_id"]), default=None)
                wanted = (None, 0, 0, 0, 0.0) if best is None else tuple(
                    best[part] for part in ("concept", "concept_pixels", "mask_pixels", "intersection", "iou")
                )  # fmt: skip
                parts = ("label", "truth", "activation", "intersect", "iou")
                assert tuple(row[f"{category}-{part}"] for part in parts) == wanted
            top = max((row[f"{c}-iou"], i) for i, c in enumerate(result.info.data.categories))
            winner = result.info.data.categories[top[1]] if top[0] > 0 else None
            assert (row["category"], row["iou"]) == (winner, top[0])
            assert row["label"] == (None if winner is None else row[f"{winner}-label"])


def test_many_writers_of_one_file_leave_it_complete(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: write_whole(path, lambda file: file.write(bytes([n]) * 10_000)), range(64)))
    assert len(set(path.read_bytes())) == 1
    assert path.stat().st_size == 10_000
    assert list(tmp_path.iterdir()) == [path]
