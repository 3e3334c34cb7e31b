"""Vectors of all concepts of a layer in one pass, from sums and second moments of its cells.

    codes, concepts of the selection half -> ConceptMoments -> fast_cav, lda, ridge: float64 (C, K)

The score of a cell is its product with the vector of the concept.

Sources: FastCAV, Schmalwasser et al. 2025 :cite:p:`schmalwasser2025fastcav` (the mean of the cells with the concept
less that of all cells); linear discriminant analysis, Fisher 1936 :cite:p:`fisher1936use`; ridge regression of the
concept on the units. The covariance within classes and that of all cells differ by a multiple of the product of the
difference of the means with itself, so the discriminant has the direction of a regression (Sherman and Morrison): the
two differ in what is added to the variances.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from netdissect.evaluation.dictionaries.code_matrix import CellConcepts, CodeMatrix, select_cells
from netdissect.evaluation.dictionaries.logistic_probes import concept_sums

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LDA_SHRINKAGE = 1e-4
RIDGE_PENALTY = 0.1
"""What is added to each variance, as a share of their mean."""


@dataclass(frozen=True)
class ConceptMoments:
    """Sums over the cells that count for concepts, of K units, C concepts and G categories.

    Attributes
    ----------
    positives, totals
        int64 (C,) and (G,): cells with the concept, and cells of images annotated in the category.
    sums
        float64 (C, K): of the cells with the concept.
    category_sums, products
        float64 (G, K) and (G, K, K): sums of cells, and of the products of two units, over those of the category.
    category_of
        int64 (C,).
    """

    positives: Ints
    totals: Ints
    sums: Floats
    category_sums: Floats
    products: Floats
    category_of: Ints

    @classmethod
    def of(cls, codes: CodeMatrix, labels: CellConcepts) -> Self:
        """Sum over cells: codes float32 (N, K), and their concepts."""
        totals, sums, products = [], [], []
        for category in range(labels.annotated.shape[1]):
            cells = select_cells(codes, labels.annotated[:, category]).astype(np.float64)
            product = cells.T @ cells
            totals.append(cells.shape[0])
            sums.append(np.asarray(cells.sum(axis=0)))
            products.append(product if isinstance(product, np.ndarray) else product.toarray())
        of_concepts = concept_sums(codes, labels).T
        return cls(
            labels.positives, np.array(totals), of_concepts, np.array(sums), np.array(products), labels.category_of
        )

    def means(self, concept: int) -> tuple[Floats, Floats]:
        """Return the mean of the cells with a concept, and of all that count for it, float64 (K,) each."""
        category = self.category_of[concept]
        return self.sums[concept] / self.positives[concept], self.category_sums[category] / self.totals[category]

    def covariance(self, category: int) -> Floats:
        """Return the covariance of the cells of a category, float64 (K, K)."""
        mean = self.category_sums[category] / self.totals[category]
        return np.asarray(self.products[category] / self.totals[category] - np.outer(mean, mean))


def fast_cav(moments: ConceptMoments, concepts: Ints) -> Floats:
    """Return the mean of the cells with each concept less that of all cells, float64 (n, K)."""
    return np.array([np.subtract(*moments.means(concept)) for concept in concepts.tolist()])


def lda(moments: ConceptMoments, concepts: Ints) -> Floats:
    """Return the direction of linear discriminant analysis for each concept, float64 (n, K)."""
    return _solved(moments, concepts, LDA_SHRINKAGE)


def ridge(moments: ConceptMoments, concepts: Ints) -> Floats:
    """Return the direction of a ridge regression of each concept, 0 or 1, on the units, float64 (n, K)."""
    return _solved(moments, concepts, RIDGE_PENALTY)


def _solved(moments: ConceptMoments, concepts: Ints, added: float) -> Floats:
    vectors, differences = np.empty((len(concepts), moments.sums.shape[1])), fast_cav(moments, concepts)
    for category in np.unique(moments.category_of[concepts]).tolist():
        covariance = moments.covariance(category)
        variance = float(np.trace(covariance)) / len(covariance)
        covariance += added * (variance if variance > 0 else 1.0) * np.eye(len(covariance))
        chosen = moments.category_of[concepts] == category
        vectors[chosen] = np.linalg.solve(covariance, differences[chosen].T).T
    return vectors
