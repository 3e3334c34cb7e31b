"""Images with the masks of a unit and of its concept over them: top images, false positives, false negatives.

LayerTables -> top_images(), first_image(), unit_image(), error_images()
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from netdissect.concepts import Size
from netdissect.plots.outlines import mask_path, view_box
from netdissect.plots.overlap import ConceptMask, ImageConcept, Mask
from netdissect.report import urls
from netdissect.report.layer_tables import LayerTables
from netdissect.scoring.mask_runs import read_mask

PAGE_IMAGES, CARD_IMAGES, CONCEPT_IMAGES = 25, 6, 4
"""Top images of a unit on its own page, on its card in a layer's page, and on a concept's page."""


@dataclass(frozen=True)
class MaskedImage:
    """An image with the masks of a unit and of its concept over it.

    Attributes
    ----------
    url
        Of the image file.
    image
        Its name in the data set.
    size
        Height and width of the grid on which masks are scored.
    unit
        Outline of the unit's mask by `netdissect.plots.outlines.mask_path`; None: not known.
    concept
        Mask of the concept, not in JSON; None: not known, or no concept.
    label_id
        Label id of the concept in the data set; 0: no concept.
    value
        The largest activation, or a number of pixels.
    pixels
        Pixels of the regions of `netdissect.plots.overlap.REGION_COLORS`, as they count in the IoU, each pixel once;
        empty: not known.
    """

    url: str
    image: str
    size: Size
    unit: str | None = None
    concept: Annotated[ConceptMask | None, Field(exclude=True)] = None
    label_id: int = 0
    value: float | None = None
    pixels: Mapping[str, int] = field(default_factory=dict)

    @property
    def view_box(self) -> str:
        """The box of its paths."""
        return view_box(self.size)

    @property
    def index(self) -> int:
        """Index of the image in the data set."""
        return urls.image_index(self.url)


def read_concept_masks(tables: LayerTables, units: Iterable[int]) -> None:
    """Read the masks of the concepts of some units in the images that their pages show, each image once.

    A view reads what is missing for its unit; for all units of a layer together this takes a fraction of the time.
    """
    if tables.run.concept_masks is None:
        return
    sources = (tables.top, *tables.error_images.values())
    shown = ((unit, row) for unit in units for rows in sources for row in rows.get(unit, ())[:PAGE_IMAGES])
    wanted = (_image_concept(tables, unit, row) for unit, row in shown)
    tables.run.concept_masks.read(each for each in wanted if each is not None)


def _image_concept(tables: LayerTables, unit: int, row: Mapping[str, Any]) -> ImageConcept | None:
    """Return a unit's concept in an image; None if the unit has none."""
    label = tables.units[unit]["label"]
    return None if label is None else ImageConcept(row["image_index"], tables.label_ids[label], _size(tables, row))


def _size(tables: LayerTables, row: Mapping[str, Any]) -> Size:
    return tables.masks.size(Size(row["label_height"], row["label_width"]))


def _concept_mask(tables: LayerTables, unit: int, row: Mapping[str, Any]) -> ConceptMask | None:
    concept, masks = _image_concept(tables, unit, row), tables.run.concept_masks
    return None if concept is None or masks is None else masks.mask(concept)


def top_images(tables: LayerTables, unit: int, count: int) -> tuple[MaskedImage, ...]:
    """Return at most `count` of the top images of a unit, the largest activation first."""
    images = []
    for row in tables.top.get(unit, [])[:count]:
        labels = Size(row["label_height"], row["label_width"])
        mask = tables.masks.mask(tables.layer.top_maps[unit, row["rank"]], tables.units[unit]["threshold"], labels)
        images.append(_masked_image(tables, unit, row | {"value": row["max_activation"]}, mask))
    return tuple(images)


def _masked_image(tables: LayerTables, unit: int, row: Mapping[str, Any], mask: Mask) -> MaskedImage:
    """Draw the masks of a unit and of its concept on an image."""
    concept = _concept_mask(tables, unit, row)
    return MaskedImage(
        urls.image(tables.run.data_index, row["image_index"]),
        row["image"],
        Size(*mask.shape),
        mask_path(mask),
        concept,
        tables.label_ids[label] if (label := tables.units[unit]["label"]) else 0,
        row["value"],
        {} if concept is None else concept.contribution(mask),
    )


def unit_image(
    tables: LayerTables, row: Mapping[str, Any], cells: npt.NDArray[np.float32], threshold: float
) -> MaskedImage:
    """Draw the mask of a unit alone on an image."""
    mask = tables.masks.mask(cells, threshold, Size(row["label_height"], row["label_width"]))
    url = urls.image(tables.run.data_index, row["image_index"])
    return MaskedImage(url, row["image"], Size(*mask.shape), mask_path(mask), value=row["max_activation"])


def first_image(tables: LayerTables, unit: int) -> MaskedImage | None:
    """Return a unit's first top image with its scored mask; None: it has none."""
    row = tables.first_images.get(unit)
    if row is None:
        return None
    if "view" not in row:  # it is shown next to many units
        row["view"] = unit_image(tables, row, tables.layer.top_maps[unit, 0], float(tables.scored_thresholds[unit]))
    view: MaskedImage = row["view"]
    return view


def error_images(tables: LayerTables, unit: int, error: str) -> tuple[MaskedImage, ...]:
    """Return the false positives or the false negatives of a unit; none without the data set."""
    data, images = tables.run.dataset, []
    if data is None:
        return ()
    for row in tables.error_images.get(error, {}).get(unit, ()):
        mask = read_mask(row["mask"], Size(row["label_height"], row["label_width"]))
        shown = {"image": data.rows[row["image_index"]].image, "value": row["pixels"]}
        images.append(_masked_image(tables, unit, row | shown, mask))
    return tuple(images)
