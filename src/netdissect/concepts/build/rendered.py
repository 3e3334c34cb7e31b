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
        Pixel value v of the draft map means ``names[v - 1]``: keys, later concepts (see `Rendered`); empty if the map
        has no v.
    """

    path: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The files that were written for one sample, and its labels.

    Names are keys (`split_names` joined by ``;``) until `consolidate` replaces them by concepts.

    Attributes
    ----------
    image
        Path of the image below ``images/``.
    split
        ``train`` or ``val``.
    items
        By category, label maps and names of the whole image.
    pixels
        By category, the number of label-map pixels of each name; each pixel counts once.
    turned
        Whether the image and its label maps were turned upright by EXIF.
    """

    image: str
    split: Split
    items: Mapping[str, Sequence[MapFile | str]]
    pixels: Mapping[str, Mapping[str, int]]
    turned: bool = False

    @property
    def source(self) -> str:
        """Folder of the source: the first part of the path."""
        return self.image.split("/", 1)[0]

    @property
    def maps(self) -> tuple[MapFile, ...]:
        """Its label maps."""
        return tuple(item for items in self.items.values() for item in items if isinstance(item, MapFile))

    @property
    def files(self) -> tuple[str, ...]:
        """All files below ``images/``."""
        return (self.image, *(item.path for item in self.maps))


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders of the files during a build.

    Attributes
    ----------
    images
        Images and final label maps: ``images/`` of the data set.
    drafts
        Draft label maps.
    """

    images: Path
    drafts: Path
