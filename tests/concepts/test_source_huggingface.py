"""Data sets of the library ``datasets``, saved to disk; nothing is downloaded."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from netdissect.concepts import ConceptData
from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source
from netdissect.errors import MissingExtraError, SourceError

datasets: Any = pytest.importorskip("datasets", reason="needs the extra 'hf'")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def photo(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8))


def mask(*values: int) -> npt.NDArray[np.uint8]:
    """Rows of equal height."""
    return np.repeat(np.array(values, np.uint8), 8 // len(values))[:, None].repeat(6, axis=1)


def table(masks: list[npt.NDArray[np.uint8]], feature: Any = None, name: str = "annotation") -> Any:
    columns = {
        "id": list(range(len(masks))),
        "image": [photo(seed) for seed in range(len(masks))],
        name: [Image.fromarray(one) if feature is None else one.tolist() for one in masks],
        "setting": [seed % 2 for seed in range(len(masks))],
    }
    features = {
        "id": datasets.Value("int64"),
        "image": datasets.Image(),
        name: feature or datasets.Image(),
        "setting": datasets.ClassLabel(names=["beach", "forest"]),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def write_names(path: Path, names: dict[int, str]) -> Path:
    path.write_text(json.dumps(names))
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    both = {"train": table([mask(0, 1), mask(1, 2)]), "validation": table([mask(2, 255)])}
    datasets.DatasetDict(both).save_to_disk(folder)
    write_names(folder / "id2label.json", {1: "wall", 2: "floor"})
    return folder


def read(text: str) -> list[Sample]:
    return list(parse_source(text).samples("own"))


def pixels(labels: LabelsByCategory, category: str = "object") -> dict[str, int]:
    (channel,) = labels[category]
    assert isinstance(channel, Channel)
    values, counts = np.unique(channel.values, return_counts=True)
    named = ((channel.names.get(int(value), ""), int(count)) for value, count in zip(values, counts, strict=True))
    return {name: count for name, count in named if name}


def test_a_saved_data_set_has_images_masks_and_splits(saved: Path) -> None:
    first, second, third = read(f"hf:{saved}?ignore=255")
    assert [s.name for s in (first, third)] == ["own/train/000000", "own/validation/000000"]
    assert [s.split for s in (first, second, third)] == ["train", "train", "val"]
    assert pixels(first.read_labels()) == {"wall": 24}
    assert pixels(second.read_labels()) == {"wall": 24, "floor": 24}
    assert pixels(third.read_labels()) == {"floor": 24}
    np.testing.assert_array_equal(np.asarray(second.image), np.asarray(photo(1)))


def test_splits_are_chosen_and_samples_can_be_sent_to_workers(saved: Path) -> None:
    (sample,) = read(f"hf:{saved}=part?ignore=255&split=validation")
    sent = pickle.dumps(sample)
    assert len(sent) < 2000
    assert pixels(pickle.loads(sent).read_labels(), "part") == {"floor": 24}  # noqa: S301 - made in the line above


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_data_set_is_built_in_this_process_and_in_several(workers: int | None, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds the value 255, which has no name"):
        build_dataset(tmp_path / "out", [parse_source(f"hf:{saved}")])
    out = build_dataset(tmp_path / "out", [parse_source(f"hf:{saved}?ignore=255")], workers=workers)
    concepts = inspect_dataset(out).concepts
    assert {(c.name, c.category): c.frequency for c in concepts} == {("wall", "object"): 2, ("floor", "object"): 2}


def test_parquet_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "parquet"
    (folder / "data").mkdir(parents=True)
    table([mask(0, 1)]).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    names = tmp_path / "names.csv"
    names.write_text("value,name\n0,sky\n1,sea\n")
    (sample,) = read(f"hf:{folder}?names={names}")
    assert pixels(sample.read_labels()) == {"sky": 24, "sea": 24}


def test_masks_may_be_arrays_with_class_labels(tmp_path: Path) -> None:
    cell = datasets.ClassLabel(names=["sky", "sea", "sand"])
    table([mask(1, 2)], datasets.List(datasets.List(cell)), "seg").save_to_disk(tmp_path / "nested")
    table([mask(1, 2)], datasets.Array2D((8, 6), "int32"), "seg").save_to_disk(tmp_path / "array")
    write_names(tmp_path / "array" / "id2label.json", {1: "sea", 2: "sand"})
    for folder in ("nested", "array"):
        (sample,) = read(f"hf:{tmp_path / folder}?mask=seg")
        assert pixels(sample.read_labels()) == {"sea": 24, "sand": 24}


def test_classes_and_words_label_whole_images(tmp_path: Path) -> None:
    both = table([mask(0), mask(0)]).add_column("words", [["calm", "blue"], []])
    both.save_to_disk(tmp_path / "a")
    both.remove_columns("annotation").save_to_disk(tmp_path / "b")
    for text in (f"hf:{tmp_path / 'a'}=scene?label=setting&image=image", f"hf:{tmp_path / 'b'}=scene"):
        assert [sample.read_labels() for sample in read(text)] == [{"scene": ("beach",)}, {"scene": ("forest",)}]
    beside_a_mask = read(f"hf:{tmp_path / 'a'}=scene?label=setting")
    for seed, sample in enumerate(beside_a_mask):
        assert np.array_equal(np.asarray(sample.image), np.asarray(photo(seed)))
    words = read(f"hf:{tmp_path / 'b'}=attribute?label=words")
    assert [sample.read_labels() for sample in words] == [{"attribute": ("calm", "blue")}, {"attribute": ()}]
    with pytest.raises(SourceError, match="names no category"):
        read(f"hf:{tmp_path / 'b'}")


def test_columns_that_cannot_be_told_apart_are_listed(tmp_path: Path) -> None:
    two = table([mask(1)], name="other").add_column("depth", [1])
    two.remove_columns("setting").save_to_disk(tmp_path / "two")
    with pytest.raises(SourceError, match=r"id \(Value\), image \(Image\), other \(Image\).*\?image=COLUMN"):
        read(f"hf:{tmp_path / 'two'}")
    with pytest.raises(SourceError, match=r"says mask=masks\. Its columns are"):
        read(f"hf:{tmp_path / 'two'}?mask=masks")
    with pytest.raises(SourceError, match="does not say what the values of its masks mean"):
        read(f"hf:{tmp_path / 'two'}?mask=other")
    names = write_names(tmp_path / "names.json", {1: "wall"})
    (sample,) = read(f"hf:{tmp_path / 'two'}?mask=other&names={names}")
    assert pixels(sample.read_labels()) == {"wall": 48}


@pytest.mark.parametrize("content", ["{", "3", '{"wall": 1}', "null"])
def test_names_of_another_form_are_refused(content: str, saved: Path) -> None:
    (saved / "id2label.json").write_text(content)
    with pytest.raises(SourceError, match=r"id2label\.json is not in the form of id2label"):
        read(f"hf:{saved}")


def test_a_row_that_holds_no_image_is_named(tmp_path: Path) -> None:
    cells = {"image": [{"bytes": b"no image", "path": None}], "mask": [{"bytes": b"", "path": None}]}
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    datasets.Dataset.from_dict(cells, features=features).save_to_disk(tmp_path / "bad")
    write_names(tmp_path / "bad" / "id2label.json", {1: "wall"})
    (sample,) = read(f"hf:{tmp_path / 'bad'}")
    with pytest.raises(SourceError, match="row 0, column image cannot be read as an image"):
        np.asarray(sample.image)
    with pytest.raises(SourceError, match="row 0, column mask cannot be read as a mask"):
        sample.read_labels()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hf:{}/nothing", "cannot be opened by the library datasets"),
        ("hf:{}?ignore=none", "says ignore=none"),
        ("hf:{}?mask=a&label=b", "names a mask and a label"),
        ("hf:{}?split=other", "says split=other. Expected some of train, validation"),
    ],
)
def test_what_cannot_be_opened_is_explained(text: str, message: str, saved: Path) -> None:
    with pytest.raises(SourceError, match=message):
        read(text.format(saved))


CITY = ["road", "sky", "car"]


def whole(path: Path, feature: Any, cells: list[Any]) -> Path:
    """Save images whose column ``label`` holds these cells."""
    columns = {"image": [photo(seed) for seed in range(len(cells))], "label": cells}
    features = datasets.Features({"image": datasets.Image(), "label": feature})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(path)
    return path


def named(text: str) -> list[Any]:
    return [sample.read_labels()["object"] for sample in read(text)]


@pytest.mark.parametrize(
    ("feature", "cells", "expected"),
    [
        (datasets.ClassLabel(names=["a", "b", "c"]), [2, 0, -1], [("car",), ("road",), ()]),
        (datasets.Value("int64"), [2, 0, None], [("car",), ("road",), ()]),
        (datasets.Value("uint8"), [1, 1, 0], [("sky",), ("sky",), ("road",)]),
        (datasets.Value("float64"), [1.0, float("nan"), 0.0], [("sky",), (), ("road",)]),
        (datasets.Value("bool"), [True, False, None], [("sky",), ("road",), ()]),
        (datasets.Value("string"), ["1", "0", "2"], [("sky",), ("road",), ("car",)]),
        (datasets.List(datasets.Value("int32")), [[0, 2], [], [1]], [("road", "car"), (), ("sky",)]),
        (datasets.List(datasets.Value("bool")), [[True, False, True], [False] * 3, [False, True, False]],
         [("road", "car"), (), ("sky",)]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["list", "dict", "csv"])
def test_names_in_a_file_name_labels_of_every_type(
    form: str, feature: Any, cells: list[Any], expected: list[tuple[str, ...]], tmp_path: Path
) -> None:
    names = tmp_path / f"names.{'csv' if form == 'csv' else 'json'}"
    if form == "csv":
        names.write_text("value,name\n" + "".join(f"{n},{name}\n" for n, name in enumerate(CITY)))
    else:
        names.write_text(json.dumps(CITY if form == "list" else dict(enumerate(CITY))))
    assert named(f"hf:{whole(tmp_path / 'own', feature, cells)}=object?label=label&names={names}") == expected


def test_labels_without_a_file_of_names_are_classes_words_or_the_columns_name(tmp_path: Path) -> None:
    for number, (feature, cells, expected) in enumerate(
        [
            (datasets.ClassLabel(names=CITY), [2, 0], [("car",), ("road",)]),
            (datasets.Value("string"), ["sea", None], [("sea",), ()]),
            (datasets.Value("bool"), [True, False], [("label",), ()]),
            (datasets.List(datasets.ClassLabel(names=CITY)), [[0, 1], []], [("road", "sky"), ()]),
            (datasets.ClassLabel(names=["car;auto", "auto"]), [0, 1], [("car",), ("auto",)]),
        ]
    ):
        assert named(f"hf:{whole(tmp_path / str(number), feature, cells)}=object?label=label") == expected
    codes = whole(tmp_path / "codes", datasets.Value("string"), ["n01440764", "n02102040"])
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"n01440764": "tench", "n02102040": "springer"}))
    assert named(f"hf:{codes}=object?label=label&names={names}") == [("tench",), ("springer",)]


@pytest.mark.parametrize(
    ("feature", "cells", "options", "message"),
    [
        (datasets.Value("int64"), [0, 1], "", "holds the label 0, and nothing says what it means"),
        (datasets.Value("float64"), [0.5, 1.0], "", r"holds '0\.5' \(float\)"),
        (datasets.Value("string"), ["road", "tree"], "&names={}", "holds the label 'tree', which has no name"),
        (datasets.Value("string"), ["car;road", "sky"], "", r"looks like several labels.*\?separator=;"),
        (datasets.Value("int64"), [1, 2, 3], "&names={}", r"holds the label 3, which has no name.*say \?shift=-1"),
        (datasets.List(datasets.Value("int64")), [[0, 1, 1]], "&names={}", "in which labels stand twice"),
        (datasets.Value("int64"), [0], "&names={}&drawn=upright", "says drawn=, but its column 'label' holds labels"),
    ],
)
def test_labels_that_mean_nothing_are_an_error(
    feature: Any, cells: list[Any], options: str, message: str, tmp_path: Path
) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps({**dict(enumerate(CITY)), "road": "road"}))
    folder = whole(tmp_path / "own", feature, cells)
    with pytest.raises(SourceError, match=message):
        named(f"hf:{folder}=object?label=label{options.format(names)}")


def test_lists_of_two_places_are_not_taken_for_lists_of_two_classes(tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps(["day", "night"]))
    integers = datasets.List(datasets.Value("int8"))
    flags = whole(tmp_path / "flags", integers, [[0, 1], [1, 0]])
    with pytest.raises(SourceError, match=r"every list in the column label .* as if each place were a class"):
        read(f"hf:{flags}=object?label=label&names={names}")
    classes = whole(tmp_path / "classes", integers, [[0, 1], [1]])
    assert named(f"hf:{classes}=object?label=label&names={names}") == [("day", "night"), ("night",)]


def test_names_are_read_from_the_configuration_of_a_model_and_from_beside_the_data(tmp_path: Path) -> None:
    numbers = whole(tmp_path / "own", datasets.Value("int64"), [2, 1])
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "resnet", "id2label": dict(enumerate(CITY))}))
    assert named(f"hf:{numbers}=object?label=label&names={config}") == [("car",), ("sky",)]
    write_names(numbers / "id2label.json", dict(enumerate(CITY)))
    assert named(f"hf:{numbers}=object?label=label") == [("car",), ("sky",)]


def test_a_shift_and_a_separator_settle_what_labels_mean(tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    names.write_text(json.dumps(CITY))
    numbers = whole(tmp_path / "numbers", datasets.Value("int64"), [1, 2, 3])
    assert named(f"hf:{numbers}=object?label=label&names={names}&shift=-1") == [("road",), ("sky",), ("car",)]
    lists = whole(tmp_path / "lists", datasets.Value("string"), ["car;road", "sky"])
    assert named(f"hf:{lists}=object?label=label&separator=;") == [("car", "road"), ("sky",)]


ADE = ["wall", "building", "sky", "floor"]


@pytest.mark.parametrize("beside", [True, False])
def test_names_of_a_model_that_begin_with_a_class_are_asked_about(beside: bool, tmp_path: Path) -> None:
    """ADE20K's masks are 0 = other, 1 = wall; ``id2label`` of its models is 0 = wall."""
    folder = tmp_path / "ade"
    table([mask(3, 4, 0, 0)]).save_to_disk(folder)
    path = write_names((folder if beside else tmp_path) / "id2label.json", dict(enumerate(ADE)))
    source = f"hf:{folder}?" + ("" if beside else f"names={path}&")
    with pytest.raises(
        SourceError, match=r"calls 0 'wall'.*\?shift=-1 if 0 is unlabeled and 1 is 'wall', \?shift=0 if"
    ):
        read(source.rstrip("?&"))
    (sample,) = read(f"{source}shift=-1")
    assert pixels(sample.read_labels()) == {"sky": 12, "floor": 12}
    (sample,) = read(f"{source}shift=0")
    with pytest.raises(SourceError, match=r"holds the value 4, but names stand for 0 \('wall'\) to 3.*\?shift=-1"):
        sample.read_labels()


@pytest.mark.parametrize(
    ("names", "options"),
    [({0: "wall", 1: "sky"}, "?ignore=255"), ({0: "background", 1: "sky"}, ""), ({1: "sky"}, "")],
)
def test_names_that_leave_no_doubt_are_not_asked_about(names: dict[int, str], options: str, tmp_path: Path) -> None:
    table([mask(1, 0)]).save_to_disk(tmp_path / "own")
    write_names(tmp_path / "own" / "id2label.json", names)
    (sample,) = read(f"hf:{tmp_path / 'own'}{options}")
    assert pixels(sample.read_labels())["sky"] == 24


def test_a_source_that_labels_nothing_is_an_error_beside_another_one(saved: Path, tmp_path: Path) -> None:
    blank = tmp_path / "blank"
    table([mask(0, 0)]).save_to_disk(blank)
    write_names(blank / "id2label.json", {1: "wall"})
    sources = [parse_source(f"hf:{saved}?ignore=255"), parse_source(f"hf:{blank}")]
    with pytest.raises(SourceError, match=r"the source hf:.*blank labels no pixel and no image"):
        build_dataset(tmp_path / "out", sources)
    assert not (tmp_path / "out").exists()


def test_masks_are_turned_with_their_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    images = tmp_path / "images"
    images.mkdir()
    photo(0).save(images / "a.png", exif=exif)
    columns = {"image": [str(images / "a.png")], "mask": [Image.fromarray(mask(1, 2))]}
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "own")
    names = tmp_path / "names.csv"
    names.write_text("value,name\n1,top\n2,bottom\n")
    out = build_dataset(tmp_path / "out", [parse_source(f"hf:{tmp_path / 'own'}?names={names}")], WriteOptions(size=16))
    (plane,) = ConceptData.open(out).labels(0).label_channels
    data = ConceptData.open(out)
    assert data.by_label_id[int(plane[0, 0])].name == "bottom"  # the top as stored is the right side of what is shown
    assert data.by_label_id[int(plane[0, 7])].name == "top"


def test_a_mask_drawn_on_the_upright_image_is_told_by_an_option(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(0).save(tmp_path / "a.png", exif=exif)
    columns = {"image": [str(tmp_path / "a.png")], "mask": [Image.fromarray(mask(1, 2).T)]}
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "own")
    names = tmp_path / "names.csv"
    names.write_text("value,name\n1,left\n2,right\n")
    source = f"hf:{tmp_path / 'own'}?names={names}"
    message = r"is 6 x 8 pixels .* is 8 x 6, which EXIF turns to 6 x 8.*\?drawn=upright"
    with pytest.raises(SourceError, match=message):
        build_dataset(tmp_path / "out", [parse_source(source)], WriteOptions(size=16))
    out = build_dataset(tmp_path / "out", [parse_source(f"{source}&drawn=upright")], WriteOptions(size=16))
    (plane,) = ConceptData.open(out).labels(0).label_channels
    assert ConceptData.open(out).by_label_id[int(plane[0, 0])].name == "left"


def test_a_missing_package_is_named_with_its_extra(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'netdissect\[hf\]'"):
        read(f"hf:{saved}")
