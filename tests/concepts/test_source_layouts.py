"""OpenSurfaces, DTD, Cityscapes, tables of labels, and the words that name sources."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from netdissect.concepts.build.build import build_dataset
from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import (
    SOURCE_TYPES,
    CityscapesSource,
    DtdSource,
    LabelSource,
    OpenSurfacesSource,
    SourceSpec,
    parse_source,
)
from netdissect.errors import SourceError


def save(path: Path, pixels: npt.NDArray[np.uint8], exif: Image.Exif | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif or Image.Exif())
    return path


def gray(height: int = 8, width: int = 6) -> npt.NDArray[np.uint8]:
    return np.zeros((height, width, 3), np.uint8)


def pixels(labels: LabelsByCategory, category: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in labels[category]:
        assert isinstance(item, Channel)
        for value in np.unique(item.values):
            if name := item.names.get(int(value), ""):
                found[name] = found.get(name, 0) + int((item.values == value).sum())
    return found


# OpenSurfaces


def draw_opensurfaces(folder: Path, photo: npt.NDArray[np.uint8], exif: Image.Exif | None = None) -> Path:
    save(folder / "photos" / "17.jpg", photo, exif)
    labels = np.zeros((1024 // 64, 12, 3), np.uint8)
    labels[:8, :, 0], labels[8:12, :, 0] = 3, 33  # red: carpet above, plastic below, nothing at the bottom
    labels[..., 1:] = 9  # names of objects and the scene, which are not read
    save(folder / "photos-labels" / "17.png", labels)
    (folder / "label-substance-colors.csv").write_text(
        "substance_id,substance_name,red_color\n17,Carpet/rug,3\n33,Plastic - opaque,33\n"
    )
    return folder


def only(samples: list[Sample]) -> Sample:
    (sample,) = samples
    return sample


def test_materials_are_red_and_label_maps_are_brought_to_the_size_of_the_photo(tmp_path: Path) -> None:
    draw_opensurfaces(tmp_path, gray(32, 24))
    sample = only(list(parse_source(f"opensurfaces:{tmp_path}").samples("opensurfaces")))
    assert sample.name == "opensurfaces/17"
    assert pixels(sample.read_labels(), "material") == {"carpet;rug": 16 * 24, "plastic-opaque": 8 * 24}


def test_a_photo_stored_on_its_side_has_the_size_in_which_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    draw_opensurfaces(tmp_path / "os", gray(24, 32), exif)
    sample = only(list(OpenSurfacesSource(tmp_path / "os").samples("opensurfaces")))
    assert pixels(sample.read_labels(), "material")["carpet;rug"] == 16 * 24
    build_dataset(tmp_path / "out", [OpenSurfacesSource(tmp_path / "os")])


def test_a_label_map_of_another_photo_is_refused(tmp_path: Path) -> None:
    draw_opensurfaces(tmp_path, gray(24, 32))
    sample = only(list(OpenSurfacesSource(tmp_path).samples("opensurfaces")))
    with pytest.raises(SourceError, match=r"17\.png is 16 x 12 pixels .*17\.jpg is 24 x 32"):
        sample.read_labels()
    (tmp_path / "photos" / "17.jpg").unlink()
    with pytest.raises(SourceError, match=r"17\.jpg does not exist"):
        sample.read_labels()


def test_the_table_of_substances_is_checked(tmp_path: Path) -> None:
    draw_opensurfaces(tmp_path, gray())
    table = tmp_path / "label-substance-colors.csv"
    for content, message in [
        ("substance_id,name\n", "lacks the column 'substance_name'"),
        ("substance_name,red_color\nBrick,256\n", "holds the red value '256'"),
        (None, "does not exist"),
    ]:
        table.write_text(content) if content else table.unlink()
        with pytest.raises(SourceError, match=rf"label-substance-colors\.csv {message}"):
            list(OpenSurfacesSource(tmp_path).samples("opensurfaces"))


@pytest.mark.real
def test_real_substances_are_named_as_in_the_published_data_set(shared: Path, tmp_path: Path) -> None:
    draw_opensurfaces(tmp_path, gray(32, 24))
    real = shared / "reference" / "opensurfaces-substance-colors.csv"
    (tmp_path / "label-substance-colors.csv").write_text(real.read_text())
    lines = (shared / "reference" / "broden-label-assignment.csv").read_text().splitlines()
    published = {line.split(",")[3] for line in lines if line.startswith("os,material,")} - {""}
    (channel,) = only(list(OpenSurfacesSource(tmp_path).samples("os"))).read_labels()["material"]
    assert isinstance(channel, Channel)
    assert set(channel.names.values()) == published


# The Describable Textures Dataset


def test_textures_are_read_with_their_joint_list_from_the_folder_or_the_one_above(tmp_path: Path) -> None:
    save(tmp_path / "dtd" / "images" / "banded" / "banded_0002.jpg", gray())
    (tmp_path / "dtd" / "labels").mkdir()
    (tmp_path / "dtd" / "labels" / "labels_joint_anno.txt").write_text("banded/banded_0002.jpg banded striped \n")
    (tmp_path / "dtd" / "labels" / "train1.txt").write_text("banded/banded_0002.jpg\n")
    for folder in (tmp_path, tmp_path / "dtd"):
        source = parse_source(f"dtd:{folder}")
        assert source.name == "dtd"
        sample = only(list(source.samples("dtd")))
        assert sample.name == "dtd/banded/banded_0002"
        assert sample.read_labels() == {"texture": ("banded", "striped")}


@pytest.mark.real
def test_real_textures_have_several_labels(shared: Path) -> None:
    samples = list(DtdSource(shared / "data" / "dtd").samples("dtd"))
    assert len(samples) == 800
    assert any(len(sample.read_labels()["texture"]) > 1 for sample in samples)


# Cityscapes


def draw_cityscapes(folder: Path, ids: npt.NDArray[np.uint8], kind: str = "gtFine", split: str = "train") -> Path:
    save(folder / "leftImg8bit" / split / "ulm" / "ulm_000001_000019_leftImg8bit.png", gray())
    save(folder / kind / split / "ulm" / f"ulm_000001_000019_{kind}_labelIds.png", ids)
    return folder


def city_ids() -> npt.NDArray[np.uint8]:
    ids = np.full((8, 6), 7, np.uint8)  # road
    ids[0], ids[1], ids[2], ids[3] = 0, 1, 26, 255  # unlabeled, ego vehicle, car, license plate
    return ids


def test_cityscapes_has_the_official_ids_and_the_split_of_its_folders(tmp_path: Path) -> None:
    draw_cityscapes(tmp_path, city_ids())
    draw_cityscapes(tmp_path, city_ids(), split="val")
    draw_cityscapes(tmp_path, city_ids(), split="test")
    first, second = parse_source(f"cityscapes:{tmp_path}").samples("cityscapes")
    assert (first.name, first.split) == ("cityscapes/train/ulm/ulm_000001_000019", "train")
    assert (second.name, second.split) == ("cityscapes/val/ulm/ulm_000001_000019", "val")
    assert pixels(first.read_labels(), "object") == {"road": 24, "car": 6, "license plate": 6}


def test_coarse_labels_of_cityscapes_are_read_when_asked_for(tmp_path: Path) -> None:
    draw_cityscapes(tmp_path, city_ids(), "gtCoarse", "train_extra")
    with pytest.raises(SourceError, match="gtFine does not exist"):
        list(CityscapesSource(tmp_path).samples("cityscapes"))
    sample = only(list(parse_source(f"cityscapes:{tmp_path}=part?labels=gtCoarse").samples("cityscapes")))
    assert sample.split == "train"
    assert pixels(sample.read_labels(), "part")["car"] == 6


def test_a_class_of_cityscapes_above_255_is_no_other_class(tmp_path: Path) -> None:
    draw_cityscapes(tmp_path, city_ids())
    (path,) = tmp_path.glob("gtFine/train/ulm/*_labelIds.png")
    Image.fromarray(np.full((8, 6), 256 + 7, np.uint16)).save(path)
    with pytest.raises(SourceError, match="holds the value 263, which has no name"):
        build_dataset(tmp_path / "out", [CityscapesSource(tmp_path)])


def test_a_colored_map_of_cityscapes_is_refused(tmp_path: Path) -> None:
    draw_cityscapes(tmp_path, gray())
    sample = only(list(CityscapesSource(tmp_path).samples("cityscapes")))
    with pytest.raises(SourceError, match=r"_labelIds\.png holds RGB pixels"):
        sample.read_labels()


# Tables of labels


def write_table(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_row_is_a_label_and_several_rows_are_several_labels(tmp_path: Path) -> None:
    save(tmp_path / "in" / "photos" / "a.jpg", gray())
    save(tmp_path / "in" / "b.png", gray())
    text = (
        "label,image,category\nbeach,photos/a.jpg,scene\nsunny,photos/a.jpg,\nsunny,photos/a.jpg,\nforest,b.png,scene\n"
    )
    table = write_table(tmp_path / "in" / "mine.csv", text)
    source = parse_source(f"labels:{table}=attribute")
    first, second = source.samples(source.name)
    assert (first.name, first.image) == ("mine/photos/a", tmp_path / "in" / "photos" / "a.jpg")
    assert first.read_labels() == {"scene": ["beach"], "attribute": ["sunny"]}
    assert second.read_labels() == {"scene": ["forest"]}
    concepts = inspect_dataset(build_dataset(tmp_path / "out", [source])).concepts
    assert {(c.category, c.frequency) for c in concepts} == {("scene", 1), ("attribute", 1)}


def test_images_of_a_table_may_lie_elsewhere(tmp_path: Path) -> None:
    image = save(tmp_path / "photos" / "a.jpg", gray())
    table = write_table(tmp_path / "tables" / "mine.csv", 'image,label\n"a.jpg","sea;ocean"\n')
    for folder in ("../photos", str(tmp_path / "photos")):
        sample = only(list(parse_source(f"labels:{table}=scene?images={folder}&separator=none").samples("mine")))
        assert isinstance(sample.image, Path)
        assert sample.image.resolve() == image.resolve()
        assert sample.read_labels() == {"scene": ["sea;ocean"]}


def test_columns_in_capitals_and_empty_rows_at_the_end_are_read(tmp_path: Path) -> None:
    table = write_table(tmp_path / "mine.csv", "Image,Label ,\na.jpg,x,\n,,\n , ,\n")
    assert read_labels(f"labels:{table}=object") == {"a": ["x"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,name\na.jpg,x\n", "lacks the column 'label'"),
        ("image,label,label\na.jpg,x,y\n", "has more than one column 'label'"),
        ("image;name\na.jpg;x\n", "lacks the column 'label'; its header is 'image;name'"),
        ("image,label\na.jpg,x\n", "row 2 names no category"),
        ("image,label,category\na.jpg,x,Big Scene\n", "row 2 names the category 'Big Scene'"),
        ("image,label,category\n../a.jpg,x,scene\n", r"row 2: '\.\./a\.jpg' is no path"),
        ("image,label,category\n/a.jpg,x,scene\n", "row 2: '/a.jpg' is no path"),
        ("image,label,category\n,x,scene\n", "row 2: '' is no path"),
    ],
)
def test_a_wrong_row_is_named(text: str, message: str, tmp_path: Path) -> None:
    table = write_table(tmp_path / "mine.csv", text)
    with pytest.raises(SourceError, match=rf"mine\.csv,? {message}"):
        list(LabelSource(table).samples("mine"))


EACH = {"0": ["car", "person"], "1": ["person"], "2": ["person", "dog"], "3": ["dog"], "4": ["car"], "5": ["tree"]}


def list_table(path: Path, between: str, form: str = "{}") -> Path:
    rows = [f'{image}.jpg,"{form.format(between.join(labels))}"' for image, labels in EACH.items()]
    return write_table(path, "image,label\n" + "\n".join(rows) + "\n")


def read_labels(text: str) -> dict[str, list[str]]:
    return {
        s.name.removeprefix("x/"): [str(one) for one in s.read_labels()["object"]]
        for s in parse_source(text).samples("x")
    }


@pytest.mark.parametrize(
    ("between", "separator", "form"),
    [
        (";", ";", "{}"),
        ("; ", "semicolon", "{}"),
        ("|", "|", "{}"),
        (" ", "space", "{}"),
        ("\t", "space", "{}"),
        ("_", "_", "{}"),
        ("/", "slash", "{}"),
        (", ", ",", "{}"),
        ("', '", "comma", "['{}']"),
    ],
)
def test_several_labels_in_a_cell_are_asked_about_and_split_by_an_option(
    between: str, separator: str, form: str, tmp_path: Path
) -> None:
    table = list_table(tmp_path / "mine.csv", between, form)
    with pytest.raises(
        SourceError, match=r"looks like several labels.*\?separator=.*'car' and 'person'.*\?separator=none"
    ):
        read_labels(f"labels:{table}=object")
    source = parse_source(f"labels:{table}=object?separator={separator}")
    assert read_labels(source.text) == EACH


@pytest.mark.parametrize("between", ["' '", "', '", "'\n '"])
@pytest.mark.parametrize("separator", ["space", ",", ";"])
def test_quotes_in_brackets_say_where_a_label_ends(between: str, separator: str, tmp_path: Path) -> None:
    cells = ["['hot dog']", f"['door, sliding{between}hot dog']"]
    rows = "".join(f'{n}.jpg,"{cell}"\n' for n, cell in enumerate(cells))
    table = write_table(tmp_path / "mine.csv", "image,label\n" + rows)
    with pytest.raises(SourceError, match=r"say \?separator=, "):
        read_labels(f"labels:{table}=object")
    assert read_labels(f"labels:{table}=object?separator={separator}") == {
        "0": ["hot dog"],
        "1": ["door, sliding", "hot dog"],
    }


def test_letters_that_json_escapes_are_themselves(tmp_path: Path) -> None:
    rows = '0.jpg,"[""caf\\u00e9"", ""a \\""b\\"" c""]"\n'
    table = write_table(tmp_path / "mine.csv", "image,label\n" + rows)
    assert read_labels(f"labels:{table}=object?separator=,") == {"0": ["caf\u00e9", 'a "b" c']}


def test_rows_of_an_image_and_labels_of_several_words_are_not_asked_about(tmp_path: Path) -> None:
    text = "image,label\na.jpg,traffic light\na.jpg,traffic sign\nb.jpg,light\n"
    table = write_table(tmp_path / "mine.csv", text)
    assert read_labels(f"labels:{table}=object") == {"a": ["traffic light", "traffic sign"], "b": ["light"]}


def test_a_synonym_never_swallows_the_label_of_another_row(tmp_path: Path) -> None:
    rows = "".join(f"{n}.png,car;auto;Person\n" for n in range(3)) + "3.png,person\n4.png,auto mobile;auto\n"
    for number in range(5):
        save(tmp_path / f"{number}.png", gray())
    table = write_table(tmp_path / "mine.csv", "image,label\n" + rows)
    out = build_dataset(tmp_path / "out", [parse_source(f"labels:{table}=object?separator=none")])
    assert {c.name: c.frequency for c in inspect_dataset(out).concepts} == {"car": 3, "person": 1, "auto mobile": 1}


def test_a_second_column_of_labels_is_not_passed_over(tmp_path: Path) -> None:
    table = write_table(tmp_path / "mine.csv", "image,label,label_2\na.jpg,car,person\nb.jpg,car,\n")
    with pytest.raises(SourceError, match="has the columns 'label' and 'label_2'"):
        read_labels(f"labels:{table}=object")


def test_an_unquoted_comma_in_a_table_of_labels_is_an_error(tmp_path: Path) -> None:
    table = write_table(tmp_path / "mine.csv", "image,label\na.jpg,car\nb.jpg,car,person\n")
    with pytest.raises(SourceError, match=r"mine\.csv, line 3: 'b\.jpg,car,person' has 3 fields"):
        read_labels(f"labels:{table}=object")


# Words


@pytest.mark.parametrize("kind", [kind for kind in SOURCE_TYPES if kind not in ("folders", "dtd")])
def test_the_text_of_a_source_names_it_again(kind: str) -> None:
    source = parse_source(f"{kind}:some/place")
    assert parse_source(source.text) == source


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("coco:a", SourceSpec("coco", "a")),
        ("coco:a=part?boxes=yes&kinds=stuff", SourceSpec("coco", "a", "part", {"boxes": "yes", "kinds": "stuff"})),
        ("coco:a?images=x=y/z", SourceSpec("coco", "a", None, {"images": "x=y/z"})),
        ("coco:what?/a=part", SourceSpec("coco", "what?/a", "part")),
        ("coco:what?", SourceSpec("coco", "what?")),
    ],
)
def test_words_are_taken_apart(text: str, words: SourceSpec) -> None:
    assert SourceSpec.read(text) == words
    assert words.text == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coco:a?box=yes", "has the option 'box', which coco: does not know. Expected one of kinds, boxes"),
        ("masks:a?box=yes", "has the option 'box', which masks: does not know. Expected one of read"),
        ("coco:a?boxes=maybe", "says boxes=maybe. Expected boxes=yes or boxes=no"),
        ("coco:a?boxes=yes&boxes=no", "gives an option twice"),
        ("coco:a?kinds=things", "says kinds=things. Expected some of panoptic, stuff, instances"),
        ("cityscapes:a?labels=gtFine,gtCoarse", "names several kinds of labels"),
        ("ade20k:a=part", "says itself what is an object, a part or a scene"),
    ],
)
def test_options_that_are_unknown_are_refused(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message.replace("?", r"\?")):
        parse_source(text)
