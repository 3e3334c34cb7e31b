"""Write a subset of a data set, or merge several data sets.

    root -> DatasetSource (Samples) -> write_dataset -> out

Both use the writer of builds, so that names are unified, get label ids and are counted as in any build. Images of the
right size are copied as files and not encoded again.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from netdissect.concepts.broden_files import INDEX_COLUMNS, read_label_map, read_side, read_table
from netdissect.concepts.build.atomic_dir import check_target
from netdissect.concepts.build.build import prefixes
from netdissect.concepts.build.sample import Channel, LabelsByCategory, Sample
from netdissect.concepts.build.write_options import WriteOptions
from netdissect.concepts.build.writer import write_dataset
from netdissect.concepts.csv_numbers import whole_number
from netdissect.concepts.dataset import ConceptData
from netdissect.concepts.labels import Size
from netdissect.concepts.machine_masks import FILE, MachineMasks, merged_masks, read_machine_masks
from netdissect.config import OneOrMore, Split, one_or_more
from netdissect.config_fields import Config
from netdissect.errors import ConceptsError, ConfigError, SourceError
from netdissect.paths import contained
from netdissect.progress import ShowProgress

__all__ = ["DatasetSource", "Selection", "merge", "subset"]


class Selection(Config):
    """The part of a data set that becomes a subset."""

    categories: Annotated[tuple[str, ...] | None, OneOrMore] = Field(
        None, description="Only these categories; None: all."
    )
    concepts: Annotated[tuple[str, ...] | None, OneOrMore] = Field(
        None, description="Only these concepts, by name or synonym; pixels of others become unlabeled. None: all."
    )
    split: Split | None = Field(None, description="Only this split; None: both.")
    max_images: int | None = Field(None, gt=0, description="Draw this many of the labeled images; None: all.")
    sample_seed: int = Field(0, ge=0, description="Seed of the draw.")


@dataclass(frozen=True, slots=True)
class _SubsetEntry:
    """One row of ``index.csv``, as text."""

    image: str
    split: Split
    size: Size
    map_size: Size
    cells: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class DatasetSource:
    """A data set in Broden's layout as a source of labeled images.

    Attributes
    ----------
    data
        The data set and its categories.
    names
        By label id, the raw name of each selected concept (its name and synonyms); empty for the others.
    """

    data: ConceptData
    names: Mapping[int, str]

    @classmethod
    def open(cls, root: str | Path, selection: Selection | None = None) -> "DatasetSource":
        """Open the data set below `root`.

        Raises
        ------
        ConceptsError
            If it cannot be read, or a category or concept is unknown.
        """
        selection = selection or Selection()
        data = ConceptData.open(root, categories=selection.categories, split=selection.split)
        spelled = {c.label_id: ";".join((c.name, *c.synonyms)) for c in data.concepts}
        if selection.concepts is None:
            return cls(data, spelled)
        number = {name: c.label_id for c in data.concepts for name in (*c.synonyms, c.name)}
        unknown = [name for name in selection.concepts if name not in number]
        if unknown:
            raise ConceptsError(
                f"{root} has no concept {unknown[0]!r} in {', '.join(data.categories)}. Expected names or synonyms as "
                "they stand in label.csv; 'netdissect concepts inspect' lists them."
            )
        requested = {number[name] for name in selection.concepts}
        return cls(data, {n: raw if n in requested else "" for n, raw in spelled.items()})

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.data.root.resolve().name

    @property
    def text(self) -> str:
        """Description for ``build.json``."""
        return f"dataset:{self.data.root}"

    def size(self) -> int:
        """Return the size of the square images.

        Raises
        ------
        ConceptsError
            If images differ, are not square, or their label maps are not of half their size.
        """
        sizes = {(entry.size, entry.map_size) for entry in self._entries()}
        ((height, width), small), *others = sizes
        if others or height != width or small != (height // 2, height // 2):
            seen = ", ".join(f"{h} x {w} with maps {mh} x {mw}" for (h, w), (mh, mw) in sorted(sizes)[:3])
            raise ConceptsError(
                f"{self.data.root} holds images of {seen}. Expected one square size and label maps of half of it; "
                "say which size the new data set has."
            )
        return int(height)

    def samples(self, prefix: str = "") -> Iterator[Sample]:
        """Yield its images with a label in a chosen category, in index order, named ``prefix/...``."""
        path = self.data.root / "index.csv"
        for entry in self._entries():
            name = re.sub(r"\.[^./]*$", "", entry.image)
            yield Sample(
                f"{prefix}/{name}" if prefix else name,
                contained(self.data.root / "images", entry.image, path, SourceError),
                partial(_read_labels, self.data.root, entry, self.names),
                entry.split,
            )

    def _entries(self) -> Iterator[_SubsetEntry]:
        path, chosen = self.data.root / "index.csv", {row.image for row in self.data.rows}
        for row in read_table(path, (*INDEX_COLUMNS, *self.data.categories)):
            if row["image"] in chosen:
                cells = {c: tuple(filter(None, map(str.strip, row[c].split(";")))) for c in self.data.categories}
                height, width, rows, columns = (read_side(row, name, path) for name in ("ih", "iw", "sh", "sw"))
                split: Split = "train" if row["split"] == "train" else "val"
                yield _SubsetEntry(row["image"], split, Size(height, width), Size(rows, columns), cells)


def subset(
    root: str | Path,
    out: str | Path,
    selection: Selection | None = None,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ShowProgress = None,
) -> Path:
    """Write the selected part of the data set at `root` as a data set of its own.

    Parameters
    ----------
    selection
        Categories, concepts, split and number of images. None: all labeled images.
    overwrite, workers, progress
        See `write_dataset`.

    Returns
    -------
    Path
        The folder of the new data set. Label ids are assigned anew by frequency; splits and paths are kept.

    Raises
    ------
    ConceptsError
        If `root` cannot be read, lacks what is selected, or `out` cannot be written.
    """
    selection = selection or Selection()
    check_target(Path(out), overwrite=overwrite)
    source = DatasetSource.open(root, selection)
    samples = _choose(list(source.samples()), selection)
    about = {"subset": source.text, "digest": source.data.digest, "selection": selection.model_dump(mode="json")}
    options = WriteOptions(size=source.size(), copy_images=True)
    return write_dataset(
        out, samples, options, about=about, files=_mask_file(read_machine_masks(Path(root))), overwrite=overwrite,
        workers=workers, progress=progress,
    )  # fmt: skip


def merge(
    out: str | Path,
    roots: Sequence[str | Path],
    options: WriteOptions | None = None,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ShowProgress = None,
) -> Path:
    """Join several data sets to one, with one vocabulary.

    Parameters
    ----------
    roots
        Folders in Broden's layout. The images of each are written to a folder of its name.
    options
        Sizes and limits. None: the image size of the first data set, and all labels. Images of that size are copied.
    overwrite, workers, progress
        See `write_dataset`.

    Returns
    -------
    Path
        The folder of the new data set.

    Raises
    ------
    ConfigError
        If no data set is named.
    ConceptsError
        If any cannot be read, or `out` cannot be written.
    """
    if not roots:
        raise ConfigError("there is no data set to merge. Expected at least one folder in Broden's layout.")
    check_target(Path(out), overwrite=overwrite)
    sources = [DatasetSource.open(root) for root in one_or_more(roots)]
    options = options or WriteOptions(size=sources[0].size())
    names = prefixes([source.name for source in sources])
    samples = [sample for name, source in zip(names, sources, strict=True) for sample in source.samples(name)]
    descriptions = [
        {"source": source.text, "folder": name, "digest": source.data.digest, "images": len(source.data)}
        for name, source in zip(names, sources, strict=True)
    ]
    masks = {name: read_machine_masks(source.data.root) for name, source in zip(names, sources, strict=True)}
    return write_dataset(
        out, samples, options.model_copy(update={"copy_images": True}), about={"sources": descriptions},
        files=_mask_file(merged_masks(masks)), overwrite=overwrite, workers=workers, progress=progress,
    )  # fmt: skip


def _mask_file(masks: MachineMasks | None) -> dict[str, str]:
    """Return the file that says which labels rest on machine masks, by its name; nothing if people labeled the data."""
    return {} if masks is None else {FILE: masks.written()}


def _choose(samples: Sequence[Sample], selection: Selection) -> list[Sample]:
    """Draw images by seed; if concepts are selected, only among images with one of them."""
    order = np.arange(len(samples))
    if selection.max_images is not None:
        order = np.random.default_rng(selection.sample_seed).permutation(len(samples))
    requested = selection.max_images or len(samples)
    chosen: list[int] = []
    for index in order.tolist():
        if len(chosen) == requested:
            break
        if selection.concepts is None or _carries_any(samples[index]):
            chosen.append(index)
    return [samples[index] for index in sorted(chosen)]


def _carries_any(sample: Sample) -> bool:
    return any(
        bool(item) if isinstance(item, str) else any(item.names.get(int(v)) for v in np.unique(item.values))
        for items in sample.read_labels().values()
        for item in items
    )


def _read_labels(root: Path, entry: _SubsetEntry, names: Mapping[int, str]) -> LabelsByCategory:
    """Read the labels of one image, enlarged to its size; the writer resizes them to the same cells."""
    labels: dict[str, list[Channel | str]] = {}
    rows, columns = (
        ((2 * np.arange(large) + 1) * small) // (2 * large)
        for large, small in zip(entry.size, entry.map_size, strict=True)
    )
    for category, cell in entry.cells.items():
        for item in cell:
            number = whole_number(item)
            if number is not None:
                raw: Channel | str = names.get(number, "") if number else ""
            else:
                raw = _read_channel(
                    contained(root / "images", item, root / "index.csv", SourceError), entry.map_size, names
                )
                raw = replace(raw, values=raw.values[rows[:, None], columns])
            labels.setdefault(category, []).append(raw)
    return labels


def _read_channel(path: Path, size: Size, names: Mapping[int, str]) -> Channel:
    try:
        values: npt.NDArray[np.int32] = read_label_map(path, size)
    except ConceptsError as error:
        raise SourceError(str(error)) from error
    return Channel(values, names, str(path))
