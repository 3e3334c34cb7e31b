"""Files of labels: each format that is read, what is written, and what is refused."""

import re
from pathlib import Path

import polars as pl
import pytest

from netdissect.errors import ResultError
from netdissect.evaluation.label_files import (
    check_units,
    label_frame,
    layer_sizes,
    named_files,
    own_labels,
    read_label_file,
    write_label_file,
)


def written(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


READ = {
    "plain": ("unit,label\n0,sky\n3,car\n", [(None, 0, "sky", None), (None, 3, "car", None)]),
    "all columns": ("label,unit,score,layer,note\nsky, 7 ,0.5,conv5,x\n", [("conv5", 7, "sky", 0.5)]),
    "CLIP-Dissect": (
        'layer,unit,description,similarity\nlayer4,0,"prayer rug, prayer mat",0.16134644\nlayer4,1,red,\n',
        [("layer4", 0, "prayer rug, prayer mat", 0.16134644), ("layer4", 1, "red", None)],
    ),
    "MILAN": ("layer,unit,description\nconv1,0,Neon green\n", [("conv1", 0, "Neon green", None)]),
    "INVERT": ("neuron,concept,concept_id,metric\n0,lhasa,n02098413,0.9336\n", [(None, 0, "lhasa", 0.9336)]),
    "NetDissect-Lite": (
        "unit,category,label,score,object-label,object-truth,object-activation,object-intersect,object-iou\n"
        "2,object,car,0.25,car,9,4,2,0.25\n1,,,0,,9,4,0,0\n",
        [(None, 1, "car", 0.25)],
    ),
    "byte order mark": ("\ufeffunit,label\n0,sky\n", [(None, 0, "sky", None)]),
    "escaped": ("unit,label\n0,'=sky\n", [(None, 0, "=sky", None)]),
}


@pytest.mark.parametrize("kind", READ)
def test_a_file_of_each_program_is_read(kind, tmp_path):
    text, rows = READ[kind]
    assert read_label_file(written(tmp_path, text)).rows() == rows


REFUSED = {
    "no unit": ("units,label\n0,sky\n", "has no column 'unit'; its columns are 'units', 'label'. Did you mean units?"),
    "semicolons": ("unit;label\n0;sky\n", "with the columns unit and label, separated by commas."),
    "no label": ("unit,text\n0,sky\n", "has no column 'label'; its columns are 'unit', 'text'."),
    "empty": ("", "has no column 'unit'; its columns are none."),
    "no row": ("unit,label\n", "has no row below its header."),
    "empty label": ("unit,label\n0,sky\n1, \n2,\n", "has 2 empty labels (line 3, 4). Expected a label in each row"),
    "twice": ("unit,label\n4,sky\n4,car\n", "labels 1 unit more than once (unit 4). Expected one label a unit"),
    "twice in a layer": (
        "layer,unit,label\na,4,sky\nb,4,sky\na,4,car\n",
        "labels 1 unit more than once (unit 4 of a).",
    ),
    "negative": ("unit,label\n-1,sky\n", "line 2: '-1' is no unit. Expected a whole number from 0 on."),
    "fraction": ("unit,label\n1.5,sky\n", "line 2: '1.5' is no unit."),
    "unit 0, from 1": ("unit,label,object-truth\n0,sky,1\n", "Expected a whole number from 1 on, as in other tables"),
    "score": ("unit,label,score\n0,sky,nan\n", "line 2: the score 'nan' is no finite number."),
    "no layer": ("layer,unit,label\n,0,sky\n", "line 2 names no layer."),
    "comma": ("unit,label\n0,red, blue\n", "line 2 has another number of fields than the header, which has 2."),
    "no text": ("unit,label\n0,\udc80\n", "cannot be read ("),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_file_is_refused_with_the_line_and_what_is_expected(kind, tmp_path):
    text, message = REFUSED[kind]
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ResultError, match=re.escape(f"{path}")) as raised:
        read_label_file(path)
    assert message in str(raised.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ResultError, match=r"none\.csv cannot be read .*Expected a CSV table with the columns unit and"):
        read_label_file(tmp_path / "none.csv")


def test_a_frame_is_checked_as_a_file_is():
    frame = pl.DataFrame({"unit": [2, 0], "label": ["sky", "car"]})
    assert label_frame(frame, "mine").rows() == [(None, 2, "sky", None), (None, 0, "car", None)]
    with pytest.raises(ResultError, match=r"the labels of mine have no column 'unit'"):
        label_frame(frame.rename({"unit": "u"}), "mine")
    with pytest.raises(ResultError, match=r"the labels of mine have values of other types"):
        label_frame(frame.with_columns(unit=pl.lit("a")), "mine")
    with pytest.raises(ResultError, match=r"mine has 1 empty label \(line 2\)"):
        label_frame(pl.DataFrame({"unit": [0, 1], "label": ["sky", None]}), "mine")
    for units in ([-1, 0], [None, 0], [1.5, 0.0]):
        with pytest.raises(ResultError, match="Expected whole numbers from 0 on: convert the column to integers"):
            label_frame(pl.DataFrame({"unit": units, "label": ["sky", "car"]}), "mine")


def test_what_is_written_is_read_again(tmp_path):
    frame = pl.DataFrame({"label": ["=sky", "a, b"], "unit": [0, 1], "layer": ["l", "l"], "score": [0.1, None]})
    path = write_label_file(frame, tmp_path / "out.csv")
    assert path.read_text().splitlines()[0] == "unit,label,layer,score"
    assert read_label_file(path).rows() == [("l", 0, "=sky", 0.1), ("l", 1, "a, b", None)]


def test_a_method_is_named_by_its_file_or_by_the_user(tmp_path):
    odd = written(tmp_path, "unit,label\n0,a\n", "a=b.csv")
    assert named_files([odd, "clip=x/descriptions.csv", "milan.csv"]) == {
        "a=b": odd, "clip": Path("x/descriptions.csv"), "milan": Path("milan.csv"),
    }  # fmt: skip
    with pytest.raises(ResultError, match=r"x/d.csv, y/d.csv have one name, 'd'. Name the methods apart"):
        named_files(["x/d.csv", "y/d.csv"])


def test_the_labels_of_a_run_are_a_label_file(kept_run, tmp_path):
    path = write_label_file(own_labels(kept_run, 0.2), tmp_path / "own.csv")
    read = read_label_file(path)
    units = kept_run.units.filter(pl.col("quantile") == 0.2, pl.col("label").is_not_null())
    assert sorted(read.rows()) == sorted(units.select("layer", "unit", "label", "iou").rows())
    assert check_units(layer_sizes(kept_run), "own", read, list(kept_run.layers)).height == len(units)


def test_labels_of_other_units_and_layers_are_refused(kept_run):
    both = ["wide_relu", "fc"]
    frame = label_frame(pl.DataFrame({"unit": [0, 4], "label": ["a", "b"]}), "m")
    with pytest.raises(ResultError, match=r"m does not say of which layer its units are, and 2 layers are evaluated"):
        check_units(layer_sizes(kept_run), "m", frame, both)
    with pytest.raises(ResultError, match=r"m labels unit 4 of wide_relu, which has 4 units, 0 to 3"):
        check_units(layer_sizes(kept_run), "m", frame, ["wide_relu"])
    named = frame.with_columns(layer=pl.Series(["fc", "wide_rel"]))
    with pytest.raises(
        ResultError, match=r"m labels the layer 'wide_rel', which the run does not have.*Did you mean wi"
    ):
        check_units(layer_sizes(kept_run), "m", named, both)
    assert check_units(layer_sizes(kept_run), "m", named, ["fc"]).rows() == [("fc", 0, "a", None)]
    with pytest.raises(ResultError, match=r"m labels no unit of wide_relu; it labels fc"):
        check_units(layer_sizes(kept_run), "m", named[:1], ["wide_relu"])
