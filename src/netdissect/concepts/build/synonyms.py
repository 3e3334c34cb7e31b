"""Decide which raw names are the same concept.

    raw name "Car;auto_mobile" -> split_names -> key "car;auto mobile" -> assign_names -> concept "car"

A raw name may list synonyms, the dominant one first. Names are assigned to labels in order of frequency, and a name
belongs to the first label that lists it, so that a rare sense of a word does not take it from the common one.

Source: the rule of the published Broden, Bau et al. 2017 :cite:p:`bau2017network`, section 2.1.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key")

SUFFIXES = {"scene": "-s", "color": "-c"}
SIDES = ("left", "right")

NOT_MERGED = frozenset(
    {
        "bill",  # a notice, a banknote, a beak: listed under poster
        "can",  # a tin and, in slang, a toilet: listed under both
        "card",  # listed under poster
        "dog",  # an animal and a firedog: listed under andiron
        "machine",  # any machine: listed under car
        "material",  # any material: listed under fabric
        "paper",  # the material and the sheet: listed under newspaper
        "plane",  # an airplane, a tool, a surface
        "plug",  # of a socket and of a basin: listed under fireplug
        "pot",  # for cooking and for plants: listed under toilet
        "press",  # a cupboard, a machine, the newspapers: listed under wardrobe
        "stool",  # a seat: listed under toilet
        "throne",  # a seat: listed under toilet
        "wheel",  # of any vehicle: listed under bicycle
    }
)
"""Words that lexicons list as synonyms in a rare sense. They are ignored as synonyms and kept as dominant names."""


def normalize_name(raw: str, category: str) -> str:
    """Normalize the spelling of a raw concept name.

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


def split_names(raw: str, category: str) -> tuple[str, ...]:
    """Return the normalized synonyms of a raw name, each once, the dominant one first.

    Examples
    --------
    >>> split_names("Car; auto;AUTO;", "object")
    ('car', 'auto')
    """
    names = (normalize_name(part, category) for part in raw.split(";"))
    return tuple(dict.fromkeys(name for name in names if name))


def keep_apart(raws: Iterable[str]) -> dict[str, str]:
    """Remove from the raw names of one table every synonym that is the dominant name of another one.

    The classes of a table are distinct: ``screen door;screen`` must not be merged with ``screen``, nor ``bag;handbag``
    with a ``bag`` that has no other name.

    Returns
    -------
    dict of str to str
        The raw name that is left, by raw name.

    Examples
    --------
    >>> keep_apart(["screen door;screen", "Screen;silver screen", "car;auto"])
    {'screen door;screen': 'screen door', 'Screen;silver screen': 'Screen;silver screen', 'car;auto': 'car;auto'}
    >>> keep_apart(["bag;handbag", "bag"])
    {'bag;handbag': 'handbag', 'bag': 'bag'}
    """
    parts = {raw: [part for part in raw.split(";") if part.strip()] for raw in raws}
    dominant = {normalize_name(names[0], "") for names in parts.values() if names}
    left = {
        raw: [*names[:1], *(name for name in names[1:] if normalize_name(name, "") not in dominant)]
        for raw, names in parts.items()
    }
    alone = {normalize_name(names[0], "") for names in left.values() if len(names) == 1}
    return {
        raw: ";".join(names[1:] if len(names) > 1 and normalize_name(names[0], "") in alone else names)
        for raw, names in left.items()
    }


def named_apart(names: Mapping[Key, str]) -> dict[Key, str]:
    """Return a table of raw names by value after `keep_apart`."""
    apart = keep_apart(names.values())
    return {value: apart[name] for value, name in names.items()}


def fold_variant(name: str) -> str:
    """Return a form that variants of one name share: singular, without spaces, without a leading left or right.

    Examples
    --------
    >>> [fold_variant(name) for name in ("shelves", "shelf", "left arm", "fire place", "glass", "bus")]
    ['shelf', 'shelf', 'arm', 'fireplace', 'glass', 'bus']
    """
    if name.endswith(tuple(SUFFIXES.values())):
        return name
    words = name.split()
    if len(words) > 1 and words[0] in SIDES:
        words = words[1:]
    return singular("".join(words))


def singular(word: str) -> str:
    """Return the singular of an English word.

    >>> [singular(word) for word in ("boxes", "berries", "bus")]
    ['box', 'berry', 'bus']
    """
    if word.endswith(("ss", "us", "is")) or len(word) < 3 or not word.endswith("s"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("lves"):
        return word[:-3] + "f"
    if word.endswith(("ches", "shes", "sses", "xes", "uses")):
        return word[:-2]
    return word[:-1]


@dataclass(frozen=True, slots=True)
class RawLabel:
    """A label of one source, by its raw name.

    Attributes
    ----------
    source
        Name of the source.
    category
        Category of the label in the source.
    key
        Normalized synonyms joined by ``;``, as `split_names` returns them.
    """

    source: str
    category: str
    key: str

    @property
    def names(self) -> tuple[str, ...]:
        """Names that may be assigned to it: the dominant one, and the synonyms that may be merged."""
        first, *others = self.key.split(";")
        return first, *(name for name in others if name not in NOT_MERGED)


@dataclass(frozen=True, slots=True)
class SynonymTable:
    """The concept of each raw label.

    Attributes
    ----------
    concepts
        Name of the concept of each raw label.
    synonyms
        Other names of each concept, by its name, in the order of their assignment.
    """

    concepts: Mapping[RawLabel, str]
    synonyms: Mapping[str, tuple[str, ...]]


def assign_names(ranked: Iterable[RawLabel], *, variants: bool = False) -> SynonymTable:
    """Assign names to raw labels, one label after the other.

    Parameters
    ----------
    ranked
        The labels by falling frequency.
    variants
        Singular and plural, "left arm" and "arm", "fire place" and "fireplace" are one name. They are distinct in the
        published Broden, and merged in later versions of it.

    Notes
    -----
    A label whose dominant name is free becomes a concept of that name. If a label of another source or category has
    the name, both are one concept. If a label of the same source and category has it, the annotators distinguished the
    two: the label becomes a concept with its first free name, or is merged if it has none.

    Examples
    --------
    >>> ranked = [("voc", "bag"), ("ade", "bag"), ("ade", "bag;handbag;purse"), ("own", "purse")]
    >>> list(assign_names(RawLabel(source, "object", key) for source, key in ranked).concepts.values())
    ['bag', 'bag', 'handbag', 'handbag']
    """
    owner: dict[str, str] = {}
    sources: dict[str, set[tuple[str, str]]] = defaultdict(set)
    concepts: dict[RawLabel, str] = {}
    synonyms: dict[str, list[str]] = defaultdict(list)
    for raw in ranked:
        folded = {name: fold_variant(name) if variants else name for name in raw.names}
        free = [name for name, form in folded.items() if form not in owner]
        owner_key = owner.get(folded[raw.names[0]])
        distinguished = owner_key is not None and (raw.source, raw.category) in sources[owner_key]
        concept = free[0] if owner_key is None or (distinguished and free) else owner_key
        for name in free:
            owner.setdefault(folded[name], concept)
        concepts[raw] = concept
        sources[concept].add((raw.source, raw.category))
        known = synonyms[concept]
        known.extend(name for name, form in folded.items() if owner[form] == concept and name not in (concept, *known))
    return SynonymTable(concepts, {concept: tuple(names) for concept, names in synonyms.items()})
