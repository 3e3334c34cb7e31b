"""Draw a contact sheet: images of a data set with their label maps in color, and a legend of the colors."""

import colorsys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from netdissect.concepts.colors import COLOR_NAMES
from netdissect.concepts.dataset import ConceptData
from netdissect.concepts.image_io import read_as_stored
from netdissect.concepts.labels import Concept, LabelIds
from netdissect.errors import ConceptsError
from netdissect.paths import contained

Rgb = tuple[int, int, int]

TILE = 184
GAP = 8
MARGIN = 14
LINE = 17
LEGEND_ROWS = 6
TILES_ACROSS = 8
HEAD = 48
PAPER: Rgb = (250, 250, 248)
CARD: Rgb = (255, 255, 255)
EDGE: Rgb = (222, 222, 218)
INK: Rgb = (34, 34, 40)
FAINT: Rgb = (128, 128, 136)
UNLABELED: Rgb = (236, 236, 232)

SHADES = ((0.52, 0.75), (0.72, 0.70), (0.36, 0.65), (0.60, 0.40), (0.82, 0.80))

SWATCHES: dict[str, Rgb] = {
    "black": (16, 16, 16),
    "blue": (40, 90, 220),
    "brown": (121, 77, 38),
    "grey": (140, 140, 140),
    "green": (52, 152, 62),
    "orange": (245, 140, 30),
    "pink": (250, 150, 190),
    "purple": (128, 54, 160),
    "red": (214, 36, 36),
    "white": (255, 255, 255),
    "yellow": (250, 220, 50),
}


@dataclass(frozen=True, slots=True)
class Panel:
    """One label map in color, with a title and a legend of its concepts by falling area."""

    title: str
    tile: Image.Image
    legend: tuple[tuple[Rgb, str], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """One image of the sheet with its labels of the whole image and its panels."""

    name: str
    image: Image.Image
    image_level: tuple[str, ...]
    panels: tuple[Panel, ...]

    @property
    def tiles(self) -> int:
        """Number of tiles side by side."""
        return 1 + len(self.panels)


def contact_sheet(root: str | Path, *, seed: int = 0, images: int = 12) -> Image.Image:
    """Draw some images of a data set with their labels.

    Parameters
    ----------
    root
        Folder in Broden's layout.
    seed
        Seed of the draw.
    images
        Number of images, drawn from the categories in turn so that all categories are shown.

    Returns
    -------
    PIL.Image.Image
        RGB; its size depends on the number of label maps.

    Raises
    ------
    ConceptsError
        If the data set cannot be opened. An image that cannot be read is left out; `inspect_dataset` lists it.
    """
    data = ConceptData.open(root)
    parts = _open_parts(data)
    cards: list[Card] = []
    for image in _draw_images(parts, seed):
        if len(cards) == images:
            break
        try:
            cards.append(_make_card(image, parts))
        except ConceptsError:
            continue
    if not cards:
        raise ConceptsError(
            f"not one image of {data.root} can be read with its labels. Run 'netdissect concepts inspect' to see why."
        )
    counts = f"{len(data):,} images, {len(data.concepts):,} concepts in {', '.join(data.categories)}"
    return _lay_out(cards, data.root.resolve().name, counts)


def concept_color(number: int, name: str) -> Rgb:
    """Return the color of a concept in the label maps; concepts of basic colors have that color."""
    if name.removesuffix("-c") in COLOR_NAMES and name.endswith("-c"):
        return SWATCHES[name.removesuffix("-c")]
    # Steps of the golden ratio keep any few hues apart; numbers 8, 13, 21 or 34 apart have near hues but other shades.
    hue = number * 0.618033988749895 % 1.0
    lightness, saturation = SHADES[number % len(SHADES)]
    red, green, blue = (round(255 * channel) for channel in colorsys.hls_to_rgb(hue, lightness, saturation))
    return red, green, blue


@dataclass(frozen=True)
class _OpenedPart:
    """One category of the data set, and the index of each of its images."""

    data: ConceptData
    image_index: dict[str, int]


def _open_parts(data: ConceptData) -> dict[str, _OpenedPart]:
    """Open each category alone, so that the label maps of a row are those of one category."""
    parts = {}
    for category in data.categories:
        try:
            part = ConceptData.open(data.root, categories=[category])
        except ConceptsError:  # no image has a label of it
            continue
        parts[category] = _OpenedPart(part, {row.image: index for index, row in enumerate(part.rows)})
    return parts


def _draw_images(parts: dict[str, _OpenedPart], seed: int) -> Iterator[str]:
    """Yield every image once, in random order, from the categories in turn, beginning with the rarest."""
    rng = np.random.default_rng(seed)
    queues = [list(part.image_index) for part in parts.values()]
    for queue in queues:
        rng.shuffle(queue)
    queues.sort(key=len, reverse=True)
    drawn: set[str] = set()
    while any(queues):
        for queue in reversed(queues):
            while queue and queue[-1] in drawn:
                queue.pop()
            if queue:
                drawn.add(queue[-1])
                yield queue.pop()


def _make_card(image: str, parts: dict[str, _OpenedPart]) -> Card:
    image_level: list[str] = []
    panels: list[Panel] = []
    for category, part in parts.items():
        if image not in part.image_index:
            continue
        labels = part.data.labels(part.image_index[image])
        names = [part.data.by_label_id[int(number)].name for number in labels.image_level]
        image_level.extend(f"{category}: {name}" for name in names)
        if len(labels.label_channels):
            panels.append(_make_panel(category, labels.label_channels, part.data.by_label_id))
    root = next(iter(parts.values())).data.root
    path = contained(root / "images", image, root / "index.csv")
    # The map of colors is the least informative and comes last.
    panels.sort(key=lambda panel: panel.title == "color")
    return Card(image, _fit(read_as_stored(path)[0], Image.Resampling.BICUBIC), tuple(image_level), tuple(panels))


def _make_panel(category: str, planes: LabelIds, concepts: dict[int, Concept]) -> Panel:
    top = np.zeros(planes.shape[1:], dtype=np.int32)
    for plane in planes:  # a later channel lies on an earlier one: parts of parts on parts
        top[plane > 0] = plane[plane > 0]
    colored = np.empty((*top.shape, 3), dtype=np.uint8)
    colored[:] = UNLABELED
    numbers, pixels = np.unique(top[top > 0], return_counts=True)
    legend = []
    for number in numbers[np.argsort(-pixels, kind="stable")].tolist():
        concept = concepts[number]
        color = concept_color(number, concept.name)
        colored[top == number] = color
        legend.append((color, concept.name))
    tile = _fit(Image.fromarray(colored), Image.Resampling.NEAREST)
    title = category if len(planes) == 1 else f"{category} ({len(planes)} channels)"
    return Panel(title, tile, tuple(legend))


def _fit(image: Image.Image, filter_: Image.Resampling) -> Image.Image:
    """Resize an image to a square tile, with its aspect ratio kept."""
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile = Image.new("RGB", (TILE, TILE), CARD)
    tile.paste(image.resize(size, filter_), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile


def _lay_out(cards: Sequence[Card], title: str, counts: str) -> Image.Image:
    lines: list[list[Card]] = [[]]
    for card in cards:
        if lines[-1] and sum(other.tiles for other in lines[-1]) + card.tiles > TILES_ACROSS:
            lines.append([])
        lines[-1].append(card)
    heights = [max(_height(card) for card in line) for line in lines]
    width = max(sum(_width(card) + MARGIN for card in line) for line in lines) + MARGIN
    sheet = Image.new("RGB", (max(width, 560), HEAD + sum(height + MARGIN for height in heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 12), title, fill=INK, font=_font(20))
    draw.text((MARGIN + draw.textlength(title, font=_font(20)) + 14, 18), counts, fill=FAINT, font=_font(13))
    y = HEAD
    for line, height in zip(lines, heights, strict=True):
        x = MARGIN
        for card in line:
            _draw_card(sheet, card, x, y, height)
            x += _width(card) + MARGIN
        y += height + MARGIN
    return sheet


def _width(card: Card) -> int:
    return card.tiles * (TILE + GAP) + GAP


def _height(card: Card) -> int:
    rows = max(len(card.image_level), *(min(len(panel.legend), LEGEND_ROWS) for panel in card.panels), 0)
    return GAP + LINE + TILE + GAP + rows * LINE + GAP


def _draw_card(sheet: Image.Image, card: Card, x: int, y: int, height: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((x, y, x + _width(card) - 1, y + height - 1), fill=CARD, outline=EDGE)
    left, top = x + GAP, y + GAP
    _write(draw, (left, top), card.name, TILE, FAINT)
    sheet.paste(card.image, (left, top + LINE))
    below = top + LINE + TILE + GAP
    for number, text in enumerate(card.image_level):
        _write(draw, (left, below + number * LINE), text, TILE, INK)
    for panel in card.panels:
        left += TILE + GAP
        _write(draw, (left, top), panel.title, TILE, FAINT)
        sheet.paste(panel.tile, (left, top + LINE))
        _draw_legend(draw, panel, left, below)


def _draw_legend(draw: ImageDraw.ImageDraw, panel: Panel, x: int, y: int) -> None:
    shown = panel.legend if len(panel.legend) <= LEGEND_ROWS else panel.legend[: LEGEND_ROWS - 1]
    for number, (color, name) in enumerate(shown):
        top = y + number * LINE
        draw.rectangle((x, top + 2, x + 11, top + 13), fill=color, outline=EDGE)
        _write(draw, (x + 18, top), name, TILE - 18, INK)
    if more := len(panel.legend) - len(shown):
        _write(draw, (x + 18, y + len(shown) * LINE), f"and {more} more", TILE - 18, FAINT)


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, fill: Rgb) -> None:
    font = _font(12)
    if draw.textlength(text, font=font) > width:
        while text and draw.textlength(f"{text}...", font=font) > width:
            text = text[:-1]
        text += "..."
    draw.text(place, text, fill=fill, font=font)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
