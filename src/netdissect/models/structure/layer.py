"""A layer: a module of a network whose output has units."""

from dataclasses import dataclass

from netdissect.concepts import Size
from netdissect.models.receptive_field.axis import ReceptiveField
from netdissect.models.receptive_field.axis_layout import Layout, LayoutSource


@dataclass(frozen=True)
class Layer:
    """A module whose output is computed from the image.

    Attributes
    ----------
    name
        Dotted name of the module.
    type
        Name of its class.
    units
        Channels of its output, or columns of a (B, U) output; 0 where its layout is not known.
    grid
        Height and width of its feature map in cells; None for image-level units.
    field
        Receptive field of its cells; None for image-level units, where it is not known, and where cells are assumed to
        cover the image evenly.
    layout
        How its output is read; None: not known, and `reason` says why.
    field_source
        Whether the field was ``traced`` or ``assumed``; None: it is not known, or image-level units have none.
    reason
        Why its layout is not known.
    passes_through
        Whether its output is its input, as that of Identity and Dropout is in evaluation mode.
    sparse
        Whether it is virtual and its units are mostly zero and never negative.
    most_active
        The most units of a sparse layer that are active on a cell; None: its basis does not bound them.
    """

    name: str
    type: str
    units: int
    grid: Size | None
    field: ReceptiveField | None
    layout: Layout | None = None
    field_source: LayoutSource | None = None
    reason: str | None = None
    passes_through: bool = False
    sparse: bool = False
    most_active: int | None = None
