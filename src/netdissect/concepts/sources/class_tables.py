"""Class names of the values and colors of masks, and conversion of masks to one value a pixel.

    classes.csv -> ClassTable;  Stored (pixels of a mask) + MaskReading -> Channel

A table lists values, colors or both. Colors are in a column ``color`` (``#800000``, ``128 0 0``) or in columns
``r,g,b`` or ``red,green,blue``. CVAT's ``labelmap.txt`` (``aeroplane:128,0,0::``) is a table of colors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from netdissect.concepts.build.sample import Channel, PixelValues
from netdissect.concepts.build.synonyms import named_apart
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.sources.mask_values import Stored, plain_values
from netdissect.concepts.sources.readers import read_table, read_text
from netdissect.concepts.sources.spec import SourceSpec
from netdissect.errors import SourceError

RGB_COLUMNS = (("r", "g", "b"), ("red", "green", "blue"))
HEX = re.compile(r"#?([0-9a-fA-F]{6})")
THREE = re.compile(r"\D*(\d{1,3})\D+(\d{1,3})\D+(\d{1,3})\D*")
UNLISTED = -1  # value of a pixel of an unlisted color, if such colors are allowed
LARGEST = 65535
READ = ("value", "color")
MASK_OPTIONS = ("read", "unlisted", "drawn", "colors")


@dataclass(frozen=True)
class ClassTable:
    """Names of the classes of masks.

    Attributes
    ----------
    names
        Raw name of each value, empty where unlabeled.
    colors
        Value of each color, red * 65536 + green * 256 + blue; empty if the table has no colors.
    has_values
        Whether the table has values; otherwise its rows are numbered and masks are read by color.
    origin
        Name of the table, for messages.
    """

    names: Mapping[int, str]
    colors: Mapping[int, int] = field(default_factory=dict)
    has_values: bool = True
    origin: str = "the table of classes"


def read_class_table(path: Path) -> ClassTable:
    """Read ``classes.csv`` (values, colors or both), or CVAT's ``labelmap.txt``.

    Raises
    ------
    SourceError
        If the file is missing, has other columns or more fields in a row than in its header, a value is not a whole
        number or is repeated, or a color is invalid or has two names.
    """
    rows = _read_labelmap(path) if path.suffix.lower() == ".txt" else _read_rows(path)
    has_values = "value" in rows[0] if rows else True
    names: dict[int, str] = {}
    colors: dict[int, int] = {}
    for number, row in enumerate(rows, start=1):
        value = _value(row["value"].strip(), path) if has_values else number
        if value in names:
            raise SourceError(f"{path} names the value {value} twice. Expected one name a value; remove a row.")
        names[value] = row["name"].strip()
        if (color := _color(row, path)) is not None and names[colors.setdefault(color, value)] != names[value]:
            raise SourceError(
                f"{path} gives the color #{color:06x} to {names[colors[color]]!r} and to {names[value]!r}. Expected a "
                "color for each name; correct a row."
            )
    if not any(names.values()):
        raise SourceError(f"{path} names no concept. Expected rows such as '1,building'.")
    return ClassTable(named_apart(names), colors, has_values, str(path))


def voc_colors() -> dict[int, int]:
    """Return the value of each color of Pascal VOC's palette.

    Bits 0, 1 and 2 of a value are the highest bits of red, green and blue, bits 3 to 5 the next ones, and so on.

    Examples
    --------
    >>> [hex(color) for color, value in voc_colors().items() if value in (1, 2, 15, 255)]
    ['0x800000', '0x8000', '0xc08080', '0xe0e0c0']
    """
    colors = {}
    for value in range(256):
        channels = [0, 0, 0]
        for step in range(8):
            for channel in range(3):
                channels[channel] |= ((value >> (3 * step + channel)) & 1) << (7 - step)
        colors[channels[0] << 16 | channels[1] << 8 | channels[2]] = value
    return colors


@dataclass(frozen=True)
class MaskReading:
    """How the pixels of masks are converted to values.

    Attributes
    ----------
    table
        Names of the values.
    read
        ``value``: by values, RGB as R + 256 * G; ``color``: by the colors of the table; None: by whichever the table
        has; an error where this is ambiguous.
    unlisted
        Whether values and colors that are not in the table are unlabeled; otherwise they are an error.
    upright
        Whether masks were drawn on images turned upright by EXIF; otherwise they belong to the stored pixels.
    """

    table: ClassTable
    read: Literal["value", "color"] | None = None
    unlisted: bool = False
    upright: bool = False

    @classmethod
    def parse(cls, spec: SourceSpec, table: ClassTable) -> "MaskReading":
        """Parse the options ``read=``, ``unlisted=``, ``drawn=`` and ``colors=``.

        Raises
        ------
        SourceError
            If an option has an unknown value, or masks are to be read by colors and the table has none.
        """
        read = spec.choice("read", READ)
        if spec.choice("colors", ("voc",)):
            table = ClassTable(table.names, voc_colors(), table.has_values, table.origin)
        if read == "color" and not table.colors:
            raise SourceError(
                f"the source {spec.text!r} says read=color, but {table.origin} gives no colors. Expected a column "
                "color such as #800000, columns r,g,b, or ?colors=voc for those of Pascal VOC."
            )
        if read == "value" and not table.has_values:
            raise SourceError(
                f"the source {spec.text!r} says read=value, but {table.origin} gives colors alone. Expected a column "
                "value, or leave the option out."
            )
        unlisted = spec.choice("unlisted", ("unlabeled", "error")) == "unlabeled"
        upright = spec.choice("drawn", ("upright", "stored")) == "upright"
        return cls(table, "value" if read == "value" else "color" if read else None, unlisted, upright)

    def channel(self, stored: Stored, origin: str) -> Channel:
        """Return the values of a mask with their names; `origin` names the mask in messages.

        Raises
        ------
        SourceError
            If its pixels cannot be converted: colors without a table, unlisted colors, or an ambiguous mask.
        """
        values = self._values(stored, origin)
        names = dict(self.table.names)
        if self.unlisted:
            names = {int(value): "" for value in np.unique(values)} | names
        return Channel(values, names, origin, 1 if self.upright else stored.orientation)

    def _values(self, stored: Stored, origin: str) -> PixelValues:
        painted = _painted(stored) if self.table.colors and self.read != "value" else None
        if painted is None and (self.read == "color" or not self.table.has_values):
            raise SourceError(
                f"{origin} holds {stored.mode} pixels of more than 8 bits, but is to be read by the colors of "
                f"{self.table.origin}. Expected colors of 8 bits; export the mask anew, or name its values in a column "
                "value."
            )
        if painted is None:
            return self._by_value(stored, origin)
        if self.read == "color" or not self.table.has_values or self._shows_colors(stored, painted):
            return self._by_color(painted, origin)
        self._check_palette(stored, origin)
        return plain_values(stored, origin)

    def _shows_colors(self, stored: Stored, painted: npt.NDArray[np.int64]) -> bool:
        """Return whether a mask shows classes by color: in color, or gray in three channels with listed colors."""
        if stored.pixels.ndim == 2:
            return False
        return not _is_gray(stored) or any(color in self.table.colors for color in np.unique(painted[painted > 0]))

    def _check_palette(self, stored: Stored, origin: str) -> None:
        """Raise an error if the palette of an indexed mask gives a value the color of another one."""
        if stored.palette is None:
            return
        codes = _codes(_full_palette(stored.palette)).tolist()
        for value in np.unique(stored.pixels).tolist():
            color = codes[value]
            listed = self.table.colors.get(color)
            if listed is not None and self.table.names.get(listed, "") != self.table.names.get(value, ""):
                raise SourceError(
                    f"{origin} shows the value {value} in the color #{color:06x}, which {self.table.origin} gives to "
                    f"the value {listed}. Expected values and colors that agree; say ?read=value or ?read=color."
                )

    def _by_color(self, painted: npt.NDArray[np.int64], origin: str) -> PixelValues:
        known = dict(self.table.colors)
        if 0 not in self.table.names:
            known.setdefault(0, 0)  # black is unlabeled unless it has a name, as the value 0
        colors = np.array(sorted(known), dtype=np.int64)
        position = np.searchsorted(colors, painted).clip(max=len(colors) - 1)
        strange = colors[position] != painted
        if strange.any() and not self.unlisted:
            others, counts = np.unique(painted[strange], return_counts=True)
            more = f" and {len(others) - 1} more such colors" if len(others) > 1 else ""
            raise SourceError(
                f"{origin} holds the color #{int(others[counts.argmax()]):06x} ({counts.max()} pixels){more}, which "
                f"{self.table.origin} does not list. Expected only listed colors; add it, export the mask anew if its "
                "edges were smoothed or it was once a JPEG, or say ?unlisted=unlabeled."
            )
        values = np.array([known[color] for color in colors.tolist()], dtype=np.int32)
        return np.where(strange, np.int32(UNLISTED), values[position])

    def _by_value(self, stored: Stored, origin: str) -> PixelValues:
        """Read values; a mask in color without blue is ambiguous (R + 256 * G or class colors), which is an error."""
        values = plain_values(stored, origin)
        if stored.pixels.ndim == 3 and self.read is None and max(self.table.names) < 256 and not _is_gray(stored):
            red, green = stored.pixels[stored.pixels[..., :2].any(axis=-1)][0, :2].tolist()
            raise SourceError(
                f"{origin} is in color, e.g. (red {red}, green {green}, blue 0): classes painted in colors, or values "
                f"written as R + 256 * G, although {self.table.origin} names no value above 255. Expected a gray or "
                "indexed mask; say ?read=value if it is R + 256 * G, ?colors=voc if these are the colors of Pascal "
                "VOC, or name colors in the table (a column color such as #800000, or columns r,g,b)."
            )
        return values


def _value(text: str, path: Path) -> int:
    number = whole_number(text)
    if number is None or number > LARGEST:
        raise SourceError(
            f"{path} holds the value {text[:80]!r}. Expected a whole number from 0 to {LARGEST}, the value of a pixel."
        )
    return number


def _color(row: Mapping[str, str], path: Path) -> int | None:
    """Return the color of a row; None if it has none."""
    columns = next((three for three in RGB_COLUMNS if all(name in row for name in three)), ("color",))
    text = " ".join(row.get(name, "").strip() for name in columns).strip()
    if not text:
        return None
    if code := HEX.fullmatch(text):
        return int(code[1], 16)
    if (three := THREE.fullmatch(text)) and max(channels := [int(part) for part in three.groups()]) < 256:
        return channels[0] << 16 | channels[1] << 8 | channels[2]
    raise SourceError(f"{path} holds the color {text!r}. Expected e.g. #800000, or red, green and blue from 0 to 255.")


def _read_rows(path: Path) -> list[dict[str, str]]:
    rows = read_table(path, (), "a table with the columns value,name that names the values of the masks", whole=True)
    header = set(rows[0]) if rows else {"value", "name"}
    colored = "color" in header or any(header.issuperset(three) for three in RGB_COLUMNS)
    needed = ("name",) if colored else ("value", "name")
    if missing := [column for column in needed if column not in header]:
        raise SourceError(
            f"{path} lacks the column {missing[-1]!r}; its header is {','.join(rows[0])!r}. Expected value,name, and "
            "for masks in colors also color or r,g,b."
        )
    return rows


def _read_labelmap(path: Path) -> list[dict[str, str]]:
    rows = []
    for number, line in enumerate(read_text(path, "CVAT's table of colors").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, *rest = line.split(":")
        if not rest or not rest[0].strip():
            raise SourceError(
                f"{path}, line {number}: {line[:80]!r} gives no color. Expected e.g. 'person:192,128,128::'."
            )
        rows.append({"name": "" if name.strip() == "background" else name, "color": rest[0]})
    return rows


def _painted(stored: Stored) -> npt.NDArray[np.int64] | None:
    """Return the color of each pixel, int64 (H, W) as in `ClassTable.colors`; None if the colors are not of 8 bits."""
    pixels = stored.pixels
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype != np.uint8:
        return None
    if stored.palette is not None:
        pixels = _full_palette(stored.palette)[pixels]
    return _codes(pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, axis=2))


def _full_palette(palette: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a palette of 256 colors, filled up with black."""
    return np.append(palette, np.zeros((256 - len(palette), 3), np.uint8), axis=0)


def _codes(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return red * 65536 + green * 256 + blue of colors (..., 3 or 4)."""
    wide = colors.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _is_gray(stored: Stored) -> bool:
    """Return whether the three channels of a mask in color are equal."""
    red, green, blue = (stored.pixels[..., channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(green, blue)
