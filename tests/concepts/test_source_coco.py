"""COCO: panoptic label maps, instances and stuff."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel, LabelsByCategory
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import CocoSource, parse_source
from netdissect.errors import MissingExtraError, SourceError

coco = pytest.importorskip("pycocotools.mask", reason="needs the extra 'coco'")

HEIGHT, WIDTH = 8, 6
CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person", "isthing": 1},
    {"id": 3, "name": "car", "supercategory": "vehicle", "isthing": 1},
    {"id": 199, "name": "wall-other-merged", "supercategory": "wall", "isthing": 0},
    {"id": 112, "name": "door-stuff", "supercategory": "furniture", "isthing": 0},
    {"id": 183, "name": "other", "supercategory": "other", "isthing": 0},
]
LARGE_ID = 3 + 256 * 7 + 65536 * 9


def write_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(folder / f"{name}.jpg")


def write_json(path: Path, annotations: list[dict[str, Any]], images: tuple[str, ...] = ("1", "2")) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{"id": int(n), "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH} for n in images]
    path.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": CATEGORIES}))


def write_panoptic(folder: Path, split: str = "val2017") -> Path:
    """A wall above a car; the lowest row is unlabeled."""
    write_images(folder / split, "1")
    ids = np.array([[7] * WIDTH] * 4 + [[LARGE_ID] * WIDTH] * 3 + [[0] * WIDTH])
    maps = folder / "annotations" / f"panoptic_{split}"
    maps.mkdir(parents=True)
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)
    Image.fromarray(colors.astype(np.uint8)).save(maps / "1.png")
    segments = [{"id": LARGE_ID, "category_id": 3, "iscrowd": 0}, {"id": 7, "category_id": 199, "iscrowd": 0}]
    annotation = {"image_id": 1, "file_name": "1.png", "segments_info": segments}
    write_json(maps.with_suffix(".json"), [annotation], ("1",))
    return folder


def runs(mask: npt.NDArray[np.uint8]) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def thing(category: int, image: int = 1, **rest: Any) -> dict[str, Any]:
    return {"id": 10 * image + category, "image_id": image, "category_id": category, "iscrowd": 0, **rest}


UPPER = np.repeat(np.array([1, 1, 1, 1, 0, 0, 0, 0], np.uint8)[:, None], WIDTH, axis=1)
SQUARE = [[1.0, 2.0, 5.0, 2.0, 5.0, 6.0, 1.0, 6.0]]  # four by four
COLUMNS = {"size": [HEIGHT, WIDTH], "counts": [0, 16, 32]}  # run lengths go down the columns


def pixels(labels: LabelsByCategory, category: str = "object") -> dict[str, int]:
    found: dict[str, int] = {}
    for item in labels[category]:
        assert isinstance(item, Channel)
        for value in np.unique(item.values):
            if name := item.names.get(int(value), ""):
                found[name] = found.get(name, 0) + int((item.values == value).sum())
    return found


def read(folder: Path, text: str = "coco:{}") -> dict[str, LabelsByCategory]:
    return {sample.name: sample.read_labels() for sample in parse_source(text.format(folder)).samples("coco")}


def test_panoptic_maps_hold_things_and_stuff_under_large_ids(tmp_path: Path) -> None:
    labels = read(write_panoptic(tmp_path))
    assert labels.keys() == {"coco/val2017/1"}
    assert pixels(labels["coco/val2017/1"]) == {"wall": 24, "car": 18}


def test_splits_are_those_of_the_file_names(tmp_path: Path) -> None:
    write_panoptic(tmp_path, "val2017")
    write_panoptic(tmp_path, "train2017")
    write_panoptic(tmp_path, "own")
    splits = {sample.name: sample.split for sample in CocoSource(tmp_path).samples("coco")}
    assert splits == {"coco/own/1": None, "coco/train2017/1": "train", "coco/val2017/1": "val"}


def test_polygons_run_lengths_and_compressed_run_lengths_are_decoded(tmp_path: Path) -> None:
    write_images(tmp_path / "images" / "train2017", "1", "2")
    annotations = [
        thing(1, segmentation=SQUARE),
        thing(3, segmentation=COLUMNS),
        thing(3, image=2, segmentation=runs(UPPER)),
    ]
    write_json(tmp_path / "annotations" / "instances_train2017.json", annotations)
    labels = read(tmp_path)
    # The two overlap, so they lie in two channels and neither loses a pixel.
    assert pixels(labels["coco/train2017/1"]) == {"person": 16, "car": 16}
    assert len(labels["coco/train2017/1"]["object"]) == 2
    assert pixels(labels["coco/train2017/2"]) == {"car": 24}


def test_stuff_and_instances_are_read_together_unless_there_is_a_panoptic_file(tmp_path: Path) -> None:
    write_images(tmp_path / "val2017", "1")
    write_json(tmp_path / "annotations" / "instances_val2017.json", [thing(1, segmentation=SQUARE)])
    stuff = [thing(112, segmentation=runs(UPPER)), thing(183, segmentation=runs(1 - UPPER))]
    write_json(tmp_path / "annotations" / "stuff_val2017.json", stuff)
    assert pixels(read(tmp_path)["coco/val2017/1"]) == {"person": 16, "door": 24}
    assert pixels(read(tmp_path, "coco:{}?kinds=stuff")["coco/val2017/1"]) == {"door": 24}
    write_panoptic(tmp_path)
    assert pixels(read(tmp_path)["coco/val2017/1"]) == {"wall": 24, "car": 18}
    assert pixels(read(tmp_path, "coco:{}?kinds=instances")["coco/val2017/1"]) == {"person": 16}


def test_boxes_are_masks_only_when_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path / "val2017", "1")
    boxes = [thing(1, segmentation=[], bbox=[1, 2, 3, 4]), thing(3, bbox=[-2, -2, 4, 3])]
    write_json(tmp_path / "annotations" / "instances_val2017.json", boxes)
    with pytest.raises(SourceError, match=r"none of 2 annotations has a mask; .*annotation 11\..*\?boxes=yes"):
        read(tmp_path)
    assert pixels(read(tmp_path, "coco:{}=part?boxes=yes")["coco/val2017/1"], "part") == {"person": 12, "car": 2}


def test_images_without_annotations_are_left_out_and_the_rest_is_built(tmp_path: Path) -> None:
    write_images(tmp_path / "in" / "train2017", "1", "2")
    write_json(tmp_path / "in" / "annotations" / "instances_train2017.json", [thing(1, segmentation=SQUARE)])
    concepts = inspect_dataset(build_dataset(tmp_path / "out", [CocoSource(tmp_path / "in")])).concepts
    assert [(c.name, c.category, c.frequency) for c in concepts] == [("person", "object", 1)]


@pytest.mark.parametrize(
    "shape",
    [
        [["a"] * 6],
        [[[["deep"]]]],
        [[10**400] * 6],
        {"size": [3, 3], "counts": [0, 9]},
        {"size": [HEIGHT, WIDTH], "counts": [0, 5]},
        {"size": [HEIGHT, WIDTH], "counts": [-1, 49]},
        {"size": [HEIGHT, WIDTH], "counts": "zzzzzzzzzzzzzz"},
        {"size": [HEIGHT, WIDTH], "counts": 3},
        {"size": [HEIGHT, WIDTH], "counts": [24.5, 23.5]},
        {"counts": [48]},
        7,
    ],
)
def test_masks_that_cannot_be_are_refused(shape: object, tmp_path: Path) -> None:
    write_images(tmp_path / "val2017", "1")
    write_json(tmp_path / "annotations" / "instances_val2017.json", [thing(1, segmentation=shape)])
    with pytest.raises(SourceError, match=r"instances_val2017\.json, annotation 11 cannot be decoded"):
        read(tmp_path)


@pytest.mark.parametrize("content", ['{"images": []}', '{"images": 1, "annotations": 2, "categories": 3}', "[", "[]"])
def test_a_file_of_another_form_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(content)
    with pytest.raises(SourceError, match=r"instances_val2017\.json"):
        read(tmp_path)


def test_an_image_of_absurd_size_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "annotations" / "instances_val2017.json", [thing(1, segmentation=SQUARE)])
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace(f'"height": {HEIGHT}', '"height": 4000000000'))
    with pytest.raises(SourceError, match="4000000000 x 6 pixels"):
        read(tmp_path)


def test_a_segment_that_is_not_listed_and_a_missing_map_are_named(tmp_path: Path) -> None:
    write_panoptic(tmp_path)
    path = tmp_path / "annotations" / "panoptic_val2017.json"
    path.write_text(path.read_text().replace('"id": 7', '"id": 8'))
    with pytest.raises(SourceError, match=r"1\.png holds the segment 7"):
        read(tmp_path)
    (tmp_path / "annotations" / "panoptic_val2017" / "1.png").unlink()
    with pytest.raises(SourceError, match=r"1\.png does not exist"):
        read(tmp_path)


def test_a_folder_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"holds no annotation\. Expected panoptic_\*\.json or stuff.*coco:DIR/FILE\.json"
    ):
        read(tmp_path)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "annotations" / "instances_val2017.json", [thing(1, segmentation=SQUARE)])
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'netdissect\[coco\]'"):
        read(tmp_path)
