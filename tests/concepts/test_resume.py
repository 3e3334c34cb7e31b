"""A build that is killed goes on where it was, and nobody can tell from the result."""

import importlib.util
import os
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from netdissect.concepts.build.manifest import BuildManifest, InputHasher
from netdissect.concepts.build.rendered import Folders, MapFile, Rendered
from netdissect.concepts.build.sample import Channel, Sample

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "build_kills.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_kills", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_five_kills_at_random_moments_leave_no_trace(script: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    own = tmp_path / "own"
    for part in ("images", "masks"):
        (own / part).mkdir(parents=True)
    (own / "classes.csv").write_text("value,name\n1,car;auto\n2,sky\n3,auto\n")
    for number in range(120):
        Image.fromarray(rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)).save(own / "images" / f"{number}.jpg")
        Image.fromarray(rng.integers(0, 4, (150, 200), dtype=np.uint8)).save(own / "masks" / f"{number}.png")
    (tmp_path / "work").mkdir()
    options = {"size": 96, "colors": True, "min_images": 2}
    moments = script.kill_and_resume(tmp_path / "work", [f"masks:{own}"], options, kills=5, seed=1, workers=1)
    assert len(moments) == 5
    assert any(0 < images < 120 for _, images in moments)


def read(path: Path, names: dict[int, str]) -> dict[str, list[Channel | str]]:
    return {}


def test_a_sample_is_known_by_its_files_and_arrays_and_by_nothing_else(tmp_path: Path) -> None:
    image, mask = tmp_path / "a.jpg", tmp_path / "a.png"
    image.write_bytes(b"one")
    mask.write_bytes(b"two")
    names = {n: f"name {n}" for n in range(100)}

    def stamp(values: int = 1, raw: str = "sky", split: str | None = None) -> str:
        channel = Channel(np.full((2, 2), values), {1: raw})
        return InputHasher().stamp(Sample("a", image, {"object": [channel]}, split))  # type: ignore[arg-type]

    assert stamp() == stamp()
    assert len({stamp(), stamp(2), stamp(raw="sea"), stamp(split="val")}) == 4

    def lazy(stamper: InputHasher, table: dict[int, str] = names) -> str:
        return stamper.stamp(Sample("a", image, partial(read, mask, table)))

    one = InputHasher()
    first = lazy(one)
    assert first == lazy(one) == lazy(InputHasher()) == lazy(InputHasher(), dict(names))
    assert first != lazy(InputHasher(), names | {0: "more"})
    os.utime(mask, ns=(1, 1))
    touched = lazy(InputHasher())
    assert touched != first
    image.write_bytes(b"longer")
    assert lazy(InputHasher()) not in (first, touched)
    image.unlink()
    assert len(lazy(InputHasher())) == 64


def test_a_journal_gives_back_what_is_whole_and_forgets_what_is_torn_or_foreign(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "images", tmp_path / "drafts")
    for folder in (folders.images, folders.drafts):
        folder.mkdir()
    written = []
    for number in range(3):
        (folders.images / f"{number}.jpg").write_bytes(b"image")
        (folders.drafts / f"{number}.png").write_bytes(b"map")
        items = {"object": ("whole;all", MapFile(f"{number}.png", ("sky", "", "sea;ocean")))}
        written.append(Rendered(f"{number}.jpg", "train", items, {"object": {"sky": 3, "sea;ocean": 1}}))
    with BuildManifest(tmp_path, folders, "key") as journal:
        for number, one in enumerate(written):
            journal.add(f"stamp {number}", one)
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    torn = BuildManifest(tmp_path, folders, "key")
    assert [torn.find(f"stamp {n}") for n in range(3)] == [written[0], written[1], None]
    (folders.images / "0.jpg").write_bytes(b"pict")
    (folders.drafts / "1.png").unlink()
    assert [torn.find(f"stamp {n}") for n in range(2)] == [None, None]
    foreign = BuildManifest(tmp_path, folders, "another key")
    assert (len(foreign), foreign.is_ours) == (0, False)
    (folders.images / "0.jpg").write_bytes(b"image")
    path.write_bytes(whole.replace(b'"sky": 3', b'"sky": 7', 2))  # digits flipped in the first two lines of samples
    flipped = BuildManifest(tmp_path, folders, "key")
    assert [flipped.find(f"stamp {n}") for n in range(3)] == [None, None, written[2]]
    path.write_bytes(whole)
    (folders.images / "0.jpg").write_bytes(b"pictUre")
    assert BuildManifest(tmp_path, folders, "key").find("stamp 0") is None
    path.write_bytes(whole.replace(b'"key": "key"', b'"key": "kez"'))
    assert len(BuildManifest(tmp_path, folders, "kez")) == 0
    path.write_bytes(b"\xff\xfenot a journal")
    assert len(BuildManifest(tmp_path, folders, "key")) == 0
