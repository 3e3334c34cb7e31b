"""OpenSurfaces (Bell et al. 2013), as the authors' ``process_opensurfaces_release_0.py`` writes it.

    DIR/photos/ID.jpg
    DIR/photos-labels/ID.png              R is the material, G the object, B the scene; 0 = unlabeled
    DIR/label-substance-colors.csv        substance_id,substance_name,red_color

Only materials are read, as in Broden. ``Carpet/rug`` has two synonyms; ``Plastic - clear`` becomes ``plastic-clear``.

Notes
-----
The authors' label maps are 1,024 pixels high for all photos; they are resized to the upright photo by nearest neighbor.
A label map whose aspect ratio differs by more than 2 % belongs to another photo or to a turned one, and is an error.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.sources.mask_stacking import read_colors
from netdissect.concepts.sources.orientation import image_size
from netdissect.concepts.sources.readers import read_table
from netdissect.concepts.sources.source import PublishedFolder, find_folder
from netdissect.errors import SourceError

TABLE = "label-substance-colors.csv"
ASPECT_TOLERANCE = 0.02


class OpenSurfacesSource(PublishedFolder):
    """A folder of OpenSurfaces.

    Attributes
    ----------
    folder
        Folder with ``photos/``, ``photos-labels/`` and the table of colors.
    """

    name = "opensurfaces"

    def samples(self, prefix: str) -> Iterator[Sample]:
        """Yield a sample for each label map.

        Raises
        ------
        SourceError
            If a folder or the table is missing, or the table is wrong.
        """
        find_folder(self.folder, "a folder of OpenSurfaces")
        photos = find_folder(self.folder / "photos", "the photos of OpenSurfaces")
        maps = find_folder(self.folder / "photos-labels", "the label maps of OpenSurfaces")
        names = _read_names(self.folder / TABLE)
        for path in sorted(maps.glob("*.png")):
            photo = photos / f"{path.stem}.jpg"
            yield Sample(f"{prefix}/{path.stem}", photo, partial(_read_labels, photo, path, names))


def _read_names(path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for row in read_table(path, ("substance_name", "red_color"), "the colors of the substances of OpenSurfaces"):
        red = whole_number(row["red_color"])
        if red is None or red > 255:
            raise SourceError(
                f"{path} holds the red value {row['red_color'][:80]!r}. Expected a whole number from 0 to 255."
            )
        parts = row["substance_name"].replace(" - ", "-").split("/")
        names[red] = ";".join(part.strip().lower() for part in parts if part.strip())
    return names


def _read_labels(photo: Path, path: Path, names: Mapping[int, str]) -> LabelsByCategory:
    red = read_colors(path, "a label map of OpenSurfaces whose red is the material")[..., 0]
    return {"material": (Channel(_fit(red, image_size(photo).upright, path, photo), names, str(path), orientation=1),)}


def _fit(values: npt.NDArray[np.uint8], size: tuple[int, int], path: Path, photo: Path) -> npt.NDArray[np.uint8]:
    height, width = values.shape
    if (height, width) == size:
        return values
    if abs(width * size[0] / (height * size[1]) - 1) > ASPECT_TOLERANCE:
        raise SourceError(
            f"{path} is {height} x {width} pixels (height x width) but {photo} is {size[0]} x {size[1]}. Expected the "
            "same shape; the label map belongs to another photo, or the photo was turned. Remove the pair."
        )
    rows, columns = (((2 * np.arange(n) + 1) * m) // (2 * n) for n, m in zip(size, (height, width), strict=True))
    fitted: npt.NDArray[np.uint8] = values[rows[:, None], columns]
    return fitted
