"""ADE20K (Zhou et al. 2017) in both of its layouts, which are distinguished image by image; and SceneParse150.

2016_07_26, the release in Broden::

    DIR/index_ade20k.mat                                       names of all classes, scene of each image
    DIR/images/{training,validation}/s/street/ADE_*.jpg        also two folders deep: a/apse/indoor
                                              ADE_*_seg.png
                                              ADE_*_parts_1.png, _parts_2.png, ...
                                              ADE_*_atr.txt

2021_17_01::

    DIR/images/ADE/{training,validation}/urban/street/ADE_*.jpg
                                                      ADE_*_seg.png, ADE_*_parts_N.png
                                                      ADE_*.json

A pixel of a label map encodes the class as R // 10 * 256 + G and the instance as B. Objects are ``object``, each level
of parts is a channel of ``part``, the scene is a label of the whole image. Masks of single instances and attributes are
not read. Both releases list WordNet's synonyms of a class, separated by commas.

Notes
-----
The 2016 release may lack its index. The names then come from ``*_atr.txt``, with lines of
``instance # part level # occluded # names # name as typed # attributes``. The class of an instance is that of most of
its pixels. The instance numbers are scaled to 0..255 in B, so that only their rank is known. The scene is the folder.

The split is drawn by name, as in Broden. Only that of SceneParse150 (`sceneparse`) is taken from the folders.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.sources.datasets.sceneparse import find_sceneparse, sceneparse_samples
from netdissect.concepts.sources.mask_stacking import read_colors
from netdissect.concepts.sources.readers import read_json, read_mat, read_text
from netdissect.concepts.sources.source import PublishedFolder, find_folder
from netdissect.errors import SourceError

INDEX = "index_ade20k.mat"
LARGEST_INDEX = 16 << 30  # it holds dense tables of every class in every image, 0.5 GB each
LARGEST_ANNOTATION = 64 << 20
SPLITS = ("training", "validation")
MAP = "a label map of ADE20K with class = R // 10 * 256 + G"

Pixels = npt.NDArray[np.uint8]
ClassNames = Mapping[int, str]


class Ade20kSource(PublishedFolder):
    """A folder of ADE20K.

    Attributes
    ----------
    folder
        Folder with the images at any depth, and the index of the 2016 release, if any, at most two folders deep.
    """

    name = "ade20k"

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image.

        Raises
        ------
        SourceError
            If the folder is missing or the index cannot be read.
        """
        folder = find_folder(self.folder, "a folder of ADE20K")
        if root := find_sceneparse(folder):
            yield from sceneparse_samples(root, prefix)
            return
        index: _Index | None = None
        for image, files in _find_images(folder):
            maps = _maps(image, files)
            if (annotation := image.with_suffix(".json")).name in files:
                read = partial(_read_2021, image, annotation, maps)
            else:
                index = index or _find_index(self.folder)
                instances = None if index.names else image.with_name(f"{image.stem}_atr.txt")
                scene = index.scenes.get(image.name, _scene_of(image))
                read = partial(_read_2016, instances or index.names, maps, scene)
            yield Sample(f"{prefix}/{image.stem}", image, read)


@dataclass(frozen=True)
class _Index:
    names: ClassNames
    scenes: Mapping[str, str]


def _find_images(folder: Path) -> list[tuple[Path, Set[str]]]:
    """Find each image, with the names of all files in its folder."""
    images: list[tuple[Path, Set[str]]] = []
    for directory, folders, files in os.walk(folder):
        there = set(files)
        # A folder with the name of an image has the masks of its instances, thirty files an image.
        folders[:] = [name for name in folders if f"{name}.jpg" not in there and not name.startswith(".")]
        images += [
            (Path(directory, name), there) for name in files if name.endswith(".jpg") and not name.startswith(".")
        ]
    return sorted(images, key=lambda pair: pair[0].relative_to(folder).as_posix())


def _maps(image: Path, files: Set[str]) -> tuple[Path, ...]:
    """List the label map of the objects, which must exist, and those of the parts, level by level."""
    names = [f"{image.stem}_seg.png"]
    while (name := f"{image.stem}_parts_{len(names)}.png") in files:
        names.append(name)
    return tuple(image.with_name(name) for name in names)


def _find_index(folder: Path) -> _Index:
    for path in (folder / INDEX, *sorted(folder.glob(f"*/{INDEX}")), folder.parent / INDEX):
        if path.is_file():
            return _read_index(path)
    return _Index({}, {})


def _read_index(path: Path) -> _Index:
    what = "the index of ADE20K"
    index = read_mat(path, "index", what, LARGEST_INDEX)
    try:
        fields = index[0, 0]
        names, files, scenes = (_strings(getattr(fields, key)) for key in ("objectnames", "filename", "scene"))
        if len(files) != len(scenes):
            raise ValueError(f"{len(files)} files and {len(scenes)} scenes")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise SourceError(
            f"{path} lacks what the index of ADE20K holds ({error}). Expected a struct 'index' with objectnames, "
            "filename and scene; restore the file."
        ) from error
    spelled = {number: _synonyms(name) for number, name in enumerate(names, start=1)}
    return _Index(spelled, {file: _scene_name(scene) for file, scene in zip(files, scenes, strict=True)})


def _strings(cells: npt.NDArray[Any]) -> list[str]:
    """Read a cell array of strings."""
    return [str(cell.item()) if cell.size else "" for cell in cells.ravel()]


def _synonyms(names: str) -> str:
    """Separate synonyms by semicolons, the dominant first; an empty name or a dash is no name."""
    parts = [part.strip() for part in names.split(",")]
    return ";".join(part for part in parts if part and part != "-")


def _scene_name(scene: str) -> str:
    """Spell a scene as in Broden: ``apse/indoor`` and ``apse__indoor`` become ``apse-indoor``, ``~x`` is unlabeled."""
    return "" if scene.startswith("~") else scene.strip("/").replace("__", "-").replace("/", "-")


def _scene_of(image: Path) -> str:
    """Return the scene from the folders below ``training/s`` or ``training/urban``; empty if there are none."""
    parts = image.parent.parts
    below = [number for number, part in enumerate(parts) if part in SPLITS]
    return _scene_name("/".join(parts[below[-1] + 2 :])) if below else ""


def _read_2016(names: ClassNames | Path, maps: Sequence[Path], scene: str) -> LabelsByCategory:
    """Read the label maps; `names` are the names of the classes, or the file of instances that contains them."""
    levels = [read_colors(path, MAP) for path in maps]
    known = _names_by_instances(names, levels) if isinstance(names, Path) else names
    return _labels(maps, levels, known, scene)


def _read_2021(image: Path, annotation: Path, maps: Sequence[Path]) -> LabelsByCategory:
    what = "the annotation of an image of ADE20K"
    content = read_json(annotation, what, LARGEST_ANNOTATION)
    try:
        objects = content["annotation"]["object"]
        # MATLAB writes a single object without a list.
        objects = [objects] if isinstance(objects, dict) else objects
        names = {int(item["name_ndx"]): _synonyms(str(item["name"])) for item in objects}
        scene = _scene_of(Path(str(content["annotation"].get("folder", ""))) / image.name) or _scene_of(image)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceError(
            f"{annotation} lacks what {what} holds ({error!r}). Expected 'annotation' with 'object', each with 'name' "
            "and 'name_ndx'; restore the file."
        ) from error
    return _labels(maps, [read_colors(path, MAP) for path in maps], names, scene)


def _labels(maps: Sequence[Path], levels: Sequence[Pixels], names: ClassNames, scene: str) -> LabelsByCategory:
    channels = [Channel(_classes(pixels), names, str(path)) for path, pixels in zip(maps, levels, strict=True)]
    labels: dict[str, Sequence[Channel | str]] = {"object": channels[:1], "part": channels[1:]}
    if scene:
        labels["scene"] = (scene,)
    return labels


def _classes(pixels: Pixels) -> npt.NDArray[np.uint16]:
    """Class of each pixel, uint16 (H, W)."""
    return (pixels[..., 0] // 10).astype(np.uint16) * 256 + pixels[..., 1]


LINE = re.compile(r"\s*(\d+)\s*#\s*(\d+)\s*#[^#]*#([^#]*)#")


def _names_by_instances(path: Path, levels: Sequence[Pixels]) -> ClassNames:
    """Name the classes of one image by its list of instances."""
    rows: dict[int, dict[int, str]] = {}
    for number, line in enumerate(read_text(path, "the list of instances of an image of ADE20K").splitlines(), 1):
        if not line.strip():
            continue
        if not (match := LINE.match(line)):
            raise SourceError(
                f"{path}, line {number}: {line.strip()[:80]!r} names no instance. Expected 'instance # part level # "
                "occluded # names # name as typed # attributes'; restore the file."
            )
        rows.setdefault(int(match[2]), {})[int(match[1])] = _synonyms(match[3])
    votes: dict[int, dict[str, int]] = {}
    for level, pixels in enumerate(levels):
        for code, name, count in _vote(pixels, rows.get(level, {})):
            counts = votes.setdefault(code, {})
            counts[name] = counts.get(name, 0) + count
    return {code: max(counts, key=lambda name: counts[name]) for code, counts in votes.items()}


def _vote(pixels: Pixels, names: Mapping[int, str]) -> Iterator[tuple[int, str, int]]:
    """Yield class, name and number of pixels of each pair; a class without an instance has no name."""
    pairs, counts = np.unique(_classes(pixels).astype(np.int64) * 256 + pixels[..., 2], return_counts=True)
    codes, shades = pairs // 256, pairs % 256
    seen = [int(shade) for shade in np.unique(shades) if shade]
    listed = sorted(names)
    if len(seen) == len(listed):
        instance = dict(zip(seen, listed, strict=True))
    else:  # some instances are hidden: the shade of the n-th of N is n * 255 / N, rounded
        instance = {shade: listed[min(round(shade * len(listed) / 255), len(listed)) - 1] for shade in seen if listed}
    for code, shade, count in zip(codes, shades, counts, strict=True):
        if code:
            yield int(code), names.get(instance.get(int(shade), 0), ""), int(count)
