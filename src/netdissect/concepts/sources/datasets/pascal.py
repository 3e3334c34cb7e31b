"""Pascal VOC 2010 with Pascal-Context (Mottaghi et al. 2014) and Pascal-Part (Chen et al. 2014).

    DIR/.../JPEGImages/NAME.jpg           of VOC 2010
    DIR/.../trainval/NAME.mat             of Pascal-Context: LabelMap, 459 classes; labels.txt (``22: bench``) beside it
    DIR/.../Annotations_Part/NAME.mat     of Pascal-Part: anno.objects, each with a mask, a class and named parts

Without both, the masks of VOC are read (see `voc`)::

    DIR/.../SegmentationClass/NAME.png

The folders are found by their names, at most three folders below DIR (``VOCdevkit/VOC2010/JPEGImages``,
``context/trainval``); of several JPEGImages the last by name is taken. Context or Part may be missing. Without
Annotations_Part, ``NAME.mat`` files in DIR itself are those of Pascal-Part; without JPEGImages, ``NAME.jpg`` lie
beside the annotations.

Each image of Context or Part is a sample. Its objects are those of Context, or without Context those of Part (the 20
classes of VOC). Overlapping parts, such as ears and head, become several channels.

Part names are abbreviated: ``lfho`` is the left front hoof. They are spelled out, and left, right, front, back, upper,
lower and side are dropped as in Broden, so that lower and upper arm are ``arm`` and ``croofside_1`` is ``coach roof``;
the outer sides of cars and buses (``frontside``) then have no name. ``unknown`` of Context is unlabeled.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.sources.datasets.voc import MASKS, voc_samples
from netdissect.concepts.sources.mask_stacking import Mask, named_channels
from netdissect.concepts.sources.readers import read_mat, read_text
from netdissect.concepts.sources.source import PublishedFolder, find_folder
from netdissect.errors import SourceError

DEPTH = 3
IMAGES, CONTEXT, PARTS = "JPEGImages", "trainval", "Annotations_Part"
FOLDERS = (IMAGES, CONTEXT, PARTS, MASKS)
UNLABELED = frozenset({"unknown", "-"})

SPELLED: Mapping[str, Iterable[str]] = {
    "arm": ("llarm", "luarm", "rlarm", "ruarm"),
    "chain wheel": ("chainwheel",),
    "coach": ("coach", "cfrontside", "cleftside", "crightside", "cbackside"),
    "coach roof": ("croofside",),
    "ear": ("lear", "rear"),
    "eye": ("leye", "reye"),
    "eyebrow": ("lebrow", "rebrow"),
    "foot": ("lfoot", "rfoot"),
    "hand": ("lhand", "rhand"),
    "handle bar": ("handlebar",),
    "head": ("head", "hfrontside", "hleftside", "hrightside", "hbackside"),
    "head roof": ("hroofside",),
    "hoof": ("lfho", "rfho", "lbho", "rbho"),
    "horn": ("lhorn", "rhorn"),
    "leg": (
        *("lleg", "rleg", "llleg", "luleg", "rlleg", "ruleg", "lfleg", "rfleg", "lbleg", "rbleg"),
        *("lflleg", "lfuleg", "rflleg", "rfuleg", "lblleg", "lbuleg", "rblleg", "rbuleg"),
    ),
    "license plate": ("fliplate", "bliplate"),
    "mirror": ("leftmirror", "rightmirror"),
    "paw": ("lfpa", "rfpa", "lbpa", "rbpa"),
    "roof": ("roofside",),
    "wheel": ("wheel", "fwheel", "bwheel"),
    "wing": ("lwing", "rwing"),
    "": ("frontside", "leftside", "rightside", "backside", "silhouette"),
}
"""Abbreviations of each name; the empty name is unlabeled."""

PLAIN = (
    *("beak", "body", "cap", "door", "engine", "hair", "headlight", "mouth", "muzzle", "neck", "nose", "plant", "pot"),
    *("saddle", "screen", "stern", "tail", "torso", "window"),
)
PART_NAMES = {short: name for name, shorts in SPELLED.items() for short in shorts} | {name: name for name in PLAIN}


class PascalSource(PublishedFolder):
    """A folder with images of VOC, Pascal-Context, Pascal-Part, or both.

    Attributes
    ----------
    folder
        Folder with these data sets, at most three folders deep.
    """

    name = "pascal"

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each image that is annotated.

        Raises
        ------
        SourceError
            If the folder is missing or holds no annotation, or the labels of Context are missing.
        """
        root = find_folder(self.folder, "a folder with Pascal-Context or Pascal-Part")
        found = _find_folders(root)
        parts = _annotations(found.get(PARTS, root))
        context = _annotations(found[CONTEXT]) if CONTEXT in found else {}
        if not parts and not context and MASKS in found:
            image_folder = found[MASKS].parent / IMAGES
            yield from voc_samples(
                found[MASKS], found.get(IMAGES, image_folder) if not image_folder.is_dir() else image_folder, prefix
            )
            return
        if not parts and not context:
            raise SourceError(
                f"{root} holds no annotation. Expected {PARTS}/*.mat of Pascal-Part, {CONTEXT}/*.mat of Pascal-Context "
                f"or {MASKS}/*.png of VOC, at most {DEPTH} folders deep; correct the folder."
            )
        names = _read_context_names(found[CONTEXT], root) if context else {}
        for stem in sorted(parts.keys() | context.keys()):
            image_folder = found.get(IMAGES) or (parts.get(stem) or context[stem]).parent
            labels = partial(_read_labels, context.get(stem), parts.get(stem), names)
            yield Sample(f"{prefix}/{stem}", image_folder / f"{stem}.jpg", labels)


def spell_part(short: str) -> str | None:
    """Return the full name of a part without its number; None if the abbreviation is unknown.

    Examples
    --------
    >>> spell_part("lfuleg"), spell_part("wheel_3"), spell_part("frontside")
    ('leg', 'wheel', '')
    """
    return PART_NAMES.get(re.sub(r"_\d+$", "", short))


def _find_folders(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for directory, folders, _ in os.walk(root):
        folders.sort()
        for name in FOLDERS:
            if name in folders:
                found[name] = Path(directory, name)
        deep = len(Path(directory).relative_to(root).parts) >= DEPTH - 1
        folders[:] = [] if deep else [name for name in folders if name not in found]
    return found


def _annotations(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.mat") if not path.name.startswith(".")}


def _read_context_names(folder: Path, root: Path) -> dict[int, str]:
    candidates = (folder.parent / "labels.txt", folder / "labels.txt", root / "labels.txt")
    path = next((path for path in candidates if path.is_file()), candidates[0])
    names: dict[int, str] = {}
    for number, line in enumerate(read_text(path, "the labels of Pascal-Context").splitlines(), 1):
        value, colon, name = line.partition(":")
        if not line.strip():
            continue
        label = whole_number(value)
        if not colon or label is None:
            raise SourceError(f"{path}, line {number}: {line[:80]!r} names no label. Expected e.g. '22: bench'.")
        names[label] = "" if name.strip() in UNLABELED else name.strip()
    return names


def _read_labels(context: Path | None, part: Path | None, names: Mapping[int, str]) -> LabelsByCategory:
    objects, parts = _read_parts(part) if part else ((), ())
    return {"object": (_read_context(context, names),) if context else objects, "part": parts}


def _read_context(path: Path, names: Mapping[int, str]) -> Channel:
    values = np.asarray(read_mat(path, "LabelMap", "an annotation of Pascal-Context"))
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise SourceError(f"{path}: LabelMap is {values.dtype} {values.shape}. Expected whole numbers (height, width).")
    whole = values.astype(np.int32)
    if (whole != values).any():
        raise SourceError(f"{path}: LabelMap holds fractions. Expected whole numbers, one label a pixel.")
    return Channel(whole, names, str(path))


def _read_parts(path: Path) -> tuple[tuple[Channel, ...], tuple[Channel, ...]]:
    """Read the channels of objects and of parts of an annotation of Pascal-Part."""
    anno = read_mat(path, "anno", "an annotation of Pascal-Part")
    objects: list[tuple[str, Mask]] = []
    parts: list[tuple[str, Mask]] = []
    try:
        for one in anno[0, 0].objects.ravel():
            objects.append((_word(getattr(one, "class")), _mask(one.mask)))
            for part in one.parts.ravel():
                short = _word(part.part_name)
                if (name := spell_part(short)) is None:
                    raise SourceError(
                        f"{path} names the part {short!r}, which Pascal-Part does not have. Expected its "
                        "abbreviations, e.g. 'lfuleg'; correct the name."
                    )
                parts.append((name, _mask(part.mask)))
        if len({mask.shape for _, mask in objects + parts}) > 1:
            raise ValueError("masks of several sizes")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise SourceError(
            f"{path} lacks what an annotation of Pascal-Part holds ({error}). Expected anno.objects with class, mask "
            "and parts, each with part_name and mask of one size; restore the file."
        ) from error
    return tuple(named_channels(objects, str(path))), tuple(named_channels(parts, str(path)))


def _word(value: Any) -> str:
    return str(np.asarray(value).item())


def _mask(value: Any) -> Mask:
    mask: Mask = np.asarray(value) > 0
    if mask.ndim != 2:
        raise ValueError(f"a mask of shape {mask.shape}")
    return mask
