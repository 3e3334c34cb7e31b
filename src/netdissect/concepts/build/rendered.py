"""The files that `render` writes for one sample, and the folders they are in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from netdissect.config import Split


@dataclass(frozen=True, slots=True)
class MapFile:
    """A label map on disk.

    Attributes
    ----------
    path
        Below ``images/``.
    names
        Pixel value v of the provisional map means ``names[v - 1]``: keys, later concepts (see `Rendered`); empty
        where the map holds no v.
    """

    path: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """What was written of one sample.

    Names are keys (`split_names` joined by ``;``) until `consolidate` says which concept each of them is.

    Attributes
    ----------
    image
        Path of the image below ``images/``.
    split
        ``train`` or ``val``.
    items
        By category: label maps, and names of the whole image.
    pixels
        By category: on how many label-map pixels each name stands; each pixel once.
    turned
        Whether EXIF asked for a turn, so that the image and its label maps were turned upright.
    """

    image: str
    split: Split
    items: Mapping[str, Sequence[MapFile | str]]
    pixels: Mapping[str, Mapping[str, int]]
    turned: bool = False

    @property
    def source(self) -> str:
        """Whose image it is: the first part of its path."""
        return self.image.split("/", 1)[0]

    @property
    def maps(self) -> tuple[MapFile, ...]:
        """Its label maps."""
        return tuple(item for items in self.items.values() for item in items if isinstance(item, MapFile))

    @property
    def files(self) -> tuple[str, ...]:
        """Every file below ``images/``."""
        return (self.image, *(item.path for item in self.maps))


@dataclass(frozen=True, slots=True)
class Folders:
    """Where files are written while a data set is built.

    Attributes
    ----------
    images
        Images and final label maps: ``images/`` of the data set.
    drafts
        Provisional label maps.
    """

    images: Path
    drafts: Path
