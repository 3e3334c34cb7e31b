"""Definitions of the terms on the pages: one table, from which every page and the list of terms are made.

A template writes ``{{ term("iou", "IoU") }}``; the word then opens its definition by hover, focus and tap.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """A term.

    Attributes
    ----------
    title
        The term as a heading.
    definition
        One or two sentences.
    docs
        Page of the documentation, without its suffix, and the anchor of the section that explains the term.
    """

    title: str
    definition: str
    docs: str


_METHOD = "explanation/method#one-unit-and-one-concept"
_RULES = "explanation/method#two-rules-for-counting"
_NULL = "explanation/permutation-test#the-null-hypothesis"
_QVALUE = "explanation/permutation-test#p-values-and-false-discoveries"

TERMS: dict[str, Term] = {
    "activation-range": Term(
        "activation range",
        "A unit's images ranked by its largest activation on each of them, from the top down to the median. Where they "
        "change in kind, the unit responds to more than its label.",
        "explanation/units-beyond-their-top-images#images-over-the-activation-range",
    ),
    "active": Term("active", "A unit is active where its activation exceeds its threshold.", _METHOD),
    "attainable": Term(
        "attainable IoU",
        "The largest IoU that any unit can reach with a concept. A mask covers a fixed share of all pixels, so it "
        "cannot match a much larger or smaller concept well.",
        "explanation/method#attainable-iou",
    ),
    "average-precision": Term(
        "average precision",
        "Of a concept on held-out cells, ranked by a unit: that of the unit whose logistic probe has the least loss on "
        "the other cells. A unit shows the highest one of the concepts whose best unit it is.",
        "howto/compare-bases#what-is-measured",
    ),
    "clarity": Term(
        "clarity",
        "The mean cosine of the embeddings of two of the 25 images of the highest values of a unit: 1 where they are "
        "alike.",
        "howto/compare-bases#what-is-measured",
    ),
    "dead": Term(
        "dead unit",
        "A unit with no activation above its threshold: constant, saturated at its largest value, or never "
        "active. Its mask is empty, and it is no detector.",
        _METHOD,
    ),
    "detector": Term("detector", "A unit whose IoU with its concept reaches the limit, 0.04 by default.", _RULES),
    "fdr-limit": Term(
        "FDR limit",
        "The smallest IoU at which at most one in twenty detectors is expected under the permutation null.",
        "explanation/permutation-test#iou-threshold-at-a-false-discovery-rate-of-5",
    ),
    "false-positive": Term(
        "false positive",
        "An image on which the unit is active and its mask contains no pixel of the concept, although the "
        "category of the concept is annotated.",
        _METHOD,
    ),
    "false-negative": Term(
        "false negative", "An image that contains the concept, on none of whose pixels the unit is active.", _METHOD
    ),
    "held-out": Term(
        "held-out IoU",
        "The IoU of a label on images that were not used to choose it. The IoU of a chosen label is too high, "
        "because it is the best of many.",
        "explanation/uncertainty#held-out-iou",
    ),
    "information-quality": Term(
        "information quality ratio",
        "The mutual information of mask and label over their joint entropy: 0 where they are independent, 1 where each "
        "determines the other. Of all labels and of thresholds from 0.1 % to 50 % of a unit's activations.",
        "explanation/metrics#information-quality-ratio",
    ),
    "interval": Term(
        "95 % interval",
        "The range that would contain the value for 95 of 100 samples of images: by the jackknife for an IoU, by "
        "the bootstrap for a count. The interval of a count corrects its bias and can lie below it.",
        "explanation/uncertainty#confidence-interval-of-an-iou",
    ),
    "iou": Term(
        "IoU",
        "Intersection over union: the pixels on which the unit is active and the concept is labeled, divided by "
        "those on which either holds, over all images. 0 is no overlap, 1 the same pixels.",
        _METHOD,
    ),
    "label": Term("label", "The label of a unit is the concept with the highest IoU.", _METHOD),
    "linear-explanation": Term(
        "linear explanation",
        "The mean activation of a unit on an image as a weighted sum of the shares of pixels of at most ten concepts.",
        "explanation/metrics#linear-explanations",
    ),
    "monosemanticity": Term(
        "monosemanticity",
        "The mean cosine of the embeddings of two images, weighted by the product of the values of a unit on them: "
        "high where the images on which it is active are alike.",
        "howto/compare-bases#what-is-measured",
    ),
    "standardized-weight": Term(
        "standardized weight",
        "By how many of its standard deviations the mean activation changes with one standard deviation of the share "
        "of the concept, on the selection half. Comparable between concepts of large and of small shares.",
        "explanation/metrics#linear-explanations",
    ),
    "null": Term(
        "permutation null",
        "What units that ignore the labels would give: the masks are scored with the labels of other images, many "
        "times. The null is the mean over these permutations, with its standard error.",
        _NULL,
    ),
    "per-category": Term(
        "per-category",
        "A rule for counting: a unit counts once in every category in which the IoU of its best concept is above "
        "the limit.",
        _RULES,
    ),
    "pixel-share": Term(
        "pixel share",
        "The pixels of a concept as a share of those of the images in which its category is annotated.",
        "explanation/method#attainable-iou",
    ),
    "q-value": Term(
        "q-value",
        "The p-value of the permutation test, corrected for the number of units of the layer: of all units with a "
        "q-value of at most 0.05, about 5 % are expected to ignore the labels.",
        _QVALUE,
    ),
    "quantile": Term(
        "quantile", "The share of a unit's activations that exceed its threshold, 0.5 % by default.", _METHOD
    ),
    "r2": Term(
        "R²",
        "The share of the variance of the mean activation over images that a prediction explains, on images that had "
        "no part in it. Below 0 the mean of these images predicts better.",
        "explanation/metrics#linear-explanations",
    ),
    "similar": Term(
        "similar units",
        "Units that respond to the same images: their largest activations on each image correlate.",
        "explanation/units-beyond-their-top-images#units-like-this",
    ),
    "stability": Term(
        "stability",
        "The share of bootstrap replicates of the images in which the unit keeps its label. Below 50 % the label "
        "would probably be another on other images.",
        "explanation/uncertainty#stability-of-a-label",
    ),
    "threshold": Term(
        "threshold",
        "The activation that a share of all activations of the unit exceeds, 0.5 % by default. The mask is where "
        "the upsampled activation map exceeds it.",
        _METHOD,
    ),
    "top-label": Term(
        "top-label", "A rule for counting: a unit counts once, under its label, if the IoU reaches the limit.", _RULES
    ),
    "unique-detectors": Term(
        "unique detectors", "The different concepts with at least one detector.", _RULES
    ),
    "virtual": Term(
        "virtual layer",
        "Another basis of a layer: each of its units is computed from the units of that layer at the same cell, and is "
        "no unit of the network.",
        "howto/dissect-in-other-bases#dissect-a-layer-in-other-bases",
    ),
}  # fmt: skip
