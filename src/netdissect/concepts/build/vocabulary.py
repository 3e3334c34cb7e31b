"""Make one vocabulary, with label ids, of the names of several sources.

    labels of each image -> Census -> rank -> assign_names -> merged counts -> Vocabulary (label ids, dropped labels)

`synonyms.py` decides which raw names are one concept. A name in two categories has one label id and two categories, as
in the published Broden; the reader takes the category of larger coverage as primary.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from netdissect.concepts.build.synonyms import SUFFIXES, RawLabel, SynonymTable, assign_names, normalize_name
from netdissect.errors import ConceptsError

__all__ = [
    "CATEGORY_ORDER",
    "SUFFIXES",
    "Census",
    "LabelCount",
    "Limits",
    "Vocabulary",
    "VocabularyEntry",
    "normalize_name",
    "unify",
]

CATEGORY_ORDER = ("color", "object", "part", "material", "scene", "texture")
LARGEST_NUMBER = 256 * 256 - 1


@dataclass(slots=True)
class LabelCount:
    """Number of images and of label-map pixels with a name."""

    images: int = 0
    pixels: int = 0


@dataclass(slots=True)
class Census:
    """The frequency of each name in each category, summed over images by `add`."""

    counts: dict[str, dict[str, LabelCount]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, pixels: Mapping[str, Mapping[str, int]]) -> None:
        """Count one image: by category, the number of pixels with each name; a pixel counts once for a name."""
        for category, names in pixels.items():
            for name, area in names.items():
                count = self.counts[name].setdefault(category, LabelCount())
                count.images += 1
                count.pixels += area


def unify(sources: Mapping[str, Census], *, variants: bool = False) -> SynonymTable:
    """Decide which raw labels of the sources are one concept.

    Parameters
    ----------
    sources
        The census of each source's keys (`split_names` joined by ``;``), by source.
    variants
        See `assign_names`.

    Notes
    -----
    Labels are ranked by falling number of images, then pixels, then synonyms, then by spelling and source, so that the
    result does not depend on the order of the sources.
    """
    counts = {
        RawLabel(source, category, key): count
        for source, census in sources.items()
        for key, by_category in census.counts.items()
        for category, count in by_category.items()
    }
    ranked = sorted(
        counts,
        key=lambda raw: (
            -counts[raw].images, -counts[raw].pixels, -len(raw.names), raw.key, raw.category, raw.source
        ),
    )  # fmt: skip
    return assign_names(ranked, variants=variants)


@dataclass(frozen=True, slots=True)
class Limits:
    """Lower limits of the frequency of labels; rarer labels are dropped.

    Attributes
    ----------
    images
        Images with the label, summed over its categories.
    pixels
        Label-map pixels with the label, summed likewise.
    """

    images: int = 0
    pixels: float = 0.0

    def keep(self, count: LabelCount) -> bool:
        """Return whether a label of this total is kept."""
        return count.images >= self.images and count.pixels >= self.pixels


@dataclass(frozen=True, slots=True)
class VocabularyEntry:
    """One name with its label id: a row of ``label.csv``."""

    label_id: int
    name: str
    counts: Mapping[str, LabelCount]
    synonyms: tuple[str, ...] = ()

    @property
    def total(self) -> LabelCount:
        """Sum over its categories, as in ``label.csv``."""
        return _total(self.counts)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All names of a data set by rising label id.

    Attributes
    ----------
    entries
        Label ids from 1, by falling frequency, then falling coverage, then name.
    categories
        Categories with at least one name: the published six in their order, then others by name.
    dropped
        Labels below the limits, with the label id 0, in the same order.
    """

    entries: tuple[VocabularyEntry, ...]
    categories: tuple[str, ...]
    dropped: tuple[VocabularyEntry, ...] = ()

    @classmethod
    def from_census(
        cls, census: Census, synonyms: Mapping[str, tuple[str, ...]] | None = None, limits: Limits | None = None
    ) -> "Vocabulary":
        """Assign a label id to each name of `census` that is within `limits`.

        Raises
        ------
        ConceptsError
            If no name is left, or there are more names than a label map can hold.
        """
        limits, synonyms = limits or Limits(), synonyms or {}
        names = sorted(census.counts, key=lambda name: _rank(name, census.counts[name]))
        kept = [name for name in names if limits.keep(_total(census.counts[name]))]
        if not kept:
            raise ConceptsError(_nothing_left(len(names)))
        if len(kept) > LARGEST_NUMBER:
            raise ConceptsError(
                f"the sources name {len(kept)} concepts, but a label map holds at most {LARGEST_NUMBER}. Merge or "
                "leave out names."
            )
        entries = tuple(
            VocabularyEntry(n, name, census.counts[name], synonyms.get(name, ())) for n, name in enumerate(kept, 1)
        )
        staying = set(kept)
        dropped = tuple(VocabularyEntry(0, name, census.counts[name]) for name in names if name not in staying)
        found = {category for entry in entries for category in entry.counts}
        known = [category for category in CATEGORY_ORDER if category in found]
        return cls(entries, (*known, *sorted(found - set(known))), dropped)

    def label_ids(self) -> dict[str, int]:
        """Return the label id of each name."""
        return {entry.name: entry.label_id for entry in self.entries}


def _total(counts: Mapping[str, LabelCount]) -> LabelCount:
    return LabelCount(sum(c.images for c in counts.values()), sum(c.pixels for c in counts.values()))


def _rank(name: str, counts: Mapping[str, LabelCount]) -> tuple[int, int, str]:
    total = _total(counts)
    return -total.images, -total.pixels, name


def _nothing_left(names: int) -> str:
    if names:
        return (
            f"all {names} labels are below the limits (min_images, min_coverage), so there is nothing to write. "
            "Expected at least one label that is frequent enough; lower the limits or add images."
        )
    return (
        "no pixel and no image carries any label, so there is nothing to write. Expected at least one "
        "labeled image; check the classes and masks of the sources."
    )
