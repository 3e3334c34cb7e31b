"""What the page of interventions shows: units of a generator that were changed, and the areas of concepts.

open_interventions(files, runs) -> tuple of InterventionView      of `netdissect intervene RUN --json > FILE`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netdissect.config import one_or_more
from netdissect.counted import counted
from netdissect.errors import ResultError
from netdissect.experiments.interventions.intervention_files import SavedIntervention, read_intervention
from netdissect.plots.generators.intervention import shown_effects
from netdissect.report import urls
from netdissect.report.layer_tables import NumberedRun, concept_indices
from netdissect.scoring.number_text import change_text

Interventions = Sequence[str | Path] | str | Path


@dataclass(frozen=True)
class EffectView:
    """The effect of one set of units on one concept, in shares of the image.

    Attributes
    ----------
    name
        The concept; of several sets of units, the units.
    url
        Of its page; None: it has none.
    values
        The columns of `ConceptEffect`.
    """

    name: str
    url: str | None
    values: Mapping[str, Any]


@dataclass(frozen=True)
class InterventionView:
    """An intervention.

    Attributes
    ----------
    saved
        Everything that was measured.
    title
        What was done.
    sentence
        What became of the concept.
    run
        Title of the run.
    layer_url
        Of the page of the layer.
    units
        The units that were changed, with the address of their pages, at most twenty.
    effects
        The rows that are shown; see `netdissect.plots.generators.intervention.shown_effects`.
    """

    saved: SavedIntervention
    title: str
    sentence: str
    run: str
    layer_url: str
    units: tuple[tuple[int, str | None], ...]
    effects: tuple[EffectView, ...]

    @property
    def several(self) -> bool:
        """Whether each unit was changed alone."""
        return len(self.saved.units) > 1

    @property
    def hidden(self) -> int:
        """Effects that are in the file and not shown."""
        every = len(self.saved.units) if self.several else len(self.saved.effects)
        return every - len(self.effects)


def open_interventions(files: Interventions, runs: Sequence[NumberedRun]) -> tuple[InterventionView, ...]:
    """Read interventions, and find the run of each.

    Raises
    ------
    ResultError
        If a file holds no intervention, or none of the runs is that of its generator.
    """
    given: Any = files
    several: tuple[str | Path, ...] = one_or_more(given)
    return tuple(_view(path, read_intervention(path), runs) for path in several)


def _view(path: str | Path, saved: SavedIntervention, runs: Sequence[NumberedRun]) -> InterventionView:
    run = next((run for run in runs if _is_of(saved, run)), None)
    if run is None:
        raise ResultError(
            f"{path} is an intervention in layer {saved.layer!r} of the generator {saved.generator!r} "
            f"({saved.generator_digest[:12]}), which none of the runs dissects. Expected the run in which it was made: "
            f"{', '.join(run.name for run in runs)}."
        )
    index, indices = list(run.result.layers).index(saved.layer), concept_indices(runs)
    several = len(saved.units) > 1
    effects = []
    for row in shown_effects(saved.table).iter_rows(named=True):
        units, concept = saved.units[row["set"]], indices.get(row["concept"])
        url = None if concept is None else urls.concept(concept)
        if several:
            url = run.unit_url(index, units[0]) if len(units) == 1 else None
        effects.append(EffectView(saved.set_names[row["set"]] if several else row["concept"], url, row))
    units = () if several else saved.units[0][:20]
    return InterventionView(
        saved, _title(saved), _sentence(saved, effects[0]), run.name, urls.layer(run.index, index),
        tuple((unit, run.unit_url(index, unit)) for unit in units), tuple(effects),
    )  # fmt: skip


def _is_of(saved: SavedIntervention, run: NumberedRun) -> bool:
    layer = run.result.layers.get(saved.layer)
    largest = max(unit for units in saved.units for unit in units)
    return run.result.info.network.digest == saved.generator_digest and layer is not None and largest < layer.info.units


def _title(saved: SavedIntervention) -> str:
    done = {"ablate": "ablated", "insert": "inserted"}[saved.how]
    units = counted(len(saved.units), "units") + ", each alone," if len(saved.units) > 1 else saved.set_names[0]
    return f"{saved.concept}: {units} {done}"


def _sentence(saved: SavedIntervention, first: EffectView) -> str:
    row = first.values

    def interval(name: str, prefix: str) -> str:
        effect, low, high = (change_text(row[key]) for key in (name, f"{prefix}_low", f"{prefix}_high"))
        return f"{effect} % of the image [{low}, {high}]"

    which = f"{first.name} changes it most: " if len(saved.units) > 1 else ""
    none = row["ci_low"] <= 0 <= row["ci_high"]
    return (
        f"{which}the area of {saved.concept} changes by {interval('effect', 'ci')}"
        f"{', an interval that includes 0' if none else ''}; random sets of as many units change it by "
        f"{interval('control_effect', 'control')}."
    )
