"""Segments composed from units, against scikit-learn and sets of pixels."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from netdissect.concepts import Labels
from netdissect.scoring import ImageIntersections, ImageLabelCounts, ImageLabels
from netdissect.scoring.segmentation.concept_pixels import ConceptPixels, mean_iou
from netdissect.scoring.segmentation.most_active import constant_segments, segment_pixels

IMAGES, SIDE = 6, 9
LABEL_OF = np.array([1, 2, 1, 0, 3])  # unit 3 is no detector
CATEGORY_OF = np.array([-1, 0, 0, 0, 1])


def counted(label_channels, image_level, units):
    """Count segments and labels of single images, as a data set is counted."""
    data, segments, images = SimpleNamespace(category_of=CATEGORY_OF, categories=("object", "scene")), [], []
    for index, (channels, level, unit_map) in enumerate(zip(label_channels, image_level, units, strict=True)):
        one = Labels(channels.astype(np.int32), np.array(level, np.int32))
        images.append(ImageLabels.of(one, data, "once"))
        segments.append(segment_pixels(unit_map, images[-1], index))
    return ImageLabelCounts.of(0, images), ImageIntersections.join(segments)


@pytest.fixture(scope="module")
def drawn():
    """Return labels (N, 1, side, side) of three concepts, and the unit of each pixel; everything is labeled."""
    rng = np.random.default_rng(3)
    units = rng.choice([-1, 0, 1, 2, 4], (IMAGES, SIDE, SIDE)).astype(np.int32)
    return rng.integers(1, 4, (IMAGES, 1, SIDE, SIDE)), units


@pytest.mark.parametrize("weights", [(1,) * IMAGES, (0, 2, 1, 3, 0, 1)])
def test_iou_is_the_jaccard_score_of_scikit_learn_on_the_pixels_of_weighted_images(drawn, weights):
    labels, units = drawn
    pixels = ConceptPixels.of(*counted(labels, [()] * IMAGES, units), LABEL_OF, CATEGORY_OF)
    by_concept, mean = mean_iou(pixels.sums(np.array(weights, np.uint8)[:, None]), np.array([1, 2, 3]))
    predicted = np.where(units < 0, 0, LABEL_OF[units])
    repeated = np.repeat(np.arange(IMAGES), weights)
    true, made = labels[repeated].ravel(), predicted[repeated].ravel()
    scores = jaccard_score(true, made, labels=[1, 2, 3], average=None)
    assert by_concept[[1, 2, 3], 0] == pytest.approx(scores, rel=1e-14)
    assert mean[0] == pytest.approx(jaccard_score(true, made, labels=[1, 2, 3], average="macro"), rel=1e-14)


def test_a_segment_counts_only_in_images_annotated_in_the_category_of_its_concept(drawn):
    labels, units = drawn
    labels = labels.copy()
    labels[:3] = 0
    labels[3, 0, :, :4] = 0
    level = [(4,)] * IMAGES
    label_of = np.array([1, 4, 1, 0, 3])
    pixels = ConceptPixels.of(*counted(labels, level, units), label_of, CATEGORY_OF)
    by_concept, _ = mean_iou(pixels.sums(np.ones((IMAGES, 1), np.uint8)), np.array([1, 3, 4]))
    cells = [(image, y, x) for image in range(IMAGES) for y in range(SIDE) for x in range(SIDE)]
    for concept, images in ((1, {3, 4, 5}), (3, {3, 4, 5}), (4, set(range(IMAGES)))):
        segment = {
            cell for cell in cells if cell[0] in images and units[cell] >= 0 and label_of[units[cell]] == concept
        }
        labeled = {cell for cell in cells if concept == 4 or labels[cell[0], 0][cell[1:]] == concept}
        assert by_concept[concept, 0] == len(segment & labeled) / len(segment | labeled)


def test_one_segment_for_the_whole_image_has_the_share_of_its_concept_as_iou(drawn):
    labels, units = drawn
    counts, _ = counted(labels, [()] * IMAGES, units)
    segments = constant_segments(counts, np.full(IMAGES, SIDE * SIDE), 2)
    pixels = ConceptPixels.of(counts, segments, np.array([2]), CATEGORY_OF)
    by_concept, mean = mean_iou(pixels.sums(np.ones((IMAGES, 1), np.uint8)), np.array([1, 2, 3]))
    assert by_concept[:4, 0].tolist() == [0, 0, (labels == 2).mean(), 0]
    assert mean[0] == pytest.approx((labels == 2).mean() / 3)


def test_a_concept_without_a_label_in_a_replicate_has_no_part_in_its_mean(drawn):
    labels, units = drawn
    labels = labels.copy()
    labels[1:][labels[1:] == 3] = 1
    pixels = ConceptPixels.of(*counted(labels, [()] * IMAGES, units), LABEL_OF, CATEGORY_OF)
    weights = np.ones((IMAGES, 2), np.uint8)
    weights[0, 1] = 0
    by_concept, mean = mean_iou(pixels.sums(weights), np.array([1, 2, 3]))
    assert mean == pytest.approx([by_concept[1:4, 0].mean(), by_concept[1:3, 1].mean()])
