"""SceneParse150 (Zhou et al. 2017): ADE20K with 150 classes, as ``ADEChallengeData2016.zip`` unpacks.

    DIR/images/{training,validation}/ADE_*.jpg
    DIR/annotations/{training,validation}/ADE_*.png       the class of each pixel, 1 to 150; 0 is unlabeled
    DIR/objectInfo150.txt                                 Idx, Ratio, Train, Val, Name; synonyms separated by commas
    DIR/sceneCategories.txt                               ``ADE_train_00000001 airport_terminal``; may be missing

DIR is ``ADEChallengeData2016`` or the folder above it. The split is that of the folders.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.build.synonyms import named_apart
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.sources.mask_stacking import read_gray
from netdissect.concepts.sources.readers import read_text
from netdissect.concepts.sources.source import split_of
from netdissect.errors import SourceError

CLASSES, SCENES = "objectInfo150.txt", "sceneCategories.txt"
SPLITS = ("training", "validation")


def find_sceneparse(folder: Path) -> Path | None:
    """Return the folder of the data set: `folder` or one in it; None if it is of another release."""
    for root in (folder, *sorted(folder.glob("*/"))):
        if any((root / "annotations" / split).is_dir() for split in SPLITS):
            return root
    return None


def sceneparse_samples(root: Path, prefix: str) -> Iterator[Sample]:
    """Yield a sample for each image and each label map.

    Raises
    ------
    SourceError
        If the list of classes is missing or wrong.
    """
    names = _read_classes(root / CLASSES)
    scenes = _read_scenes(root / SCENES)
    for split in SPLITS:
        images = {path.stem: path for path in _files(root / "images" / split, ".jpg")}
        maps = {path.stem: path for path in _files(root / "annotations" / split, ".png")}
        for stem in sorted(images.keys() | maps.keys()):
            # A missing image or label map is reported when the sample is read.
            labels = maps.get(stem, root / "annotations" / split / f"{stem}.png")
            image = images.get(stem, root / "images" / split / f"{stem}.jpg")
            read = partial(_read_labels, labels, names, scenes.get(stem, ""))
            yield Sample(f"{prefix}/{stem}", image, read, split_of(split))


def _files(folder: Path, ending: str) -> list[Path]:
    return [path for path in folder.glob(f"*{ending}") if not path.name.startswith(".")]


def _read_classes(path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for number, line in enumerate(read_text(path, "the classes of SceneParse150").splitlines(), 1):
        first, *rest = [cell.strip() for cell in line.split("\t")]
        if not line.strip() or first == "Idx":
            continue
        value = whole_number(first)
        if value is None or not rest or not rest[-1]:
            raise SourceError(
                f"{path}, line {number}: {line[:80]!r} names no class. Expected Idx, Ratio, Train, Val and Name with "
                "tabs between them; restore the file."
            )
        names[value] = ";".join(name.strip() for name in rest[-1].split(",") if name.strip())
    return named_apart(names)  # "screen" is a class beside "screen door, screen"


def _read_scenes(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    pairs = (line.split() for line in read_text(path, "the scenes of SceneParse150").splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _read_labels(path: Path, names: Mapping[int, str], scene: str) -> LabelsByCategory:
    values = read_gray(path, "a label map of SceneParse150 with a class from 0 to 150 in each pixel")
    return {"object": (Channel(values, names, str(path)),), "scene": (scene,) if scene else ()}
