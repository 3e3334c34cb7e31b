"""View of the formula of a unit: its concepts, each with a color, in words and in the unit's top images."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from netdissect.plots.overlap import ImageConcept
from netdissect.report.layer_tables import LayerTables
from netdissect.report.views.masked_images import MaskedImage
from netdissect.report.views.unit_views import UnitView

FORMULA_IMAGES = 6
ATOM_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")
"""Colors of the concepts of a formula, in order; Okabe and Ito's, distinct with any color vision."""


@dataclass(frozen=True)
class FormulaAtom:
    """One concept of a formula.

    Attributes
    ----------
    label_id, concept, color
        The concept.
    operator
        Before it, such as ``AND NOT``; empty before the first.
    opens, closes
        Whether a parenthesis opens before it or closes behind it.
    """

    label_id: int
    concept: str
    color: str
    operator: str = ""
    opens: bool = False
    closes: bool = False


@dataclass(frozen=True)
class FormulaImage:
    """An image with the mask of a unit and the concepts of its formula.

    Attributes
    ----------
    masked
        Image and mask of the unit.
    atoms
        Color and path of each concept that the image has; see `netdissect.plots.outlines.mask_path`.
    """

    masked: MaskedImage
    atoms: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class FormulaView:
    """The formula of a unit.

    Attributes
    ----------
    values
        Its row of the table ``formulas``.
    atoms
        Its concepts.
    images
        The unit's top images; empty without the data set.
    """

    values: Mapping[str, Any]
    atoms: tuple[FormulaAtom, ...]
    images: tuple[FormulaImage, ...]


def formula_view(tables: LayerTables, unit: UnitView) -> FormulaView | None:
    """Return the view of the formula of a unit; None: it has none at this quantile."""
    values = tables.run.formulas.get((tables.name, unit.unit))
    if values is None or values["formula"] is None or values["quantile"] != tables.quantile:
        return None
    atoms = formula_atoms(values, {number: name for name, number in tables.label_ids.items()})
    images = () if tables.run.concept_masks is None else unit.top_images[:FORMULA_IMAGES]
    return FormulaView(values, atoms, tuple(_formula_image(tables, image, atoms) for image in images))


def formula_atoms(values: Mapping[str, Any], names: Mapping[int, str]) -> tuple[FormulaAtom, ...]:
    """Return the concepts of a formula; parentheses enclose what stands before a change of OR and AND."""
    operators = [""] + [operator.upper().replace("-", " ") for operator in values["operators"]]
    changes = [
        index for index in range(2, len(operators)) if (operators[index] == "OR") != (operators[index - 1] == "OR")
    ]
    return tuple(
        FormulaAtom(
            label_id, names[label_id], ATOM_COLORS[index], operator, index == 0 and bool(changes), index + 1 in changes
        )
        for index, (label_id, operator) in enumerate(zip(values["label_ids"], operators, strict=True))
    )


def _formula_image(tables: LayerTables, image: MaskedImage, atoms: tuple[FormulaAtom, ...]) -> FormulaImage:
    masks = tables.run.concept_masks
    wanted = [ImageConcept(image.index, atom.label_id, image.size) for atom in atoms]
    found = [] if masks is None else [masks.mask(concept) for concept in wanted]
    paths = ((atom.color, mask.path) for atom, mask in zip(atoms, found, strict=False) if mask is not None)
    return FormulaImage(image, tuple((color, path) for color, path in paths if path))
