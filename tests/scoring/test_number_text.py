"""Rounded numbers: what is shown decides as the number does."""

from hypothesis import given
from hypothesis import strategies as st

from netdissect.config import RULES
from netdissect.scoring import passes
from netdissect.scoring.number_text import SIGNIFICANT, iou_text, p_text


@given(
    limit=st.sampled_from([0.0, 0.04, 0.0415, 0.1, 66 / 650]),
    away=st.floats(-0.002, 0.002),
    rule=st.sampled_from(RULES),
    digits=st.sampled_from([3, 4]),
)
def test_an_iou_is_shown_on_its_side_of_the_limit_with_as_few_digits_as_do(limit, away, rule, digits) -> None:
    iou = max(0.0, limit + away)
    text = iou_text(iou, limit, rule, digits=digits)
    assert passes(float(text), rule, limit) == passes(iou, rule, limit)
    decimals = len(text.partition(".")[2])
    for fewer in range(digits, min(decimals, 17)):
        assert passes(float(f"{iou:.{fewer}f}"), rule, limit) != passes(iou, rule, limit)


@given(st.floats(0.045, 0.055))
def test_a_p_value_is_shown_on_its_side_of_the_level(value: float) -> None:
    assert (float(p_text(value)) < SIGNIFICANT) == (value < SIGNIFICANT)
