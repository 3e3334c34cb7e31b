"""ADE20K in both of its layouts, drawn here pixel by pixel."""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from PIL import Image

from netdissect.concepts import ConceptData
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.sources import Ade20kSource, parse_source
from netdissect.errors import SourceError

SKY, CAR, WHEEL, RIM = 2, 401, 3035, 2122
NAMES = {SKY: "sky", CAR: "car, auto, automobile", WHEEL: "wheel", RIM: "rim"}
CLASSES = 3148


def encode(classes: npt.NDArray[np.int64], shades: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    return np.stack([classes // 256 * 10, classes % 256, shades], axis=-1).astype(np.uint8)


def draw(folder: Path, stem: str = "ADE_train_00000001") -> Path:
    """Sky above a car of two wheels, one of which has a rim: eight by six pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = np.array([[SKY] * 6] * 4 + [[CAR] * 6] * 4)
    shades = np.array([[128] * 6] * 4 + [[255] * 6] * 4)
    wheels, which = np.zeros((8, 6), int), np.zeros((8, 6), int)
    wheels[6:, :2], wheels[6:, 4:] = WHEEL, WHEEL
    which[6:, :2], which[6:, 4:] = 128, 255
    rim = np.zeros((8, 6), int)
    rim[7, 0] = RIM
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(folder / f"{stem}.jpg")
    Image.fromarray(encode(objects, shades)).save(folder / f"{stem}_seg.png")
    Image.fromarray(encode(wheels, which)).save(folder / f"{stem}_parts_1.png")
    Image.fromarray(encode(rim, (rim > 0) * 255)).save(folder / f"{stem}_parts_2.png")
    return folder / f"{stem}.jpg"


def write_instances(image: Path, lines: str) -> None:
    image.with_name(f"{image.stem}_atr.txt").write_text(lines)


LINES = """\
001 # 0 # 0 # sky # sky # ""
002 # 0 # 1 # car, auto, automobile # CAR # "parked, red"
001 # 1 # 0 # wheel # front wheel # ""
002 # 1 # 0 # wheel # wheel # ""
001 # 2 # 0 # rim # rim # ""
"""


def write_index(path: Path, scenes: dict[str, str]) -> None:
    cells = np.empty((1, CLASSES), object)
    cells[0] = "-"
    for number, name in NAMES.items():
        cells[0, number - 1] = name
    index = {
        "filename": np.array([list(scenes)], object),
        "scene": np.array([list(scenes.values())], object),
        "objectnames": cells,
        "objectcounts": np.zeros((CLASSES, 1)),
    }
    scipy.io.savemat(path, {"index": index}, do_compression=True)


def write_json(image: Path, scene: list[str]) -> None:
    objects = [{"id": n, "name": name, "name_ndx": ndx} for n, (ndx, name) in enumerate(NAMES.items())]
    folder = f"ADE20K_2021_17_01/images/{image.parent.relative_to(image.parents[4]).as_posix()}"
    content = {"annotation": {"filename": image.name, "folder": folder, "scene": scene, "object": objects}}
    image.with_suffix(".json").write_text(json.dumps(content))


def only(folder: Path) -> Sample:
    (sample,) = parse_source(f"ade20k:{folder}").samples("ade20k")
    return sample


def pixels(labels: LabelsByCategory, category: str) -> list[dict[str, int]]:
    """Count the pixels of each name, channel by channel."""
    channels = [item for item in labels[category] if isinstance(item, Channel)]
    return [
        {name: n for value, name in channel.names.items() if value and (n := int((channel.values == value).sum()))}
        for channel in channels
    ]


OBJECTS = [{"sky": 24, "car;auto;automobile": 24}]
PARTS = [{"wheel": 8}, {"rim": 1}]


def test_the_2016_layout_is_named_by_its_index(tmp_path: Path) -> None:
    image = draw(tmp_path / "ADE20K_2016_07_26" / "images" / "training" / "s" / "street")
    write_index(tmp_path / "ADE20K_2016_07_26" / "index_ade20k.mat", {image.name: "street"})
    sample = only(tmp_path)
    labels = sample.read_labels()
    assert (sample.name, sample.image, sample.split) == (f"ade20k/{image.stem}", image, None)
    assert pixels(labels, "object") == OBJECTS
    assert pixels(labels, "part") == PARTS
    assert labels["scene"] == ("street",)


def test_without_its_index_the_2016_layout_is_named_by_its_instances_and_folders(tmp_path: Path) -> None:
    image = draw(tmp_path / "images" / "validation" / "a" / "apse" / "indoor")
    write_instances(image, LINES)
    labels = only(tmp_path).read_labels()
    assert pixels(labels, "object") == OBJECTS
    assert pixels(labels, "part") == PARTS
    assert labels["scene"] == ("apse-indoor",)


def test_an_instance_that_is_hidden_does_not_shift_the_names_of_the_others(tmp_path: Path) -> None:
    image = draw(tmp_path / "images" / "training" / "s" / "street")
    # Three instances: the shades 85, 170 and 255 stand for them, and 85 is nowhere to be seen.
    shades = np.array([[170] * 6] * 4 + [[255] * 6] * 4)
    classes = np.array([[SKY] * 6] * 4 + [[CAR] * 6] * 4)
    Image.fromarray(encode(classes, shades)).save(image.with_name(f"{image.stem}_seg.png"))
    hidden = LINES.replace("002 # 0", "003 # 0").replace("001 # 0 # 0 # sky", "002 # 0 # 0 # sky")
    write_instances(image, '001 # 0 # 1 # sun # sun # ""\n' + hidden)
    assert pixels(only(tmp_path).read_labels(), "object") == OBJECTS


def test_a_scene_with_a_tilde_is_none(tmp_path: Path) -> None:
    image = draw(tmp_path / "images" / "training" / "m" / "misc")
    write_index(tmp_path / "index_ade20k.mat", {image.name: "~not labeled"})
    assert "scene" not in only(tmp_path).read_labels()


def test_the_2021_layout_is_named_by_its_json_and_masks_of_instances_are_no_images(tmp_path: Path) -> None:
    image = draw(tmp_path / "images" / "ADE" / "training" / "cultural" / "apse__indoor")
    write_json(image, ["indoor", "cultural", "apse", "indoor"])
    (image.parent / image.stem).mkdir()
    (image.parent / image.stem / "instance_000_x.jpg").write_bytes(b"not looked at")
    labels = only(tmp_path).read_labels()
    assert pixels(labels, "object") == OBJECTS
    assert pixels(labels, "part") == PARTS
    assert labels["scene"] == ("apse-indoor",)


def test_the_scene_of_the_2021_layout_survives_moving_the_files(tmp_path: Path) -> None:
    image = draw(tmp_path / "images" / "ADE" / "training" / "urban" / "street")
    write_json(image, [])
    flat = tmp_path / "flat"
    image.parent.rename(flat)
    assert only(flat).read_labels()["scene"] == ("street",)


def test_a_built_data_set_holds_objects_parts_and_scene(tmp_path: Path) -> None:
    image = draw(tmp_path / "ade" / "images" / "ADE" / "training" / "urban" / "street")
    write_json(image, [])
    data = ConceptData.open(build_dataset(tmp_path / "out", [Ade20kSource(tmp_path / "ade")]))
    assert set(data.categories) == {"object", "part", "scene"}


def test_broken_files_are_named(tmp_path: Path) -> None:
    image = draw(tmp_path / "images" / "training" / "s" / "street")
    sample = only(tmp_path)
    with pytest.raises(SourceError, match=r"_atr\.txt does not exist"):
        sample.read_labels()
    write_instances(image, "a line\n")
    with pytest.raises(SourceError, match=r"_atr\.txt, line 1: 'a line' names no instance"):
        sample.read_labels()
    seg = image.with_name(f"{image.stem}_seg.png")
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(seg)
    with pytest.raises(SourceError, match=r"_seg\.png holds L pixels"):
        sample.read_labels()
    seg.write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"_seg\.png cannot be read"):
        sample.read_labels()
    seg.unlink()
    with pytest.raises(SourceError, match=r"_seg\.png does not exist"):
        sample.read_labels()


def test_a_label_map_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_instances(draw(tmp_path / "images" / "training" / "s" / "street"), LINES)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(SourceError, match=r"_seg\.png cannot be read .*decompression bomb"):
        only(tmp_path).read_labels()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "holds a JSON list"),
        ("{}", "KeyError"),
        ('{"annotation": {"object": [{"name": "x"}]}}', "name_ndx"),
        ('{"annotation": {"object": 3}}', "TypeError"),
    ],
)
def test_a_strange_annotation_is_named(content: str, message: str, tmp_path: Path) -> None:
    image = draw(tmp_path / "images" / "ADE" / "training" / "urban" / "street")
    image.with_suffix(".json").write_text(content)
    with pytest.raises(SourceError, match=rf"\.json .*{message}"):
        only(tmp_path).read_labels()


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", b"\0" * 4000, bytes(range(256)) * 40])
def test_a_strange_index_is_named(content: bytes, tmp_path: Path) -> None:
    draw(tmp_path / "images" / "training" / "s" / "street")
    (tmp_path / "index_ade20k.mat").write_bytes(content)
    with pytest.raises(SourceError, match=r"index_ade20k\.mat"):
        only(tmp_path)


def test_an_index_of_another_form_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "training" / "s" / "street")
    scipy.io.savemat(tmp_path / "index_ade20k.mat", {"index": {"filename": np.array([["a.jpg"]], object)}})
    with pytest.raises(SourceError, match=r"index_ade20k\.mat lacks what the index"):
        only(tmp_path)


@pytest.mark.real
def test_real_images_have_objects_two_levels_of_parts_and_a_scene(shared: Path) -> None:
    samples = list(Ade20kSource(shared / "data" / "ade20k").samples("ade20k"))
    assert [sample.name[-8:] for sample in samples] == ["00016869", "00016900", "00016964"]
    labels = samples[0].read_labels()
    (objects,), (first, second) = pixels(labels, "object"), pixels(labels, "part")
    assert labels["scene"] == ("street",)
    assert objects["road;route"] > 1_000_000
    assert {"wheel", "door", "headlight"} <= first.keys()
    assert set(second) == {"handle", "mirror", "rim", "window"}
