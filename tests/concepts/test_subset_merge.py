"""A part of a data set, and several joined to one."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netdissect.concepts import ConceptData
from netdissect.concepts.build.sample import Channel, Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.build.writer import write_dataset
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.machine_masks import MachineMasks, merged_masks, read_machine_masks
from netdissect.concepts.transfer.subset_merge import Selection, merge, subset
from netdissect.errors import ConceptsError, ConfigError

NAMES = ["car;auto", "sky", "traffic_light", "dog;hound", "wall", "tin;can"]
SIZE = 13  # odd: maps are 6


def make_samples(seed: int, images: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(images):
        image = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
        names = dict(enumerate([*rng.permutation(NAMES).tolist(), ""], start=1))
        planes = [Channel(rng.integers(0, 8, (9, 11)), names) for _ in range(rng.integers(1, 4))]
        labels = {"object": planes[:1], "part": planes[1:], "scene": rng.permutation(["coast", "hill"])[:2].tolist()}
        chosen = {category: labels[category] for category in labels if rng.random() < 0.8}
        samples.append(Sample(f"drawn/{number}", image, {**chosen, "texture": ["dotted"]}))
    return samples


def contents(root: Path) -> dict[str, bytes]:
    told = ("build.json", "README.txt")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in told
    }


def by_image(root: Path) -> dict[str, tuple[str, str]]:
    """Return, by image, its bytes and its named label maps as text that can be compared between data sets."""
    data = ConceptData.open(root)
    names = {concept.label_id: concept.name for concept in data.concepts} | {0: ""}
    found = {}
    for number, row in enumerate(data.rows):
        labels = data.labels(number)
        planes = [[[names[n] for n in line] for line in plane] for plane in labels.label_channels.tolist()]
        whole = [names[n] for n in labels.image_level.tolist()]
        found[row.image] = (row.split + str(data.image_path(number).read_bytes()), str((planes, whole)))
    return found


@given(seed=st.integers(0, 2**31), images=st.integers(1, 5), form=st.sampled_from(["jpeg", "png"]))
def test_what_is_read_and_written_again_is_equal_byte_for_byte(
    seed: int, images: int, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    options = WriteOptions(size=SIZE, image_format="jpeg" if form == "jpeg" else "png")
    first = write_dataset(folder / "first", make_samples(seed, images), options)
    again = subset(first, folder / "again")
    assert contents(again) == contents(first)


@pytest.mark.real
def test_real_broden_layout_of_other_makers_comes_back_equal(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "broden-camvid"
    out = subset(root, tmp_path / "again")
    assert inspect_dataset(out).problems == ()
    old, new = by_image(root), by_image(out)
    assert {image: new[image] for image in list(new)[::9]} == {image: old[image] for image in list(new)[::9]}
    assert new.keys() == old.keys()


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "world", make_samples(3, 12), WriteOptions(size=SIZE))


def test_a_subset_holds_the_chosen_categories_and_their_images(world: Path, tmp_path: Path) -> None:
    out = subset(world, tmp_path / "out", Selection(categories=("part", "scene")))
    data = ConceptData.open(out)
    assert data.categories == ("part", "scene")
    expected = ConceptData.open(world, categories=["part", "scene"])
    assert [row.image for row in data.rows] == [row.image for row in expected.rows]
    assert {c.name: (c.frequency, c.coverage) for c in data.concepts} == {
        c.name: (c.frequency, c.coverage) for c in expected.concepts
    }
    assert inspect_dataset(out).problems == ()


def test_a_subset_of_concepts_leaves_the_other_pixels_unlabeled(world: Path, tmp_path: Path) -> None:
    out = subset(world, tmp_path / "out", Selection(categories=("object",), concepts=("hound", "sky")))
    data = ConceptData.open(out)
    full = ConceptData.open(world, categories=["object"])
    stated = {c.name: (c.frequency, c.coverage) for c in full.concepts}
    assert {c.name: (c.frequency, c.coverage) for c in data.concepts} == {n: stated[n] for n in ("dog", "sky")}
    assert inspect_dataset(out).problems == ()


def test_images_of_a_subset_are_drawn_by_seed_among_those_that_carry_a_label(world: Path, tmp_path: Path) -> None:
    def images(out: str, **choice: object) -> list[str]:
        chosen = Selection(**choice)
        return [row.image for row in ConceptData.open(subset(world, tmp_path / out, chosen)).rows]

    first = images("a", max_images=4, sample_seed=1, concepts=("coast-s",))
    assert len(first) == 4
    assert first == images("b", max_images=4, sample_seed=1, concepts=("coast-s",))
    assert first != images("c", max_images=4, sample_seed=2, concepts=("coast-s",))
    assert set(first) <= set(images("d", concepts=("coast-s",)))
    assert len(images("e", max_images=99)) == 12
    val = [row.image for row in ConceptData.open(world, split="val").rows]
    assert images("f", split="val") == val


def test_what_a_subset_cannot_select_is_named(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConceptsError, match="has no concept 'cat' in object, part"):
        subset(world, tmp_path / "out", Selection(concepts=("cat",)))
    with pytest.raises(ConceptsError, match="has no category 'mood'"):
        subset(world, tmp_path / "out", Selection(categories=("mood",)))
    with pytest.raises(ConceptsError, match="already holds a finished data set"):
        subset(world, world)


def test_merged_data_sets_have_one_vocabulary_and_keep_every_label(world: Path, tmp_path: Path) -> None:
    values = np.ones((8, 8), np.uint8)
    other = [
        Sample(f"own/{n}", np.full((8, 8, 3), n, np.uint8), {"object": [Channel(values, {1: "auto"})]})
        for n in range(4)
    ]
    second = write_dataset(tmp_path / "second", other, WriteOptions(size=8))
    out = merge(tmp_path / "out", [world, second, world])
    assert inspect_dataset(out).problems == ()
    data = ConceptData.open(out)
    assert {row.image.split("/")[0] for row in data.rows} == {"world", "second", "world-2"}
    assert not {"auto"} & {concept.name for concept in data.concepts}
    single = {c.name: c for c in ConceptData.open(world).concepts}
    for concept in data.concepts:
        more = 4 if concept.name == "car" else 0
        assert concept.frequency == 2 * single[concept.name].frequency + more
        assert concept.coverage == pytest.approx(2 * single[concept.name].coverage + more, abs=1e-7)
    image = next(row.image for row in data.rows if row.image.startswith("world/"))
    assert (out / "images" / image).read_bytes() == (world / "images" / image.removeprefix("world/")).read_bytes()


def test_subsets_and_merged_data_sets_say_which_masks_are_of_a_machine(world: Path, tmp_path: Path) -> None:
    masks = MachineMasks(segmenter="onnx:one.onnx", segmenter_digest="1")
    (world / "segmenter.json").write_text(masks.written(), encoding="utf-8")
    part = subset(world, tmp_path / "part", Selection(max_images=2), progress=False)
    assert read_machine_masks(part) == masks
    human = subset(world, tmp_path / "human", Selection(max_images=2), progress=False)
    (human / "segmenter.json").unlink()
    mixed = read_machine_masks(merge(tmp_path / "mixed", [part, human], progress=False))
    assert mixed == masks.model_copy(update={"folders": ("part",)})
    assert mixed.sentence.startswith("Labels of the images in part are masks by onnx:one.onnx, which")
    alone = merge(tmp_path / "alone", [human], progress=False)
    assert read_machine_masks(alone) is None


def test_masks_of_several_segmenters_are_told_apart_when_they_are_merged() -> None:
    one, other = (MachineMasks(segmenter=name, segmenter_digest=name) for name in ("one", "other"))
    assert merged_masks({"a": one, "b": one}) == one
    both = merged_masks({"a": one, "b": other})
    assert both is not None
    assert (both.segmenter, both.folders) == ("one and other", None)
    assert both.segmenter_digest not in ("one", "other")
    again = merged_masks({"c": both.model_copy(update={"folders": ("a", "b")}), "d": None})
    assert again is not None
    assert again.folders == ("c/a", "c/b")
    assert merged_masks({"a": None}) is None


def test_merging_is_refused_without_data_sets_and_for_uneven_images(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data set to merge"):
        merge(tmp_path / "out", [])
    with (world / "index.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    rows[1][2] = "26"
    with (world / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(ConceptsError, match="Expected one square size"):
        merge(tmp_path / "out", [world])
