"""A finished run held against its network: masks recomputed, damaged files put back."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import strategies
from netdissect.config import DissectConfig
from netdissect.dissect import dissect
from netdissect.dissect.reload import data_of
from netdissect.dissect.verify import repair, verify_sample
from netdissect.dissect.work_dir.work_dir import WorkDir
from netdissect.errors import ConceptsError, ConfigError, NetworkError, ResultError
from netdissect.result import Result, load_result
from netdissect.result.files import corrupted_files
from netdissect.result.run_config import read_config
from networks import build

LAYERS = ("wide_relu", "deep_relu")


@pytest.fixture(scope="module")
def pristine(broden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = DissectConfig(
        layers=LAYERS,
        protocol=strategies.definition("paper", 0.05).protocol,
        batch_size=3,
        top_images=4,
        max_images=6,
        sample_seed=1,
    )
    folder = tmp_path_factory.mktemp("verify") / "run"
    dissect(build(), broden, config=config, out=folder)
    return folder


@pytest.fixture
def run(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_masks_computed_again_are_the_same_to_the_last_bit(pristine: Path) -> None:
    found = verify_sample(load_result(pristine), 30, network=build())
    assert len(found) == 30
    assert {one.layer for one in found} == set(LAYERS)
    assert any(one.pixels for one in found)
    assert all(one.largest_difference == 0 and one.changed == 0 for one in found)


def test_the_module_of_a_run_is_enough_as_the_run_recorded_its_preprocessing(pristine: Path, run: Path) -> None:
    result = load_result(pristine)
    assert verify_sample(result, 9, network=build().module) == verify_sample(result, 9, network=build())
    with pytest.raises(NetworkError, match="structure or weights have changed"):
        verify_sample(result, 1, network=build(seed=1).module)
    assert repair(run, network=build().module) == []


def test_an_activation_that_is_not_the_network_s_is_found(pristine: Path) -> None:
    result = load_result(pristine)
    layer = result.layers["wide_relu"]
    maps = np.array(layer.top_maps)
    maps[2, 1] *= 1.5
    faulty = replace(result, layers=result.layers | {"wide_relu": replace(layer, top_maps=maps)})
    wrong = [one for one in verify_sample(faulty, 100, network=build()) if one.largest_difference]
    assert [(one.layer, one.unit) for one in wrong] == [("wide_relu", 2)]
    assert wrong[0].largest_difference > 0.01


def test_other_weights_or_data_are_refused(pristine: Path, broden: Path, tmp_path: Path) -> None:
    result = load_result(pristine)
    with pytest.raises(NetworkError, match="structure or weights have changed"):
        verify_sample(result, 1, network=build(seed=1))
    with pytest.raises(NetworkError, match="was made in Python, and its source is not recorded"):
        verify_sample(result, 1)
    moved = Path(shutil.copytree(broden, tmp_path / "moved"))
    assert verify_sample(result, 1, network=build(), root=moved)
    (moved / "index.csv").write_text((moved / "index.csv").read_text().replace("train", "val", 1))
    with pytest.raises(ConceptsError, match="tables or files have changed"):
        verify_sample(result, 1, network=build(), root=moved)


def test_a_data_set_that_was_moved_is_named_with_the_way_out(pristine: Path, tmp_path: Path) -> None:
    result = load_result(pristine)
    data = result.info.data.model_copy(update={"root": str(tmp_path / "gone")})
    way_out = "gone, is not there any more.*name the folder to which it was moved .--data-root"
    with pytest.raises(ConceptsError, match=way_out):
        data_of(result.info.model_copy(update={"data": data}))


def names_of(result: Result) -> list[str]:
    per_layer = ("thresholds.parquet", "scores.parquet", "units.parquet", "units.csv", "top.parquet", "top_maps.npy")
    return ["concepts.parquet", *(f"layers/{layer}/{name}" for layer in result.layers for name in per_layer)]


@pytest.mark.parametrize("how", ["flipped", "truncated", "removed"])
def test_every_damaged_file_is_named_and_put_back_bit_for_bit(run: Path, pristine: Path, how: str) -> None:
    for name in names_of(load_result(pristine)):
        content = bytearray((run / name).read_bytes())
        if how == "flipped":
            content[len(content) // 2] ^= 1
            (run / name).write_bytes(content)
        elif how == "truncated":
            (run / name).write_bytes(content[:-1])
        else:
            (run / name).unlink()
        assert list(corrupted_files(run)[1]) == [name]
        with pytest.raises(ResultError, match=f"{Path(name).name} is missing or damaged .*verify RUN --repair"):
            load_result(run)
        assert repair(run, network=build()) == [name]
        assert contents(run) == contents(pristine)


def test_several_damaged_files_are_repaired_at_once_and_an_undamaged_run_is_left_alone(
    run: Path, pristine: Path
) -> None:
    assert repair(run, network=build()) == []
    for name in ("concepts.parquet", "layers/wide_relu/top.parquet", "layers/deep_relu/scores.parquet"):
        (run / name).write_bytes(b"")
    assert len(repair(run, network=build())) == 3
    assert contents(run) == contents(pristine)


def test_what_does_not_come_out_as_it_was_written_is_refused_and_nothing_changed(run: Path) -> None:
    (run / "concepts.parquet").unlink()
    before = contents(run)
    with pytest.raises(NetworkError, match="structure or weights have changed"):
        repair(run, network=build(seed=3))
    assert contents(run) == before


@pytest.mark.parametrize(("old", "new"), [('"batch_size": 3', '"batch_size": 5'), ('"threads": ', '"threads": 1')])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_configuration_that_would_repeat_another_run_is_found_and_written_anew(
    run: Path, old: str, new: str, by_hand: bool
) -> None:
    path = run / "config.json"
    text = path.read_text().replace(old, new)
    path.write_text(re.sub(r',\s*"digest": "\w+"', "", text) if by_hand else text)
    assert list(corrupted_files(run)[1]) == ["config.json"]
    if by_hand:
        assert read_config(path).digest is None
    else:
        with pytest.raises(ConfigError, match="was changed since it was written: its digest does not agree"):
            read_config(path)
    load_result(run)  # its tables are undamaged
    assert repair(run, network=build()) == ["config.json"]
    assert corrupted_files(run)[1] == {}
    assert read_config(path).config == load_result(run).info.config


def test_a_configuration_that_another_run_left_in_the_folder_is_replaced(run: Path, broden: Path) -> None:
    (run / "run.json").unlink()
    config = DissectConfig(layers=("fc",), batch_size=4, max_images=5, device="cpu")
    dissect(build(), broden, config=config, out=run)
    assert read_config(run).config == config
    assert corrupted_files(run)[1] == {}


def test_what_a_process_left_that_was_killed_behind_its_run_is_removed(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DissectConfig(layers=("fc",), batch_size=4, max_images=5)

    def killed(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(WorkDir, "remove", killed)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            dissect(build(), broden, config=config, out=tmp_path / "run")
    (tmp_path / "run" / ".run.json.0123456789ab.part").write_bytes(b"")
    (tmp_path / "run" / "layers" / "fc" / ".units.csv.0123456789ab.part").write_bytes(b"")
    (tmp_path / "run" / "mine.part").write_bytes(b"")
    assert (tmp_path / "run" / "work").is_dir()
    dissect(build(), broden, config=config, out=tmp_path / "run")
    left = [path.name for path in (tmp_path / "run").rglob("*.part")]
    assert left == ["mine.part"]
    assert not (tmp_path / "run" / "work").exists()
