"""SceneParse150, VOC segmentation, Cityscapes as unpacked, and Roboflow's masks, each drawn in its own layout."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from concepts.test_source_coco import pixels
from concepts.test_source_coco_exports import photo
from concepts.test_source_polygons import SQUARE, labelme, shape, via, via_square
from netdissect.concepts import ConceptData
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source
from netdissect.errors import SourceError

HEIGHT, WIDTH = 24, 32


def gray(path: Path, values: npt.NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def indexed(path: Path, values: npt.NDArray[np.uint8], palette: list[int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
    image.putpalette(palette)
    image.save(path)
    return path


def rows(*values: int, height: int = HEIGHT) -> npt.NDArray[np.uint8]:
    """Bands of equal height, from top to bottom."""
    return np.repeat(np.repeat(np.array(values, np.uint8), height // len(values))[:, None], WIDTH, axis=1)


def samples(words: str) -> dict[str, Sample]:
    return {sample.name: sample for sample in parse_source(words).samples("x")}


def build(words: str, out: Path) -> set[tuple[str, str, int]]:
    seen = inspect_dataset(build_dataset(out, [parse_source(words)], WriteOptions(size=24)))
    assert not seen.problems
    return {(one.name, one.category, one.frequency) for one in seen.concepts}


# SceneParse150

CLASSES = """\
Idx\tRatio\tTrain\tVal\tName
1\t0.1576\t11664\t1172\twall
2\t0.1072\t6046\t612\tbuilding, edifice
3\t0.0878\t8265\t796\tsky
"""


def draw_sceneparse(root: Path) -> Path:
    """Three images; the scene of one of them is not listed."""
    for split, stem in (
        ("training", "ADE_train_00000001"),
        ("training", "ADE_train_00000002"),
        ("validation", "ADE_val_00000001"),
    ):
        photo(root / "images" / split / f"{stem}.jpg")
        gray(root / "annotations" / split / f"{stem}.png", rows(0, 1, 2, 2))
    (root / "objectInfo150.txt").write_text(CLASSES)
    (root / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\nADE_val_00000001 street\n")
    return root


@pytest.mark.parametrize("above", [True, False])
def test_sceneparse_has_objects_scenes_and_the_split_of_its_folders(above: bool, tmp_path: Path) -> None:
    root = draw_sceneparse(tmp_path / "ADEChallengeData2016")
    found = samples(f"ade20k:{tmp_path if above else root}")
    assert {name: one.split for name, one in found.items()} == {
        "x/ADE_train_00000001": "train", "x/ADE_train_00000002": "train", "x/ADE_val_00000001": "val",
    }  # fmt: skip
    labels = found["x/ADE_train_00000001"].read_labels()
    assert pixels(labels) == {"wall": 6 * WIDTH, "building;edifice": 12 * WIDTH}
    assert labels["scene"] == ("airport_terminal",)
    assert found["x/ADE_train_00000002"].read_labels()["scene"] == ()


def test_sceneparse_becomes_a_data_set(tmp_path: Path) -> None:
    draw_sceneparse(tmp_path / "in")
    found = build(f"ade20k:{tmp_path / 'in'}", tmp_path / "out")
    assert found == {
        ("wall", "object", 3), ("building", "object", 3), ("airport_terminal-s", "scene", 1), ("street-s", "scene", 1),
    }  # fmt: skip


def test_a_class_map_without_an_image_and_a_broken_list_are_named(tmp_path: Path) -> None:
    root = draw_sceneparse(tmp_path / "in")
    (root / "images" / "training" / "ADE_train_00000001.jpg").unlink()
    with pytest.raises(SourceError, match=r"ADE_train_00000001\.jpg does not exist"):
        build(f"ade20k:{root}", tmp_path / "out")
    (root / "objectInfo150.txt").write_text("Idx\tRatio\n1 wall\n")
    with pytest.raises(SourceError, match=r"objectInfo150\.txt, line 2: '1 wall' names no class"):
        samples(f"ade20k:{root}")
    (root / "objectInfo150.txt").unlink()
    with pytest.raises(SourceError, match=r"objectInfo150\.txt does not exist"):
        samples(f"ade20k:{root}")


# VOC


def voc_palette() -> list[int]:
    """Return VOC's colors, which set a bit of each channel for every third bit of the value."""
    colors = []
    for value in range(256):
        bits = f"{value:024b}"[::-1]
        colors += [int(bits[channel::3].ljust(8, "0")[:8], 2) for channel in range(3)]
    return colors


def draw_voc(root: Path, palette: list[int]) -> Path:
    for stem in ("2007_000032", "2007_000033", "2007_000039"):
        photo(root / "JPEGImages" / f"{stem}.jpg")
        indexed(root / "SegmentationClass" / f"{stem}.png", rows(0, 1, 255, 20), palette)
    photo(root / "JPEGImages" / "2008_000001.jpg")  # of detection alone
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n")
    (lists / "val.txt").write_text("2007_000033\n")
    return root


@pytest.mark.parametrize("folder", ["VOCdevkit/VOC2012", "VOC2012", "."])
@pytest.mark.parametrize("palette", [voc_palette(), [n % 256 for n in range(768)], [n // 3 for n in range(768)]])
def test_voc_masks_are_read_by_index_whatever_their_palette(palette: list[int], folder: str, tmp_path: Path) -> None:
    draw_voc(tmp_path / folder, palette)
    found = samples(f"pascal:{tmp_path}")
    assert {name: one.split for name, one in found.items()} == {
        "x/2007_000032": "train", "x/2007_000033": "val", "x/2007_000039": None,
    }  # fmt: skip
    band = 6 * WIDTH
    assert pixels(found["x/2007_000032"].read_labels()) == {"aeroplane": band, "tvmonitor": band}


def test_voc_masks_that_became_rgb_are_read_by_their_colors(tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages" / "a.jpg")
    mask = indexed(tmp_path / "SegmentationClass" / "a.png", rows(0, 1, 255, 20), voc_palette())
    Image.open(mask).convert("RGB").save(mask)
    assert pixels(samples(f"pascal:{tmp_path}")["x/a"].read_labels()) == {
        "aeroplane": 6 * WIDTH,
        "tvmonitor": 6 * WIDTH,
    }


def test_voc_becomes_a_data_set(tmp_path: Path) -> None:
    draw_voc(tmp_path / "in", voc_palette())
    assert build(f"pascal:{tmp_path / 'in'}", tmp_path / "out") == {
        ("aeroplane", "object", 3),
        ("tvmonitor", "object", 3),
    }


def test_own_classes_in_the_layout_of_voc_need_their_names(tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages" / "a.jpg")
    indexed(tmp_path / "SegmentationClass" / "a.png", rows(0, 1, 255, 25), voc_palette())
    with pytest.raises(SourceError, match=r"a\.png holds the value 25, which has no name"):
        build(f"pascal:{tmp_path}", tmp_path / "out")


@pytest.mark.parametrize("folder", ["SegmentationClass", "SegmentationClassPNG"])
def test_labelme2voc_lists_its_classes_from_0(folder: str, tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages" / "a.jpg")
    (tmp_path / "SegmentationClass").mkdir()
    np.save(tmp_path / "SegmentationClass" / "a.npy", rows(0, 1, 255, 2))
    (tmp_path / "class_names.txt").write_text("_background_\ncup\nspoon")
    with pytest.raises(SourceError, match=r"SegmentationClass holds no PNG\."):
        samples(f"pascal:{tmp_path}")
    indexed(tmp_path / folder / "a.png", rows(0, 1, 255, 2), voc_palette())
    assert pixels(samples(f"pascal:{tmp_path}")["x/a"].read_labels()) == {"cup": 6 * WIDTH, "spoon": 6 * WIDTH}


@pytest.mark.parametrize("name", ["a", "monday/camera 1/a"])
def test_cvat_lists_the_colors_of_its_classes(name: str, tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages" / f"{name}.jpg")
    colors = np.array([[0, 0, 0], [250, 50, 83], [184, 61, 245]], np.uint8)
    gray(tmp_path / "SegmentationClass" / f"{name}.png", colors[rows(0, 1, 2)])
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncup:250,50,83::\nspoon:184,61,245::\n"
    (tmp_path / "labelmap.txt").write_text(text)
    (sample,) = samples(f"pascal:{tmp_path}").values()
    assert (sample.name, sample.image) == (f"x/{name}", tmp_path / "JPEGImages" / f"{name}.jpg")
    assert pixels(sample.read_labels()) == {"cup": 8 * WIDTH, "spoon": 8 * WIDTH}


# Cityscapes


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("leftImg8bit", "gtFine"),
        ("leftImg8bit_trainvaltest/leftImg8bit", "gtFine_trainvaltest/gtFine"),
        ("leftImg8bit", "gtFine_trainvaltest"),
    ],
)
def test_cityscapes_is_found_however_its_archives_were_unpacked(images: str, labels: str, tmp_path: Path) -> None:
    image = photo(tmp_path / images / "val" / "ulm" / "ulm_000001_000019_leftImg8bit.png")
    gray(tmp_path / labels / "val" / "ulm" / "ulm_000001_000019_gtFine_labelIds.png", rows(7, 26))
    gray(tmp_path / labels / "val" / "ulm" / "ulm_000001_000019_gtFine_color.png", rows(1, 2))
    (sample,) = samples(f"cityscapes:{tmp_path}").values()
    assert (sample.name, sample.image, sample.split) == ("x/val/ulm/ulm_000001_000019", image, "val")
    assert pixels(sample.read_labels()) == {"road": 12 * WIDTH, "car": 12 * WIDTH}


# Roboflow's masks


def draw_roboflow(folder: Path, stem: str = "a_jpg.rf.0a1b") -> Path:
    photo(folder / f"{stem}.jpg")
    gray(folder / f"{stem}_mask.png", rows(0, 1, 2))
    (folder / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, car\n2, traffic light\n")
    (folder / "README.roboflow.txt").write_text("A data set.")
    return folder


def test_roboflow_puts_masks_beside_the_images_of_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        draw_roboflow(tmp_path / split)
    found = samples(f"masks:{tmp_path}")
    assert {name: one.split for name, one in found.items()} == {
        "x/train/a_jpg.rf.0a1b": "train", "x/valid/a_jpg.rf.0a1b": "val", "x/test/a_jpg.rf.0a1b": "val",
    }  # fmt: skip
    assert pixels(found["x/valid/a_jpg.rf.0a1b"].read_labels()) == {"car": 8 * WIDTH, "traffic light": 8 * WIDTH}
    assert list(samples(f"masks:{tmp_path / 'train'}")) == ["x/a_jpg.rf.0a1b"]
    assert build(f"masks:{tmp_path}=part", tmp_path / "out") == {("car", "part", 3), ("traffic light", "part", 3)}


def test_half_a_pair_and_a_wrong_table_of_roboflow_are_named(tmp_path: Path) -> None:
    draw_roboflow(tmp_path / "in")
    photo(tmp_path / "in" / "b.jpg")
    gray(tmp_path / "in" / "c_mask.png", rows(0, 1))
    with pytest.raises(SourceError, match=r"(?s)b_mask\.png does not exist.*c\.jpg does not exist"):
        build(f"masks:{tmp_path / 'in'}", tmp_path / "out")
    photo(tmp_path / "in" / "b.png")
    with pytest.raises(SourceError, match=r"b\.jpg and .*b\.png have the same name"):
        samples(f"masks:{tmp_path / 'in'}")
    table = tmp_path / "in" / "_classes.csv"
    for text, message in [
        ("value,name\n1,car\n", r"has the header 'value,name'\. Expected 'Pixel Value, Class'"),
        ("", "has the header ''"),
        ("Pixel Value, Class\n1, car, red\n", "holds the row '1,car,red'"),
        ("Pixel Value, Class\n1, car\n1, bus\n", "holds the row '1,bus'"),
        ("Pixel Value, Class\n-1, car\n", "holds the row '-1,car'"),
        ("Pixel Value, Class\n0, background\n", "names no class but the background"),
    ]:
        table.write_text(text)
        with pytest.raises(SourceError, match=message):
            samples(f"masks:{tmp_path / 'in'}")


def test_exports_of_roboflow_may_call_the_value_0_unlabeled(tmp_path: Path) -> None:
    draw_roboflow(tmp_path)
    (tmp_path / "_classes.csv").write_text("Pixel Value, Class\n0, unlabeled\n1, car\n2, traffic light\n")
    (sample,) = samples(f"masks:{tmp_path}").values()
    assert pixels(sample.read_labels()) == {"car": 8 * WIDTH, "traffic light": 8 * WIDTH}


# Synonyms of one class that are names of another


def swallow_in_coco(root: Path) -> str:
    pytest.importorskip("pycocotools.mask", reason="needs the extra 'coco'")
    photo(root / "a.jpg")
    boxes = [[0, 0, 0, 16, WIDTH, 16, WIDTH, 0], [0, 16, 0, 24, WIDTH, 24, WIDTH, 16]]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "car;auto"}, {"id": 2, "name": "auto"}],
        "annotations": [{"id": n, "image_id": 1, "category_id": n, "segmentation": [boxes[n - 1]]} for n in (1, 2)],
    }
    (root / "result.json").write_text(json.dumps(content))
    return f"coco:{root}"


def swallow_in_roboflow(root: Path) -> str:
    draw_roboflow(root)
    gray(root / "a_jpg.rf.0a1b_mask.png", rows(1, 1, 2))
    (root / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, car;auto\n2, auto\n")
    return f"masks:{root}"


def swallow_in_voc(root: Path) -> str:
    photo(root / "JPEGImages" / "a.jpg")
    indexed(root / "SegmentationClass" / "a.png", rows(1, 1, 2), voc_palette())
    (root / "class_names.txt").write_text("_background_\ncar;auto\nauto")
    return f"pascal:{root}"


def swallow_in_labelme(root: Path) -> str:
    photo(root / "a.jpg")
    top, bottom = [[0, 0], [WIDTH, 16]], [[0, 16], [WIDTH, 24]]
    labelme(root / "a.json", shape(top, "car;auto", "rectangle"), shape(bottom, "auto", "rectangle"))
    return f"polygons:{root}"


@pytest.mark.parametrize(
    "draw", [swallow_in_coco, swallow_in_roboflow, swallow_in_voc, swallow_in_labelme], ids=lambda one: one.__name__
)
def test_no_layout_lets_a_synonym_swallow_another_class(draw: Callable[[Path], str], tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    out = build_dataset(tmp_path / "out", [parse_source(draw(root))], WriteOptions(size=48))
    assert {c.name: round(c.coverage, 3) for c in inspect_dataset(out).concepts} == {"car": 0.667, "auto": 0.333}


# The same masks in every layout

NAMES = {1: "car", 2: "sky", 3: "traffic light"}
PHOTOS = ("ADE_train_00000001", "ADE_train_00000002")


def random_masks() -> dict[str, npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    blocks = {stem: rng.integers(0, 4, (6, 8), dtype=np.uint8) for stem in PHOTOS}
    return {stem: np.kron(values, np.ones((4, 4), np.uint8)) for stem, values in blocks.items()}


def draw_masks(root: Path) -> str:
    for stem, values in random_masks().items():
        photo(root / "images" / f"{stem}.jpg")
        gray(root / "masks" / f"{stem}.png", values)
    (root / "classes.csv").write_text("value,name\n" + "".join(f"{value},{name}\n" for value, name in NAMES.items()))
    return f"masks:{root}"


def draw_as_sceneparse(root: Path) -> str:
    for stem, values in random_masks().items():
        photo(root / "images" / "training" / f"{stem}.jpg")
        gray(root / "annotations" / "training" / f"{stem}.png", values)
    (root / "objectInfo150.txt").write_text("".join(f"{value}\t0\t0\t0\t{name}\n" for value, name in NAMES.items()))
    return f"ade20k:{root}"


def draw_as_voc(root: Path) -> str:
    for stem, values in random_masks().items():
        photo(root / "JPEGImages" / f"{stem}.jpg")
        indexed(root / "SegmentationClass" / f"{stem}.png", values, voc_palette())
    (root / "class_names.txt").write_text("\n".join(["_background_", *NAMES.values()]))
    return f"pascal:{root}"


def draw_as_roboflow(root: Path) -> str:
    for stem, values in random_masks().items():
        photo(root / f"{stem}.jpg")
        gray(root / f"{stem}_mask.png", values)
    lines = "".join(f"{value}, {name}\n" for value, name in NAMES.items())
    (root / "_classes.csv").write_text(f"Pixel Value, Class\n0, background\n{lines}")
    return f"masks:{root}"


def draw_as_coco(root: Path) -> str:
    annotations = []
    for number, (stem, values) in enumerate(random_masks().items()):
        photo(root / "images" / f"{stem}.jpg")
        for value in NAMES:
            down = np.concatenate([[0], (values == value).ravel(order="F"), [0]])  # run lengths go down the columns
            counts = np.diff([0, *np.flatnonzero(np.diff(down)), values.size]).tolist()
            segmentation = {"size": list(values.shape), "counts": counts}
            annotations.append({"id": value, "image_id": number, "category_id": value, "segmentation": segmentation})
    images = [{"id": n, "file_name": f"{stem}.jpg", "height": HEIGHT, "width": WIDTH} for n, stem in enumerate(PHOTOS)]
    categories = [{"id": value, "name": name} for value, name in NAMES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "result.json").write_text(json.dumps(content))
    return f"coco:{root}"


def draw_as_labelme(root: Path) -> str:
    """Draw each block as a square."""
    for stem, values in random_masks().items():
        photo(root / f"{stem}.jpg")
        blocks = [
            shape([[x, y], [x + 4, y + 4]], NAMES[int(values[y, x])], "rectangle")
            for y in range(0, HEIGHT, 4) for x in range(0, WIDTH, 4) if values[y, x]
        ]  # fmt: skip
        labelme(root / f"{stem}.json", *blocks, image=f"{stem}.jpg")
    return f"polygons:{root}"


def planes(words: str, out: Path) -> dict[str, dict[str, list[list[bool]]]]:
    """Build, and return where each name lies on each image."""
    data = ConceptData.open(build_dataset(out, [parse_source(words)], WriteOptions(size=48)))
    names = {concept.label_id: concept.name for concept in data.concepts}
    return {
        Path(row.image).stem: {
            name: (data.labels(index).label_channels == number).any(axis=0).tolist() for number, name in names.items()
        }
        for index, row in enumerate(data.rows)
    }  # fmt: skip


@pytest.mark.parametrize(
    "draw",
    [draw_as_sceneparse, draw_as_voc, draw_as_roboflow, draw_as_coco, draw_as_labelme],
    ids=lambda draw: draw.__name__,
)
def test_the_same_masks_make_the_same_label_maps_in_every_layout(draw: Callable[[Path], str], tmp_path: Path) -> None:
    if draw is draw_as_coco:
        pytest.importorskip("pycocotools.mask", reason="needs the extra 'coco'")
    assert planes(draw(tmp_path / "in"), tmp_path / "out") == planes(
        draw_masks(tmp_path / "own"), tmp_path / "expected"
    )


# What masks: takes for shapes


def test_masks_take_a_folder_of_labelme_or_via(tmp_path: Path) -> None:
    photo(tmp_path / "labelme" / "a.jpg")
    labelme(tmp_path / "labelme" / "a.json", shape())
    photo(tmp_path / "via" / "a.jpg")
    via(tmp_path / "via" / "via.json", {"a.jpg": [via_square({"class": "car"})]})
    for folder in ("labelme", "via"):
        (sample,) = samples(f"masks:{tmp_path / folder}=part").values()
        assert pixels(sample.read_labels(), "part") == {"car": 64}


def test_masks_that_are_there_are_read_and_shapes_beside_them_are_not(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    gray(tmp_path / "masks" / "a.png", rows(3))
    (tmp_path / "classes.csv").write_text("value,name\n3,sky\n")
    labelme(tmp_path / "images" / "a.json", shape())
    (sample,) = samples(f"masks:{tmp_path}").values()
    assert pixels(sample.read_labels()) == {"sky": HEIGHT * WIDTH}


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ("annotations/training/a.png", "ade20k"),
        ("ADEChallengeData2016/annotations/training/a.png", "ade20k"),
        ("VOC2012/SegmentationClass/a.png", "pascal"),
        ("leftImg8bit/val/ulm/a.png", "cityscapes"),
        ("train/_annotations.coco.json", "coco"),
        ("annotations/instances_default.json", "coco"),
        ("annotations/panoptic_val2017.json", "coco"),
        ("result.json", "coco"),
    ],
)
def test_masks_name_the_word_that_reads_another_layout(file: str, word: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("{}")
    with pytest.raises(SourceError, match=rf"holds no folder masks, but it looks like .*; say {word}:"):
        samples(f"masks:{tmp_path}")


def test_a_folder_of_no_known_layout_says_what_masks_expect(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(SourceError, match="images does not exist"):
        samples(f"masks:{tmp_path}")


def test_labelme_may_hold_a_mask_that_a_model_proposed(tmp_path: Path) -> None:
    """The box of the mask is 5 x 4 pixels with its upper left corner at (30, 2): it reaches beyond the right border."""
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 1, 1, 1, 0]] * 4, np.uint8) > 0).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    photo(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json", shape([[30, 2], [34, 5]], kind="mask", mask=data), shape(SQUARE, "sky"))
    (sample,) = samples(f"polygons:{tmp_path}").values()
    assert pixels(sample.read_labels()) == {"car": 4, "sky": 64}
    labelme(tmp_path / "a.json", shape([[30, 2], [34, 5]], kind="mask", mask=data[:40]))
    with pytest.raises(SourceError, match="the mask of a shape cannot be read"):
        samples(f"polygons:{tmp_path}")
