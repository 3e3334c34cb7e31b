"""Files of labels and words, and what they say about the classes of a segmenter."""

from pathlib import Path

import pytest

from netdissect.errors import SegmenterError, SourceError
from netdissect.segmenters.label_tables import ClassLabels, class_labels, read_labels, read_words
from netdissect.segmenters.segmenter import SegmentLabel


def test_a_text_names_classes_in_order_and_an_empty_line_none(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("wall\n\nscreen door;screen\nscreen\n", encoding="utf-8")
    classes = class_labels("spec", None, 5, file)
    assert [label.name for label in classes.labels] == ["wall", "screen door", "screen"]
    assert classes.ids == (1, 0, 2, 3, 0)


def test_a_table_names_classes_by_value_with_categories(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("value,name,category\n3,wheel,part\n0,car,\n1,,\n2,car,object\n")
    classes = class_labels("spec", {0: "other"}, 4, file)
    assert classes == ClassLabels((SegmentLabel("car"), SegmentLabel("wheel", "part")), (1, 0, 1, 2))


def test_names_of_a_model_are_labels_but_for_placeholders() -> None:
    own = {0: "background", 1: "signboard, sign", 2: "LABEL_2", 3: "N/A", 4: "Sky"}
    classes = class_labels("spec", own, 5, None)
    assert [label.name for label in classes.labels] == ["signboard;sign", "Sky"]
    assert classes.ids == (0, 1, 0, 0, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("value,name\n1.5,car\n", "gives 'car' the value '1.5'. Expected the index of its class"),
        ("value,name\n1,car\n1,bus\n", "names the class 1 twice"),
        ("name,category\ncar,An Object\n", "gives 'car' the category 'An Object'"),
    ],
)
def test_a_mistake_in_a_file_of_labels_is_named(tmp_path: Path, content, message) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(SegmenterError, match=message):
        read_labels(tmp_path / "labels.csv")


def test_a_row_with_a_comma_too_many_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("name,category\ndoor, sliding,object\n")
    with pytest.raises(SourceError, match=r"quotes around a field that holds a comma"):
        read_words(tmp_path / "labels.csv")


def test_a_missing_file_says_what_was_expected() -> None:
    with pytest.raises(SourceError, match=r"nowhere.txt does not exist. Expected UTF-8 text with a name on each line"):
        read_words(Path("nowhere.txt"))
