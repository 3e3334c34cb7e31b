"""Names: one spelling, one number, in the published order."""

import pytest

from netdissect.concepts.unify import Census, Vocabulary, normalize_name
from netdissect.errors import ConceptsError


@pytest.mark.parametrize(
    ("raw", "category", "name"),
    [
        ("Traffic_Light", "object", "traffic light"),
        ("  swimming \t pool\n", "object", "swimming pool"),
        ("Living Room", "scene", "living_room-s"),
        ("living_room-s", "scene", "living_room-s"),
        ("Black", "color", "black-c"),
        ("CAFE\u0301", "scene", "caf\u00e9-s"),
        (" _ ", "scene", ""),
    ],
)
def test_names_are_spelled_as_published(raw: str, category: str, name: str) -> None:
    assert normalize_name(raw, category) == name
    assert normalize_name(name, category) == name


def test_numbers_fall_with_images_then_pixels_then_follow_the_name() -> None:
    census = Census()
    census.add({"object": {"wall": 5, "dog": 9}, "part": {"leg": 9}})
    census.add({"object": {"wall": 1, "cat": 9}})
    vocabulary = Vocabulary.number(census)
    assert vocabulary.numbers() == {"wall": 1, "cat": 2, "dog": 3, "leg": 4}
    assert vocabulary.categories == ("object", "part")


def test_published_categories_come_first() -> None:
    census = Census()
    census.add({category: {category: 1} for category in ("mood", "texture", "color", "age")})
    assert Vocabulary.number(census).categories == ("color", "texture", "age", "mood")


def test_more_names_than_a_label_map_can_hold_are_refused() -> None:
    census = Census()
    census.add({"object": {f"thing {n}": 1 for n in range(65536)}})
    with pytest.raises(ConceptsError, match="at most 65535"):
        Vocabulary.number(census)
