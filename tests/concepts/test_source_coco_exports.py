"""COCO as annotation programs export it: CVAT, Roboflow, Label Studio and others."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from concepts.test_source_coco import pixels
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source
from netdissect.concepts.sources.annotation_tools.rle import decode_runs
from netdissect.errors import SourceError

coco = pytest.importorskip("pycocotools.mask", reason="needs the extra 'coco'")

HEIGHT, WIDTH = 24, 32
SQUARE = [2, 2, 10, 2, 10, 10, 2, 10]  # eight by eight
Json = dict[str, Any]


def photo(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path, exif=exif)
    return path


def content(files: list[str], annotations: list[Json], classes: tuple[str, ...] = ("road", "car")) -> Json:
    """Images from 1, classes from 0, as Label Studio counts them."""
    return {
        "images": [
            {"id": n, "file_name": file, "height": HEIGHT, "width": WIDTH} for n, file in enumerate(files, start=1)
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes)],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1} | one for n, one in enumerate(annotations)],
    }


def write(path: Path, what: Json) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what))
    return path


def samples(place: Path, words: str = "coco:{}") -> dict[str, Sample]:
    return {sample.name: sample for sample in parse_source(words.format(place)).samples("coco")}


def read(place: Path, words: str = "coco:{}") -> dict[str, LabelsByCategory]:
    return {name: sample.read_labels() for name, sample in samples(place, words).items()}


def covered(shape: Any, **more: Any) -> Json:
    return {"segmentation": shape, **more}


def decoded(shapes: Any) -> npt.NDArray[np.uint8]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools does not know NumPy 2's __array__
        mask: npt.NDArray[np.uint8] = coco.decode(coco.frPyObjects(shapes, HEIGHT, WIDTH))
    return mask[..., 0]


# Where images lie


@pytest.mark.parametrize("place", ["images", "images/default", "default"])
def test_cvat_names_its_file_default_and_puts_images_below_images(place: str, tmp_path: Path) -> None:
    image = photo(tmp_path / place / "street" / "a.b.jpg")
    made = content(["street/a.b.jpg"], [covered([SQUARE])])
    write(tmp_path / "annotations" / "instances_default.json", made)
    found = samples(tmp_path)
    assert {name: one.image for name, one in found.items()} == {"coco/default/street/a.b": image}
    assert pixels(found["coco/default/street/a.b"].read_labels()) == {"car": 64}


def test_roboflow_puts_a_file_beside_the_images_of_each_split(tmp_path: Path) -> None:
    for split, side in (("train", 10), ("valid", 6), ("test", 4)):
        photo(tmp_path / split / "a_jpg.rf.0a1b.jpg")
        box = [2, 2, side, 2, side, side, 2, side]
        made = content(["a_jpg.rf.0a1b.jpg"], [covered([box])])
        write(tmp_path / split / "_annotations.coco.json", made)
    found = samples(tmp_path)
    assert {name: one.split for name, one in found.items()} == {
        "coco/train/a_jpg.rf.0a1b": "train", "coco/valid/a_jpg.rf.0a1b": "val", "coco/test/a_jpg.rf.0a1b": "val",
    }  # fmt: skip
    assert pixels(found["coco/valid/a_jpg.rf.0a1b"].read_labels()) == {"car": 16}
    assert list(samples(tmp_path / "train")) == ["coco/a_jpg.rf.0a1b"]


@pytest.mark.parametrize(
    "name", ["images/0a1b-a.jpg", r"images\\0a1b-a.jpg".replace("\\\\", "\\"), "./images/0a1b-a.jpg"]
)
def test_label_studio_names_images_from_the_folder_of_the_export(name: str, tmp_path: Path) -> None:
    image = photo(tmp_path / "images" / "0a1b-a.jpg")
    made = content([name], [covered([SQUARE], category_id=0), covered([[20, 2, 28, 2, 28, 10, 20, 10]])])
    write(tmp_path / "result.json", made)
    found = samples(tmp_path)
    assert {name: one.image for name, one in found.items()} == {"coco/images/0a1b-a": image}
    assert pixels(found["coco/images/0a1b-a"].read_labels()) == {"road": 64, "car": 64}


@pytest.mark.parametrize("file", ["annotations/mine.json", "mine.json", "labels/mine.json"])
def test_a_file_that_is_named_itself_is_read_whatever_it_is_called(file: str, tmp_path: Path) -> None:
    photo(tmp_path / file.replace("mine.json", "").replace("annotations/", "") / "images" / "a.jpg")
    path = write(tmp_path / file, content(["a.jpg"], [covered([SQUARE])]))
    write(path.with_name("other.json"), {})
    assert {name: pixels(labels) for name, labels in read(path).items()} == {"coco/a": {"car": 64}}


@pytest.mark.parametrize("folder", ["", "images/"])
def test_files_that_are_called_as_splits_are_read_together(folder: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        photo(tmp_path / folder / split / "a.jpg")
        write(tmp_path / "annotations" / f"{split}.json", content(["a.jpg"], [covered([SQUARE])]))
    found = samples(tmp_path)
    assert {name: one.split for name, one in found.items()} == {"coco/train/a": "train", "coco/val/a": "val"}
    assert found["coco/val/a"].image == tmp_path / folder / "val" / "a.jpg"
    (alone,) = samples(tmp_path / "annotations" / "val.json").values()
    assert (alone.image, alone.split) == (tmp_path / folder / "val" / "a.jpg", "val")
    write(tmp_path / "annotations" / "mine.json", content(["a.jpg"], []))
    with pytest.raises(SourceError, match="holds 3 JSON files"):
        samples(tmp_path)


def test_two_files_of_no_known_name_are_not_guessed_at(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        write(tmp_path / name, content([], []))
    with pytest.raises(SourceError, match=r"holds 2 JSON files, e\.g\. a\.json, b\.json, .*coco:DIR/FILE\.json"):
        samples(tmp_path)


def test_a_name_may_lead_up_and_down_within_the_folder(tmp_path: Path) -> None:
    image = photo(tmp_path / "photos" / "a.jpg")
    write(tmp_path / "annotations" / "instances_default.json", content(["../photos/a.jpg"], [covered([SQUARE])]))
    assert [one.image for one in samples(tmp_path).values()] == [image]


OUTSIDE = [
    "../secret.jpg", "images/../../secret.jpg", "..\\secret.jpg", "/data/upload/1/secret.jpg", "C:\\photos\\secret.jpg",
    "https://host/data/secret.jpg?d=1", "//host/share/secret.jpg",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    photo(tmp_path / "secret.jpg")
    root = tmp_path / "in"
    photo(root / "images" / "a.jpg")
    write(root / "result.json", content([name], [covered([SQUARE])]))
    with pytest.raises(SourceError, match=r"result\.json names the image .* which leads out of .*put an image"):
        samples(root)


def test_the_image_of_the_same_file_name_stands_in_for_a_name_that_leads_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "upload" / "1" / "a.jpg")
    root = tmp_path / "in"
    image = photo(root / "images" / "a.jpg")
    write(root / "result.json", content(["../upload/1/a.jpg"], [covered([SQUARE])]))
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        assert [one.image for one in samples(root).values()] == [image]
    assert "names that lead out of the folder and were not followed: 1;" in caplog.text
    both = content(["../upload/1/a.jpg", "/elsewhere/a.jpg"], [covered([SQUARE]), covered([SQUARE], image_id=2)])
    write(root / "result.json", both)
    with pytest.raises(SourceError, match=r"lead out of .* and have one file name"):
        samples(root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 5000 + ".jpg", "cannot be read as an image"),
        ("data:image/png;base64," + "A" * 5000, "which leads out"),
        ("a\0.jpg", "names the file"),
        ("\ud800.jpg", "names the file"),
        ("", "names the image ''"),
        ("./", "names the image './'"),
        ("images/", "does not exist"),
    ],
)
def test_a_name_that_can_be_no_file_is_refused(name: str, message: str, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "images" / "a.jpg")
    write(tmp_path / "in" / "result.json", content([name], [covered([SQUARE])]))
    with pytest.raises(SourceError, match=message):
        build_dataset(tmp_path / "out", [parse_source(f"coco:{tmp_path / 'in'}")])


def test_a_colon_in_a_name_is_no_drive(tmp_path: Path) -> None:
    image = photo(tmp_path / "images" / "street:12.jpg")
    write(tmp_path / "result.json", content(["street:12.jpg"], [covered([SQUARE])]))
    assert [one.image for one in samples(tmp_path).values()] == [image]


def test_the_name_of_an_annotation_file_leads_nowhere(tmp_path: Path) -> None:
    """Its split would be the folder above, ``..``."""
    photo(tmp_path / "secret.jpg")
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "instances_...json", content(["/x/secret.jpg"], [covered([SQUARE])]))
    with pytest.raises(SourceError, match="which leads out of"):
        samples(tmp_path / "in")


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "secret.jpg")
    (tmp_path / "in" / "images").mkdir(parents=True)
    (tmp_path / "in" / "images" / "a.jpg").symlink_to(tmp_path / "secret.jpg")
    write(tmp_path / "in" / "result.json", content(["a.jpg"], [covered([SQUARE])]))
    with pytest.raises(SourceError, match="is a link that leads outside"):
        samples(tmp_path / "in")


def test_a_panoptic_map_outside_of_its_folder_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "val2017" / "1.jpg")
    made = content(["1.jpg"], [{"file_name": "../../secret.png", "segments_info": [{"id": 7, "category_id": 1}]}])
    write(tmp_path / "annotations" / "panoptic_val2017.json", made)
    with pytest.raises(SourceError, match=r"names the file '\.\./\.\./secret\.png'"):
        samples(tmp_path)


def test_an_image_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    more = [20, 2, 28, 2, 28, 10, 20, 10]
    made = content(["a.jpg", "images/a.jpg"], [covered([SQUARE]), covered([SQUARE]), covered([more], image_id=2)])
    write(tmp_path / "result.json", made)
    assert {name: pixels(labels) for name, labels in read(tmp_path).items()} == {"coco/a": {"car": 128}}


def test_an_image_that_is_missing_is_named_once_when_the_data_set_is_built(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path / "result.json", content(["a.jpg", "b.jpg"], [covered([SQUARE]), covered([SQUARE], image_id=2)]))
    with pytest.raises(SourceError, match=r"(?s)1 labeled images or masks .*images/b\.jpg does not exist") as told:
        build_dataset(tmp_path / "out", [parse_source(f"coco:{tmp_path}")])
    assert str(told.value).count("b.jpg") == 1


def test_images_that_are_missing_are_left_out_when_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo(tmp_path / "images" / "a.jpg")
    made = content(["a.jpg", "b.jpg"], [covered([SQUARE]), covered([SQUARE], image_id=2), covered([], image_id=2)])
    write(tmp_path / "result.json", made)
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        assert list(samples(tmp_path, "coco:{}?missing=skip")) == ["coco/a"]
    assert "that are not there and were left out: 1 (the first is" in caplog.text
    assert "left out: 1; " not in caplog.text  # what is wrong with shapes of such an image is not told
    assert parse_source("coco:a?boxes=yes&missing=skip").text == "coco:a=object?boxes=yes&missing=skip"
    with pytest.raises(SourceError, match=r"says missing=no\. Expected error or skip"):
        parse_source("coco:a?missing=no")


# What is drawn


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("polygon", "reason"),
    [
        ([16.0, 16.0], "fewer than 3 points"),
        ([1, 1, 5, 5], "fewer than 3 points"),
        ([1, 2, 3, 4, 5], "an odd number of coordinates"),
        ([1, 1, 1, 5, 1, 9], "no area"),
        ([1, 1, 9, 9, 5, 5, 3, 3], "no area"),
        ([0.1, 0.1, 0.2, 0.2, 0.3, 0.3], "no area"),
        ([40, 2, 50, 2, 50, 10], "no point inside the image"),
        ([-9, -9, -1, -9, -1, -1], "no point inside the image"),
        ([1e12, 0, -1e12, 1, 0, 1], "an outline of more than 2,000,000 pixels"),
        ([NAN, 2, 10, 2, 10, 10], "a coordinate that is no finite number"),
        ([2, 2, 10, 2, 10, INF], "a coordinate that is no finite number"),
        ([2, 2, None, 2, 10, 10], "a coordinate that is no finite number"),
    ],
)
def test_polygons_that_cover_nothing_are_left_out_and_counted(
    polygon: list[Any], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "images" / "a.jpg")
    photo(tmp_path / "images" / "b.jpg")
    annotations = [covered([SQUARE, polygon]), covered([polygon], category_id=0), covered([polygon], image_id=2)]
    write(tmp_path / "result.json", content(["a.jpg", "b.jpg"], annotations))
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        found = read(tmp_path)
    assert {name: pixels(labels) for name, labels in found.items()} == {"coco/a": {"car": 64}}
    assert f"left out: 3; 3 with {reason} (the first is" in caplog.text
    assert "annotation 0)" in caplog.text


@pytest.mark.parametrize(
    "polygon",
    [
        [-100, -100, 1000, -100, 1000, 1000, -100, 1000],
        [-3000.5, 4, 9000, 4, 9000, 9.5, -3000.5, 9.5],
        [16, -400, 40, 12, 16, 400, -8, 12],
        [2.5, 2.5, 10.5, 2.5, 10.5, 10.5, 2.5, 10.5],
    ],
)
def test_polygons_that_reach_out_of_the_image_cover_what_pycocotools_gives_them(
    polygon: list[float], tmp_path: Path
) -> None:
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path / "result.json", content(["a.jpg"], [covered([polygon])]))
    (channel,) = read(tmp_path)["coco/a"]["object"]
    assert isinstance(channel, Channel)
    np.testing.assert_array_equal(channel.values > 0, decoded([polygon]) > 0)


def test_polygons_of_one_thing_are_united_before_they_become_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd of thousands of polygons on a large image would take a mask of its size for each."""
    photo(tmp_path / "images" / "a.jpg")
    polygons = [[x, y, x + 1, y, x + 1, y + 1, x, y + 1] for x in range(2, 30, 2) for y in range(20)]
    write(tmp_path / "result.json", content(["a.jpg"], [covered(polygons)]))
    decode, masks = coco.decode, []
    monkeypatch.setattr(
        coco, "decode", lambda runs: masks.append(1 if isinstance(runs, dict) else len(runs)) or decode(runs)
    )
    assert pixels(read(tmp_path)["coco/a"]) == {"car": 14 * 20}
    assert masks == [1]


def test_a_figure_of_eight_has_an_area(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    eight = [2, 2, 12, 12, 12, 2, 2, 12]
    write(tmp_path / "result.json", content(["a.jpg"], [covered([eight])]))
    expected = int(decoded([eight]).sum())
    assert expected > 0
    assert pixels(read(tmp_path)["coco/a"]) == {"car": expected}


@pytest.mark.parametrize(
    "shape", [SQUARE, [[[2, 2], [10, 2], [10, 10], [2, 10]]], [[2, 2], [10, 2], [10, 10], [2, 10]]]
)
def test_a_polygon_may_stand_alone_or_list_its_points_as_pairs(shape: Any, tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path / "result.json", content(["a.jpg"], [covered(shape)]))
    assert pixels(read(tmp_path)["coco/a"]) == {"car": 64}


def test_run_lengths_are_read_plain_and_compressed(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[:, :2] = 1
    packed = coco.encode(mask)
    shapes = [
        covered({"size": [HEIGHT, WIDTH], "counts": [0, 48, 720]}, iscrowd=1),
        covered({"size": packed["size"], "counts": packed["counts"].decode()}, category_id=0),
    ]
    write(tmp_path / "result.json", content(["a.jpg"], shapes))
    assert pixels(read(tmp_path)["coco/a"]) == {"car": 48, "road": 48}


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_compressed_run_lengths_are_those_of_pycocotools(seed: int, height: int, width: int, share: float) -> None:
    mask = np.asfortranarray(np.random.default_rng(seed).random((height, width)) < share)
    packed = coco.encode(mask.astype(np.uint8))["counts"]
    np.testing.assert_array_equal(decode_runs(packed.decode(), height, width), mask)


def test_long_run_lengths_need_several_characters() -> None:
    mask = np.zeros((3000, 2000), np.uint8, order="F")
    mask[:, 700:900], mask[100:150, 1500] = 1, 1
    packed = coco.encode(mask)["counts"]
    np.testing.assert_array_equal(decode_runs(packed, 3000, 2000), mask > 0)


def test_run_lengths_that_were_cut_short_or_changed_are_refused() -> None:
    """In pycocotools, pixels that no run covers come from memory that was never written."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[3:9, 4:20] = 1
    packed = coco.encode(mask)["counts"].decode()
    for end in range(len(packed)):
        with pytest.raises(ValueError, match="its run lengths"):
            decode_runs(packed[:end], HEIGHT, WIDTH)
    for text in (packed + "2", packed[:-1] + "\xff", packed[:-1] + "\u20ac", "o" * 4000, "!" + packed):
        with pytest.raises(ValueError, match="its run lengths"):
            decode_runs(text, HEIGHT, WIDTH)


def test_an_annotation_without_a_mask_is_left_out_and_counted_where_others_have_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "images" / "a.jpg")
    box = {"segmentation": [], "bbox": [20, 2, 8, 8], "category_id": 0}
    write(tmp_path / "result.json", content(["a.jpg"], [covered([SQUARE]), box]))
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        assert pixels(read(tmp_path)["coco/a"]) == {"car": 64}
    assert "1 with no mask, but perhaps a box (?boxes=yes" in caplog.text
    assert pixels(read(tmp_path, "coco:{}?boxes=yes")["coco/a"]) == {"car": 64, "road": 64}


BOXES = [
    [1.5, 2.5, 9, 9], [2.5, 3.5, 1, 1], [0.5, 0.5, 1, 1], [1.2, 1.2, 0.3, 0.3], [-2.5, -0.5, 4, 4], [28.5, 20.5, 9, 9],
    [0.49, 7.51, 3.02, 2.5],
]  # fmt: skip


@pytest.mark.parametrize("box", BOXES)
def test_boxes_cover_the_pixels_that_pycocotools_gives_them(box: list[float], tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path / "result.json", content(["a.jpg"], [{"bbox": box}]))
    expected = decoded(np.array([box]))
    (channel,) = read(tmp_path, "coco:{}?boxes=yes")["coco/a"]["object"]
    np.testing.assert_array_equal(channel.values > 0, expected > 0)


def test_a_box_at_half_pixels_keeps_its_width(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    boxes = [{"bbox": [1.5, 2.5, 9, 9]}, {"bbox": [20.5, 2.5, 1, 1], "category_id": 0}]
    write(tmp_path / "result.json", content(["a.jpg"], boxes))
    assert pixels(read(tmp_path, "coco:{}?boxes=yes")["coco/a"]) == {"car": 81, "road": 1}


def test_a_box_without_width_is_left_out_and_one_without_numbers_is_named(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    made = content(["a.jpg"], [covered([SQUARE]), {"bbox": [2, 2, 0, 9]}, {"bbox": [9, 9, -4, 9]}])
    write(tmp_path / "result.json", made)
    assert pixels(read(tmp_path, "coco:{}?boxes=yes")["coco/a"]) == {"car": 64}
    for box in ([1, 2, 3], ["a"] * 4, None):
        write(tmp_path / "result.json", content(["a.jpg"], [{"bbox": box}]))
        with pytest.raises(SourceError, match=r"annotation 0 cannot be decoded .* a bbox: left, top, width, height"):
            read(tmp_path, "coco:{}?boxes=yes")


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_masks_are_turned_with_their_image_if_they_were_drawn_as_it_is_stored(
    orientation: int, stored: bool, ending: str, tmp_path: Path
) -> None:
    lying = orientation > 4
    size = (HEIGHT, WIDTH) if stored or not lying else (WIDTH, HEIGHT)
    photo(tmp_path / "images" / f"a.{ending}", size, orientation)
    write(tmp_path / "result.json", content([f"a.{ending}"], [covered([SQUARE])]))
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    drawn[2:10, 2:10] = 1
    expected = drawn
    if stored and lying:
        image = Image.fromarray(drawn)
        image.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(image))
    (channel,) = read(tmp_path)["coco/a"]["object"]
    assert isinstance(channel, Channel)
    np.testing.assert_array_equal(channel.values, expected)
    build_dataset(tmp_path / "out", [parse_source(f"coco:{tmp_path}")], WriteOptions(size=16))


def test_an_image_whose_size_is_not_stated_has_its_own(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg", orientation=6)
    made = content(["a.jpg"], [covered([[2, 2, 10, 2, 10, 30, 2, 30]])])
    del made["images"][0]["height"], made["images"][0]["width"]
    write(tmp_path / "result.json", made)
    assert pixels(read(tmp_path)["coco/a"]) == {"car": 8 * 28}


def test_numbers_of_classes_and_images_may_be_large_negative_or_text(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "a.jpg")
    made = content(["a.jpg"], [covered([SQUARE], image_id="1", category_id="-5"), covered([SQUARE], category_id=2**40)])
    made["categories"] = [{"id": -5, "name": "road"}, {"id": 2**40, "name": "car"}]
    write(tmp_path / "result.json", made)
    assert pixels(read(tmp_path)["coco/a"]) == {"road": 64, "car": 64}


def test_an_export_is_built_and_inspected(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / "in" / "train" / f"{name}.jpg")
    annotations = [covered([SQUARE, [3.0, 3.0]]), covered([SQUARE], image_id=2, category_id=0)]
    write(tmp_path / "in" / "train" / "_annotations.coco.json", content(["a.jpg", "b.jpg"], annotations))
    out = build_dataset(tmp_path / "out", [parse_source(f"coco:{tmp_path / 'in'}=part")], WriteOptions(size=16))
    seen = inspect_dataset(out)
    assert not seen.problems
    assert {(one.name, one.category, one.frequency) for one in seen.concepts} == {
        ("car", "part", 1),
        ("road", "part", 1),
    }
