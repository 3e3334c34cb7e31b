"""Pictures with label maps of the same size: the usual layout of one's own data.

    DIR/images/NAME.jpg    any picture format, folders below allowed
    DIR/masks/NAME.png     indexed or gray: the pixel is the value; RGB: value = R + 256 * G
    DIR/classes.csv        value,name; an empty name means unlabeled

A pixel of value 0 is unlabeled unless ``classes.csv`` names it.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from netdissect.concepts.pictures import UNREADABLE
from netdissect.concepts.sample import Channel, LabelsByCategory, PixelValues, Sample
from netdissect.concepts.sources.source import find_files, find_folder
from netdissect.concepts.sources.words import SourceWords
from netdissect.errors import SourceError

CLASS_COLUMNS = ("value", "name")
DEFAULT_CATEGORY = "object"


@dataclass(frozen=True)
class MaskSource:
    """A folder of pictures, masks and ``classes.csv``.

    Attributes
    ----------
    folder
        Holds ``images/``, ``masks/`` and ``classes.csv``.
    category
        Of every concept in it.
    """

    folder: Path
    category: str = DEFAULT_CATEGORY

    @classmethod
    def parse(cls, words: SourceWords) -> "MaskSource":
        """Make the source that ``masks:FOLDER[=CATEGORY]`` names; the category is ``object`` unless given."""
        return cls(words.check().folder, words.category or DEFAULT_CATEGORY)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def text(self) -> str:
        """The words that name it on the command line."""
        return f"masks:{self.folder}={self.category}"

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each picture and each mask, by their common name.

        Raises
        ------
        SourceError
            If a folder or ``classes.csv`` is missing or wrong, or two files have the same name.
        """
        find_folder(self.folder, "a folder with images/, masks/ and classes.csv")
        images = _by_name(find_folder(self.folder / "images", "the pictures of a masks: source"))
        masks = _by_name(find_folder(self.folder / "masks", "the label maps of a masks: source"))
        names = read_classes(self.folder / "classes.csv")
        for name in sorted(images.keys() | masks.keys()):
            # Of a pair that is not whole the missing half is named when the sample is read, with all other bad files.
            image = images.get(name, self.folder / "images" / f"{name}.*")
            mask = masks.get(name, self.folder / "masks" / f"{name}.png")
            yield Sample(f"{prefix}/{name}", image, partial(_read_labels, mask, names, self.category))


def read_classes(path: Path) -> dict[int, str]:
    """Read ``classes.csv``: the raw name of each value, empty where unlabeled.

    Raises
    ------
    SourceError
        If the file is missing, has other columns, or a value is no whole number or stands twice.
    """
    names: dict[int, str] = {}
    for row in _read_rows(path):
        text = row["value"].strip()
        if not text.isdecimal() or int(text) > 65535:
            raise SourceError(
                f"{path} holds the value {text!r}. Expected a whole number from 0 to 65535, the value of a pixel."
            )
        if int(text) in names:
            raise SourceError(f"{path} names the value {text} twice. Expected one name a value; remove a row.")
        names[int(text)] = row["name"].strip()
    if not any(names.values()):
        raise SourceError(f"{path} names no concept. Expected rows such as '1,building'.")
    return names


def read_mask(path: Path) -> PixelValues:
    """Read the values of a mask: indexed or gray pixels as they are, RGB as R + 256 * G.

    Raises
    ------
    SourceError
        If the file is missing, damaged, lossy or holds blue.
    """
    try:
        with Image.open(path) as image:
            if image.format == "JPEG":
                raise SourceError(f"{path} is a JPEG, which changes pixel values. Expected a lossless mask, e.g. PNG.")
            mode = image.mode
            pixels = np.asarray(image.getchannel(0) if mode in ("LA", "PA") else image)
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceError(
            f"{path} does not exist. Expected a mask of the same name for each picture; add it or remove the picture."
        ) from None
    except UNREADABLE as error:
        raise SourceError(
            f"{path} cannot be read as a mask ({error}). Expected a whole PNG; restore or remove it."
        ) from error
    return plain_values(pixels, mode, str(path))


def plain_values(pixels: npt.NDArray[Any], mode: str, origin: str) -> PixelValues:
    """Take the values out of the pixels of a mask: (H, W) as they are, RGB as R + 256 * G.

    Raises
    ------
    SourceError
        If there is blue, or the pixels are no whole numbers; `origin` names the mask in messages.
    """
    if pixels.ndim == 2 and pixels.dtype.kind in "iub":
        return pixels
    if mode not in ("RGB", "RGBA") or pixels[..., 2].any():
        seen = "blue pixels, as if classes were painted in colors" if mode in ("RGB", "RGBA") else f"{mode} pixels"
        raise SourceError(
            f"{origin} holds {seen}. Expected an indexed or gray mask, or RGB with value = R + 256 * G and no blue; "
            "convert it."
        )
    return pixels[..., 0].astype(np.int32) + 256 * pixels[..., 1].astype(np.int32)


def _read_labels(mask: Path, names: Mapping[int, str], category: str) -> LabelsByCategory:
    return {category: (Channel(read_mask(mask), names, str(mask)),)}


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
            header = reader.fieldnames or []
    except FileNotFoundError:
        raise SourceError(
            f"{path} does not exist. Expected a table with the columns value,name that names the values of the masks, "
            "e.g. '1,building'; add it."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(
            f"{path} cannot be read ({error}). Expected UTF-8 text with the columns value,name."
        ) from error
    if missing := [column for column in CLASS_COLUMNS if column not in header]:
        raise SourceError(
            f"{path} lacks the column {missing[0]!r}; its header is {','.join(header)!r}. Expected value,name."
        )
    return rows


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise SourceError(
                f"{found[name]} and {path} have the same name. Expected one file a name, whatever its extension; "
                "rename or remove one."
            )
        found[name] = path
    return found
