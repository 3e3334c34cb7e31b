"""Example images of each concept, from the data set of a run."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import numpy as np

from netdissect.activations import prefetch
from netdissect.concepts import ConceptData
from netdissect.plots.example_images import read_labels
from netdissect.plots.overlap import ConceptMask, concept_mask, label_ids
from netdissect.report import urls
from netdissect.report.layer_tables import NumberedRun
from netdissect.report.views.masked_images import MaskedImage

EXAMPLES = 8
"""Examples of each concept."""
MAX_IMAGES_READ = 3000
"""Images whose labels are read: rare concepts of a large data set may have no examples."""

ExamplesByConcept = dict[str, list[MaskedImage]]


def examples_of_runs(
    runs: Sequence[NumberedRun], concepts: Collection[str] | None = None
) -> Mapping[str, tuple[NumberedRun, list[MaskedImage]]]:
    """Find examples of concepts in the data sets of some runs, with the run of each: the first one that has it.

    Parameters
    ----------
    runs
        Those whose data set is missing are left out.
    concepts
        Names of the concepts; None: all.
    """
    first: dict[int, NumberedRun] = {}
    for run in runs:
        first.setdefault(run.data_index, run)
    found: dict[str, tuple[NumberedRun, list[MaskedImage]]] = {}
    for run in first.values():
        examples = {} if run.dataset is None else find_examples(run, run.dataset, concepts)
        found = {name: (run, images) for name, images in examples.items()} | found
    return found


def find_examples(
    run: NumberedRun,
    data: ConceptData,
    concepts: Collection[str] | None = None,
    *,
    count: int = EXAMPLES,
    max_images: int = MAX_IMAGES_READ,
) -> ExamplesByConcept:
    """Find images of each concept, by name, with the outline of the concept.

    Images are read in a random order, the same every time, until every concept has enough.

    Parameters
    ----------
    run
        The run on the data.
    data
        Its data set.
    concepts
        Names of the concepts; None: all.
    count
        Examples of each concept.
    max_images
        Images whose labels are read.
    """
    images = dict(run.result.concepts.select("concept", "images").rows())
    needed: dict[str, int] = {
        name: min(count, total) for name, total in images.items() if total and (concepts is None or name in concepts)
    }
    examples: ExamplesByConcept = {}
    indices = np.random.default_rng(0).permutation(len(data))[:max_images].tolist()
    read = partial(read_labels, data)
    for index, labels in zip(indices, prefetch(read, indices, 2, 16), strict=True):
        if not needed:
            break
        if labels is None:
            continue
        for label_id in label_ids(labels):
            name = data.by_label_id[label_id].name
            if needed.get(name, 0) > 0:
                url, mask = urls.image(run.data_index, index), concept_mask(labels, (label_id,), labels.size)
                example = MaskedImage(
                    url, data.rows[index].image, labels.size, None, ConceptMask.of(mask, mask), label_id
                )
                examples.setdefault(name, []).append(example)
                needed[name] -= 1
                if not needed[name]:
                    del needed[name]
    return examples
