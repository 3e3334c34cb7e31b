"""Real labels, written in other forms that people have, make the same data set."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from encoded_images import COLOR, GRAY, GRAY_ALPHA, png
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source

pytestmark = pytest.mark.real

Values = npt.NDArray[np.uint8]
SIZE = WriteOptions(size=64)
PALETTE = np.random.default_rng(1).permutation(1 << 12)[:256]
COLORS = np.stack([PALETTE % 16, PALETTE // 16 % 16, PALETTE // 256], axis=-1).astype(np.uint8) * 16 + 5
ENCODED: dict[str, Callable[[Values], bytes]] = {
    "4 bits of gray": lambda values: png(values, 4, GRAY),
    "16 bits of gray": lambda values: png(values, 16, GRAY),
    "16 bits with alpha": lambda values: png(np.dstack([values, 0 * values + 255]), 16, GRAY_ALPHA),
    "16 bits in three channels": lambda values: png(np.dstack([values] * 3), 16, COLOR),
    "8 bits in three channels": lambda values: png(np.dstack([values] * 3), 8, COLOR),
    "gray map to 11": lambda values: b"P5 %d %d 11\n" % values.shape[::-1] + values.tobytes(),
    "gray map to 4095": lambda values: b"P5 %d %d 4095\n" % values.shape[::-1] + values.astype(">u2").tobytes(),
    "painted": lambda values: png(COLORS[values], 8, COLOR),
    "indexed": lambda values: indexed(values),
}


def indexed(values: Values) -> bytes:
    image, file = Image.fromarray(values), io.BytesIO()
    image.putpalette(COLORS.tobytes())
    image.save(file, "PNG")
    return file.getvalue()


def facts(text: str, out: Path) -> dict[str, tuple[int, float]]:
    build_dataset(out, [parse_source(text)], SIZE)
    return {c.name: (c.frequency, c.coverage) for c in inspect_dataset(out).concepts}


@pytest.fixture(scope="module")
def street(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of CamVid."""
    folder, data = tmp_path_factory.mktemp("street"), shared / "data" / "camvid"
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for path in sorted((data / "masks").iterdir())[:4]:
        (folder / "masks" / path.name).write_bytes(path.read_bytes())
        (image,) = (data / "images").glob(f"{path.stem}.*")
        (folder / "images" / image.name).write_bytes(image.read_bytes())
    (folder / "classes.csv").write_text((data / "classes.csv").read_text())
    return folder


@pytest.fixture(scope="module")
def expected(street: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, float]]:
    return facts(f"masks:{street}", tmp_path_factory.mktemp("expected") / "out")


@pytest.mark.parametrize("form", ENCODED)
def test_masks_of_every_form_label_the_same_pixels(
    form: str, street: Path, expected: dict[str, tuple[int, float]], tmp_path: Path
) -> None:
    folder = tmp_path / "street"
    (folder / "masks").mkdir(parents=True)
    (folder / "images").symlink_to(street / "images")
    for path in (street / "masks").iterdir():
        encoded = ENCODED[form](np.asarray(Image.open(path)))
        (folder / "masks" / f"{path.stem}.{'pgm' if form.startswith('gray map') else 'png'}").write_bytes(encoded)
    with (street / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [f"{row['value']},{row['name']},#{bytes(COLORS[int(row['value'])]).hex()}" for row in rows]
    (folder / "classes.csv").write_text("value,name,color\n" + "\n".join(lines) + "\n")
    assert facts(f"masks:{folder}", tmp_path / "out") == expected


@pytest.mark.parametrize("separator", [";", "|", "space"])
def test_a_table_of_several_labels_is_the_joint_list_of_textures(separator: str, shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "dtd"
    here = {path.relative_to(data / "images").as_posix() for path in (data / "images").glob("*/*0[0-4].jpg")}
    joint = {
        words[0]: words[1:]
        for words in map(str.split, (data / "labels_joint_anno.txt").read_text().splitlines())
        if words and words[0] in here
    }
    between = " " if separator == "space" else separator
    rows = [f"{image},{between.join(labels)}\n" for image, labels in joint.items()]
    (tmp_path / "labels.csv").write_text("image,label\n" + "".join(rows))
    counts: dict[str, int] = {}
    for label in (label for labels in joint.values() for label in labels):
        counts[label] = counts.get(label, 0) + 1
    text = f"labels:{tmp_path / 'labels.csv'}=texture?images={data / 'images'}&separator={separator}"
    found = facts(text, tmp_path / "out")
    assert {name: frequency for name, (frequency, _) in found.items()} == counts
    assert max(map(len, joint.values())) > 1


def test_scenes_below_splits_and_initial_letters_are_the_same_scenes(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "scene15" / "images"
    count = 0
    for number, path in enumerate(sorted(data.glob("*/*"))[::6]):
        scene = path.parent.name
        place = tmp_path / "own" / ("train" if number % 3 else "val") / scene[0].lower() / scene
        place.mkdir(parents=True, exist_ok=True)
        (place / path.name).symlink_to(path)
        count += 1
    found = facts(f"folders:{tmp_path / 'own'}=scene", tmp_path / "out")
    assert set(found) == {f"{path.name.lower()}-s" for path in data.iterdir()}
    assert sum(frequency for frequency, _ in found.values()) == count
