"""Damaged data sets and damaged sources: read right, or refused with a typed error; nothing else is touched."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import strategies
from concepts import (
    test_build,
    test_source_ade20k,
    test_source_coco,
    test_source_coco_exports,
    test_source_layouts,
    test_source_pascal,
    test_source_polygons,
    test_source_releases,
)
from corruption import FAST, Wound, inflict, png_of, snapshot, survives, wounds
from netdissect.activations.image_batches import read_image
from netdissect.concepts import ConceptData, Size
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source
from netdissect.concepts.transfer.subset_merge import merge
from netdissect.models import Preprocessing
from networks import COVERAGE, SIDE, images

# Pillow tells of damaged metadata and of large images, and goes on.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]
CANARY = b"private\n"
RGB = Preprocessing(Size(SIDE, SIDE), (0.5,) * 3, (0.5,) * 3)


def read_everything(root: Path) -> None:
    data = ConceptData.open(root)
    assert data.digest
    for row in range(len(data)):
        data.labels(row)
        read_image(data.image_path(row), RGB)


@pytest.fixture(scope="module", autouse=True)
def one_day() -> Iterator[None]:
    """Let MATLAB files, whose first bytes tell when they were written, be the same each day."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.asctime", lambda: "Fri Jul 21 00:00:00 2017")
        yield


@pytest.fixture(scope="module")
def broden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile") / "broden"
    return strategies.write_broden(root, images(count=3), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is damaged, and beside it a file that nobody may touch."""
    folder = tmp_path_factory.mktemp("field")
    (folder / "canary").write_bytes(CANARY)
    return folder


def damaged(pristine: Path, field: Path, blows: list[Wound]) -> Path:
    copy = field / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(pristine, copy)
    for blow in blows:
        inflict(copy, blow, field / "canary")
    return copy


MARK = Wound("index.csv", "insert", b"24,24", 1, b"\x1f")  # str.strip takes it away, and int does not
DIGITS = Wound("index.csv", "insert", b"24,24", 1, b"9" * 5000)  # int takes 4,300
BEYOND = Wound("c_object.csv", "insert", b",concept", 1, b"999999999999999999999")
LARGE = Wound("c_object.csv", "insert", b",concept", 1, b"999999999")  # of a table by number: 8 GB
NAN = Wound("c_object.csv", "insert", b"\r\n", 1, b"nan")
BOMB = Wound(".png", "replace", 0, 1, png_of(50_000, 50_000))


@settings(max_examples=settings().max_examples * 2, **FAST)
@given(blows=st.lists(wounds(), min_size=1, max_size=3))
@example(blows=[MARK])
@example(blows=[DIGITS])
@example(blows=[BEYOND])
@example(blows=[LARGE])
@example(blows=[NAN])
@example(blows=[BOMB])
def test_a_damaged_data_set_is_read_or_refused(broden: Path, field: Path, blows: list[Wound]) -> None:
    copy = damaged(broden, field, blows)
    before = snapshot(field)
    survives(lambda: read_everything(copy))
    survives(lambda: inspect_dataset(copy))
    assert snapshot(field) == before


@given(blows=st.lists(wounds(), min_size=1, max_size=2))
@example(blows=[MARK])
@example(blows=[DIGITS])
@example(blows=[LARGE])
@settings(max_examples=max(10, settings().max_examples // 4), **FAST)
def test_a_damaged_data_set_is_merged_or_refused(broden: Path, field: Path, blows: list[Wound]) -> None:
    copy, out = damaged(broden, field, blows), field / "out"
    shutil.rmtree(out, ignore_errors=True)
    before = snapshot(field)
    survives(lambda: merge(out, [copy, broden]))
    shutil.rmtree(out, ignore_errors=True)
    assert {name: what for name, what in snapshot(field).items() if not name.startswith("out")} == before


def masks(folder: Path) -> str:
    test_build.make_masks(folder, {"a": test_build.halves(1, 2), "deep/b": test_build.halves(0, 1)})
    return f"masks:{folder}"


def folders(folder: Path) -> str:
    for name in ("dotted", "striped"):
        test_build.save(folder / name / "1.jpg", test_build.noise(8, 6, 3))
    return f"folders:{folder}=texture"


def labels(folder: Path) -> str:
    test_build.save(folder / "a.jpg", test_build.noise(8, 6, 3))
    (folder / "table.csv").write_text("image,label,category\na.jpg,beach,scene\n")
    return f"labels:{folder}/table.csv"


def ade_2016(folder: Path) -> str:
    image = test_source_ade20k.draw(folder / "images" / "training" / "b" / "beach")
    test_source_ade20k.write_instances(image, test_source_ade20k.LINES)
    test_source_ade20k.write_index(folder / "index_ade20k.mat", {image.name: "beach"})
    return f"ade20k:{folder}"


def ade_2021(folder: Path) -> str:
    image = test_source_ade20k.draw(folder / "images" / "ADE" / "training" / "nature" / "beach")
    test_source_ade20k.write_json(image, ["beach"])
    return f"ade20k:{folder}"


def coco(folder: Path) -> str:
    test_source_coco.write_panoptic(folder)
    return f"coco:{folder}"


def coco_instances(folder: Path) -> str:
    test_source_coco.write_images(folder / "val2017", "1", "2")
    things = [
        test_source_coco.thing(1, segmentation=test_source_coco.SQUARE),
        test_source_coco.thing(3, 2, segmentation=test_source_coco.COLUMNS),
    ]
    test_source_coco.write_json(folder / "annotations" / "instances_val2017.json", things)
    return f"coco:{folder}"


def opensurfaces(folder: Path) -> str:
    test_source_layouts.draw_opensurfaces(folder, test_source_layouts.gray(32, 24))
    return f"opensurfaces:{folder}"


def cityscapes(folder: Path) -> str:
    test_source_layouts.draw_cityscapes(folder, test_source_layouts.city_ids())
    return f"cityscapes:{folder}"


def dtd(folder: Path) -> str:
    for name in ("dotted", "striped"):
        test_build.save(folder / "images" / name / f"{name}_0001.jpg", test_build.noise(8, 6, 3))
    return f"dtd:{folder}"


def pascal(folder: Path) -> str:
    test_source_pascal.write_image(folder / "VOCdevkit" / "VOC2010" / "JPEGImages", "2008_000001")
    test_source_pascal.write_parts(folder / "part" / "Annotations_Part" / "2008_000001.mat")
    test_source_pascal.write_context(folder / "context", "2008_000001", test_source_pascal.context_map())
    return f"pascal:{folder}"


def drawn(folder: Path) -> str:
    for name in ("a", "b", "c", "d"):
        test_source_coco_exports.photo(folder / f"{name}.jpg")
    test_source_polygons.labelme(folder / "a.json", test_source_polygons.shape())
    test_source_polygons.via(folder / "via.json", {"b.jpg": [test_source_polygons.via_square({"class": "car"})]})
    test_source_polygons.cvat(folder / "c.xml", test_source_polygons.POLYGON, name="c.jpg")
    points = test_source_polygons.percent(test_source_polygons.SQUARE)
    test_source_polygons.studio(
        folder / "d.json", test_source_polygons.result("polygonlabels", points=points), image="d.jpg"
    )
    return f"polygons:{folder}"


def roboflow_masks(folder: Path) -> str:
    test_source_releases.draw_roboflow(folder / "train")
    return f"masks:{folder}"


def sceneparse(folder: Path) -> str:
    return f"ade20k:{test_source_releases.draw_sceneparse(folder)}"


def voc(folder: Path) -> str:
    return f"pascal:{test_source_releases.draw_voc(folder, test_source_releases.voc_palette())}"


SOURCES: tuple[Callable[[Path], str], ...] = (
    masks, folders, labels, ade_2016, ade_2021, coco, coco_instances, opensurfaces, cityscapes, dtd, pascal,
    drawn, roboflow_masks, sceneparse, voc,
)  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
@settings(max_examples=max(8, settings().max_examples // 5), **FAST)
@given(blows=st.lists(wounds(), min_size=1, max_size=2))
@example(blows=[Wound(".json", "insert", b".jpg", 1, b"\\u0000")])  # a null character in the name of a file
@example(blows=[Wound(".mat", "flip", 0.6, 1, b"\x10")])  # a wrong byte ended SciPy's reader
@example(blows=[Wound(".csv", "insert", b"\n", 1, b"9" * 5000)])
def test_a_damaged_source_is_built_or_refused(
    tmp_path_factory: pytest.TempPathFactory, source: Callable[[Path], str], blows: list[Wound]
) -> None:
    field = tmp_path_factory.mktemp("source")
    (field / "canary").write_bytes(CANARY)
    text = source(field / "copy")
    build_dataset(field / "whole", [parse_source(text)], WriteOptions(size=16), workers=1)
    for blow in blows:
        inflict(field / "copy", blow, field / "canary")
    before = snapshot(field)
    survives(lambda: build_dataset(field / "out", [parse_source(text)], WriteOptions(size=16), workers=1))
    shutil.rmtree(field / "out", ignore_errors=True)
    after = {name: what for name, what in snapshot(field).items() if not name.startswith((".out", "out"))}
    assert after == before
    shutil.rmtree(field)


def test_the_image_of_a_source_that_leads_out_of_its_folder_is_not_a_way_to_read_files(tmp_path: Path) -> None:
    """A link is followed only to an image: what is no image never gets into a data set."""
    (tmp_path / "canary").write_bytes(CANARY)
    text = masks(tmp_path / "copy")
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(tmp_path / "copy" / "images" / "a.jpg")
    (tmp_path / "copy" / "images" / "a.jpg").unlink()
    (tmp_path / "copy" / "images" / "a.jpg").symlink_to(tmp_path / "canary")
    survives(lambda: build_dataset(tmp_path / "out", [parse_source(text)], WriteOptions(size=16), workers=1))
    assert not any(CANARY in what for what in snapshot(tmp_path / "out").values() if isinstance(what, bytes))
