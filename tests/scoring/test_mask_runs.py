"""Masks as runs of pixels, and as texts of tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdissect.concepts import Size
from netdissect.errors import ResultError
from netdissect.scoring.mask_runs import MaskRuns, read_mask


@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.02, 0.3, 1.0]), size=st.tuples(*[st.integers(1, 9)] * 2))
def test_a_mask_is_read_as_it_was_written_whatever_the_order_of_its_runs(
    seed: int, share: float, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((3, *size)) < share
    runs = MaskRuns.of(masks)
    ends = np.append(0, runs.run_counts.cumsum(dtype=int))
    order = np.concatenate(
        [rng.permutation(np.arange(*pair)) for pair in np.stack([ends[:-1], ends[1:]], axis=1)] or [[]]
    )
    shuffled = runs._replace(starts=runs.starts[order.astype(int)], lengths=runs.lengths[order.astype(int)])
    texts = shuffled.texts([0, 2])
    assert set(texts) == {index for index in (0, 2) if masks[index].any()}
    for index in (0, 2):
        np.testing.assert_array_equal(read_mask(texts.get(index, ""), Size(*size)), masks[index])


@pytest.mark.parametrize("text", ["1", "1 -1", "1 x", "20 6", "1 99999999999", "0 1 0 25"])
def test_a_text_that_is_no_mask_is_refused(text: str) -> None:
    with pytest.raises(ResultError, match="does not fit 5 x 5 pixels"):
        read_mask(text, Size(5, 5))
