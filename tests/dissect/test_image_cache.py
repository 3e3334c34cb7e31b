"""Packed images: a second run on the same data decodes none, and gives the same bits."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import run_asserts
import strategies
from netdissect.activations import image_reader
from netdissect.config import DissectConfig, Execution, StatisticsConfig
from netdissect.dissect import cost_estimate, dissect
from netdissect.dissect.choices import backend_choice
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.shards import Shard, dissect_shard
from netdissect.dissect.run_dissection import open_inputs
from netdissect.errors import ConfigError
from netdissect.models import Network
from netdissect.result import Result, load_result
from networks import COVERAGE, SIDE, build, images

IMAGES = 7
SETTINGS = DissectConfig(
    layers=("wide_relu", "deep_relu"), batch_size=3, top_images=3,
    statistics=StatisticsConfig(bootstrap=5, permutations=2, extra_metrics=True),
)  # fmt: skip


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded, one after the other."""
    names: list[str] = []
    read = image_reader.read_image

    def noted(path: Path, *arguments: Any) -> Any:
        names.append(path.name)
        return read(path, *arguments)

    monkeypatch.setattr(image_reader, "read_image", noted)
    return names


@pytest.fixture(scope="module")
def plain(broden: Path) -> Result:
    return dissect(build(), broden, config=SETTINGS)


def packing(folder: Path, **options: Any) -> Execution:
    return Execution(cache_folder=folder / "cache", image_cache=True, **options)


def cache_files(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("images*"))


def test_a_second_run_decodes_no_image_in_any_pass_and_gives_the_same_bits(
    broden: Path, tmp_path: Path, plain: Result, decoded: list[str]
) -> None:
    first = dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path))
    assert sorted(decoded) == [f"{index}.png" for index in range(IMAGES)], "each once, though there are three passes"
    decoded.clear()
    second = dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path, activation_cache="none"))
    assert decoded == []
    run_asserts.assert_same_run(plain, first)
    run_asserts.assert_same_run(plain, second)
    (file,) = cache_files(tmp_path)
    pixels = np.frombuffer(file.read_bytes()[-IMAGES * SIDE * SIDE * 3 :], np.uint8).reshape(IMAGES, SIDE, SIDE, 3)
    for index, image in enumerate(pixels):
        with Image.open(broden / "images" / f"{index}.png") as stored:
            assert np.array_equal(image, np.asarray(stored.convert("RGB").resize((SIDE, SIDE), 2)))


def test_a_network_of_equal_input_reads_what_another_packed_and_other_filters_make_another_file(
    broden: Path, tmp_path: Path, decoded: list[str]
) -> None:
    dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path))
    decoded.clear()
    dissect(build(seed=1), broden, config=SETTINGS, execution=packing(tmp_path))
    assert decoded == []
    bicubic = Network("bicubic", build().module, replace(build().preprocessing, interpolation="bicubic"))
    dissect(bicubic, broden, config=SETTINGS, execution=packing(tmp_path))
    dissect(build(channels=1), broden, config=SETTINGS, execution=packing(tmp_path))
    assert len(decoded) == 2 * IMAGES
    assert len(cache_files(tmp_path)) == 3


def test_an_interrupted_run_decodes_again_none_of_its_images(
    broden: Path, tmp_path: Path, plain: Result, decoded: list[str]
) -> None:
    def stop(stage: str, _done: int, _total: int | None) -> None:
        if stage == "thresholds":
            raise KeyboardInterrupt

    def run(**options: Any) -> Result:
        return dissect(build(), broden, config=SETTINGS, out=tmp_path / "run", execution=packing(tmp_path), **options)

    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        run(progress=stop)
    run_asserts.assert_same_run(plain, run())
    assert len(decoded) == IMAGES


def test_shards_pack_their_images_into_one_file(broden: Path, tmp_path: Path, decoded: list[str]) -> None:
    config = SETTINGS.model_copy(update={"statistics": StatisticsConfig(bootstrap=5)})
    for _ in ("thresholds", "counting"):
        for number in (1, 2):
            dissect_shard(
                build(), broden, config=config, shard=Shard(number, 2), out=tmp_path / "run",
                execution=packing(tmp_path),
            )  # fmt: skip
        merge_shards(tmp_path / "run")
    assert len(cache_files(tmp_path)) == 1
    assert len(decoded) == IMAGES
    run_asserts.assert_same_run(
        load_result(tmp_path / "run"), dissect(build(), broden, config=config, execution=packing(tmp_path))
    )
    assert len(decoded) == IMAGES


def repaint(image: Path) -> None:
    """Draw another image, and leave size and modification time as they were, as ``cp -p`` does."""
    facts = image.stat()
    pixels = np.asarray(Image.open(image)).copy()
    Image.fromarray(255 - pixels).save(image)
    os.utime(image, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_an_image_that_changed_between_runs_is_decoded_again(tmp_path: Path, decoded: list[str]) -> None:
    root = strategies.write_broden(tmp_path / "data", images(), COVERAGE, image=(SIDE, SIDE))
    before = dissect(build(), root, config=SETTINGS, execution=packing(tmp_path))
    repaint(root / "images" / "5.png")
    decoded.clear()
    found = dissect(build(), root, config=SETTINGS, execution=packing(tmp_path))
    assert len(decoded) == IMAGES
    assert len(cache_files(tmp_path)) == 2
    run_asserts.assert_same_run(dissect(build(), root, config=SETTINGS), found)
    assert found.info.data.digest != before.info.data.digest


def test_an_image_that_changes_during_a_run_is_not_packed(tmp_path: Path) -> None:
    root = strategies.write_broden(tmp_path / "data", images(), COVERAGE, image=(SIDE, SIDE))
    source = open_inputs(build(), root, SETTINGS, packing(tmp_path))
    assert source.images.packed is not None
    repaint(root / "images" / "5.png")
    with Image.open(root / "images" / "5.png") as changed:
        assert np.array_equal(
            source.images.read(range(IMAGES))[5].transpose(1, 2, 0), np.asarray(changed.resize((SIDE, SIDE), 2))
        )
    kept = source.images.packed.read(range(IMAGES))
    assert kept is not None
    assert kept.whole.tolist() == [index != 5 for index in range(IMAGES)]


def test_a_damaged_file_is_said_and_its_images_are_decoded_again(
    broden: Path, tmp_path: Path, plain: Result, decoded: list[str]
) -> None:
    dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path))
    (file,) = cache_files(tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    decoded.clear()
    with pytest.warns(UserWarning, match=rf"{file.name} is damaged .*such images are decoded again"):
        run_asserts.assert_same_run(plain, dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path)))
    assert decoded == ["6.png"]
    file.write_bytes(content[:-1])
    with pytest.warns(UserWarning, match=rf"{file.name} is damaged \(its beginning or its size is another\)"):
        run_asserts.assert_same_run(plain, dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path)))
    decoded.clear()
    run_asserts.assert_same_run(plain, dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path)))
    assert decoded == []


def test_a_folder_that_cannot_be_written_ends_no_run(broden: Path, tmp_path: Path, plain: Result) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    images_are_not = r"images-\w+\.bin cannot be written \(File exists\): images are not cached"
    with pytest.warns(UserWarning, match=r"labels are not cached"), pytest.warns(UserWarning, match=images_are_not):
        found = dissect(build(), broden, config=SETTINGS, out=tmp_path / "run", execution=packing(tmp_path))
    run_asserts.assert_same_run(plain, found)
    assert "packs its images" not in (tmp_path / "run" / "log.jsonl").read_text(), "the plan says what is done"


def test_a_disk_that_fills_up_ends_no_run_and_keeps_what_was_packed(
    broden: Path, tmp_path: Path, plain: Result, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    class Full:
        """A file on a full disk."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, _content: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = opened(self, mode, *arguments, **options)
        return Full(file) if mode == "r+b" and self.name.startswith("images-") and len(decoded) > 4 else file

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.warns(UserWarning, match=r"images-\w+\.bin cannot be written \(No space left on device\)"):
            run_asserts.assert_same_run(
                plain, dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path, workers=1))
            )
    decoded.clear()
    run_asserts.assert_same_run(plain, dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path)))
    assert 0 < len(decoded) < IMAGES


@pytest.fixture
def forbidden(broden: Path, tmp_path: Path) -> Iterator[Path]:
    """A file of packed images that only its owner may read."""
    dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path))
    (file,) = cache_files(tmp_path)
    file.chmod(0)
    yield file
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_a_file_that_this_user_may_not_read_is_said_and_left(
    broden: Path, tmp_path: Path, plain: Result, forbidden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def refused(self: Path, *arguments: Any, **options: Any) -> Any:
        if self == forbidden:  # the super-user may read it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.warns(UserWarning, match=rf"{forbidden.name} cannot be read \(Permission denied\): images are decoded"):
        run_asserts.assert_same_run(plain, dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path)))
    assert forbidden.exists()


def test_packed_images_need_a_folder() -> None:
    with pytest.raises(ConfigError, match=r"image_cache cannot be True: packed images need .*--cache-folder"):
        Execution(image_cache=True)
    assert not Execution(cache_folder=Path("cache")).image_cache


def test_an_estimate_states_what_is_not_packed_yet(broden: Path, tmp_path: Path) -> None:
    def predicted() -> int:
        return cost_estimate.estimate(
            build(), broden, config=SETTINGS, execution=packing(tmp_path), sample=3
        ).cache_bytes

    assert predicted() == IMAGES * SIDE * SIDE * 3
    assert cache_files(tmp_path) == []
    dissect(build(), broden, config=SETTINGS, execution=packing(tmp_path))
    assert predicted() == 0


def test_an_estimate_names_the_backend_that_is_chosen_and_packs_nothing_for_the_choice(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_choice, "RUNTIMES", {})
    config = SETTINGS.model_copy(update={"backend": "auto"})
    found = cost_estimate.estimate(build(), broden, config=config, execution=packing(tmp_path), sample=3)
    assert found.backend == "eager"
    assert found.backend_check is not None
    assert list(found.backend_check.images_per_second) == ["eager"]
    assert found.cache_bytes == IMAGES * SIDE * SIDE * 3
    assert cache_files(tmp_path) == []
