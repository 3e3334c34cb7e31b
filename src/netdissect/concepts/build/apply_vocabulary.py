"""Replace the raw names of each image by concepts.

    Rendered -> Census of each source -> unify -> names of concepts -> Vocabulary, without rare labels

Frequencies are those of concepts: an image with two names of one concept counts once, and so does a pixel that has
both names in two channels.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from netdissect.concepts.broden_files import read_label_map
from netdissect.concepts.build.rendered import Folders, MapFile, Rendered
from netdissect.concepts.build.synonyms import RawLabel
from netdissect.concepts.build.vocabulary import Census, Limits, Vocabulary, unify
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.labels import Labels, Size

Items = Sequence[MapFile | str]


def consolidate(
    rendered: Sequence[Rendered], folders: Folders, options: WriteOptions
) -> tuple[list[Rendered], Vocabulary]:
    """Find the concepts, and replace the keys of each image by them.

    Returns
    -------
    list of Rendered, Vocabulary
        The same images with names of concepts in place of keys, without the labels that were dropped.

    Raises
    ------
    ConceptsError
        If no label is left, or there are too many.
    """
    sources: dict[str, Census] = defaultdict(Census)
    for one in rendered:
        sources[one.source].add(one.pixels)
    names = unify(sources, variants=options.merge_variants)
    renamed = [_rename(one, names.concepts, folders, options.map_size) for one in rendered]
    census = Census()
    for one in renamed:
        census.add(one.pixels)
    limits = Limits(options.min_images, options.min_coverage * options.map_size**2)
    vocabulary = Vocabulary.from_census(census, names.synonyms, limits)
    if vocabulary.dropped:
        kept = frozenset(vocabulary.label_ids())
        renamed = [_prune(one, kept) for one in renamed]
    return renamed, vocabulary


def _rename(one: Rendered, concepts: Mapping[RawLabel, str], folders: Folders, size: int) -> Rendered:
    items: dict[str, Items] = {}
    pixels: dict[str, Mapping[str, int]] = {}
    for category, counted in one.pixels.items():
        concept = {key: concepts[RawLabel(one.source, category, key)] for key in counted} | {"": ""}
        items[category] = _rename_items(one.items[category], concept)
        if len(items[category]) > 1 and len({concept[key] for key in counted}) < len(counted):
            pixels[category] = _recount(items[category], folders, size)
        else:
            added: dict[str, int] = defaultdict(int)
            for key, area in counted.items():
                added[concept[key]] += area
            pixels[category] = dict(added)
    return replace(one, items=items, pixels=pixels)


def _rename_items(items: Items, concept: Mapping[str, str]) -> Items:
    whole = dict.fromkeys(concept[item] for item in items if isinstance(item, str))
    maps = (MapFile(i.path, tuple(concept[key] for key in i.names)) for i in items if isinstance(i, MapFile))
    return (*whole, *maps)


def _recount(items: Items, folders: Folders, size: int) -> dict[str, int]:
    """Count pixels from the maps: two names of one concept may label the same pixel."""
    maps = [item for item in items if isinstance(item, MapFile)]
    whole = [item for item in items if isinstance(item, str)]
    names = sorted({*whole, *(name for one in maps for name in one.names if name)})
    code = {name: number for number, name in enumerate(names, start=1)} | {"": 0}
    planes = [
        np.array([0, *(code[name] for name in one.names)], dtype=np.int32)[
            read_label_map(folders.drafts / one.path, Size(size, size))
        ]
        for one in maps
    ]
    stack = np.array(planes, dtype=np.int32).reshape(len(planes), size, size)
    once = Labels(stack, np.array([code[name] for name in whole], dtype=np.int32)).deduplicated()
    counts = np.bincount(once.label_channels.ravel(), minlength=len(names) + 1)
    counts[once.image_level] = size * size
    return {name: int(counts[code[name]]) for name in names}


def _prune(one: Rendered, kept: frozenset[str]) -> Rendered:
    items = {category: tuple(_prune_items(carried, kept)) for category, carried in one.items.items()}
    pixels = {
        category: {name: area for name, area in counted.items() if name in kept}
        for category, counted in one.pixels.items()
    }
    return replace(
        one,
        items={category: carried for category, carried in items.items() if carried},
        pixels={category: counted for category, counted in pixels.items() if counted},
    )


def _prune_items(items: Items, kept: frozenset[str]) -> Iterable[MapFile | str]:
    for item in items:
        if isinstance(item, str):
            if item in kept:
                yield item
        elif any(name in kept for name in item.names):
            yield MapFile(item.path, tuple(name if name in kept else "" for name in item.names))
