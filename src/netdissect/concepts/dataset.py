"""A concept data set in the published Broden layout: its images, concepts and labels.

folder -> broden_files.py (tables, label maps) -> ConceptData -> labels(image_index)
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self, get_args

import numpy as np
import numpy.typing as npt

from netdissect.close_matches import did_you_mean
from netdissect.concepts.broden_files import (
    CATEGORY_COLUMNS,
    IndexRow,
    read_concepts,
    read_index,
    read_label_map,
    read_table,
)
from netdissect.concepts.content_digests import ContentDigests
from netdissect.concepts.dataset_folder import dataset_folder
from netdissect.concepts.labels import Concept, Labels
from netdissect.config import Progress, Split, one_or_more
from netdissect.counted import counted
from netdissect.errors import ConceptsError, ConfigError
from netdissect.paths import contained


class Subset(NamedTuple):
    """The part of a data set that was opened: the arguments of `ConceptData.open` that give it again.

    Attributes
    ----------
    categories, split
        None: all.
    max_images
        Number of images that were drawn; None: all.
    sample_seed
        Seed of the draw.
    """

    categories: tuple[str, ...] | None = None
    split: Split | None = None
    max_images: int | None = None
    sample_seed: int = 0

    def narrowed(self, further: "Subset") -> "Subset":
        """Restrict this part further; the result is what opening the data set with both restrictions gives.

        Raises
        ------
        ConfigError
            If the two contradict each other. After images were drawn, the split, the categories and the number of
            images cannot change.
        """
        drawn = self.max_images is not None
        own, requested = (None if names is None else set(names) for names in (self.categories, further.categories))
        outside = requested is not None and own is not None and not requested <= own
        contradictions = {
            "categories": requested is not None and (requested != own if drawn else outside),
            "split": further.split is not None and further.split != self.split and (drawn or self.split is not None),
            "max_images": drawn and further.max_images not in (None, self.max_images),
            "sample_seed": drawn
            and further.sample_seed != self.sample_seed
            and (further.max_images is not None or further.sample_seed != 0),
        }
        for name, contradicts in contradictions.items():
            if contradicts:
                raise ConfigError(
                    f"the configuration asks for {name}={getattr(further, name)!r}, but the data set was opened with "
                    f"{', '.join(f'{key}={value!r}' for key, value in self._asdict().items())}. Leave {name} out of "
                    "the configuration, or open the data set without restrictions."
                )
        draw = self if drawn else further
        return Subset(
            further.categories or self.categories, further.split or self.split, draw.max_images, draw.sample_seed
        )


@dataclass(frozen=True, repr=False)
class ConceptData:
    """Images and their concepts, opened for reading.

    Attributes
    ----------
    root
        Folder that holds ``index.csv``.
    categories
        The chosen categories, in the order of ``category.csv``.
    concepts
        The concepts of the chosen categories, by rising label id.
    rows
        Rows of ``index.csv`` with a label in a chosen category, in order. Their positions are the image indices.
    subset
        Arguments with which the data set was opened; None: rows, categories or concepts were replaced afterwards.
    cache
        Folder for digests of the files, so that each file is read only once for `digest`. None: no cache.
    """

    root: Path
    categories: tuple[str, ...]
    concepts: tuple[Concept, ...]
    rows: tuple[IndexRow, ...]
    cache: Path | None = field(default=None, compare=False, repr=False)
    # init=False: a copy with other rows (`dataclasses.replace`) has no subset.
    subset: Subset | None = field(default=None, init=False, compare=False)

    def __repr__(self) -> str:
        """Return folder, number of images and of concepts in a line."""
        return (
            f"ConceptData of {self.root}: {counted(len(self.rows), 'images')}, "
            f"{counted(len(self.concepts), 'concepts')} of {', '.join(self.categories)}"
        )

    @classmethod
    def open(
        cls,
        root: str | Path,
        *,
        categories: Sequence[str] | None = None,
        split: Split | None = None,
        max_images: int | None = None,
        sample_seed: int = 0,
        cache: Path | None = None,
    ) -> Self:
        """Open the data set below `root`.

        Parameters
        ----------
        root
            Folder in Broden's layout.
        categories
            Read only these columns. A concept's primary category is one of them. None: all.
        split
            Use only this split. None: both, as the paper does.
        max_images
            Draw this many of the images at random and keep their order.
        sample_seed
            Seed of the draw.
        cache
            Folder for digests of the files, so that each file is read only once for `digest`.

        Raises
        ------
        ConceptsError
            If it is no data set, a table is missing or contradicts itself, a category is unknown, or no image is left.
        ConfigError
            If `split` or `max_images` cannot be.
        """
        root = dataset_folder(root)
        _check_choice(split, max_images)
        known = [row["name"] for row in read_table(root / "category.csv", CATEGORY_COLUMNS)]
        chosen = _choose(known, categories, root)
        concepts = read_concepts(root, chosen)
        rows = [row for row in read_index(root, chosen) if split is None or row.split == split]
        if not rows:
            raise ConceptsError(
                f"{root / 'index.csv'} has no image with a label in {', '.join(chosen)}"
                + (f" in the split {split!r}" if split else "")
                + ". Choose other categories or splits, or run 'netdissect concepts inspect' on the folder."
            )
        max_images = max_images if max_images is not None and max_images < len(rows) else None
        if max_images is not None:
            drawn = np.random.default_rng(sample_seed).choice(len(rows), size=max_images, replace=False)
            rows = [rows[i] for i in np.sort(drawn)]
        data = cls(root, tuple(chosen), tuple(concepts), tuple(rows), cache)
        named = None if categories is None else one_or_more(categories)
        object.__setattr__(data, "subset", Subset(named, split, max_images, sample_seed))
        return data

    def __len__(self) -> int:
        """Count the images that take part."""
        return len(self.rows)

    @cached_property
    def by_label_id(self) -> dict[int, Concept]:
        """Concepts by label id."""
        return {concept.label_id: concept for concept in self.concepts}

    @cached_property
    def category_of(self) -> npt.NDArray[np.int64]:
        """Category index of each label id's primary category, int64 (largest id + 1,); -1 for ids without a concept."""
        categories = np.full(self.concepts[-1].label_id + 1, -1, dtype=np.int64)
        for concept in self.concepts:
            categories[concept.label_id] = self.categories.index(concept.category)
        return categories

    @cached_property
    def _is_unknown(self) -> npt.NDArray[np.bool_]:
        """Whether a label id is neither 0 nor that of a concept; the last entry is for all larger ids."""
        unknown = np.append(self.category_of < 0, True)
        unknown[0] = False
        return unknown

    @property
    def digest(self) -> str:
        """SHA-256 of the concepts, the rows and the current content of their files; see `find_digest`."""
        return self.find_digest()

    def find_digest(self, progress: Progress | None = None, *, anew: bool = False) -> str:
        """Return `digest`; files that did not change since they were last read are not read again.

        Parameters
        ----------
        progress
            Called with the number of files read and in all, if reading takes seconds.
        anew
            Read every file and ignore the cache.
        """
        contents = self._contents.read(progress) if anew else self._contents.digest(progress)
        return hashlib.sha256(f"{self._tables} {contents}".encode()).hexdigest()

    def stamp(self) -> str:
        """Return a digest of the current sizes and modification times of all files."""
        return self._contents.stamp()

    @cached_property
    def _tables(self) -> str:
        """SHA-256 of what was read from the tables."""
        digest = hashlib.sha256(repr(self.categories).encode())
        for concept in self.concepts:
            digest.update(repr(astuple(concept)).encode())
        for row in self.rows:
            digest.update(repr((row.image, row.split, tuple(row.size), row.label_maps, row.image_level)).encode())
        return digest.hexdigest()

    @cached_property
    def _contents(self) -> ContentDigests:
        return ContentDigests(
            self.root / "images", [name for row in self.rows for name in (row.image, *row.label_maps)], self.cache
        )

    def image_path(self, image_index: int) -> Path:
        """Return the file of one image.

        Raises
        ------
        ConceptsError
            If a link leads to a file outside of the data set.
        """
        return contained(self.root / "images", self.rows[image_index].image, self.root / "index.csv")

    def labels(self, image_index: int) -> Labels:
        """Read the labels of one image.

        Returns
        -------
        Labels
            All occurrences on disk; `Labels.deduplicated` makes sets of them.

        Raises
        ------
        ConceptsError
            If a label map is missing, unreadable or not of the size that the index gives, or holds a label id
            that no table of a chosen category names.
        """
        row = self.rows[image_index]
        channels = np.zeros((len(row.label_maps), *row.size), dtype=np.int32)
        for channel, name in zip(channels, row.label_maps, strict=True):
            path = contained(self.root / "images", name, self.root / "index.csv")
            channel[:] = read_label_map(path, row.size)
            self._check_label_ids(channel, path)
        # An id beyond int32 is clipped; it is still larger than any id of a table.
        image_level = np.array([min(label_id, np.iinfo(np.int32).max) for label_id in row.image_level], dtype=np.int32)
        self._check_label_ids(image_level, self.root / "index.csv")
        return Labels(channels, image_level)

    def _check_label_ids(self, label_ids: npt.NDArray[np.int32], path: Path) -> None:
        # One table look-up per pixel: sorting a label map takes as long as decoding it.
        # Read as uint32, a negative id is a large one.
        unknown = self._is_unknown.take(label_ids.view(np.uint32), mode="clip")
        if unknown.any():
            raise ConceptsError(
                f"{path} holds the label id {label_ids[unknown].min()}, which no c_*.csv of the chosen categories "
                f"({', '.join(self.categories)}) names. Expected 0 (unlabeled) or an id from those tables; "
                "run 'netdissect concepts inspect' to list every such file."
            )


def _check_choice(split: object, max_images: object) -> None:
    if split not in (None, *get_args(Split)):
        raise ConfigError(f"the split cannot be {split!r}. Expected {' or '.join(get_args(Split))}, or None for both.")
    if max_images is not None and not (isinstance(max_images, (int, np.integer)) and max_images > 0):
        raise ConfigError(f"max_images cannot be {max_images!r}. Expected a number of images above 0, or None for all.")


def _choose(known: Sequence[str], requested: Sequence[str] | None, root: Path) -> list[str]:
    if requested is None:
        return list(known)
    chosen = one_or_more(requested)
    if not chosen:
        raise ConceptsError(
            f"no category is chosen: categories are {requested!r}. Name one or more of {', '.join(known)}, or leave "
            "categories out for all."
        )
    for name in chosen:
        if name not in known:
            raise ConceptsError(
                f"{root} has no category {name!r}; it has {', '.join(known)}.{did_you_mean(name, known)} Name one or "
                "more of these."
            )
    return [name for name in known if name in chosen]
