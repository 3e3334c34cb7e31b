"""Examples of the concepts themselves, from the data set that a run was shown."""

from functools import partial

import numpy as np

from netdissect.activations import prefetch
from netdissect.concepts import ConceptData
from netdissect.report import urls
from netdissect.report.label_outlines import concept_outline, present, read_labels
from netdissect.report.layer_tables import NumberedRun
from netdissect.report.views import Tile

WANTED = 8
"""Examples of each concept."""
LOOKED_AT = 3000
"""Images whose labels are read at most: rare concepts of a large data set may stay without examples."""

Found = dict[str, list[Tile]]


def find_examples(run: NumberedRun, data: ConceptData, wanted: int = WANTED, looked_at: int = LOOKED_AT) -> Found:
    """Find images of each concept, by name, with the concept's own outline.

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
    read = partial(read_labels, data)
    for row, labels in zip(rows, prefetch(read, rows, 2, 16), strict=True):
        if not short:
            break
        if labels is None:
            continue
        for number in present(labels):
            name = data.by_number[number].name
            if short.get(name, 0) > 0:
                tile = Tile(urls.image(run.data, row), data.rows[row].image, concept_outline(labels, number))
                found.setdefault(name, []).append(tile)
                short[name] -= 1
                if not short[name]:
                    del short[name]
    return found
