"""Names: one spelling, one concept, one number, in the published order."""

import csv
import importlib.util
import sys
from itertools import permutations
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdissect.concepts.build.synonyms import NOT_MERGED, RawLabel, assign_names, fold_variant, split_names
from netdissect.concepts.build.vocabulary import Census, Limits, Vocabulary, normalize_name, unify
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
    vocabulary = Vocabulary.from_census(census)
    assert vocabulary.label_ids() == {"wall": 1, "cat": 2, "dog": 3, "leg": 4}
    assert vocabulary.categories == ("object", "part")


def test_published_categories_come_first() -> None:
    census = Census()
    census.add({category: {category: 1} for category in ("mood", "texture", "color", "age")})
    assert Vocabulary.from_census(census).categories == ("color", "texture", "age", "mood")


def test_more_names_than_a_label_map_can_hold_are_refused() -> None:
    census = Census()
    census.add({"object": {f"thing {n}": 1 for n in range(65536)}})
    with pytest.raises(ConceptsError, match="at most 65535"):
        Vocabulary.from_census(census)


def concepts(*ranked: str, variants: bool = False) -> list[str]:
    """Return the concept of each "source:key", all of them objects."""
    raws = [RawLabel(text.split(":")[0], "object", text.split(":")[1]) for text in ranked]
    return [assign_names(raws, variants=variants).concepts[raw] for raw in raws]


def test_synonyms_are_split_spelled_and_told_once() -> None:
    assert split_names(" Bow_window ; bay  window;BAY WINDOW;; ", "object") == ("bow window", "bay window")
    assert split_names("Living Room;lounge", "scene") == ("living_room-s", "lounge-s")
    assert split_names(" ; _ ", "object") == ()


def test_a_short_name_of_one_source_joins_the_synonyms_of_another_in_either_order() -> None:
    assert concepts("voc:dog", "ade:dog;hound") == ["dog", "dog"]
    assert concepts("ade:dog;hound", "voc:hound") == ["dog", "dog"]
    assert concepts("ade:airplane;aeroplane", "voc:aeroplane", "own:plane") == ["airplane", "airplane", "plane"]


def test_labels_that_one_source_tells_apart_stay_apart_while_they_have_a_name() -> None:
    assert concepts("ade:bag", "ade:bag;handbag", "ade:handbag") == ["bag", "handbag", "handbag"]
    assert concepts("ade:bag;handbag", "ade:bag") == ["bag", "bag"]  # no name is left for the rarer one


def test_an_object_and_a_part_of_one_source_share_a_name() -> None:
    raws = [RawLabel("ade", "part", "window"), RawLabel("ade", "object", "window;windowpane")]
    assert set(assign_names(raws).concepts.values()) == {"window"}


@pytest.mark.parametrize("word", sorted(NOT_MERGED))
def test_words_of_many_senses_merge_nothing_but_name_their_own_label(word: str) -> None:
    assert concepts(f"ade:thing;{word}", f"voc:{word}") == ["thing", word]
    assert concepts(f"ade:{word};thing", f"voc:{word}") == [word, word]


def test_plurals_sides_and_compounds_are_one_only_when_asked_for() -> None:
    raws = ("ade:table", "ade:tables", "voc:fire place", "ade:fireplace;hearth", "ade:arm", "ade:left arm")
    assert concepts(*raws) == ["table", "tables", "fire place", "fireplace", "arm", "left arm"]
    assert concepts(*raws, variants=True) == ["table", "table", "fire place", "fire place", "arm", "arm"]


@pytest.mark.parametrize("name", ["glass", "bus", "tennis", "grass", "airport-s", "black-c", "pants-s", "as"])
def test_what_is_no_plural_is_left_alone(name: str) -> None:
    assert fold_variant(name) == name


@pytest.mark.parametrize(
    ("plural", "singular"),
    [("boxes", "box"), ("switches", "switch"), ("glasses", "glass"), ("cherries", "cherry"), ("buses", "bus"),
     ("bottles", "bottle"), ("cds", "cd"), ("shelves", "shelf"), ("right hand", "hand")],
)  # fmt: skip
def test_plurals_fold_to_their_singular(plural: str, singular: str) -> None:
    assert fold_variant(plural) == singular


words = st.sampled_from(["a", "b", "c", "d", "dog", "can"])
keys = st.lists(words, min_size=1, max_size=3, unique=True).map(";".join)


@given(
    raws=st.lists(
        st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["object", "part"]), keys), max_size=10, unique=True
    )
)
def test_every_label_gets_a_concept_that_is_one_of_its_names_or_owns_its_first(
    raws: list[tuple[str, str, str]],
) -> None:
    ranked = [RawLabel(*raw) for raw in raws]
    names = assign_names(ranked)
    owner = {name: concept for concept, others in names.synonyms.items() for name in (concept, *others)}
    assert len(owner) == sum(1 + len(others) for others in names.synonyms.values()), "a name has two owners"
    for raw in ranked:
        concept = names.concepts[raw]
        assert concept in raw.names or owner[raw.names[0]] == concept
        assert {name for name in raw.names if name not in owner} == set()


def test_the_order_of_sources_and_images_decides_nothing() -> None:
    images = [
        ("x", "part", "a;b"),
        ("y", "part", "b"),
        ("x", "object", "b;c"),
        ("y", "object", "c;a"),
        ("x", "part", "c"),
    ]
    found = set()
    for order in permutations(images):
        sources = {source: Census() for source, _, _ in order}
        for source, category, key in order:
            sources[source].add({category: {key: 5}})
        names = unify(sources)
        found.add((frozenset(names.concepts.items()), frozenset(names.synonyms.items())))
    assert len(found) == 1


def test_labels_claim_by_images_then_pixels_then_synonyms() -> None:
    def winner(**counts: tuple[int, int]) -> str:
        census = Census()
        for key, (images, pixels) in counts.items():
            for image in range(images):
                census.add({"object": {f"{key};shared": pixels if image == 0 else 0}})
        return next(c for c, others in unify({"ade": census}).synonyms.items() if "shared" in others)

    assert winner(a=(1, 9), b=(2, 1)) == "b"
    assert winner(a=(2, 1), b=(2, 9)) == "b"
    assert winner(a=(2, 9), b=(2, 9)) == "a"
    census = Census()
    census.add({"object": {"a;shared": 1, "b;more;shared": 1}})
    assert "shared" in unify({"ade": census}).synonyms["b"]


def test_labels_below_the_limits_are_dropped_by_their_total_over_categories() -> None:
    census = Census()
    for category in ("object", "part"):
        census.add({category: {"wheel": 3, "speck": 1}})
    census.add({"object": {"rare": 100}})
    vocabulary = Vocabulary.from_census(census, limits=Limits(images=2, pixels=5))
    assert [entry.name for entry in vocabulary.entries] == ["wheel"]
    assert [(entry.name, entry.label_id) for entry in vocabulary.dropped] == [("speck", 0), ("rare", 0)]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "unification.py"
    spec = importlib.util.spec_from_file_location("unification", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["unification"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.real
def test_names_are_merged_as_in_a_later_broden_and_as_in_the_published_one(shared: Path, script: ModuleType) -> None:
    labels = script.read_labels(shared / "reference" / "broden-label-assignment.csv")
    published = script.read_frequencies(shared / "reference" / "broden1" / "label.csv")
    found = script.compare(labels, published)
    assert found.precision > 0.95
    assert found.recall > 0.95
    precision, recall = script.compare_synonyms(labels, published)
    assert precision > 0.95
    assert recall > 0.99


@pytest.mark.real
def test_published_names_are_spelled_as_we_spell_them_and_claim_themselves(shared: Path) -> None:
    with (shared / "reference" / "broden1" / "label.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    raws = []
    for row in rows:
        category = row["category"].split("(")[0]
        key = ";".join(filter(None, (row["name"], *row["syns"].split(";"))))
        assert ";".join(split_names(key, category)) == key
        raws.append(RawLabel("broden", category, key))
    names = assign_names(raws)
    assert [names.concepts[raw] for raw in raws] == [row["name"] for row in rows]
    assert [";".join(names.synonyms[row["name"]]) for row in rows] == [row["syns"] for row in rows]
