"""What `netdissect intervene --json` prints, as a file that a report shows and a figure draws; loads no torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netdissect.errors import ResultError


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ConceptEffect(_Row):
    """How the area of a concept changes where a set of units is changed; shares of the image."""

    set: int = Field(ge=0, description="Index of the set of units.")
    concept: str
    category: str
    before: float
    after: float
    effect: float = Field(description="Mean of after less before over samples.")
    ci_low: float = Field(description="95 % interval of the mean.")
    ci_high: float
    control_effect: float = Field(description="The same for random sets of as many other units.")
    control_low: float
    control_high: float
    matched_effect: float = Field(description="The same for other units of the most similar mean activation.")
    matched_low: float
    matched_high: float
    excess: float = Field(description="Effect less control effect, paired by sample.")
    excess_low: float
    excess_high: float


class MapCell(_Row):
    """The effect of units that are inserted in one cell of the layer."""

    row: int
    column: int
    y: float
    x: float
    effect: float
    ci_low: float
    ci_high: float


class SavedIntervention(BaseModel):
    """A finished intervention; what it does not name is not read.

    Attributes
    ----------
    generator, generator_digest
        Name and digest of the generator of the run.
    segmenter
        Specification of the segmenter that measured areas.
    layer, units
        The layer, and the sets of its units that were changed.
    concept, how, at
        What was asked for; see `InterveneConfig`.
    samples
        How many were drawn.
    effects
        Each set of units and concept, the concept that was asked for first.
    map
        Where insertion works; empty: not measured.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    generator: str
    generator_digest: str
    segmenter: str
    layer: str
    units: tuple[Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)], ...] = Field(min_length=1)
    concept: str
    how: Literal["ablate", "insert"]
    at: tuple[int, int] | None = None
    samples: int
    effects: tuple[ConceptEffect, ...] = Field(min_length=1)
    map: tuple[MapCell, ...] = ()

    @property
    def table(self) -> pl.DataFrame:
        """The effects, as `Intervention.table` has them."""
        return pl.DataFrame([effect.model_dump() for effect in self.effects])

    @property
    def map_table(self) -> pl.DataFrame:
        """The map, as `Intervention.map` has it."""
        return pl.DataFrame([cell.model_dump() for cell in self.map])

    @property
    def set_names(self) -> list[str]:
        """The units of each set, in words."""
        return [set_name(units) for units in self.units]


def set_name(units: tuple[int, ...]) -> str:
    """Name the units of a set.

    >>> set_name((4,)), set_name((1, 2, 3, 4, 5, 6))
    ('unit 4', 'units 1, 2, 3, 4 and 2 more')
    """
    if len(units) == 1:
        return f"unit {units[0]}"
    return f"units {', '.join(map(str, units[:4]))}" + (f" and {len(units) - 4} more" if len(units) > 4 else "")


def read_intervention(path: str | Path) -> SavedIntervention:
    """Read the JSON of `netdissect intervene --json`.

    Raises
    ------
    ResultError
        If it cannot be read, or is none.
    """
    try:
        saved = SavedIntervention.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ResultError(f"{path} cannot be read ({error}). Expected {_EXPECTED}.") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ResultError(f"{path} is no intervention: {where}: {first['msg']}. Expected {_EXPECTED}.") from error
    sets = {effect.set for effect in saved.effects}
    if sets != {*range(len(saved.units))}:
        raise ResultError(
            f"{path} has effects of {len(sets)} sets of units, but names {len(saved.units)}. Expected {_EXPECTED}."
        )
    return saved


_EXPECTED = "a file that 'netdissect intervene RUN ... --json > FILE' wrote"
