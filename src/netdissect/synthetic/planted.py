"""Units whose answers are known: a network made by hand on images that carry their labels.

Every cell of a planted image's label map is a block of 2 x 2 pixels whose color channels spell, as
plain bytes, the cell's object and part, a lot between 0 and 255, and a grade that no other cell of the
data set shares. A network of five fixed convolutions reads these bytes and lets each unit fire, with the
cell's grade, on one concept: exactly, or shifted, blurred, thinned, or mixed with a second concept.

    planted_dataset -> files -> dissection -> the counts that planted_counts finds without a network

Everything is a whole number below 2**24, which float32 holds exactly, so counts agree to the integer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netdissect.concepts import ConceptData, Size
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.writer import WriteOptions, write_dataset
from netdissect.concepts.image_io import open_image
from netdissect.errors import ConfigError
from netdissect.models.network import Network
from netdissect.models.preprocessing import Preprocessing

OBJECTS = ("anvil", "bell", "crate", "drum", "easel", "funnel", "corner stone")
PARTS = ("lid", "rim", "grip")
CODES = {name: (field, code) for field, names in enumerate((OBJECTS, PARTS)) for code, name in enumerate(names, 1)}
BLOCK = 2  # pixels across the block that spells one cell
LOTS = 256
GRADES = 1 << 23  # a gate adds two numbers below this, and float32 counts to 2**24
LAYER = "units"

Cells = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PlantedUnit:
    """What one unit fires on.

    Attributes
    ----------
    concept
        One of `OBJECTS` or `PARTS`.
    shift
        Cells that the firing lies below and to the right of the concept.
    blur
        Cells by which the firing reaches over the concept on every side.
    keep
        Share of the concept's cells that count, drawn by their lots.
    other, share
        A second concept and the share of its cells on which the unit fires, too.
    graded
        Fire with the cell's grade, distinct everywhere; or with 1, a tie of all cells.

    Notes
    -----
    Cells are thinned and mixed first, then shifted, then blurred.
    """

    concept: str
    shift: tuple[int, int] = (0, 0)
    blur: int = 0
    keep: float = 1.0
    other: str | None = None
    share: float = 0.0
    graded: bool = True

    def __post_init__(self) -> None:
        for name in (self.concept, self.other or self.concept):
            if name not in CODES:
                raise ConfigError(f"no concept {name!r} is planted. Expected one of {', '.join(CODES)}.")
        if self.other == self.concept:
            raise ConfigError(f"a unit cannot mix {self.concept!r} with itself. Name another concept, or none.")
        if self.blur < 0 or not 0 <= self.keep <= 1 or not 0 <= self.share <= 1:
            raise ConfigError(
                f"a planted unit was given blur {self.blur}, keep {self.keep} and share {self.share}. "
                "Expected a blur of 0 or more cells, and shares from 0 to 1."
            )

    @property
    def reach(self) -> int:
        """How many cells away from its own a unit looks."""
        return max(map(abs, self.shift)) + self.blur

    @property
    def concepts(self) -> frozenset[str]:
        """The concepts on which it fires."""
        return frozenset(name for name, lot in self.sources if lot > 0)

    @property
    def sources(self) -> tuple[tuple[str, int], ...]:
        """Each concept, and the lot below which its cells count."""
        first = (self.concept, round(self.keep * LOTS))
        return (first,) if self.other is None else (first, (self.other, round(self.share * LOTS)))


@dataclass(frozen=True, slots=True)
class PlantedCounts:
    """Pixels of label maps, counted over a data set, and their IoU."""

    intersection: int
    activation: int
    concept_pixels: int

    @property
    def iou(self) -> float:
        """Intersection over union; 0 if the union is empty."""
        union = self.activation + self.concept_pixels - self.intersection
        return self.intersection / union if union else 0.0


def planted_dataset(
    out: str | Path, *, images: int = 60, size: int = 64, seed: int = 0, unlabeled: float = 0.2, overwrite: bool = False
) -> Path:
    """Write images that carry their own labels, as a data set in Broden's layout.

    Parameters
    ----------
    out
        The new folder.
    images
        How many.
    size
        Pixels of the square images, an even number; label maps are half as large.
    seed
        Of the layout.
    unlabeled
        Share of images in which concepts are drawn but not labeled, separately for objects and parts: units
        fire there, and the union must not count it.
    overwrite
        Replace a finished data set at `out`.

    Raises
    ------
    ConfigError
        If the size is odd or small, or there are more cells than grades.
    ConceptsError
        If `out` is in the way or cannot be written.
    """
    cells = size // BLOCK
    if size % BLOCK or cells < 16 or images < 1 or images * cells * cells >= GRADES:
        raise ConfigError(
            f"planted images were asked for: {images} of {size} pixels. Expected at least one, of an even size of "
            f"32 or more, and fewer than {GRADES:,} label cells (a quarter of the pixels) in all."
        )
    options = WriteOptions(size=size, image_format="png")
    samples = _samples(images, cells, seed, unlabeled)
    return write_dataset(out, samples, options, about={"source": "planted", "seed": seed}, overwrite=overwrite)


def _samples(images: int, cells: int, seed: int, unlabeled: float) -> Iterator[Sample]:
    rng = np.random.default_rng(seed)
    grades = rng.permutation(images * cells * cells).reshape(images, cells, cells) + 1
    for index in range(images):
        fields = _layout(cells, rng)
        labels = {
            category: [Channel(_enlarge(values), dict(enumerate(names, 1)))]
            for category, names, values in zip(("object", "part"), (OBJECTS, PARTS), fields, strict=True)
            if rng.random() >= unlabeled
        }
        lots = rng.integers(0, LOTS, (cells, cells))
        yield Sample(f"planted/{index:05d}", _spell(fields, lots, grades[index]), {"scene": ["planted"], **labels})


def _layout(cells: int, rng: np.random.Generator) -> tuple[Cells, Cells]:
    """Lay out objects, some with a part inside, later ones over earlier ones, and one in the last corner."""
    objects, parts = np.zeros((2, cells, cells), dtype=np.int64)
    for code in rng.permutation(len(OBJECTS) - 1)[: rng.integers(2, 5)] + 1:
        height, width = rng.integers(3, max(4, cells // 3), 2)
        top, left = rng.integers(0, cells - height), rng.integers(0, cells - width)
        box = (slice(top, top + height), slice(left, left + width))
        objects[box], parts[box] = code, 0
        parts[top : top + 2, left : left + width - 1] = code % (len(PARTS) + 1)
    if rng.random() < 0.6:
        corner = (slice(cells - 2, cells), slice(cells - 3, cells))
        objects[corner], parts[corner] = len(OBJECTS), 0
    return objects, parts


def _enlarge(cells: Cells) -> Cells:
    return cells.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def _spell(fields: tuple[Cells, Cells], lots: Cells, grades: Cells) -> npt.NDArray[np.uint8]:
    """Write a cell's bytes into its block: object, part and lot at the top left, the grade at the top right."""
    size = BLOCK * len(lots)
    image = np.full((size, size, 3), 128, dtype=np.uint8)
    image[0::2, 0::2] = np.stack([*fields, lots], axis=2)
    image[0::2, 1::2] = np.stack([grades % 256, grades // 256 % 256, grades // 65536], axis=2)
    return image


def planted_network(units: Sequence[PlantedUnit], size: int = 64) -> Network:
    """Build the network whose layer ``units`` has the planted units, in their order.

    Parameters
    ----------
    units
        At least one.
    size
        Of the images in pixels.

    Raises
    ------
    ConfigError
        If there is no unit.
    """
    if not units:
        raise ConfigError("a planted network was asked for without units. Expected at least one PlantedUnit.")
    sources = [(index, name, lot) for index, unit in enumerate(units) for name, lot in unit.sources]
    module = nn.Sequential()
    module.add_module("read", _read())
    module.add_module("tell", _tell(sources))
    module.add_module("choose", _choose(len(sources)))
    module.add_module("spread", _spread(units, sources))
    module.add_module(LAYER, _gate(units))
    # A deviation of 1/255 leaves pixels as they are: whole numbers from 0 to 255.
    return Network("planted", module, Preprocessing(Size(size, size), (0.0,) * 3, (1 / 255,) * 3))


def _blank(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0)
    for parameter in convolution.parameters():
        parameter.requires_grad_(False).zero_()
    return convolution


def _read() -> nn.Sequential:
    """Return what turns blocks of pixels into cells: object, part, lot, grade."""
    read = _blank(3, 4, BLOCK, BLOCK)
    for field in range(3):
        read.weight[field, field, 0, 0] = 1
    read.weight[3, :, 0, 1] = torch.tensor([1.0, 256.0, 65536.0])
    return nn.Sequential(read)


def _tell(sources: Sequence[tuple[int, str, int]]) -> nn.Sequential:
    """Return ramps: three around each concept's code, two below each lot, and the grade as it is."""
    tell = _blank(4, 5 * len(sources) + 1, 1)
    for i, (_, name, lot) in enumerate(sources):
        field, code = CODES[name]
        for ramp, offset in enumerate((1 - code, -code, -1 - code)):
            tell.weight[5 * i + ramp, field] = 1
            tell.bias[5 * i + ramp] = offset  # type: ignore[index]
        for ramp, offset in ((3, lot), (4, lot - 1)):
            tell.weight[5 * i + ramp, 2] = -1
            tell.bias[5 * i + ramp] = offset  # type: ignore[index]
    tell.weight[-1, 3] = 1
    return nn.Sequential(tell, nn.ReLU())


def _choose(sources: int) -> nn.Sequential:
    """Return 1 where a cell has the code (a difference of ramps is a hat) and a lot below the limit, else 0."""
    choose = _blank(5 * sources + 1, sources + 1, 1)
    for i in range(sources):
        choose.weight[i, 5 * i : 5 * i + 5, 0, 0] = torch.tensor([1.0, -2.0, 1.0, 1.0, -1.0])
        choose.bias[i] = -1  # type: ignore[index]
    choose.weight[-1, -1] = 1
    return nn.Sequential(choose, nn.ReLU())


def _spread(units: Sequence[PlantedUnit], sources: Sequence[tuple[int, str, int]]) -> nn.Sequential:
    """Return 1 where a unit has nothing in sight and 0 where it has, and the grade as it is."""
    reach = max(unit.reach for unit in units)
    spread = _blank(len(sources) + 1, len(units) + 1, 2 * reach + 1)
    for i, (index, _, _) in enumerate(sources):
        unit = units[index]
        row, column = reach - unit.shift[0], reach - unit.shift[1]
        window = (slice(row - unit.blur, row + unit.blur + 1), slice(column - unit.blur, column + unit.blur + 1))
        spread.weight[(index, i, *window)] = -1
        spread.bias[index] = 1  # type: ignore[index]
    spread.weight[-1, -1, reach, reach] = 1
    return nn.Sequential(spread, nn.ReLU())


def _gate(units: Sequence[PlantedUnit]) -> nn.Sequential:
    """Let the grade, or 1, through where there is something in sight."""
    gate = _blank(len(units) + 1, len(units), 1)
    for index, unit in enumerate(units):
        gate.weight[index, index] = -GRADES
        if unit.graded:
            gate.weight[index, -1] = 1
        else:
            gate.bias[index] = 1  # type: ignore[index]
    return nn.Sequential(gate, nn.ReLU())


def planted_counts(data: ConceptData, unit: PlantedUnit, concept: str, quantile: float = 0.005) -> PlantedCounts:
    """Count what a dissection of the unit must find, by set operations on label cells, without a network.

    Parameters
    ----------
    data
        What `planted_dataset` wrote, all categories and images.
    unit
        Which unit.
    concept
        The concept that it is compared with.
    quantile
        Fraction of cells above the unit's threshold at most.

    Notes
    -----
    Definition: protocol ``paper``; a layer cell lies exactly on its label pixel, so nothing is interpolated.
    """
    number = next(one.label_id for one in data.concepts if one.name == concept)
    category = data.category_of[number]
    spelled = [_unspell(data.image_path(row)) for row in range(len(data))]
    values = np.stack([_fire(unit, cells) for cells in spelled])
    above = np.sort(values, axis=None)[::-1][int(quantile * values.size)]
    intersection = activation = concept_pixels = 0
    for row, mask in enumerate(values > above):
        labels = data.labels(row)
        present = np.unique(np.concatenate([labels.label_channels.ravel(), labels.image_level]))
        has_label = (labels.label_channels == number).any(axis=0) | (number in labels.image_level)
        intersection += int((mask & has_label).sum())
        concept_pixels += int(has_label.sum())
        if (data.category_of[present[present > 0]] == category).any():
            activation += int(mask.sum())
    return PlantedCounts(intersection, activation, concept_pixels)


def _unspell(path: Path) -> Cells:
    """Read an image's cells: int64 (4, cells, cells) of object, part, lot, grade."""
    with open_image(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    grade = pixels[0::2, 1::2] @ np.array([1, 256, 65536])
    return np.stack([*np.moveaxis(pixels[0::2, 0::2], 2, 0), grade])


def _fire(unit: PlantedUnit, cells: Cells) -> Cells:
    """Return the unit's value on every cell: its grade or 1 where it fires, else 0."""
    seen: Mask = np.zeros(cells.shape[1:], dtype=bool)
    for name, lot in unit.sources:
        field, code = CODES[name]
        seen |= (cells[field] == code) & (cells[2] < lot)
    reach = unit.reach
    wide = np.pad(seen, reach)
    height, width = seen.shape
    fires: Mask = np.zeros_like(seen)
    for down in range(unit.shift[0] - unit.blur, unit.shift[0] + unit.blur + 1):
        for right in range(unit.shift[1] - unit.blur, unit.shift[1] + unit.blur + 1):
            fires |= wide[reach - down : reach - down + height, reach - right : reach - right + width]
    return np.where(fires, cells[3] if unit.graded else 1, 0)
