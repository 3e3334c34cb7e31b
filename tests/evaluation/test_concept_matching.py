"""Which concept a label is, and which it is not."""

import polars as pl
import pytest

from netdissect.errors import ResultError
from netdissect.evaluation.concept_matching import ConceptNames, match_labels, read_mapping

CONCEPTS = (
    "airplane",
    "car",
    "street",
    "street-s",
    "living_room-s",
    "red-c",
    "traffic light",
    "glass",
    "bus",
    "toilet",
)
SYNONYMS = {
    "airplane": ("aeroplane", "plane"),
    "car": ("auto", "machine"),
    "bus": ("coach", "autobus"),
    "traffic light": ("stoplight", "coach"),
    "toilet": ("red",),
}
NAMES = ConceptNames.of(CONCEPTS, SYNONYMS, {"vehicle": "car", "street": None})

MATCHED = {
    "car": ("car", "exact"),
    "red-c": ("red-c", "exact"),
    "aeroplane": ("airplane", "synonym"),
    "Auto": ("car", "synonym"),
    "Cars": ("car", "spelling"),
    "traffic_lights": ("traffic light", "spelling"),
    "Trafficlight": ("traffic light", "spelling"),
    "living room": ("living_room-s", "spelling"),
    "Living-Rooms": ("living_room-s", "spelling"),
    "red": ("toilet", "synonym"),
    "Street": ("street", "spelling"),
    "glasses": ("glass", "spelling"),
    "vehicle": ("car", "mapping"),
    "street": (None, "unmatched"),
    "plane": (None, "unmatched"),
    "machine": (None, "unmatched"),
    "coach": (None, "unmatched"),
    "airplanes and cars": (None, "unmatched"),
    "???": (None, "unmatched"),
}


@pytest.mark.parametrize("label", MATCHED)
def test_a_label_is_the_concept_of_its_name_synonym_or_spelling(label):
    match = NAMES.match(label)
    assert (match.concept, match.how) == MATCHED[label]


def test_a_color_is_found_without_its_suffix_where_no_synonym_has_the_name():
    assert ConceptNames.of(CONCEPTS).match("Red") == ConceptNames.of(CONCEPTS).match("reds")
    assert ConceptNames.of(CONCEPTS).match("Red").concept == "red-c"


def test_similar_names_are_offered_and_not_taken():
    assert NAMES.match("airplan").near == ("airplane",)
    assert NAMES.match("trafic light").near == ("traffic light",)
    assert NAMES.match("coach").near == ("bus", "traffic light")
    assert NAMES.match("zebra").near == ()


def test_every_label_of_every_method_is_listed_with_its_units():
    frames = {
        "one": pl.DataFrame({"label": ["car", "zebra", "zebra"]}),
        "two": pl.DataFrame({"label": ["autos", "zebra"]}),
    }
    assert match_labels(frames, NAMES).rows() == [
        ("one", "zebra", 2, None, "unmatched", []),
        ("one", "car", 1, "car", "exact", []),
        ("two", "autos", 1, "car", "synonym", []),
        ("two", "zebra", 1, None, "unmatched", []),
    ]


def test_a_mapping_is_read_and_checked(tmp_path):
    path = tmp_path / "map.csv"
    path.write_text("label,concept\nvehicle,car\nthing,\nvehicle,car\n")
    assert read_mapping(path) == {"vehicle": "car", "thing": None}
    path.write_text("label,concept\nvehicle,car\nvehicle,bus\n")
    with pytest.raises(ResultError, match=r"line 3 gives the label 'vehicle' the concept 'bus'; an earlier line gave"):
        read_mapping(path)
    path.write_text("label,name\nvehicle,car\n")
    with pytest.raises(ResultError, match=r"has no column 'concept'"):
        read_mapping(path)
    with pytest.raises(ResultError, match=r"the concept 'caar', which the run does not have. Did you mean car"):
        ConceptNames.of(CONCEPTS, {}, {"vehicle": "caar"})
