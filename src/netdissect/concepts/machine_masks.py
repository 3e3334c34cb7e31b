"""Which labels of a data set rest on masks of a segmenter, and how far these agree with human masks.

ROOT/segmenter.json    written with the data set by ``netdissect concepts segment``; absent: people labeled it
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.checksums import json_digest
from netdissect.errors import ConceptsError

FILE = "segmenter.json"
COMPUTED = frozenset({"color"})
"""Categories that are computed from the pixels of each image, and never segmented."""


class MaskNote(NamedTuple):
    """What is shown beside a label that rests on a mask of a segmenter, in two lengths."""

    short: str
    long: str


class _MaskFacts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConceptAgreement(_MaskFacts):
    """Agreement of the masks of one concept, over the images in which people annotated its category."""

    concept: str
    category: str
    images: int = Field(description="Images in which the concept has a pixel in either mask.")
    intersection: int = Field(description="Pixels of both masks, summed over images.")
    machine_pixels: int
    human_pixels: int
    iou: float = Field(description="Intersection over union, unlabeled pixels of the human masks included.")
    iou_ci_low: float = Field(description="95 % bootstrap interval over images.")
    iou_ci_high: float
    labeled_iou: float = Field(description="The same over the pixels that people labeled in the category.")


class MaskAgreement(_MaskFacts):
    """Comparison of machine masks with the human masks of the same images."""

    data: str = Field(description="Data set with human masks.")
    data_digest: str
    images: int = Field(description="Its images.")
    concepts: tuple[ConceptAgreement, ...] = Field(description="Concepts that both name, by falling IoU.")
    miou: float = Field(description="Mean IoU of these concepts.")
    miou_ci_low: float = Field(description="95 % bootstrap interval over images.")
    miou_ci_high: float
    only_machine: tuple[str, ...] = Field(description="Labels of the segmenter that no human mask has.")
    only_human: tuple[str, ...] = Field(description="Concepts of the data set that are no labels of the segmenter.")


class MachineMasks(_MaskFacts):
    """The segmenter whose masks are the labels of a data set."""

    segmenter: str = Field(description="Its specification.")
    segmenter_digest: str = Field(description="SHA-256 of what decides its masks.")
    quadrants: bool = Field(False, description="Whether quadrants of objects are labeled as parts.")
    folders: tuple[str, ...] | None = Field(
        None, description="Folders of the images that it labeled, where people labeled the others; None: all."
    )
    agreement: MaskAgreement | None = Field(None, description="With human masks; None: not compared.")

    def of_concept(self, concept: str, category: str | None = None) -> ConceptAgreement | None:
        """Return the agreement of the masks of a concept; None: not measured."""
        rows = () if self.agreement is None else self.agreement.concepts
        named = [row for row in rows if row.concept == concept]
        return next((row for row in named if row.category == category), named[0] if named else None)

    def note(self, concept: str | None, category: str | None) -> MaskNote | None:
        """Return what is shown beside a label; None: it does not rest on a mask of the segmenter.

        >>> MachineMasks(segmenter="onnx:a.onnx", segmenter_digest="").note("car", "object").long
        'mask by onnx:a.onnx, not compared with human masks'
        """
        if concept is None or category in COMPUTED:
            return None
        row, by = self.of_concept(concept, category), f"mask by {self.segmenter}{self._where}"
        if row is None:
            return MaskNote("machine mask", f"{by}, not compared with human masks")
        return MaskNote(f"mask IoU {row.iou:.2f}", f"{by}, IoU against human masks {row.iou:.2f}")

    @property
    def sentence(self) -> str:
        """Where the masks are from, and their agreement with human ones."""
        if self.agreement is None:
            return f"Labels{self._where} are masks by {self.segmenter}, which were not compared with human masks."
        return (
            f"Labels{self._where} are masks by {self.segmenter}: mean IoU {self.agreement.miou:.2f} "
            f"[{self.agreement.miou_ci_low:.2f}, {self.agreement.miou_ci_high:.2f}] against human masks of "
            f"{len(self.agreement.concepts)} concepts."
        )

    @property
    def _where(self) -> str:
        return "" if self.folders is None else f" of the images in {', '.join(self.folders)}"

    def written(self) -> str:
        """Return the content of the file, with its digest."""
        content: dict[str, Any] = self.model_dump(mode="json")
        return json.dumps({"digest": json_digest(content), **content}, indent=2, ensure_ascii=False) + "\n"


def merged_masks(masks: Mapping[str, MachineMasks | None]) -> MachineMasks | None:
    """Return what is known of the masks of a data set that is merged from others.

    Parameters
    ----------
    masks
        Of each of the others, by the folder that its images get; None: people labeled it.

    Returns
    -------
    MachineMasks or None
        None: people labeled all of them. An agreement with human masks is kept where there is one segmenter.
    """
    machine = {folder: each for folder, each in masks.items() if each is not None}
    if not machine:
        return None
    by_digest = {each.segmenter_digest: each.segmenter for each in machine.values()}
    alone = len(by_digest) == 1
    everywhere = len(machine) == len(masks) and all(each.folders is None for each in machine.values())
    folders = [f"{folder}/{part}".rstrip("/") for folder, each in machine.items() for part in each.folders or [""]]
    return MachineMasks(
        segmenter=" and ".join(by_digest.values()),
        segmenter_digest=next(iter(by_digest)) if alone else json_digest({"segmenters": list(by_digest)}),
        quadrants=any(each.quadrants for each in machine.values()),
        folders=None if everywhere else tuple(folders),
        agreement=next((each.agreement for each in machine.values() if each.agreement), None) if alone else None,
    )


def read_machine_masks(root: Path) -> MachineMasks | None:
    """Read ``segmenter.json`` of a data set; None: people labeled it.

    Raises
    ------
    ConceptsError
        If the file was changed, or cannot be read.
    """
    path = root / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        if json_digest(content) != content.pop("digest"):
            raise ValueError("its digest is another")
        return MachineMasks.model_validate(content)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ValidationError) as error:
        reason = str(error).partition("\n")[0]
        raise ConceptsError(
            f"{path} does not hold what 'netdissect concepts segment' wrote ({type(error).__name__}: {reason}). "
            "Expected the segmenter of the data set and its agreement with human masks; restore the file or segment "
            "again."
        ) from error
