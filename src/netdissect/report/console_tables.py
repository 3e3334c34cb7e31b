"""Results as tables for the terminal, and as JSON.

Names come from data sets and are put in as plain text: square brackets in them are no markup.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from rich import box
from rich.table import Table
from rich.text import Text

from netdissect.config import RULES, SMALL_DATA, Rule
from netdissect.plots.category_colors import category_colors
from netdissect.report.statistics_text import by_chance, facts_of, layout_of
from netdissect.result import Comparison, LayerCount, LayerInfo, Result
from netdissect.result.queries import (
    best_scores,
    detected_concepts,
    layer_units,
    limits_under,
    run_min_iou,
    run_quantile,
)
from netdissect.result.schema import ATTAINABLE_BESIDE
from netdissect.scoring import DetectorCount
from netdissect.scoring.detectors import limit_in_words

RUNNERS_UP = 3

RULE_NOTES: dict[Rule, str] = {
    "top-label": "top-label: a unit counts once, under its best concept, at an IoU {}.",
    "per-category": "per-category: it counts in every category in which its best concept has an IoU {}.",
}

SIDES = "left, right: units that detect the concept; IoU: of the best unit, a detector or not."


def summary(result: Result, min_iou: float | None = None) -> Table:
    """Return detectors and unique detectors of each layer and category under both rules.

    Parameters
    ----------
    result
        A finished run.
    min_iou
        None: the run's own.
    """
    table = counts([entry for rule in RULES for entry in result.detectors(rule, min_iou)])
    table.title = Text(f"{result.info.network.name} on {result.info.data.images:,} images")
    own = all(result.info.min_iou(name) == run_min_iou(result, name, min_iou) for name in result.layers)
    said = [f"{name}: {what}" for name, layer in result.layers.items() for what in _geometry(result, layer.info)]
    if result.info.nondeterministic is not None:
        said.append(f"The network does not repeat itself, which was accepted: {result.info.nondeterministic}")
    if lines := [*said, *(certainty(result) if own else [])]:
        table.caption = Text("\n".join([*lines, str(table.caption)]))
    return table


def _geometry(result: Result, layer: LayerInfo) -> Iterator[str]:
    """Say what of a layer's geometry was assumed, and what the layout check did not show."""
    yield from (f"{what}." for what in layer.assumptions)
    if said := layout_of(result.info, layer):
        yield said


def certainty(result: Result) -> list[str]:
    """Return lines that say how sure the unique detectors and labels of each layer are, as far as the run measured it.

    Such as ``layer4 at 0.005: 61 unique detectors [55, 66], 2.1 expected by chance``. The interval is of 95 %, over
    images, and set right for the detectors that noise adds: see
    `netdissect.scoring.statistics.bootstrap.interval_of_counts`. What
    follows it is of the layer's detectors: see `netdissect.report.statistics_text.facts_of`.
    """
    lines = []
    for name, layer in result.layers.items():
        if "counts" not in layer.evidence:
            continue
        totals = layer.evidence["counts"].filter(rule="top-label", category="total").collect()
        for row in totals.iter_rows(named=True):
            line = f"{name} at {row['quantile']:g}: {row['unique_detectors']} unique detectors"
            if row["unique_detectors_ci_low"] is not None:
                line += f" [{row['unique_detectors_ci_low']:.0f}, {row['unique_detectors_ci_high']:.0f}]"
            if row["null_unique_detectors"] is not None:
                line += f", {row['null_unique_detectors']:.1f} expected by chance"
            facts = facts_of(result, name, row["quantile"])
            lines += [line, *(f"    {what}: {how}" for what, how in facts.items())]
    if result.info.fdr_limits:
        lines.append(by_chance(result.info.fdr_limits))
    return lines


def counts(entries: Sequence[LayerCount]) -> Table:
    """Return counted layers, a row for each layer, quantile and rule, those of a layer together."""
    levels = {entry.layer: entry.count.min_iou for entry in entries}
    counted = {entry.count.rule for entry in entries}
    notes = [note.format(limits_under(rule, levels)) for rule, note in RULE_NOTES.items() if rule in counted]
    categories = _categories([entry.count for entry in entries])
    table = _table(Text(" ".join(["8 / 3: 8 units are detectors, of 3 different concepts.", *notes])))
    table.add_column("layer", overflow="fold")
    table.add_column("quantile", justify="right")
    table.add_column("rule", no_wrap=True)
    table.add_column("units", justify="right")
    for name in ("total", *categories):
        table.add_column(Text(name), justify="right", no_wrap=True)
    layers = list(dict.fromkeys(entry.layer for entry in entries))
    quantiles = list(dict.fromkeys(entry.quantile for entry in entries))
    ordered = sorted(entries, key=lambda entry: (layers.index(entry.layer), quantiles.index(entry.quantile)))
    for index, entry in enumerate(ordered):
        first = index == 0 or ordered[index - 1].layer != entry.layer
        last = index + 1 == len(ordered) or ordered[index + 1].layer != entry.layer
        count = entry.count
        table.add_row(
            Text(entry.layer if first else ""),
            "" if entry.quantile is None else f"{entry.quantile:g}",
            count.rule,
            str(count.units),
            *(_pair(count, name) for name in ("total", *categories)),
            end_section=last,
        )
    return table


def units(result: Result, layer: str, limit: int | None = 20, quantile: float | None = None) -> Table:
    """Return the best units of a layer: label, IoU, the next best concepts.

    Parameters
    ----------
    result
        A finished run.
    layer
        One of its layers.
    limit
        How many; None: all.
    quantile
        None: the run's first.
    """
    quantile, level = run_quantile(result, quantile), run_min_iou(result, layer)
    rows = layer_units(result, layer, quantile, level).sort("iou", "unit", descending=[True, False])
    shown = rows if limit is None else rows.head(limit)
    runners: dict[int, list[tuple[str, float]]] = {}
    best = best_scores(result, layer, quantile, RUNNERS_UP + 1)
    for unit, concept, iou in best.select("unit", "concept", "iou").rows():
        runners.setdefault(unit, []).append((concept, iou))
    colors = category_colors(result.info.data.categories)
    words = limit_in_words("top-label", level)
    table = _table(Text(f"{layer}: {len(shown)} of {len(rows)} units, best first; ● an IoU {words}"))
    for name, justify in (("unit", "right"), ("", "left"), ("label", "left"), ("category", "left"), ("IoU", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    table.add_column("next best", overflow="fold")
    for row in shown.iter_rows(named=True):
        others = [f"{name} {iou:.3f}" for name, iou in runners.get(row["unit"], []) if name != row["label"]]
        table.add_row(
            str(row["unit"]),
            "●" if row["detector"] else "",
            Text(row["label"] or ("dead" if row["dead"] else "none")),
            Text(row["category"] or "", style=colors.get(row["category"] or "", "")),
            f"{row['iou']:.3f}",
            Text(", ".join(others[:RUNNERS_UP])),
        )
    return table


def concepts(result: Result, quantile: float | None = None) -> Table:
    """Return the concepts of a run: how much of the images each covers, and the units that detect it.

    Parameters
    ----------
    result
        A finished run.
    quantile
        None: the run's first.
    """
    quantile = run_quantile(result, quantile)
    found = {
        name: {row["concept"]: row["units"] for row in detected_concepts(result, name, quantile, level).to_dicts()}
        for name, level in ((name, run_min_iou(result, name)) for name in result.layers)
    }
    note = "coverage: share of the pixels annotated in its category; attainable: the largest IoU a mask can reach"
    table = _table(Text(note))
    table.add_column("concept", overflow="fold")
    table.add_column("category")
    attainable = (
        ["max_attainable_iou", ATTAINABLE_BESIDE] if result.info.data.images < SMALL_DATA else ["max_attainable_iou"]
    )
    for name in ("images", "coverage", *(name.replace("_", " ") for name in attainable), *result.layers):
        table.add_column(Text(name), justify="right", overflow="fold")
    colors = category_colors(result.info.data.categories)
    for row in result.concepts.sort("coverage", descending=True).iter_rows(named=True):
        table.add_row(
            Text(row["concept"]),
            Text(row["category"], style=colors.get(row["category"], "")),
            f"{row['images']:,}",
            f"{row['coverage']:.2%}",
            *(f"{row[name]:.3f}" for name in attainable),
            *(str(len(found[name].get(row["concept"], ())) or "") for name in result.layers),
        )
    return table


def difference(compared: Comparison, limit: int | None = 20) -> Table:
    """Return the concepts that gained or lost their detectors between two layers.

    Parameters
    ----------
    compared
        From `netdissect.result.compare_results`.
    limit
        How many of each kind, the highest IoU first; None: all.
    """
    left, right = compared.left, compared.right
    pair = left.layer if left.layer == right.layer else f"{left.layer} → {right.layer}"
    title = Text(f"{pair} at {compared.quantile:g}: {_steps(left.count, right.count)}")
    words = limit_in_words(compared.rule, compared.min_iou)
    table = _table(Text(f"Detectors under {compared.rule}, at an IoU {words}. {SIDES}"))
    table.title = title
    for name in ("", "concept", "category"):
        table.add_column(name, overflow="fold")
    for name in ("left", "right", "left IoU", "right IoU"):
        table.add_column(name, justify="right")
    for change, sign in (("gained", "+"), ("lost", "-")):
        rows = compared.changed(change)
        for row in rows.head(limit if limit is not None else len(rows)).iter_rows(named=True):
            table.add_row(
                sign,
                Text(row["concept"]),
                Text(row["category"]),
                *(
                    "–" if row[f"{side}_detectors"] is None else f"{row[f'{side}_detectors']}"
                    for side in ("left", "right")
                ),
                *("–" if row[f"{side}_iou"] is None else f"{row[f'{side}_iou']:.3f}" for side in ("left", "right")),
            )
        if limit is not None and len(rows) > limit:
            table.add_row(sign, Text(f"… and {len(rows) - limit} more"), "", "", "", "", "")
    return table


def difference_json(compared: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values: both sides' counts, and every concept."""
    return {
        "quantile": compared.quantile,
        "left": {"layer": compared.left.layer, **counts_json(compared.left.count)},
        "right": {"layer": compared.right.layer, **counts_json(compared.right.count)},
        "same_data": compared.same_data,
        "concepts": compared.concepts.to_dicts(),
    }


def _steps(left: DetectorCount, right: DetectorCount) -> str:
    """Say how the counts changed, in all and by category."""
    steps = [
        f"{name} {left.unique_detectors.get(name, 0)} → {right.unique_detectors.get(name, 0)}"
        for name in dict.fromkeys((*left.unique_detectors, *right.unique_detectors))
    ]
    steps[0] = f"unique detectors {steps[0].removeprefix('total ')}"
    return ", ".join(steps)


@overload
def counts_json(counted: DetectorCount) -> dict[str, Any]: ...


@overload
def counts_json(counted: Sequence[LayerCount]) -> list[dict[str, Any]]: ...


def counts_json(counted: DetectorCount | Sequence[LayerCount]) -> dict[str, Any] | list[dict[str, Any]]:
    """Return counts as JSON values.

    Parameters
    ----------
    counted
        Of one published table, or of the layers of a run.

    Returns
    -------
    dict or list of dict
        ``rule``, ``min_iou``, ``units``, and ``detectors`` and ``unique``, both by category and with ``total``;
        in a list each has ``layer`` and ``quantile``, too.
    """
    if isinstance(counted, DetectorCount):
        return {
            "rule": counted.rule,
            "min_iou": counted.min_iou,
            "units": counted.units,
            "detectors": dict(counted.detectors),
            "unique_detectors": dict(counted.unique_detectors),
        }
    return [{"layer": entry.layer, "quantile": entry.quantile, **counts_json(entry.count)} for entry in counted]


def _table(caption: Text) -> Table:
    return Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", title_justify="left", pad_edge=False)


def _categories(each: Sequence[DetectorCount]) -> list[str]:
    names: Mapping[str, None] = dict.fromkeys(name for count in each for name in count.detectors if name != "total")
    return list(names)


def _pair(count: DetectorCount, name: str) -> str:
    detectors, unique = count.detectors.get(name, 0), count.unique_detectors.get(name, 0)
    return f"{detectors} / {unique}" if detectors else "–"
