"""Make one vocabulary of the names that several sources use.

    raw names -> normalize_name -> Census (images and pixels of each name) -> Vocabulary (numbers)

Two raw names are one concept when their normalized spelling is the same. A name that stands in two
categories is one number with two categories, as in the published Broden.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from netdissect.errors import ConceptsError

SUFFIXES = {"scene": "-s", "color": "-c"}
CATEGORY_ORDER = ("color", "object", "part", "material", "scene", "texture")
LARGEST_NUMBER = 256 * 256 - 1


def normalize_name(raw: str, category: str) -> str:
    """Spell a raw concept name as the data set does.

    Lower case, accents composed, and runs of blanks and underscores as one space; in scene names as one
    underscore. Scene names end in ``-s`` and color names in ``-c``, as published. An empty name stays empty.

    Examples
    --------
    >>> normalize_name(" Traffic_Light", "object")
    'traffic light'
    >>> normalize_name("living room", "scene")
    'living_room-s'
    """
    words = unicodedata.normalize("NFC", raw).lower().replace("_", " ").split()
    if not words:
        return ""
    name = ("_" if category == "scene" else " ").join(words)
    suffix = SUFFIXES.get(category, "")
    return name if name.endswith(suffix) else name + suffix


@dataclass(slots=True)
class Count:
    """How many images carry a name in one category, and on how many label-map pixels."""

    images: int = 0
    pixels: int = 0


@dataclass(slots=True)
class Census:
    """How often each name stands in each category: the sum over images of `add`."""

    counts: dict[str, dict[str, Count]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, pixels: Mapping[str, Mapping[str, int]]) -> None:
        """Count one image: the pixels that bear each name, by category; a pixel counts once for a name."""
        for category, names in pixels.items():
            for name, bearing in names.items():
                count = self.counts[name].setdefault(category, Count())
                count.images += 1
                count.pixels += bearing


@dataclass(frozen=True, slots=True)
class Entry:
    """One numbered name: a row of ``label.csv``."""

    number: int
    name: str
    counts: Mapping[str, Count]

    @property
    def total(self) -> Count:
        """Sum over its categories, as ``label.csv`` states it."""
        return Count(sum(c.images for c in self.counts.values()), sum(c.pixels for c in self.counts.values()))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All names of a data set by rising number.

    Attributes
    ----------
    entries
        Numbered from 1 by falling frequency, then falling coverage, then name.
    categories
        Those that any name stands in: the published six in their order, then others by name.
    """

    entries: tuple[Entry, ...]
    categories: tuple[str, ...]

    @classmethod
    def number(cls, census: Census) -> "Vocabulary":
        """Give each name of `census` its number.

        Raises
        ------
        ConceptsError
            If there is no name, or there are more than a label map can hold.
        """
        names = sorted(census.counts, key=lambda name: _rank(name, census.counts[name]))
        if not names:
            raise ConceptsError(
                "no pixel and no picture carries any label, so there is nothing to write. Expected at least one "
                "labeled picture; check the classes and masks of the sources."
            )
        if len(names) > LARGEST_NUMBER:
            raise ConceptsError(
                f"the sources name {len(names)} concepts, but a label map holds at most {LARGEST_NUMBER}. Merge or "
                "leave out names."
            )
        entries = tuple(Entry(n, name, census.counts[name]) for n, name in enumerate(names, start=1))
        found = {category for entry in entries for category in entry.counts}
        known = [category for category in CATEGORY_ORDER if category in found]
        return cls(entries, (*known, *sorted(found - set(known))))

    def numbers(self) -> dict[str, int]:
        """Return the number of each name."""
        return {entry.name: entry.number for entry in self.entries}


def _rank(name: str, counts: Mapping[str, Count]) -> tuple[int, int, str]:
    total = Entry(0, name, counts).total
    return -total.images, -total.pixels, name
