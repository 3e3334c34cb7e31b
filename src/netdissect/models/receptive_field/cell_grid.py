"""The grid of cells to which the codes of a tensor refer, with the receptive fields of its rows and columns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netdissect.models.receptive_field.axis import ReceptiveField, ReceptiveFieldAxis
from netdissect.models.receptive_field.cell_codes import HORIZONTAL, VERTICAL


@dataclass(frozen=True, slots=True)
class CellGrid:
    """Rows and columns of cells.

    Attributes
    ----------
    rows, columns
        Number of cells; 1 in a direction that was pooled as a whole.
    field
        Their receptive fields.
    enlarged
        Directions that were interpolated. They do not decide where branches meet.
    """

    rows: int
    columns: int
    field: ReceptiveField
    enlarged: frozenset[str] = frozenset()

    def length(self, direction: str) -> int:
        """Return the number of cells along a direction."""
        return self.rows if direction == VERTICAL else self.columns

    def axis(self, direction: str) -> ReceptiveFieldAxis:
        """Return the receptive fields along a direction."""
        return self.field.vertical if direction == VERTICAL else self.field.horizontal

    def changed(
        self, lengths: Mapping[str, int], axes: Mapping[str, ReceptiveFieldAxis], enlarged: Iterable[str] = ()
    ) -> "CellGrid":
        """Return a grid with other cells along some directions."""
        return CellGrid(
            lengths.get(VERTICAL, self.rows),
            lengths.get(HORIZONTAL, self.columns),
            ReceptiveField(axes.get(VERTICAL, self.field.vertical), axes.get(HORIZONTAL, self.field.horizontal)),
            self.enlarged | frozenset(enlarged),
        )
