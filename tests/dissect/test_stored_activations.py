"""Activations that another program stored are dissected without their network."""

import json
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import netdissect
from netdissect.activations import ImageReader
from netdissect.concepts import ConceptData
from netdissect.errors import ActivationError, ConceptsError, ConfigError, LayerError, NetdissectError, NetworkError
from netdissect.models import ActivationRecorder, list_layers, resolve_layers
from netdissect.models.stored_activations import stored_files
from netdissect.models.stored_activations.stored_files import read_folder
from networks import build

OPTIONS: dict[str, Any] = {"quantile": 0.02, "permutations": 0, "bootstrap": 0}
LAYER = "wide_relu"


@pytest.fixture(scope="module")
def maps(broden: Path) -> npt.NDArray[np.float32]:
    """The activations of a layer on all images of the data set, float32 (N, 4, 12, 12)."""
    network, data = build(), ConceptData.open(broden)
    pixels = torch.from_numpy(ImageReader(data, network.preprocessing).read(range(len(data))))
    with network.prepared(), ActivationRecorder(network, resolve_layers(network, [LAYER])) as record:
        return record(network.preprocessing.normalize(pixels))[LAYER].numpy()


def write_list(folder: Path, broden: Path, names: list[str] | None = None) -> None:
    folder.mkdir(exist_ok=True)
    names = [row.image for row in ConceptData.open(broden).rows] if names is None else names
    (folder / "images.txt").write_text("\n".join(names) + "\n")


def write_shards(folder: Path, stored: dict[int, npt.NDArray[np.float32]], **changed: Any) -> None:
    """Write tokens (N, T, U) of layers, a class token first, as saev does: three images in each file."""
    values = np.stack([*stored.values()], axis=1)
    images, _, tokens, width = values.shape
    metadata = {
        "family": "fake", "ckpt": "none", "layers": list(stored), "content_tokens_per_example": tokens - 1,
        "cls_token": True, "d_model": width, "n_examples": images, "max_tokens_per_shard": 3 * tokens * len(stored),
        "data": "gASVIAAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAV0b3VjaJSFlFKULg==", "dataset": "/nowhere",
        "pixel_agg": None, "dtype": "float32", "protocol": "2.1",
    }  # fmt: skip
    (folder / "metadata.json").write_text(json.dumps(metadata | changed))
    parts = [values[start : start + 3] for start in range(0, images, 3)]
    for index, part in enumerate(parts):
        part.tofile(folder / f"acts{index:06d}.bin")
    shards = [{"name": f"acts{index:06d}.bin", "n_examples": len(part)} for index, part in enumerate(parts)]
    shards.append({"name": "acts000009.bin", "n_examples": 0})  # as after a full file
    (folder / "shards.json").write_text(json.dumps(shards))


def as_tokens(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return maps as tokens after a class token, float32 (N, 1 + H W, U)."""
    tokens = maps.reshape(*maps.shape[:2], -1).swapaxes(1, 2)
    return np.concatenate([tokens.max(axis=1, keepdims=True), tokens], axis=1)


def assert_same_counts(found: netdissect.Result, layer: str, expected: netdissect.Result) -> None:
    one, other = found.layers[layer], expected.layers[LAYER]
    key = ["unit", "label_id", "intersection", "mask_pixels"]
    assert one.scores["mask_pixels"].sum() > 0
    assert one.scores.select(key).sort(key).equals(other.scores.select(key).sort(key))
    assert one.units["label"].equals(other.units["label"])


@pytest.mark.parametrize(
    ("form", "where"), [("maps", r"row 4 .counted from 0. of .*one\.npy"), ("shards", r"row 1 .* of .*acts000001\.bin")]
)
def test_nan_is_refused_with_the_file_and_the_row_that_holds_it(
    broden: Path, tmp_path: Path, maps: npt.NDArray[np.float32], form: str, where: str
) -> None:
    broken, names = maps.copy(), [row.image for row in ConceptData.open(broden).rows]
    broken[4, 2, 5, 5] = np.nan
    write_list(tmp_path, broden, names)
    if form == "maps":
        np.save(tmp_path / "one.npy", broken)
    else:
        write_shards(tmp_path, {1: as_tokens(broken)})
    message = rf"unit 2 on {names[4]}\. A threshold needs finite activations: {where} holds them"
    with pytest.raises(ActivationError, match=message) as refused:
        netdissect.dissect(f"activations:{tmp_path}", broden, layers="*", **OPTIONS)
    assert "mean, std" not in str(refused.value)
    assert "--precision" not in str(refused.value)


@pytest.mark.parametrize("form", ["maps", "tokens", "shards"])
@pytest.mark.parametrize("field", ["half-pixel", (-1, 3, 2)])
def test_counts_are_those_of_the_network_that_gave_the_activations(
    broden: Path, tmp_path: Path, maps: npt.NDArray[np.float32], form: str, field: Any
) -> None:
    protocol = {"anchor": "half-pixel"} if field == "half-pixel" else {}
    expected = netdissect.dissect(build(), broden, layers=LAYER, **protocol, **OPTIONS)
    folder, layer, options = tmp_path / "stored", "some.layer", dict[str, Any]()
    reverse = [row.image for row in ConceptData.open(broden).rows][::-1]
    write_list(folder, broden, reverse)
    if form == "maps":
        np.save(folder / "some.layer.npy", maps[::-1])
    elif form == "tokens":
        np.save(folder / "some.layer.npy", as_tokens(maps)[::-1])
        options["assume_layout"] = "tokens:1"
    else:
        layer = "layer11"
        write_shards(folder, {3: as_tokens(maps)[::-1] + 1, 11: as_tokens(maps)[::-1]})
    if field != "half-pixel":
        options["receptive_field"] = field
    network = netdissect.load_network(f"activations:{folder}", size=None if field == "half-pixel" else 24)
    found = netdissect.dissect(network, broden, layers=layer, out=tmp_path / "run", **options, **OPTIONS)
    assert_same_counts(found, layer, expected)
    info = found.layers[layer].info
    assert (info.layout_source, info.field_source) == ("assumed", "assumed")
    assert (info.field is None) == (field == "half-pixel")
    netdissect.verify_sample(netdissect.load_result(tmp_path / "run"), 2)


def test_units_of_the_whole_image_and_every_size_of_number_are_read(broden: Path, tmp_path: Path) -> None:
    write_list(tmp_path, broden)
    values = np.random.default_rng(0).normal(size=(len(ConceptData.open(broden)), 3))
    for dtype in (np.float16, np.float32, np.float64):
        np.save(tmp_path / f"{np.dtype(dtype)}.npy", values.astype(dtype))
    network = netdissect.load_network(f"activations:{tmp_path}")
    layers = list_layers(network)
    assert [(layer.name, layer.units, layer.grid) for layer in layers] == [
        (f"float{bits}", 3, None) for bits in (16, 32, 64)
    ]
    with ActivationRecorder(network, layers) as record:
        rows = network.preprocessing.normalize(torch.tensor([[2], [0], [2]]))
        np.testing.assert_array_equal(record(rows)["float64"][:, :, 0, 0], values[[2, 0, 2]].astype(np.float32))


def test_shards_are_read_once_for_the_digests_of_all_layers(
    broden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_list(tmp_path, broden)
    tokens = np.zeros((len(ConceptData.open(broden)), 5, 3), np.float32)
    write_shards(tmp_path, {3: tokens, 11: tokens})
    read = list[str]()
    monkeypatch.setattr(
        stored_files, "file_digest", lambda file, name: read.append(file.name) or file_digest(file, name)
    )
    netdissect.load_network(f"activations:{tmp_path}").digest  # noqa: B018 - it is computed here
    assert sorted(read) == sorted(map(str, tmp_path.glob("acts*.bin")))


def test_a_list_of_images_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("a.jpg\n", encoding="utf-8-sig")
    np.save(tmp_path / "one.npy", np.zeros((1, 2), np.float32))
    assert list(read_folder(tmp_path).rows) == ["a.jpg"]
    np.savez(tmp_path / "two.npz", np.zeros(1))
    (tmp_path / "two.npz").rename(tmp_path / "two.npy")
    with pytest.raises(NetworkError, match=r"two\.npy cannot be used .it is an archive of several arrays"):
        read_folder(tmp_path)


def test_another_network_has_another_digest(broden: Path, tmp_path: Path) -> None:
    write_list(tmp_path, broden)
    digests = set()
    for number in (0.0, 1.0, 1.0):
        np.save(tmp_path / "one.npy", np.full((len(ConceptData.open(broden)), 2, 3, 3), number, np.float32))
        digests.add(netdissect.load_network(f"activations:{tmp_path}").digest)
    assert len(digests) == 2


def spoil_list(folder: Path) -> None:
    names = (folder / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("\n".join(names[:-1]))


def rename_image(folder: Path) -> None:
    names = (folder / "images.txt").read_text().splitlines()
    (folder / "images.txt").write_text("\n".join([*names[:-1], "other.jpg"]))


def write_objects(folder: Path) -> None:
    np.save(folder / "one.npy", np.array([{}]), allow_pickle=True)


def cut_file(folder: Path) -> None:
    content = (folder / "one.npy").read_bytes()
    (folder / "one.npy").write_bytes(content[:-4])


def forge_shape(folder: Path) -> None:
    content = (folder / "one.npy").read_bytes()
    (folder / "one.npy").write_bytes(content.replace(b"(7, 2,", b"(9999999999, 2,").replace(b"      \n", b"\n", 1))


def shards(folder: Path, **changed: Any) -> None:
    (folder / "one.npy").unlink()
    write_shards(folder, {1: np.zeros((7, 5, 2), np.float32)}, **changed)


def cut_shard(folder: Path) -> None:
    shards(folder)
    (folder / "acts000001.bin").write_bytes(b"\0" * 100)


def lead_out(folder: Path) -> None:
    shards(folder)
    listed = (folder / "shards.json").read_text()
    (folder / "shards.json").write_text(listed.replace("acts000001.bin", "../acts000001.bin"))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (spoil_list, NetworkError, "has activations of 7 images, and images.txt names 6"),
        (rename_image, ConceptsError, "activations are of 7 images, and 1 of the 7 images .* are not among them"),
        (lambda folder: (folder / "images.txt").unlink(), NetworkError, "images.txt cannot be read .*No such file"),
        (lambda folder: (folder / "images.txt").write_text("a\na\n"), NetworkError, "names 'a' twice"),
        (lambda folder: (folder / "one.npy").unlink(), NetworkError, "holds no activations"),
        (write_objects, NetworkError, "one of objects, which are not unpickled"),
        (cut_file, NetworkError, "one.npy cannot be used .*mmap length is greater than file size"),
        (forge_shape, NetworkError, "one.npy cannot be used"),
        (lambda folder: np.save(folder / "one.npy", np.zeros((7, 2), int)), NetworkError, "one.npy is int64"),
        (lambda folder: np.save(folder / "two.npy", np.zeros((7, 4, 2))), NetworkError, "holds maps .* and tokens"),
        (
            lambda folder: np.save(folder / "one.npy", np.zeros((7, 5, 2))),
            LayerError,
            "has 5 tokens, which are no square",
        ),
        (lambda folder: shards(folder, protocol="1.0.0"), NetworkError, "float32 of protocol 1.0.0. Expected"),
        (lambda folder: shards(folder, d_model=10**9), NetworkError, "has 120 bytes, and .* takes 60,000,000,000"),
        (lambda folder: shards(folder, n_examples=8), NetworkError, "names 7 examples, and metadata.json 8"),
        (lambda folder: shards(folder, layers=[]), NetworkError, "layers: Tuple should have at least 1 item"),
        (
            lambda folder: shards(folder, content_tokens_per_example=2),
            LayerError,
            "has 3 tokens, which without 1 are no",
        ),
        (
            lambda folder: shards(folder, layers=[3, 1]),
            NetworkError,
            "names the layers 3, 1, but saev writes layers",
        ),
        (cut_shard, NetworkError, "acts000001.bin has 100 bytes"),
        (lead_out, NetworkError, "names the file '../acts000001.bin', which lies outside"),
    ],
)
def test_files_that_do_not_fit_one_another_are_refused(
    broden: Path, tmp_path: Path, spoil: Any, error: type[NetdissectError], message: str
) -> None:
    write_list(tmp_path, broden)
    np.save(tmp_path / "one.npy", np.random.default_rng(0).normal(size=(7, 2, 3, 3)).astype(np.float32))
    spoil(tmp_path)
    with pytest.raises(error, match=message):
        netdissect.dissect(f"activations:{tmp_path}", broden, layers="*", **OPTIONS)


@pytest.mark.parametrize(
    ("load", "options", "error", "message"),
    [
        ({"weights": "none"}, {}, NetworkError, "weights is given for activations:stored"),
        ({"mean": (0.5,), "std": (0.5,)}, {}, NetworkError, "mean, std are given for activations:stored"),
        ({}, {"receptive_field": (-1, 3, 2)}, ConfigError, "Expected --input-size, too"),
    ],
)
def test_options_that_mean_nothing_for_stored_activations_are_refused(
    broden: Path, tmp_path: Path, load: Any, options: Any, error: type[NetdissectError], message: str
) -> None:
    folder = tmp_path / "stored"
    write_list(folder, broden)
    np.save(folder / "one.npy", np.zeros((7, 2, 3, 3), np.float32))
    with pytest.raises(error, match=message):
        netdissect.dissect(
            netdissect.load_network(f"activations:{folder}", **load), broden, layers="one", **options, **OPTIONS
        )
