"""The search for formulas against exhaustive search, with more concepts and longer formulas: see `make fuzz`."""

from hypothesis import given, settings
from hypothesis import strategies as st

from formula_oracle import check_search, draw_images
from netdissect.scoring.formulas import SearchOptions


@settings(max_examples=max(4, settings().max_examples // 10))
@given(
    seed=st.integers(0, 2**31),
    concepts_length=st.sampled_from([(3, 5), (4, 4), (7, 3), (14, 3)]),
    categories=st.integers(1, 3),
    restriction=st.sampled_from(["none", "annotated"]),
)
def test_no_formula_of_many_concepts_is_better(
    seed: int, concepts_length: tuple[int, int], categories: int, restriction: str
) -> None:
    concepts, length = concepts_length
    images, category_of = draw_images(seed, concepts, categories, 1 + seed % 4)
    check_search(images, category_of, SearchOptions(length, restriction=restriction))
