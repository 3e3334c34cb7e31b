"""Read the files of annotation programs: one reader, and a table of keys for each program.

LabelMe (Russell et al. 2008; the program by Wada), and programs with its format (X-AnyLabeling)::

    {"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "imageData": null or the image in Base64,
     "shapes": [{"label": "car", "shape_type": "polygon", "points": [[x, y], ...]}, ...]}

VGG Image Annotator (Dutta and Zisserman 2019), versions 1 and 2, a project or its annotations alone::

    {"_via_img_metadata": {"a.jpg1234": {"filename": "a.jpg",
     "regions": [{"shape_attributes": {"name": "polygon", "all_points_x": [...], "all_points_y": [...]},
                  "region_attributes": {"class": "car"}}, ...]}, ...}}

CVAT for images 1.1::

    <annotations><image name="a.jpg" width="640" height="480" subset="default">
      <polygon label="car" points="x,y;x,y;..."/> <box .../> <ellipse .../> <mask .../> </image>...</annotations>

Label Studio, its own JSON::

    [{"data": {"image": "/data/upload/1/0a1b-a.jpg"}, "annotations": [{"result": [
      {"type": "polygonlabels", "original_width": 640, "original_height": 480,
       "value": {"points": [[x, y], ...] in per cent, "polygonlabels": ["car"]}}, ...]}]}, ...]
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from netdissect.concepts.sources.annotation_tools import shape_parsers
from netdissect.concepts.sources.annotation_tools.shape_masks import FlawedShapeError, Shape
from netdissect.concepts.sources.readers import read_any_json, read_bytes
from netdissect.errors import SourceError

Object = Mapping[str, Any]
LARGEST = 1 << 30
WHAT = "an annotation of LabelMe, VIA, CVAT or Label Studio"
ENDINGS = (".json", ".xml")


@dataclass(frozen=True, slots=True)
class FormatKeys:
    """The keys of a program's annotations.

    Attributes
    ----------
    image
        Of an image: its file name.
    shapes
        Of an image: its shapes, as a list, or as an object with numbers for keys.
    label
        Of a shape: its label, several labels, or its attributes by name.
    outline
        Of a shape: the object with its type and coordinates; empty: the shape itself.
    shape_type
        Of an outline: its shape type.
    parsers
        By shape type, the function that parses an outline; None: the type covers no area.
    size
        Of an image: height and width.
    embedded
        Of an image: the image itself, in Base64.
    subset
        Of an image: the folder below ``images`` where it may lie.
    """

    image: str
    shapes: str
    label: str
    shape_type: str
    parsers: Mapping[str, Callable[[Object], Shape] | None]
    outline: str = ""
    size: tuple[str, str] = ("", "")
    embedded: str = ""
    subset: str = ""


LABELME = FormatKeys(
    image="imagePath",
    shapes="shapes",
    label="label",
    shape_type="shape_type",
    parsers={
        "polygon": shape_parsers.labelme_polygon,
        "rotation": shape_parsers.labelme_polygon,
        "rectangle": shape_parsers.labelme_rectangle,
        "circle": shape_parsers.labelme_circle,
        "mask": shape_parsers.labelme_mask,
        **dict.fromkeys(("point", "points", "line", "linestrip")),
    },
    size=("imageHeight", "imageWidth"),
    embedded="imageData",
)
VIA = FormatKeys(
    image="filename",
    shapes="regions",
    label="region_attributes",
    outline="shape_attributes",
    shape_type="name",
    parsers={
        "polygon": shape_parsers.via_polygon,
        "rect": shape_parsers.via_rectangle,
        "circle": shape_parsers.via_circle,
        "ellipse": shape_parsers.via_ellipse,
        **dict.fromkeys(("point", "polyline")),
    },
)
CVAT = FormatKeys(
    image="name",
    shapes="shapes",
    label="label",
    shape_type="kind",
    parsers={
        "polygon": shape_parsers.cvat_polygon,
        "box": shape_parsers.cvat_box,
        "ellipse": shape_parsers.cvat_ellipse,
        "mask": shape_parsers.cvat_mask,
        **dict.fromkeys(("points", "polyline", "tag")),
    },
    size=("height", "width"),
    subset="subset",
)
LABEL_STUDIO = FormatKeys(
    image="image",
    shapes="shapes",
    label="label",
    shape_type="type",
    parsers={
        "polygonlabels": shape_parsers.studio_polygon,
        "rectanglelabels": shape_parsers.studio_rectangle,
        "ellipselabels": shape_parsers.studio_ellipse,
        **dict.fromkeys(("keypointlabels", "choices", "textarea", "rating")),
    },
    size=("original_height", "original_width"),
)


def read_images(path: Path) -> tuple[FormatKeys, Sequence[Object]] | None:
    """Read the annotations of images in a file and the keys of its program; None if the program is unknown.

    Raises
    ------
    SourceError
        If the file cannot be read, or is of a known program but has no images.
    """
    if path.suffix.lower() == ".xml":
        return _cvat(_read_xml(path), path)
    content = read_any_json(path, WHAT, LARGEST)
    if isinstance(content, list):
        return _label_studio(content)
    if not isinstance(content, Mapping):
        return None
    if LABELME.image in content and LABELME.shapes in content:
        return LABELME, [content]
    return _via(content)


def _via(content: Object) -> tuple[FormatKeys, Sequence[Object]] | None:
    project = content.get("_via_img_metadata", content)
    listed = list(project.values()) if isinstance(project, Mapping) else []
    known = all(isinstance(one, Mapping) and VIA.image in one and VIA.shapes in one for one in listed)
    return (VIA, listed) if known and (listed or project is not content) else None


def _read_xml(path: Path) -> Element:
    try:
        root: Element = fromstring(read_bytes(path, WHAT, LARGEST), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"{path} is no plain XML ({error!r}). Expected {WHAT}; restore the file.") from error
    return root


def _cvat(root: Element, path: Path) -> tuple[FormatKeys, Sequence[Object]] | None:
    if root.tag != "annotations":
        return None
    if root.find("track") is not None and root.find("image") is None:
        raise SourceError(
            f"{path} holds the tracks of a video. Expected images; export the task as 'CVAT for images 1.1'."
        )
    images = (
        {**image.attrib, CVAT.shapes: [{**shape.attrib, CVAT.shape_type: shape.tag} for shape in image]}
        for image in root.iter("image")
    )
    return CVAT, list(images)


def _label_studio(tasks: Sequence[Any]) -> tuple[FormatKeys, Sequence[Object]] | None:
    if not tasks or not all(isinstance(task, Mapping) and {"data", "annotations"} <= task.keys() for task in tasks):
        return None
    return LABEL_STUDIO, [_task(task) for task in tasks]


def _task(task: Object) -> Object:
    """Convert a task to an image; annotations of all annotators count, except cancelled ones."""
    results = [
        {**result, LABEL_STUDIO.label: result["value"].get(result[LABEL_STUDIO.shape_type])}
        for annotation in task["annotations"]
        if not annotation.get("was_cancelled")
        for result in annotation["result"]
        if "value" in result
    ]
    size = {key: one.get(key) for one in results[:1] for key in LABEL_STUDIO.size}
    data = task["data"]
    words = [value for value in data.values() if isinstance(value, str)]
    if LABEL_STUDIO.image not in data and len(words) != 1:
        raise ValueError(f"data {sorted(data)} that do not say which is the image")
    image = data.get(LABEL_STUDIO.image) or words[0]
    return {LABEL_STUDIO.image: unquote(image), LABEL_STUDIO.shapes: results, **size}


def shapes_of(image: Object, keys: FormatKeys) -> Iterator[tuple[Any, Shape | str]]:
    """Yield the label of each shape, and the shape or its flaw.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        If the annotation does not have the format of its program.
    """
    shapes = image[keys.shapes]
    for shape in shapes.values() if isinstance(shapes, Mapping) else shapes:
        outline = shape[keys.outline] if keys.outline else shape
        shape_type = outline.get(keys.shape_type) or "polygon"
        try:
            yield shape.get(keys.label), _shape(shape_type, outline, keys)
        except FlawedShapeError as flaw:
            yield shape.get(keys.label), str(flaw)


def _shape(shape_type: str, outline: Object, keys: FormatKeys) -> Shape:
    if shape_type not in keys.parsers:
        raise FlawedShapeError(f"the unknown shape type {shape_type!r}")
    make = keys.parsers[shape_type]
    if make is None:
        raise FlawedShapeError(f"the shape type {shape_type!r}, which covers no area")
    return make(outline)
