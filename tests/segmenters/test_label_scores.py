"""From scores to label maps: against plain loops over pixels."""

import numpy as np
import pytest
import torch

from netdissect.concepts import Size
from netdissect.errors import SegmenterError
from netdissect.models import Preprocessing
from netdissect.segmenters.label_scores import ClassScores, Head, LabelScores, activated, choose_labels

SCORES = torch.rand(2, 5, 4, 3, generator=torch.Generator().manual_seed(0))


def by_loops(scores: np.ndarray, head: Head, limit: float) -> list[list[int]]:
    """Return the sorted label ids of each pixel."""
    pixels = scores.transpose(0, 2, 3, 1).reshape(-1, len(head.ids))
    if head.exclusive:
        best = [(max(row), head.ids[int(np.argmax(row))]) for row in pixels.tolist()]
        return [[label] if label and score >= limit else [] for score, label in best]
    return [
        sorted(i for score, i in zip(row, head.ids, strict=True) if i and score >= limit) for row in pixels.tolist()
    ]


@pytest.mark.parametrize("limit", [None, 0.2, 0.6, 0.9])
@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
def test_a_pixel_has_the_labels_that_a_loop_over_its_scores_gives(activation, limit) -> None:
    head = Head((2, 0, 1, 3, 1), activation)
    maps = choose_labels(SCORES, [head], limit)
    default = 0.0 if activation == "identity" else 0.5
    expected = by_loops(SCORES.numpy(), head, default if limit is None else limit)
    found = maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1]).tolist()
    assert [sorted(label for label in row if label) for row in found] == expected
    assert maps.dtype == np.int32


def test_each_head_has_a_channel_of_its_own() -> None:
    maps = choose_labels(SCORES, [Head((0, 1)), Head((2, 3, 4))], None)
    assert maps.shape == (2, 2, 4, 3)
    assert set(np.unique(maps[:, 1])) <= {2, 3, 4}
    alone = choose_labels(SCORES[:, 2:], [Head((2, 3, 4))], None)
    np.testing.assert_array_equal(maps[:, 1:], alone)


def test_an_independent_label_with_the_highest_score_is_in_the_first_channel() -> None:
    scores = torch.tensor([0.6, 0.9, 0.7]).view(1, 3, 1, 1)
    assert choose_labels(scores, [Head((1, 2, 3), "sigmoid")], None).ravel().tolist() == [2, 3, 1]


def class_scores(heads: list[Head]) -> ClassScores:
    network = torch.nn.Conv2d(3, 5, 1)
    preprocessing = Preprocessing((6, 8), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    return ClassScores(network, preprocessing, lambda module, inputs: module(inputs), heads)


def test_scores_are_those_of_normalized_pixels_and_sum_to_one_in_each_head() -> None:
    scores = class_scores([Head((0, 1)), Head((2, 3, 4))])
    pixels = torch.randint(0, 256, (2, 3, 6, 8)).float()
    found = scores(pixels)
    normalized = (pixels / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).view(
        3, 1, 1
    )
    raw = scores.network(normalized)
    expected = torch.cat([raw[:, :2].softmax(1), raw[:, 2:].softmax(1)], 1)
    torch.testing.assert_close(found, expected)


def test_scores_of_labels_are_sums_over_their_classes_and_have_gradients() -> None:
    scores = class_scores([Head((1, 0, 2, 1, 0))])
    pixels = torch.randint(0, 256, (1, 3, 12, 10)).float().requires_grad_()
    found = LabelScores(scores, 2)(pixels)
    classes = scores(pixels)
    torch.testing.assert_close(found, torch.stack([classes[:, 0] + classes[:, 3], classes[:, 2]], 1))
    found[:, 1].sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.abs().sum() > 0


def test_scores_for_another_number_of_classes_are_refused() -> None:
    with pytest.raises(SegmenterError, match=r"shape \(2, 5, 4, 3\). Expected \(batch, 4 classes"):
        activated(SCORES, [Head((1, 2, 3, 4))], Size(4, 3))
