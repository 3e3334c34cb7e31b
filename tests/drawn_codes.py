"""Codes of cells that a few concepts drive, for tests of the metrics of bases."""

import numpy as np
import scipy.sparse

from netdissect.evaluation.dictionaries.code_matrix import CellConcepts

IMAGES, CELLS = 30, 12
CATEGORY_OF = np.array([0, 0, 1, 1, 1])


def drawn_concepts(seed=0):
    """Concepts of the cells of thirty images; the last has none, and some images lack a category."""
    rng = np.random.default_rng(seed)
    cells = IMAGES * CELLS
    image_index = np.repeat(np.arange(IMAGES) * 3, CELLS)
    present = rng.random((cells, len(CATEGORY_OF))) < [0.2, 0.05, 0.4, 0.1, 0.0]
    annotated = np.repeat(rng.random((IMAGES, 2)) < 0.8, CELLS, axis=0)
    present &= annotated[:, CATEGORY_OF]
    held_out = np.repeat(rng.random(IMAGES) < 0.5, CELLS)
    return CellConcepts(image_index, scipy.sparse.csr_array(present), CATEGORY_OF, annotated, held_out)


def drawn_codes(concepts, sparse, units=9, seed=1):
    """Codes of which some follow a concept; unit 4 is dead, and unit 5 has one code above 0."""
    rng = np.random.default_rng(seed)
    present = concepts.concepts.toarray()
    codes = rng.normal(size=(len(present), units)).astype(np.float32)
    codes[:, 0] += 2.5 * present[:, 0]
    codes[:, 1] -= 3 * present[:, 2]
    codes[:, 2] = 5 * codes[:, 2] + 200 * present[:, 1]
    codes[:, 3] = np.round(codes[:, 3])
    if sparse:
        codes = np.maximum(codes - 0.7, 0) * [1e-3, 1, 1, 50, 1, 1, 1, 1, 1]
    codes[:, 4] = 0
    codes[:, 5] = 0
    codes[7, 5] = 2.0
    codes = codes.astype(np.float32)
    return scipy.sparse.csc_array(codes) if sparse else np.asfortranarray(codes)
