"""Pascal VOC with Pascal-Context and Pascal-Part."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from PIL import Image

from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel, LabelsByCategory
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import PascalSource, parse_source
from netdissect.concepts.sources.datasets.pascal import PART_NAMES, spell_part
from netdissect.concepts.sources.mask_stacking import stack
from netdissect.concepts.sources.readers import read_mat
from netdissect.errors import SourceError

Mask = npt.NDArray[np.uint8]


def rectangle(top: int, bottom: int, left: int, right: int) -> Mask:
    mask = np.zeros((8, 6), np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def structs(rows: list[dict[str, Any]]) -> npt.NDArray[np.void]:
    """Make a MATLAB struct array (1, N)."""
    made = np.empty((1, len(rows)), dtype=[(key, object) for key in rows[0]] if rows else [("none", object)])
    for place, row in enumerate(rows):
        for key, value in row.items():
            made[key][0, place] = value
    return made


def parts(named: dict[str, Mask]) -> npt.NDArray[Any]:
    return structs([{"part_name": name, "mask": mask} for name, mask in named.items()]) if named else np.zeros((0, 0))


HORSE = {
    "head": rectangle(0, 3, 0, 3),
    "lear": rectangle(0, 1, 0, 1),
    "rear": rectangle(0, 1, 2, 3),
    "lfuleg": rectangle(6, 7, 0, 2),
    "lflleg": rectangle(7, 8, 0, 2),
    "lfho": rectangle(7, 8, 0, 1),
}


def write_parts(path: Path, part_masks: dict[str, Mask] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    objects = [
        {"class": "horse", "class_ind": 13, "mask": rectangle(0, 8, 0, 4), "parts": parts(part_masks or HORSE)},
        {"class": "boat", "class_ind": 4, "mask": rectangle(0, 8, 3, 6), "parts": parts({})},
    ]
    scipy.io.savemat(path, {"anno": {"imname": path.stem, "objects": structs(objects)}}, do_compression=True)


def write_context(folder: Path, stem: str, values: npt.NDArray[Any]) -> None:
    (folder / "trainval").mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "trainval" / f"{stem}.mat", {"LabelMap": values}, do_compression=True)
    (folder / "labels.txt").write_text("1: accordion\n113: diningtable\n431: unknown\n")


def write_image(folder: Path, stem: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(folder / f"{stem}.jpg")


def context_map() -> npt.NDArray[np.uint16]:
    values = np.full((8, 6), 431, np.uint16)
    values[:2], values[2:4] = 1, 113
    return values


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    write_image(tmp_path / "VOCdevkit" / "VOC2010" / "JPEGImages", "2008_000001")
    write_image(tmp_path / "VOCdevkit" / "VOC2010" / "JPEGImages", "2008_000002")
    write_parts(tmp_path / "part" / "Annotations_Part" / "2008_000001.mat")
    write_parts(tmp_path / "part" / "Annotations_Part" / "2008_000002.mat")
    write_context(tmp_path / "context", "2008_000001", context_map())
    return tmp_path


def pixels(labels: LabelsByCategory, category: str) -> dict[str, int]:
    """Count the pixels of each name over all channels."""
    found: dict[str, int] = {}
    for item in labels[category]:
        assert isinstance(item, Channel)
        for value in np.unique(item.values):
            if name := item.names.get(int(value), ""):
                found[name] = found.get(name, 0) + int((item.values == value).sum())
    return found


def test_objects_are_those_of_context_and_parts_those_of_part(voc: Path) -> None:
    first, second = parse_source(f"pascal:{voc}").samples("pascal")
    assert first.name == "pascal/2008_000001"
    assert first.image == voc / "VOCdevkit" / "VOC2010" / "JPEGImages" / "2008_000001.jpg"
    labels = first.read_labels()
    assert pixels(labels, "object") == {"accordion": 12, "diningtable": 12}
    # Lower and upper leg are one; nothing is lost where ears lie on the head and the hoof on the leg.
    assert pixels(labels, "part") == {"head": 9, "ear": 2, "leg": 4, "hoof": 1}
    assert len(labels["part"]) == 2
    assert pixels(second.read_labels(), "object") == {"horse": 32, "boat": 24}


def test_annotations_may_lie_beside_their_images(tmp_path: Path) -> None:
    write_image(tmp_path, "2008_000001")
    write_parts(tmp_path / "2008_000001.mat")
    (sample,) = PascalSource(tmp_path).samples("pascal")
    assert sample.image == tmp_path / "2008_000001.jpg"
    assert pixels(sample.read_labels(), "part")["ear"] == 2


def test_context_may_come_without_part(tmp_path: Path) -> None:
    write_image(tmp_path / "JPEGImages", "1")
    write_context(tmp_path, "1", context_map())
    (sample,) = PascalSource(tmp_path).samples("pascal")
    labels = sample.read_labels()
    assert pixels(labels, "object") == {"accordion": 12, "diningtable": 12}
    assert not labels["part"]


def test_a_built_data_set_counts_a_pixel_under_each_of_its_parts(voc: Path, tmp_path: Path) -> None:
    out = build_dataset(tmp_path / "out", [PascalSource(voc)])
    shares = {(c.name, c.category): c.frequency for c in inspect_dataset(out).concepts}
    assert shares["head", "part"] == shares["ear", "part"] == 2
    assert shares["accordion", "object"] == 1


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("lfho", "hoof"),
        ("rbuleg", "leg"),
        ("rear", "ear"),
        ("lebrow", "eyebrow"),
        ("wheel_10", "wheel"),
        ("fliplate", "license plate"),
        ("handlebar", "handle bar"),
        ("croofside_2", "coach roof"),
        ("cfrontside_1", "coach"),
        ("hroofside", "head roof"),
        ("hleftside", "head"),
        ("roofside", "roof"),
        ("frontside", ""),
        ("nostril", None),
    ],
)
def test_part_names_are_spelled_out_without_which_of_several_they_are(short: str, name: str | None) -> None:
    assert spell_part(short) == name


def test_masks_are_laid_in_layers_without_hiding_each_other() -> None:
    masks = [(1, rectangle(0, 4, 0, 6) > 0), (2, rectangle(2, 6, 0, 6) > 0), (3, rectangle(6, 8, 0, 6) > 0)]
    layers = stack([*masks, (1, rectangle(4, 5, 0, 6) > 0)])
    assert [sorted(set(layer.ravel().tolist())) for layer in layers] == [[0, 1, 3], [0, 2]]
    assert (layers[0] == 1).sum() == 30


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text", b"MATLAB 5.0 but not really", "cannot be read as a MATLAB file"),
        ("empty", b"", "cannot be read as a MATLAB file"),
        ("new", b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF", "before version 7.3"),
    ],
)
def test_a_file_that_is_no_annotation_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.mat").write_bytes(content)
    (sample,) = PascalSource(tmp_path).samples("pascal")
    with pytest.raises(SourceError, match=rf"{name}\.mat .*{message}"):
        sample.read_labels()


def test_damaged_annotations_are_named_whatever_byte_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "1.mat"
    write_parts(path)
    whole = path.read_bytes()
    (sample,) = PascalSource(tmp_path).samples("pascal")
    rng = np.random.default_rng(0)
    told: list[str] = []
    for _ in range(200):
        broken = bytearray(whole)
        for place in rng.integers(128, len(whole), 3):
            broken[place] = rng.integers(256)
        path.write_bytes(bytes(broken[: rng.integers(128, len(whole) + 1)]))
        try:
            sample.read_labels()
        except SourceError as error:
            told.append(str(error))
    assert len(told) > 150
    assert all(str(path) in message for message in told)


def test_a_file_that_would_end_the_process_that_reads_it_is_named(tmp_path: Path) -> None:
    cells = np.empty((1, 6), object)
    cells[0] = "-"
    index = {"filename": np.array([["a.jpg"]], object), "objectnames": cells, "objectcounts": np.zeros((6, 1))}
    path = tmp_path / "index.mat"
    scipy.io.savemat(path, {"index": index})
    assert read_mat(path, "index", "an index").item().objectcounts.shape == (6, 1)
    whole = path.read_bytes()
    ended = 0
    for place, value in ((560, 170), (668, 57), (728, 124)):  # each ended a process of SciPy 1.17
        content = bytearray(whole)
        content[place] = value
        path.write_bytes(content)
        try:
            read_mat(path, "index", "an index")
        except SourceError as error:
            ended += "ends a process with SIG" in str(error)
    assert ended


def test_a_file_that_would_fill_the_memory_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    element = zlib.compress(struct.pack("<II", 14, 2_000_000_000) + b"\0" * 1000)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "bomb.mat").write_bytes(header + struct.pack("<II", 15, len(element)) + element)
    (sample,) = PascalSource(tmp_path).samples("pascal")
    with pytest.raises(SourceError, match=r"bomb\.mat says that it unpacks to 2,000,000,000 bytes"):
        sample.read_labels()


def test_strange_contents_are_named(tmp_path: Path) -> None:
    write_parts(tmp_path / "1.mat", {"nostril": rectangle(0, 1, 0, 1)})
    (sample,) = PascalSource(tmp_path).samples("pascal")
    with pytest.raises(SourceError, match=r"1\.mat names the part 'nostril'"):
        sample.read_labels()
    write_parts(tmp_path / "1.mat", {"head": np.ones((3, 3), np.uint8)})
    with pytest.raises(SourceError, match=r"1\.mat lacks .*masks of several sizes"):
        sample.read_labels()
    scipy.io.savemat(tmp_path / "1.mat", {"anno": {"imname": "1"}})
    with pytest.raises(SourceError, match=r"1\.mat lacks what an annotation"):
        sample.read_labels()
    scipy.io.savemat(tmp_path / "1.mat", {"other": 1})
    with pytest.raises(SourceError, match=r"1\.mat holds no variable 'anno'"):
        sample.read_labels()


def test_context_needs_its_labels_and_whole_numbers(tmp_path: Path) -> None:
    write_context(tmp_path, "1", np.full((8, 6), 0.5))
    (sample,) = PascalSource(tmp_path).samples("pascal")
    with pytest.raises(SourceError, match=r"1\.mat: LabelMap holds fractions"):
        sample.read_labels()
    (tmp_path / "labels.txt").write_text("accordion\n")
    with pytest.raises(SourceError, match=r"labels\.txt, line 1: 'accordion' names no label"):
        list(PascalSource(tmp_path).samples("pascal"))
    (tmp_path / "labels.txt").unlink()
    with pytest.raises(SourceError, match=r"labels\.txt does not exist"):
        list(PascalSource(tmp_path).samples("pascal"))


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no annotation"):
        list(PascalSource(tmp_path).samples("pascal"))


@pytest.mark.real
def test_real_annotations_keep_every_pixel_of_every_part(shared: Path) -> None:
    folder = shared / "data" / "pascal-part"
    first, second = (sample.read_labels() for sample in PascalSource(folder).samples("pascal"))
    assert pixels(first, "object") == {"person": 6670, "horse": 38559}
    assert pixels(first, "part")["hoof"] == 464 + 115
    assert pixels(first, "part")["arm"] == 426 + 1022 - overlap(folder / "2008_000008.mat", "llarm", "luarm")
    assert pixels(second, "object") == {"dog": 32168}


def overlap(path: Path, one: str, two: str) -> int:
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for thing in scipy.io.loadmat(path)["anno"]["objects"][0, 0].ravel():
        found |= {part["part_name"].item(): part["mask"] > 0 for part in thing["parts"].ravel()}
    return int((found[one] & found[two]).sum())


@pytest.mark.real
def test_parts_are_named_as_in_the_published_data_set(shared: Path) -> None:
    lines = (shared / "reference" / "broden-label-assignment.csv").read_text().splitlines()
    published = {line.split(",")[3] for line in lines if line.startswith("pascal,part,")}
    assert published - {"handlebar"} == set(PART_NAMES.values())
