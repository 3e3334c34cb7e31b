"""Examples of the concepts themselves, from the data set that a run was shown."""

from functools import partial

import numpy as np

from netdissect.concepts import ConceptData, Labels
from netdissect.errors import ConceptsError
from netdissect.result import Result
from netdissect.show import addresses
from netdissect.show.gather import Run
from netdissect.show.masks import outline
from netdissect.show.views import Tile
from netdissect.sweep import ahead

WANTED = 8
"""Examples of each concept."""
LOOKED_AT = 3000
"""Images whose labels are read at most: rare concepts of a large data set may stay without examples."""

Found = dict[str, list[Tile]]


def open_data(result: Result) -> ConceptData | None:
    """Open the data set of a run; None where it is not, or no longer, what the run saw."""
    info = result.info
    config = info.config
    try:
        data = ConceptData.open(
            info.data.root, categories=config.categories, split=config.split, limit=config.limit, seed=config.seed
        )
    except (ConceptsError, OSError):
        return None
    return data if len(data) == info.data.images else None


def find_examples(run: Run, data: ConceptData, wanted: int = WANTED, looked_at: int = LOOKED_AT) -> Found:
    """Find pictures of each concept, by name, with the concept's own outline.

    Images are looked at in a drawn order, the same every time, until every concept has enough.

    Parameters
    ----------
    run
        The run that saw the data.
    data
        Its data set.
    wanted
        Examples of each concept.
    looked_at
        Images whose labels are read at most.
    """
    images = dict(run.result.concepts.select("concept", "images").rows())
    short: dict[str, int] = {name: min(wanted, count) for name, count in images.items() if count}
    found: Found = {}
    rows = np.random.default_rng(0).permutation(len(data))[:looked_at].tolist()
    read = partial(_labels, data)
    for row, labels in zip(rows, ahead(read, rows, 2, 16), strict=True):
        if not short:
            break
        if labels is None:
            continue
        for number in _numbers(labels):
            name = data.by_number[number].name
            if short.get(name, 0) > 0:
                tile = Tile(addresses.picture(run.data, row), data.rows[row].image, _mask(labels, number))
                found.setdefault(name, []).append(tile)
                short[name] -= 1
                if not short[name]:
                    del short[name]
    return found


def _labels(data: ConceptData, row: int) -> Labels | None:
    try:
        return data.labels(row)
    except ConceptsError:
        return None


def _numbers(labels: Labels) -> list[int]:
    return [number for number in np.unique(np.append(labels.planes, labels.whole)).tolist() if number]


def _mask(labels: Labels, number: int) -> str:
    """Outline a concept in a picture; a label of the whole picture covers it."""
    if number in labels.whole or not len(labels.planes):
        return outline(np.ones((1, 1)), 0.5)
    return outline((labels.planes == number).any(axis=0), 0.5)


def outlines_of(data: ConceptData, row: int, number: int) -> str:
    """Outline a concept in one picture of a data set; empty where it is not to be read."""
    labels = _labels(data, row)
    return "" if labels is None else _mask(labels, number)
