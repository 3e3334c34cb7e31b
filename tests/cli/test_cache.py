"""`netdissect cache`: what runs keep for the next ones, listed and cleared."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import strategies
from netdissect import DissectConfig, Execution, dissect
from netdissect.caches import list_caches
from netdissect.concepts import Size
from netdissect.models import Network, Preprocessing
from networks import COVERAGE, SIDE, images


@pytest.fixture(scope="module")
def broden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "broden"
    return strategies.write_broden(root, images(), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture
def kept(broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder after a run with packed images, and compiled loops of a package of one module."""
    torch.manual_seed(0)
    network = Network("net", nn.Sequential(nn.Conv2d(3, 2, 3)), Preprocessing(Size(12, 12), (0.5,) * 3, (0.5,) * 3))
    config = DissectConfig(layers=("0",), statistics={"bootstrap": 0, "permutations": 0})
    dissect(network, broden, config=config, execution=Execution(cache_folder=tmp_path / "cache", image_cache=True))
    loops = tmp_path / "package" / "scoring" / "__pycache__"
    loops.mkdir(parents=True)
    for name, size in (("kernel.count-1.py311.nbi", 30), ("kernel.count-1.py311.1.nbc", 70), ("kernel.pyc", 5)):
        (loops / name).write_bytes(bytes(size))
    monkeypatch.setattr(list_caches, "PACKAGE", tmp_path / "package")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    return tmp_path / "cache"


@pytest.fixture
def listed(netdissect: Callable[..., Any], kept: Path) -> Callable[..., dict[str, Any]]:
    def call(*words: object) -> dict[str, Any]:
        done = netdissect("cache", *words, "--cache-folder", kept, "--json")
        assert done.code == 0
        return dict(json.loads(done.out))

    return call


def test_a_list_names_kind_data_set_size_and_last_use(
    netdissect: Callable[..., Any], listed: Callable[..., dict[str, Any]], broden: Path, kept: Path
) -> None:
    os.utime(next(kept.glob("images-*")), (1e9, 1e9))
    found = listed("list")
    by_kind = {entry["kind"]: entry for entry in found["entries"]}
    files = {path.name.partition("-")[0]: path for path in kept.iterdir()}
    assert by_kind.keys() - {"digests"} == {"labels", "images", "loops"}
    for kind in ("labels", "images"):
        assert by_kind[kind]["path"] == str(files[kind])
        assert by_kind[kind]["bytes"] == files[kind].stat().st_size
        assert by_kind[kind]["data"] == str(broden.resolve())
        assert by_kind[kind]["images"] == 7
    assert by_kind["images"]["detail"] == "12 x 12 x 3, bilinear"
    assert by_kind["images"]["last_used"] == "2001-09-09T01:46:40Z"
    assert (by_kind["loops"]["files"], by_kind["loops"]["bytes"]) == (2, 100)
    assert found["bytes"] == sum(entry["bytes"] for entry in found["entries"])
    shown = netdissect("cache", "list", "--cache-folder", kept).out
    assert f"{kept}/images-" in shown
    assert "decoded, resized images" in shown
    assert "There is no folder" not in shown
    absent = netdissect("cache", "list", "--cache-folder", kept / "absent").out
    assert absent.startswith(f"There is no folder {kept / 'absent'}: no run has kept anything there.")
    assert "compiled loops" in absent


def test_clearing_a_kind_deletes_and_names_its_files_alone(listed: Callable[..., dict[str, Any]], kept: Path) -> None:
    images = next(kept.glob("images-*"))
    removed = listed("clear", "--kind", "images")
    assert [entry["path"] for entry in removed["entries"]] == [str(images)]
    assert not images.exists()
    assert "images" not in {entry["kind"] for entry in listed("list")["entries"]}
    rest = {entry["kind"] for entry in listed("clear")["entries"]}
    assert "labels" in rest
    assert [entry["kind"] for entry in listed("list")["entries"]] == ["loops"], "other runs use them"
    assert [entry["files"] for entry in listed("clear", "--kind", "loops")["entries"]] == [2]
    assert listed("list")["entries"] == []
    assert [path.name for path in kept.parent.rglob("*.pyc")] == ["kernel.pyc"]


def test_an_unknown_kind_is_refused_and_an_empty_cache_is_said(netdissect: Callable[..., Any], kept: Path) -> None:
    refused = netdissect("cache", "clear", "--kind", "picture", "--cache-folder", kept)
    assert refused.code == 2
    assert (
        "--kind cannot be 'picture'. Expected one of labels, images, digests, graphs, embeddings, loops." in refused.err
    )
    assert netdissect("cache", "clear", "--cache-folder", kept).out.startswith("Deleted:")
    assert "Nothing was there to delete: " in netdissect("cache", "clear", "--cache-folder", kept).out
    netdissect("cache", "clear", "--kind", "loops")
    assert "The cache holds nothing: " in netdissect("cache", "list", "--cache-folder", kept / "none").out


def test_a_damaged_file_is_listed_without_what_it_said(listed: Callable[..., dict[str, Any]], kept: Path) -> None:
    for path in kept.iterdir():
        path.write_bytes(b"\xff\n\xff")
    found = {entry["kind"]: entry for entry in listed("list")["entries"]}
    assert found["labels"]["data"] is None
    assert found["images"]["data"] is None
