"""Shapes that were drawn in LabelMe, VIA, CVAT and Label Studio, in the files that these programs write."""

import base64
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from concepts.test_source_coco import pixels
from concepts.test_source_coco_exports import OUTSIDE, photo
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.image_io import read_upright
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import PolygonSource, parse_source
from netdissect.errors import SourceError

HEIGHT, WIDTH = 24, 32
SQUARE = [[2, 2], [10, 2], [10, 10], [2, 10]]
NAN = float("nan")
Json = dict[str, Any]


def shape(points: Any = SQUARE, label: str | None = "car", kind: str = "polygon", **more: Any) -> Json:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


def labelme(path: Path, *shapes: Json, image: str = "a.jpg", **more: Any) -> Path:
    """Write a file of LabelMe 5."""
    content = {
        "version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": None,
        "imageHeight": HEIGHT, "imageWidth": WIDTH,
    } | more  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def region(attributes: Json, **outline: Any) -> Json:
    return {"shape_attributes": outline, "region_attributes": attributes}


def via_square(attributes: Json) -> Json:
    return region(attributes, name="polygon", all_points_x=[2, 10, 10, 2], all_points_y=[2, 2, 10, 10])


def via(path: Path, images: dict[str, Any], version: int = 2) -> Path:
    """Write a project of VIA 2, or the annotations of VIA 1, which number regions."""
    listed: Json = {}
    for name, regions in images.items():
        known = regions if version == 2 else {str(number): one for number, one in enumerate(regions)}
        listed[f"{name}1234"] = {"filename": name, "size": 1234, "regions": known, "file_attributes": {}}
    more = {"fileref": "", "base64_img_data": ""} if version == 1 else {}
    listed = {key: one | more for key, one in listed.items()}
    project = {"_via_settings": {"ui": {}}, "_via_img_metadata": listed, "_via_attributes": {"region": {}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(project if version == 2 else listed))
    return path


def samples(folder: Path, words: str = "polygons:{}") -> dict[str, Sample]:
    return {sample.name: sample for sample in parse_source(words.format(folder)).samples("own")}


def covered(folder: Path, words: str = "polygons:{}") -> dict[str, dict[str, int]]:
    return {name: pixels(sample.read_labels()) for name, sample in samples(folder, words).items()}


def where(sample: Sample, name: str) -> npt.NDArray[np.bool_]:
    """Return the pixels that bear a name."""
    channels = [one for one in sample.read_labels()["object"] if isinstance(one, Channel)]
    found = [one.values == value for one in channels for value, own in one.names.items() if own == name]
    return np.any(found, axis=0)


# LabelMe


def test_labelme_writes_a_file_beside_each_image(tmp_path: Path) -> None:
    image = photo(tmp_path / "street" / "a.jpg")
    labelme(tmp_path / "street" / "a.json", shape(), shape([[20, 2], [28, 2], [28, 10], [20, 10]], "sky"))
    (sample,) = samples(tmp_path).values()
    assert (sample.name, sample.image, sample.split) == ("own/street/a", image, None)
    assert pixels(sample.read_labels()) == {"car": 64, "sky": 64}


@pytest.mark.parametrize("name", ["a.jpg", "../images/a.jpg", "..\\images\\a.jpg", "./a.jpg"])
def test_images_may_lie_in_a_folder_of_their_own(name: str, tmp_path: Path) -> None:
    image = photo(tmp_path / "images" / "a.jpg")
    labelme(tmp_path / "labels" / "a.json", shape(), image=name)
    assert {one.name: one.image for one in samples(tmp_path).values()} == {"own/images/a": image}


def test_images_below_train_and_val_have_that_split(tmp_path: Path) -> None:
    for folder in ("train", "val", "trains"):
        photo(tmp_path / folder / "a.jpg")
        labelme(tmp_path / folder / "a.json", shape())
    splits = {name: one.split for name, one in samples(tmp_path).items()}
    assert splits == {"own/train/a": "train", "own/trains/a": None, "own/val/a": "val"}


def test_rectangles_and_circles_are_shapes(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    labelme(
        tmp_path / "a.json",
        shape([[10, 10], [2, 2]], "square", "rectangle"),
        shape([[20, 12], [20, 16.5]], "disc", "circle"),
        shape([[2, 12], [8, 12], [8, 20], [2, 20]], "corners", "rectangle"),
        shape([[12, 2], [18, 2], [18, 4], [12, 4]], "turned", "rotation"),
    )
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    disc = int((np.hypot(columns - 20, rows - 12) < 4.5).sum())
    assert covered(tmp_path) == {"own/a": {"square": 64, "disc": disc, "corners": 48, "turned": 12}}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (shape([[2, 2]], kind="point"), "the shape type 'point', which covers no area"),
        (shape([[2, 2], [9, 9]], kind="line"), "the shape type 'line', which covers no area"),
        (shape(SQUARE, kind="linestrip"), "the shape type 'linestrip', which covers no area"),
        (shape(SQUARE, kind="points"), "the shape type 'points', which covers no area"),
        (shape(SQUARE, kind="cuboid"), "the unknown shape type 'cuboid'"),
        (shape([[2, 2], [9, 9]]), "fewer than 3 points"),
        (shape([]), "fewer than 3 points"),
        (shape([[2, 2], [9, 9], [4]]), "an odd number of coordinates"),
        (shape([[2, 2], [9, 9], [4, 4]]), "no area"),
        (shape([[2, 2], [2, 2]], kind="circle"), "no area"),
        (shape([[2, 2], [2, 9]], kind="rectangle"), "no area"),
        (shape([[2, 2]], kind="rectangle"), "fewer than 2 points"),
        (shape([[40, 2], [50, 2], [50, 9]]), "no point inside the image"),
        (shape([[2, NAN], [9, 2], [9, 9]]), "a coordinate that is no finite number"),
        (shape([[2, None], [9, 2], [9, 9]]), "a coordinate that is no finite number"),
        (shape(label=""), "no label"),
        (shape(label=None), "no label"),
    ],
)
def test_shapes_that_cover_nothing_are_left_out_and_counted(
    bad: Json, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"{name}.jpg")
    labelme(tmp_path / "a.json", shape(), bad)
    labelme(tmp_path / "b.json", bad, image="b.jpg")
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        assert covered(tmp_path) == {"own/a": {"car": 64}}
    assert f"left out: 2; 2 with {reason} (the first is" in caplog.text
    assert "shape 1 of a)" in caplog.text


def test_shapes_of_several_classes_on_one_pixel_are_all_its_labels(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json", shape(), shape(label="vehicle"), shape(label="_background_"), shape())
    (sample,) = samples(tmp_path).values()
    labels = sample.read_labels()
    assert pixels(labels) == {"car": 64, "vehicle": 64}
    assert len(labels["object"]) == 2


def test_an_old_file_without_kinds_and_sizes_is_read(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    old = {"label": "car", "line_color": None, "fill_color": None, "points": SQUARE}
    path = labelme(tmp_path / "a.json", old)
    content = json.loads(path.read_text())
    del content["imageHeight"], content["imageWidth"]
    path.write_text(json.dumps(content))
    assert covered(tmp_path) == {"own/a": {"car": 64}}


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (WIDTH, HEIGHT)])
def test_shapes_lie_on_the_image_as_it_was_shown(size: tuple[int, int], tmp_path: Path) -> None:
    """LabelMe of today turns images upright, 32 x 24 here; old versions did not and state 24 x 32."""
    photo(tmp_path / "a.jpg", orientation=6)
    corner = [[0, 0], [12, 0], [12, 6], [0, 6]]
    labelme(tmp_path / "a.json", shape(corner), imageHeight=size[0], imageWidth=size[1])
    (sample,) = samples(tmp_path).values()
    (channel,) = sample.read_labels()["object"]
    assert isinstance(channel, Channel)
    expected = np.zeros((WIDTH, HEIGHT), bool)
    if size == (WIDTH, HEIGHT):
        expected[:6, :12] = True
    else:
        expected[:12, -6:] = True  # the upper left corner goes to the upper right
    np.testing.assert_array_equal(channel.values > 0, expected)
    build_dataset(tmp_path / "out", [PolygonSource(tmp_path)], WriteOptions(size=16))


def test_an_image_that_the_file_itself_holds_stands_in_for_a_missing_one(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 77, np.uint8)).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    for name in ("gone.jpg", "C:\\photos\\a.jpg"):
        labelme(tmp_path / "a.json", shape(), image=name, imageData=data)
        (sample,) = samples(tmp_path).values()
        assert sample.name == "own/a"
        assert (np.asarray(read_upright(sample.image).image) == 77).all()
        assert pixels(sample.read_labels()) == {"car": 64}
    labelme(tmp_path / "a.json", shape(), image="gone.jpg", imageData=data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"a\.json holds an image that cannot be read"):
        build_dataset(tmp_path / "out", [PolygonSource(tmp_path)])


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    photo(tmp_path / "secret.jpg")
    photo(tmp_path / "in" / "images" / "a.jpg")
    labelme(tmp_path / "in" / "a.json", shape(), image=name)
    with pytest.raises(SourceError, match=r"a\.json names the image .* which leads out"):
        samples(tmp_path / "in")


def test_an_image_with_two_files_has_the_shapes_of_both(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json", shape())
    labelme(tmp_path / "again" / "a.json", shape(), shape(label="sky"), image="../a.jpg")
    (sample,) = samples(tmp_path).values()
    assert pixels(sample.read_labels()) == {"car": 64, "sky": 64}


def test_all_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json", shape())
    (tmp_path / "torn.json").write_text('{"imagePath": ')
    labelme(tmp_path / "odd.json", {"label": "car", "points": 7})
    labelme(tmp_path / "huge.json", shape(), imageHeight=10**9)
    with pytest.raises(SourceError, match="3 annotations cannot be used") as told:
        samples(tmp_path)
    for part in ("torn.json is no JSON", "odd.json lacks what", "huge.json gives an image of 1000000000 x 32"):
        assert part in str(told.value)


# VIA


@pytest.mark.parametrize("version", [1, 2])
def test_via_writes_one_file_for_all_images(version: int, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        photo(tmp_path / f"{name}.jpg")
    regions = {
        "a.jpg": [via_square({"class": "car"}), region({"class": "sky"}, name="rect", x=20, y=2, width=8, height=4)],
        "b.jpg": [
            region({"class": "sun"}, name="circle", cx=20, cy=12, r=4.5),
            region({"class": "sea"}, name="ellipse", cx=8, cy=12, rx=4.5, ry=2.5, theta=0),
            region({"class": "sun"}, name="point", cx=3, cy=3),
            region({"class": "sun"}, name="polyline", all_points_x=[1, 2, 9], all_points_y=[1, 9, 2]),
        ],
        "c.jpg": [],
    }
    via(tmp_path / "via.json", regions, version)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    sun = int((np.hypot(columns - 20, rows - 12) < 4.5).sum())
    sea = int((np.hypot((columns - 8) / 4.5, (rows - 12) / 2.5) < 1).sum())
    assert covered(tmp_path) == {"own/a": {"car": 64, "sky": 32}, "own/b": {"sun": sun, "sea": sea}}


@pytest.mark.parametrize(
    "outline",
    [
        {"name": "polygon", "all_points_x": [2, 9], "all_points_y": [2, 9]},
        {"name": "polygon", "all_points_x": [2, 9, 9], "all_points_y": [2, 9]},
        {"name": "polygon", "all_points_x": [2, None, 9], "all_points_y": [2, 9, 2]},
        {"name": "rect", "x": 2, "y": 2, "width": 0, "height": 9},
        {"name": "rect", "x": 50, "y": 2, "width": 5, "height": 9},
        {"name": "circle", "cx": 2, "cy": 2, "r": 0},
    ],
)
def test_regions_that_cover_nothing_are_left_out(
    outline: Json, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "a.jpg")
    via(tmp_path / "via.json", {"a.jpg": [via_square({"class": "car"}), region({"class": "car"}, **outline)]})
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        assert covered(tmp_path) == {"own/a": {"car": 64}}
    assert "left out: 1; 1 with" in caplog.text


def test_the_attribute_that_is_the_label_is_found_or_asked_for(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    path = tmp_path / "via.json"
    via(path, {"a.jpg": [via_square({"kind of thing": "car", "note": ""})]})
    assert covered(tmp_path) == {"own/a": {"car": 64}}
    via(path, {"a.jpg": [via_square({"color": "red", "class": "car"})]})
    assert covered(tmp_path) == {"own/a": {"car": 64}}
    via(path, {"a.jpg": [via_square({"color": "red", "make": "audi"})]})
    with pytest.raises(SourceError, match=r"have the attributes 'color', 'make'\. .*\?label=NAME"):
        covered(tmp_path)
    (sample,) = samples(tmp_path, "polygons:{}=color?label=color").values()
    assert pixels(sample.read_labels(), "color") == {"red": 64}


def test_ticked_boxes_are_several_labels(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    via(tmp_path / "via.json", {"a.jpg": [via_square({"type": {"car": True, "red": True, "old": False}})]})
    assert covered(tmp_path) == {"own/a": {"car": 64, "red": 64}}


def test_shapes_of_one_class_may_have_no_label_at_all(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    via(tmp_path / "via.json", {"a.jpg": [via_square({})]}, version=1)
    with pytest.raises(SourceError, match=r"no shape in .* has a label .*\?name=NAME"):
        covered(tmp_path)
    assert covered(tmp_path, "polygons:{}?name=balloon") == {"own/a": {"balloon": 64}}


def test_images_of_via_that_are_missing_are_all_named(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    regions = [via_square({"class": "car"})]
    via(tmp_path / "via.json", {"a.jpg": regions, "b.jpg": regions, "c.jpg": regions})
    with pytest.raises(SourceError, match=r"(?s)2 annotations cannot be used.*b\.jpg does not exist.*c\.jpg does not"):
        samples(tmp_path)


def test_images_that_are_missing_are_left_out_when_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo(tmp_path / "a.jpg")
    regions = [via_square({"class": "car"})]
    via(tmp_path / "via.json", {"a.jpg": regions, "b.jpg": regions})
    labelme(tmp_path / "c.json", shape(), image="c.jpg")
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        assert covered(tmp_path, "polygons:{}?missing=skip") == {"own/a": {"car": 64}}
    assert "that are not there and were left out: 2 (the first is" in caplog.text
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(SourceError, match="holds no image that its annotations name"):
        covered(tmp_path, "polygons:{}?missing=skip")


# CVAT


def cvat(path: Path, *shapes: str, name: str = "a.jpg") -> Path:
    """Write the form 'CVAT for images 1.1'."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version><meta><job/></meta>\n'
        f'<image id="0" name="{name}" subset="default" task_id="1" width="{WIDTH}" height="{HEIGHT}">\n'
        + "\n".join(shapes)
        + "\n</image></annotations>\n"
    )
    return path


POLYGON = '<polygon label="car" source="manual" occluded="0" points="2.00,2.00;10.00,2.00;10.00,10.00;2.00,10.00"/>'


@pytest.mark.parametrize("place", ["images", "images/default", "."])
def test_cvat_writes_one_file_for_all_images(place: str, tmp_path: Path) -> None:
    image = photo(tmp_path / place / "a.jpg")
    cvat(
        tmp_path / "annotations.xml",
        POLYGON,
        '<box label="sky" xtl="20" ytl="2" xbr="28" ybr="4"/>',
        '<ellipse label="sun" cx="20" cy="12" rx="4.5" ry="2.5"/>',
        '<mask label="sea" rle="2, 3, 5" left="1" top="20" width="5" height="2"/>',
    )
    (sample,) = samples(tmp_path).values()
    assert sample.image == image
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    sun = int((np.hypot((columns - 20) / 4.5, (rows - 12) / 2.5) < 1).sum())
    assert pixels(sample.read_labels()) == {"car": 64, "sky": 16, "sun": sun, "sea": 3}
    assert np.argwhere(where(sample, "sea")).tolist() == [[20, 3], [20, 4], [20, 5]]


def test_boxes_of_cvat_are_turned_about_their_center(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    cvat(tmp_path / "a.xml", '<box label="car" xtl="10" ytl="8" xbr="18" ybr="12" rotation="90"/>')
    (sample,) = samples(tmp_path).values()
    (channel,) = sample.read_labels()["object"]
    assert isinstance(channel, Channel)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[6:14, 12:16] = True
    np.testing.assert_array_equal(channel.values > 0, expected)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('<polyline label="car" points="1,1;9,9;1,9"/>', "the shape type 'polyline', which covers no area"),
        ('<points label="car" points="1,1;9,9;1,9"/>', "the shape type 'points', which covers no area"),
        ('<tag label="car"/>', "the shape type 'tag', which covers no area"),
        ('<cuboid label="car"/>', "the unknown shape type 'cuboid'"),
        ('<polygon label="car" points="1,1;9,9"/>', "fewer than 3 points"),
        ('<polygon label="car" points="1,1;9,9;4"/>', "an odd number of coordinates"),
        ('<polygon label="car" points="1,1;nan,9;4,9"/>', "a coordinate that is no finite number"),
        ('<box label="car" xtl="9" ytl="2" xbr="9" ybr="4"/>', "no area"),
        ('<mask label="car" rle="10" left="1" top="20" width="5" height="2"/>', "no area"),
        ('<mask label="car" rle="0, 10" left="90" top="20" width="5" height="2"/>', "no point inside the image"),
    ],
)
def test_shapes_of_cvat_that_cover_nothing_are_left_out(
    bad: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "a.jpg")
    cvat(tmp_path / "annotations.xml", POLYGON, bad)
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        assert covered(tmp_path) == {"own/a": {"car": 64}}
    assert f"left out: 1; 1 with {reason} (the first is" in caplog.text


def test_the_subset_of_cvat_leads_nowhere(tmp_path: Path) -> None:
    photo(tmp_path / "secret" / "a.jpg")
    path = cvat(tmp_path / "in" / "annotations.xml", POLYGON, name="/x/a.jpg")
    path.write_text(path.read_text().replace('subset="default"', 'subset="../../secret"'))
    with pytest.raises(SourceError, match="which leads out of"):
        samples(tmp_path / "in")


def test_files_of_cvat_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    path = tmp_path / "annotations.xml"
    entity = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>'
    huge = '<mask label="car" rle="0, 10000000000" left="0" top="0" width="100000" height="100000"/>'
    for text, message in [
        ("<annotations>", "is no plain XML"),
        (entity, "is no plain XML"),
        ('<annotations><track id="0"/></annotations>', "holds the tracks of a video"),
        (cvat(path, POLYGON.replace("2.00,2.00;", "x,y;")).read_text(), "lacks what"),
        (cvat(path, POLYGON.replace("points", "p")).read_text(), "lacks what"),
        (cvat(path, huge).read_text(), "do not add up to 100000 x 100000 pixels"),
        (cvat(path, POLYGON, name="../../secret.jpg").read_text(), "leads out"),
        (cvat(path, POLYGON, name="b.jpg").read_text(), ""),
    ]:
        path.write_text(text)
        if message:
            with pytest.raises(SourceError, match=message):
                samples(tmp_path)
    with pytest.raises(SourceError, match=r"b\.jpg does not exist"):
        build_dataset(tmp_path / "out", [PolygonSource(tmp_path)])


# Label Studio


def studio(path: Path, *results: Json, image: str = "/data/upload/1/0a1b-a.jpg", **more: Any) -> Path:
    task = {"id": 1, "data": {"image": image}, "annotations": [{"id": 1, "result": list(results)}], "predictions": []}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([task | more]))
    return path


def result(kind: str, label: str = "car", **value: Any) -> Json:
    return {
        "id": "x", "type": kind, "from_name": "label", "to_name": "image", "image_rotation": 0,
        "original_width": WIDTH, "original_height": HEIGHT, "value": value | {kind: [label]},
    }  # fmt: skip


def percent(points: list[list[float]]) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def test_label_studio_gives_coordinates_in_per_cent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = photo(tmp_path / "images" / "0a1b-a.jpg")
    box = {"x": 62.5, "y": 50, "width": 25, "height": 25}  # 8 x 6 pixels from (20, 12)
    studio(
        tmp_path / "project.json",
        result("polygonlabels", points=percent(SQUARE)),
        result("rectanglelabels", "sky", **box, rotation=0),
        result("rectanglelabels", "hill", **box, rotation=90),
        result("ellipselabels", "sun", x=50, y=50, radiusX=12.5, radiusY=12.5),
        result("keypointlabels", x=50, y=50, width=0.3),
        result("brushlabels", format="rle", rle=[0, 1]),
        {"type": "relation", "from_id": "a", "to_id": "b"},
    )
    with caplog.at_level(logging.WARNING, logger="netdissect"):
        (sample,) = samples(tmp_path).values()
    assert sample.image == image
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    sun = int((np.hypot((columns - 16) / 4, (rows - 12) / 3) < 1).sum())
    # Turned by 90 degrees about (20, 12), 8 x 6 pixels from there lie at its lower left: x 14 to 20, y 12 to 20.
    assert pixels(sample.read_labels()) == {"car": 64, "sky": 48, "hill": 48, "sun": sun}
    at = np.argwhere(where(sample, "hill"))
    assert (at.min(axis=0).tolist(), at.max(axis=0).tolist()) == ([12, 14], [19, 19])
    assert "1 with the shape type 'keypointlabels', which covers no area" in caplog.text
    assert "1 with the unknown shape type 'brushlabels'" in caplog.text
    assert "names that lead out of the folder and were not followed: 1;" in caplog.text


def test_names_in_the_addresses_of_label_studio_are_decoded(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "0a1b-a b.jpg")
    square = result("polygonlabels", points=percent(SQUARE))
    studio(tmp_path / "project.json", square, image="/data/local-files/?d=own/0a1b-a%20b.jpg")
    assert covered(tmp_path) == {"own/images/0a1b-a b": {"car": 64}}


def test_what_annotators_cancelled_does_not_count(tmp_path: Path) -> None:
    photo(tmp_path / "0a1b-a.jpg")
    kept, cancelled = (
        result("polygonlabels", points=percent(SQUARE)),
        result("polygonlabels", "sky", points=percent(SQUARE)),
    )
    annotations = [{"result": [kept]}, {"result": [cancelled], "was_cancelled": True}, {"result": [kept]}]
    studio(tmp_path / "project.json", annotations=annotations)
    assert covered(tmp_path) == {"own/0a1b-a": {"car": 64}}


def test_a_task_that_does_not_say_which_is_the_image_is_named(tmp_path: Path) -> None:
    square = result("polygonlabels", points=percent(SQUARE))
    studio(tmp_path / "project.json", square, data={"left": "a.jpg", "right": "b.jpg"})
    with pytest.raises(SourceError, match="do not say which is the image"):
        samples(tmp_path)


# All


def test_a_file_that_is_named_itself_is_read_alone(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json", shape(label="sky"))
    via(tmp_path / "via.json", {"a.jpg": [via_square({"class": "car"})]})
    assert covered(tmp_path / "via.json") == {"own/a": {"car": 64}}
    assert parse_source(f"polygons:{tmp_path / 'via.json'}").name == "via"


def test_images_that_differ_only_in_their_ending_are_not_one(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        photo(tmp_path / name)
        labelme(tmp_path / f"{name}.json", shape(label=name), image=name)
    with pytest.raises(SourceError, match=r"would both be written as .*rename one"):
        build_dataset(tmp_path / "out", [PolygonSource(tmp_path)], WriteOptions(size=16))


def test_files_of_another_form_are_passed_over_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photo(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json", shape())
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / ".hidden.json").write_text("{")
    with caplog.at_level(logging.INFO, logger="netdissect"):
        assert covered(tmp_path) == {"own/a": {"car": 64}}
    assert "of another form that were passed over: 1 (the first is" in caplog.text


def test_a_folder_without_shapes_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no annotation\. Expected an annotation of LabelMe"):
        samples(tmp_path)
    (tmp_path / "coco.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(SourceError, match=r"files of another form, e\.g\. .*coco\.json.* say coco:DIR"):
        samples(tmp_path)
    photo(tmp_path / "a.jpg")
    labelme(tmp_path / "a.json")
    with pytest.raises(SourceError, match="at least one polygon"):
        samples(tmp_path)


def test_drawn_shapes_become_a_data_set(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.jpg")
    labelme(tmp_path / "in" / "a.json", shape(), shape([[2, 2]], kind="point"))
    photo(tmp_path / "in" / "b.jpg")
    via(tmp_path / "in" / "via.json", {"b.jpg": [via_square({"class": "Car"})]})
    out = build_dataset(tmp_path / "out", [parse_source(f"polygons:{tmp_path / 'in'}=part")], WriteOptions(size=16))
    seen = inspect_dataset(out)
    assert not seen.problems
    assert [(one.name, one.category, one.frequency) for one in seen.concepts] == [("car", "part", 2)]
