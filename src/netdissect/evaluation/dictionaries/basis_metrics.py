"""The list of metrics of bases: a new one is one entry, one number in `measure`, and one test.

BasisMetric -> a column of the tables of `netdissect evaluate-bases`, of its output and of the documentation
"""

from typing import NamedTuple


class BasisMetric(NamedTuple):
    """A metric of a basis.

    Attributes
    ----------
    name
        Column of the table, float64.
    title
        Name at the head of a column.
    interval
        What its 95 % interval is the bootstrap over: ``images``, ``units``; empty: it has none.
    source
        Who defined it.
    meaning
        Definition in words.
    """

    name: str
    title: str
    interval: str
    source: str
    meaning: str


SAEV, SEMANTICLENS = "Stevens et al. 2025", "Dreyer et al. 2025"

BASIS_METRICS = (
    BasisMetric(
        "nmse", "NMSE", "", SAEV,
        "squared error of the cells that the basis reconstructs, over that of the mean cell; null without an inverse",
    ),
    BasisMetric("l0", "L0", "", SAEV, "mean number of units with a code other than 0 in a cell"),
    BasisMetric("dead_share", "dead", "", SAEV, "share of the units that have the code 0 in all cells"),
    BasisMetric(
        "map", "mAP", "images", SAEV,
        "average precision, on held-out cells, of the unit whose logistic probe has the least loss on the other cells: "
        "mean over concepts",
    ),
    BasisMetric(
        "probe_r", "probe R", "", SAEV,
        "1 - L / P on held-out cells: L is the mean cross-entropy of these probes, P that of the share of each concept",
    ),
    BasisMetric(
        "purity_16", "purity@16", "units", SAEV,
        "largest share of one concept in the 16 held-out cells of the highest codes of a unit: mean over units",
    ),
    BasisMetric(
        "coverage_03", "coverage@0.3", "images", SAEV, "share of the concepts with an average precision of at least 0.3"
    ),
    BasisMetric(
        "monosemanticity", "monosemanticity", "units", "Pach et al. 2025",
        "mean cosine of the embeddings of two images, weighted by the product of the unit's values on them, scaled to "
        "0..1: mean over units",
    ),
    BasisMetric(
        "clarity", "clarity", "units", SEMANTICLENS,
        "mean cosine of the embeddings of two of the 25 images of the highest values of a unit: mean over units",
    ),
    BasisMetric(
        "redundancy", "redundancy", "units", SEMANTICLENS,
        "largest cosine of the mean embedding of these images with that of another unit: mean over units",
    ),
)  # fmt: skip
"""In the order of columns; the last three need embeddings of the images."""
EMBEDDING_METRICS = ("monosemanticity", "clarity", "redundancy")
