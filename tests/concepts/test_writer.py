"""What is written is what was given: labels, numbers, frequencies, coverages."""

import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from netdissect.concepts import ConceptData
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.vocabulary import normalize_name
from netdissect.concepts.build.writer import WriteOptions, write_dataset
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.config import Resize
from netdissect.errors import ConceptsError, ConfigError, SourceError
from samples import one_sample, random_image, read_rows

Mask = npt.NDArray[np.bool_]

NAMES = ["Sky", "sky ", "traffic_light", "Dog", "", "wall"]
CATEGORIES = ["object", "part", "scene", "mood"]


@st.composite
def worlds(draw: st.DrawFn) -> list[Sample]:
    """Draw a few samples with channels, whole labels, missing categories and names that are spelled variously."""
    samples = []
    for number in range(draw(st.integers(1, 5))):
        rng = np.random.default_rng(draw(st.integers(0, 2**31)))
        height, width = draw(st.integers(2, 20)), draw(st.integers(2, 20))
        labels: dict[str, list[Channel | str]] = {}
        for category in draw(st.lists(st.sampled_from(CATEGORIES), unique=True)):
            items: list[Channel | str] = list(draw(st.lists(st.sampled_from(NAMES), max_size=2)))
            for _ in range(draw(st.integers(0, 3))):
                values = rng.integers(0, len(NAMES) + 1, (height, width)).astype(
                    draw(st.sampled_from(["u1", "i8", "u2"]))
                )
                items.append(Channel(values, dict(enumerate(rng.permutation(NAMES).tolist(), start=1))))
            labels[category] = items
        samples.append(Sample(f"drawn/{number}", random_image(number, height, width), labels))
    return samples


def named_pixels(sample: Sample, category: str, size: int) -> dict[str, Mask]:
    """Say by plain loops on which pixels of the label map each name stands."""
    found: dict[str, Mask] = defaultdict(lambda: np.zeros((size, size), bool))
    for item in sample.read_labels().get(category, ()):
        if isinstance(item, str):
            found[normalize_name(item, category)][:] = True
            continue
        height, width = item.values.shape
        for y in range(size):
            for x in range(size):
                value = item.values[int((y + 0.5) * height / size), int((x + 0.5) * width / size)]
                found[normalize_name(item.names.get(int(value), ""), category)][y, x] = True
    return {name: mask for name, mask in found.items() if name and mask.any()}


@given(samples=worlds())
def test_the_reader_gives_back_the_labels_that_were_written(
    samples: list[Sample], tmp_path_factory: pytest.TempPathFactory
) -> None:
    size = 7
    truth = {s.name: {c: named_pixels(s, c, size) for c in CATEGORIES} for s in samples}
    out = tmp_path_factory.mktemp("round") / "trip"
    if not any(names for one in truth.values() for names in one.values()):
        with pytest.raises(ConceptsError, match="no pixel and no image carries any label"):
            write_dataset(out, samples, WriteOptions(size=2 * size))
        return
    write_dataset(out, samples, WriteOptions(size=2 * size))
    for category in [row["name"] for row in read_rows(out / "category.csv")]:
        data = ConceptData.open(out, categories=[category])
        seen = {}
        for number, row in enumerate(data.rows):
            labels = data.labels(number)
            masks = {data.by_label_id[n].name: np.ones((size, size), bool) for n in labels.image_level.tolist()}
            for plane in labels.label_channels:
                for n in np.unique(plane[plane > 0]).tolist():
                    name = data.by_label_id[n].name
                    masks[name] = masks.get(name, np.zeros((size, size), bool)) | (plane == n)
            seen[row.image.removesuffix(".jpg")] = masks
        expected = {name: one[category] for name, one in truth.items() if one[category]}
        assert seen.keys() == expected.keys()
        for name, masks in expected.items():
            assert masks.keys() == seen[name].keys()
            assert all(np.array_equal(mask, seen[name][concept]) for concept, mask in masks.items())


@given(samples=worlds())
def test_frequency_coverage_and_numbers_are_those_of_the_files(
    samples: list[Sample], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("tables") / "set"
    try:
        write_dataset(out, samples, WriteOptions(size=14))
    except ConceptsError:
        return
    names = {int(row["number"]): row["name"] for row in read_rows(out / "label.csv")}
    categories = [row["name"] for row in read_rows(out / "category.csv")]
    counted: dict[str, dict[int, list[float]]] = {category: defaultdict(list) for category in categories}
    for row in read_rows(out / "index.csv"):
        for category in categories:
            masks: dict[int, Mask] = defaultdict(lambda: np.zeros((7, 7), bool))
            for item in filter(None, row[category].split(";")):
                if item.isdecimal():
                    masks[int(item)][:] = True
                else:
                    pixels = np.asarray(Image.open(out / "images" / item)).astype(int)
                    plane = pixels[..., 0] + 256 * pixels[..., 1]
                    for number in set(plane.ravel().tolist()) - {0}:
                        masks[number] |= plane == number
            for number, mask in masks.items():
                counted[category][number].append(mask.mean())
    total: dict[int, list[float]] = defaultdict(lambda: [0, 0.0])
    for category in categories:
        rows = read_rows(out / f"c_{category}.csv")
        assert {int(row["number"]) for row in rows} == counted[category].keys()
        assert [row["code"] for row in rows] == [str(code) for code in range(1, len(rows) + 1)]
        for row in rows:
            shares = counted[category][int(row["number"])]
            assert names[int(row["number"])] == row["name"]
            assert int(row["frequency"]) == len(shares)
            assert float(row["coverage"]) == pytest.approx(sum(shares), abs=1e-8)
            total[int(row["number"])][0] += len(shares)
            total[int(row["number"])][1] += sum(shares)
    labels = read_rows(out / "label.csv")
    assert [int(row["number"]) for row in labels] == list(range(1, len(labels) + 1))
    ranks = [(-int(row["frequency"]), -float(row["coverage"])) for row in labels]
    assert ranks == sorted(ranks)
    assert all(int(row["frequency"]) == total[int(row["number"])][0] for row in labels)
    for row in read_rows(out / "category.csv"):
        numbers = counted[row["name"]]
        stated = [int(row[column]) for column in ("first", "last", "count", "frequency")]
        assert stated == [min(numbers), max(numbers), len(numbers), sum(map(len, numbers.values()))]


@pytest.mark.real
def test_the_published_formulas_give_the_tables_of_a_data_set_that_others_built(shared: Path) -> None:
    root = shared / "data" / "broden-camvid"
    for category in ("color", "object", "scene"):
        frequency: dict[int, int] = defaultdict(int)
        coverage: dict[int, float] = defaultdict(float)
        for row in read_rows(root / "index.csv"):
            for item in filter(None, row[category].split(";")):
                if item.isdecimal():
                    shares = {int(item): 1.0}
                else:
                    pixels = np.asarray(Image.open(root / "images" / item)).astype(int)
                    plane = pixels[..., 0] + 256 * pixels[..., 1]
                    shares = {n: float((plane == n).mean()) for n in np.unique(plane[plane > 0]).tolist()}
                for number, share in shares.items():
                    frequency[number] += 1
                    coverage[number] += share
        for row in read_rows(root / f"c_{category}.csv"):
            assert int(row["frequency"]) == frequency[int(row["number"])]
            assert float(row["coverage"]) == pytest.approx(coverage[int(row["number"])], abs=1e-6)


def test_one_name_in_two_categories_is_one_number_with_two_categories(tmp_path: Path) -> None:
    whole = np.ones((9, 12), np.uint8)
    samples = [
        Sample("a/1", random_image(1), {"object": [Channel(whole, {1: "Wheel"})], "part": ["wheel"]}),
        Sample("a/2", random_image(2), {"part": [Channel(whole, {1: "wheel"})]}),
    ]
    out = write_dataset(tmp_path / "set", samples, WriteOptions(size=8))
    (label,) = read_rows(out / "label.csv")
    assert (label["name"], label["category"], label["frequency"]) == ("wheel", "part(2);object(1)", "3")
    assert float(label["coverage"]) == 3.0


def test_more_than_255_concepts_need_the_green_channel_and_come_back(tmp_path: Path) -> None:
    values = np.arange(20 * 20).reshape(20, 20)
    names = {n: f"thing {n}" for n in range(1, 400)}
    out = write_dataset(
        tmp_path / "set",
        [Sample("a/1", random_image(0, 20, 20), {"object": [Channel(values, names)]})],
        WriteOptions(size=40),
    )
    data = ConceptData.open(out)
    seen = [[data.by_label_id[n].name if n else "" for n in row] for row in data.labels(0).label_channels[0].tolist()]
    assert seen == [[names.get(n, "") for n in row] for row in values.tolist()]
    assert np.asarray(Image.open(out / "images/a/1_object.png"))[..., 1].max() == 1


def test_the_whole_image_is_squashed_and_no_corner_is_cut(tmp_path: Path) -> None:
    pixels = np.zeros((40, 120, 3), np.uint8)
    values = np.zeros((40, 120), np.uint8)
    corners = {1: (slice(0, 10), slice(0, 30)), 2: (slice(30, 40), slice(90, 120))}
    for value, place in corners.items():
        values[place] = value
        pixels[place] = (255, 0, 0) if value == 1 else (0, 0, 255)
    sample = Sample("a/1", pixels, {"object": [Channel(values, {1: "first", 2: "last"})]})
    out = write_dataset(tmp_path / "set", [sample], WriteOptions(size=16, image_format="png"))
    small = np.asarray(Image.open(out / "images/a/1.png"))
    assert small.shape == (16, 16, 3)
    assert small[1, 1].tolist() == [255, 0, 0]
    assert small[14, 14].tolist() == [0, 0, 255]
    data = ConceptData.open(out)
    plane = data.labels(0).label_channels[0]
    assert data.by_label_id[int(plane[0, 0])].name == "first"
    assert data.by_label_id[int(plane[7, 7])].name == "last"
    assert (plane > 0).sum() == 8


def test_splits_are_given_or_drawn_from_the_name_alone(tmp_path: Path) -> None:
    samples = [Sample(f"a/{n}", random_image(n, 4, 4), {"object": ["sky"]}) for n in range(200)]
    samples.append(Sample("b/given", random_image(1, 4, 4), {"object": ["sky"]}, split="val"))
    forward = read_rows(write_dataset(tmp_path / "one", samples, WriteOptions(size=4)) / "index.csv")
    backward = read_rows(write_dataset(tmp_path / "two", samples[::-1], WriteOptions(size=4)) / "index.csv")
    assert sorted(map(str, forward)) == sorted(map(str, backward))
    assert next(row["split"] for row in forward if row["image"] == "b/given.jpg") == "val"
    assert 0.6 < sum(row["split"] == "train" for row in forward) / len(forward) < 0.8


def test_several_workers_write_the_same_bytes_and_tell_of_progress(tmp_path: Path) -> None:
    samples = [one_sample(f"a/{n}", f"thing {n % 3}") for n in range(6)]
    told: list[tuple[str, int, int | None]] = []
    options = WriteOptions(size=8, colors=True)
    alone = write_dataset(tmp_path / "alone", samples, options)
    many = write_dataset(tmp_path / "many", iter(samples), options, workers=2, progress=lambda *p: told.append(p))
    files = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(many) for path in many.rglob("*") if path.is_file())
    assert all((alone / name).read_bytes() == (many / name).read_bytes() for name in files)
    assert told == [*(("images", n, None) for n in range(1, 7)), *(("label maps", n, 6) for n in range(1, 7))]


def test_the_notes_say_what_was_built(tmp_path: Path) -> None:
    out = write_dataset(tmp_path / "set", [one_sample()], WriteOptions(size=8), about={"why": "a test"})
    facts = json.loads((out / "build.json").read_text())
    assert (facts["images"], facts["concepts"], facts["categories"]) == (1, 1, ["object"])
    assert facts["about"] == {"why": "a test"}
    assert "red + 256 * green" in (out / "README.txt").read_text()


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (Sample("../up", random_image(0), {}), "cannot be a path"),
        (Sample("a;b", random_image(0), {}), "cannot be a path"),
        (Sample("a/1", random_image(0), {"Bad Name": ["sky"]}), "cannot be a category"),
        (Sample("a/1", random_image(0), {"split": ["sky"]}), "cannot be a category"),
        (Sample("a/1", random_image(0)[..., 0], {}), "uint8 \\(height, width, 3\\)"),
        (Sample("a/1", random_image(0), {"object": [Channel(np.ones((3, 4), int), {1: "x"})]}), "is 3 x 4 pixels"),
        (
            Sample("a/1", random_image(0), {"object": [Channel(np.full((9, 12), 7), {1: "x"}, "m.png")]}),
            "m.png holds the value 7",
        ),
        (Sample("a/1", random_image(0), {"object": [Channel(np.ones((9, 12)), {1: "x"})]}), "float64 values"),  # type: ignore[arg-type]
    ],
)
def test_a_sample_that_contradicts_itself_is_refused(sample: Sample, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        write_dataset(tmp_path / "set", [sample], WriteOptions(size=8))
    assert not list(tmp_path.iterdir())


def test_two_samples_whose_names_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a/One.jpg and a/one.jpg would both be written"):
        write_dataset(tmp_path / "set", [one_sample("a/one"), one_sample("a/One")], WriteOptions(size=8))
    with pytest.raises(SourceError, match=r"names differ only in their ending .* would both be written"):
        write_dataset(tmp_path / "set", [one_sample("a/one"), one_sample("a/one")], WriteOptions(size=8))


def test_no_sample_and_no_label_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="hold no image"):
        write_dataset(tmp_path / "set", [])
    with pytest.raises(ConceptsError, match="carries any label"):
        write_dataset(tmp_path / "set", [Sample("a/1", random_image(0))])
    assert not list(tmp_path.iterdir())


def test_how_much_will_be_written_is_said_first_and_is_about_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "netdissect")
    samples = [
        Sample(
            f"a/{n}",
            random_image(n, 64, 64),
            {"object": [Channel(random_image(n, 64, 64)[..., 0] // 64, {0: "x", 1: "y", 2: "z", 3: "w"})]},
        )
        for n in range(60)
    ]
    out = write_dataset(tmp_path / "set", samples, WriteOptions(size=64))
    said = re.match(r"writing 60 images of 64 x 64 pixels.*about ([0-9.]+) ([kM])B", caplog.messages[0])
    assert said is not None
    written = sum(path.stat().st_size for path in (out / "images").rglob("*") if path.is_file())
    assert float(said[1]) * {"k": 1e3, "M": 1e6}[said[2]] == pytest.approx(written, rel=0.25, abs=1e5)


def test_rare_labels_are_dropped_by_images_and_by_coverage_and_listed(tmp_path: Path) -> None:
    values = np.zeros((20, 20), np.uint8)
    values[0, 0] = 1  # a speck
    values[10:] = 2
    wide = [
        Sample(f"a/{n}", random_image(n, 20, 20), {"object": [Channel(values, {1: "speck", 2: "sea"})]})
        for n in range(3)
    ]
    once = Sample(
        "a/once", random_image(9, 20, 20), {"scene": ["coast"], "part": [Channel(values, {1: "dot", 2: "once"})]}
    )
    options = WriteOptions(size=40, min_images=2, min_coverage=0.5)
    out = write_dataset(tmp_path / "set", [*wide, once], options)
    data = ConceptData.open(out)
    assert [concept.name for concept in data.concepts] == ["sea"]
    assert data.categories == ("object",)
    assert len(data) == 3
    assert inspect_dataset(out).problems == ()
    assert set(np.unique(data.labels(0).label_channels)) == {0, 1}
    assert not list((out / "images").rglob("*part*"))
    dropped = {fact["name"]: fact["why"] for fact in json.loads((out / "build.json").read_text())["dropped"]}
    assert dropped == {
        "speck": "a coverage below 0.5",
        "coast-s": "fewer than 2 images",
        "once": "fewer than 2 images",
        "dot": "fewer than 2 images and a coverage below 0.5",
    }
    with pytest.raises(ConceptsError, match="all 5 labels are below the limits"):
        write_dataset(tmp_path / "none", [*wide, once], WriteOptions(size=40, min_images=99))


def test_synonyms_of_two_sources_are_one_concept_whose_pixels_count_once(tmp_path: Path) -> None:
    values = np.zeros((20, 20), np.uint8)
    values[:10] = 1
    lower = np.zeros((20, 20), np.uint8)
    lower[5:15] = 1
    samples = [
        Sample("ade/1", random_image(0, 20, 20), {"object": [Channel(values, {1: "Car; auto;automobile"})]}),
        Sample("ade/2", random_image(1, 20, 20), {"object": [Channel(values, {1: "car;auto;automobile"})]}),
        Sample(
            "own/1",
            random_image(2, 20, 20),
            {"object": [Channel(values, {1: "auto"}), Channel(lower, {1: "automobile"})]},
        ),
    ]
    out = write_dataset(tmp_path / "set", samples, WriteOptions(size=40))
    (label,) = read_rows(out / "label.csv")
    assert (label["name"], label["syns"], label["frequency"]) == ("car", "auto;automobile", "3")
    assert float(label["coverage"]) == 0.5 + 0.5 + 0.75
    assert inspect_dataset(out).problems == ()
    assert ConceptData.open(out).concepts[0].synonyms == ("auto", "automobile")


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(("height", "width"), [(40, 120), (31, 20), (5, 5), (1, 9)])
def test_labels_stay_on_their_pixels_at_every_resize(resize: Resize, height: int, width: int, tmp_path: Path) -> None:
    values = np.full((height, width), 1, np.uint8)
    values[: height // 2] = 2
    pixels = np.where(values[..., None] == 1, (255, 0, 0), (0, 0, 255)).astype(np.uint8)
    sample = Sample("a/1", pixels, {"object": [Channel(values, {1: "low", 2: "high"}), "whole"]})
    options = WriteOptions(size=80, resize=resize, image_format="png", colors=True)
    out = write_dataset(tmp_path / "set", [sample], options)
    assert inspect_dataset(out).problems == ()
    small = np.asarray(Image.open(out / "images/a/1.png").resize((40, 40), Image.Resampling.NEAREST)).astype(int)
    data = ConceptData.open(out, categories=["object"])
    names = np.array(["", *(concept.name for concept in sorted(data.concepts, key=lambda c: c.label_id))])
    number = {concept.label_id: i for i, concept in enumerate(sorted(data.concepts, key=lambda c: c.label_id), 1)} | {
        0: 0
    }
    (plane,) = data.labels(0).label_channels
    named = names[np.vectorize(number.get)(plane)]
    assert (named[(small[..., 0] > 250)] == "low").all()
    assert (named[(small[..., 2] > 250)] == "high").all()
    border = named == ""
    long, short = max(height, width), min(height, width)
    assert border.mean() == pytest.approx(1 - short / long if resize == "pad" else 0, abs=0.06)
    assert (small[border] <= 130).all()
    (colors,) = ConceptData.open(out, categories=["color"]).labels(0).label_channels
    assert ((colors == 0) == border).all()


def test_gray_images_of_cifar_size_work_and_become_rgb(tmp_path: Path) -> None:
    samples = []
    for number, mode in enumerate(["L", "I;16", "1", "LA", "P"]):
        gray = np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)
        image = Image.fromarray(gray.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(gray).convert(mode)
        image.save(tmp_path / f"{number}.png")
        samples.append(
            Sample(f"mri/{number}", tmp_path / f"{number}.png", {"object": [Channel(gray // 128, {1: "bright"})]})
        )
    out = write_dataset(tmp_path / "set", samples, WriteOptions(size=32, image_format="png", colors=True))
    assert inspect_dataset(out).problems == ()
    pixels = np.asarray(Image.open(out / "images/mri/1.png"))
    assert pixels.shape == (32, 32, 3)
    assert (pixels == pixels[..., :1]).all()
    assert ConceptData.open(out).rows[0].size == (16, 16)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 1}, r"the option 'size' of a data set was 1: .*greater than or equal to 2.*Images become"),
        ({"resize": "squash"}, r"'resize' of a data set was 'squash'.*stretch: the whole"),
        ({"quality": "best"}, r"'quality' of a data set was 'best'"),
        ({"min_images": -1}, r"'min_images' of a data set was -1"),
        ({"colour": True}, r"'colour' of a data set was True: extra inputs"),
    ],
)
def test_wrong_options_are_explained(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WriteOptions(**values)
