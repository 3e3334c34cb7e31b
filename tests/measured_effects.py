"""What an intervention measured, invented: effects on concepts, and a map of insertion."""

from collections.abc import Sequence
from typing import Any

import numpy as np

LONG = "a concept with a name that is much too long"


def effects(concepts: Sequence[tuple[str, str]], sets: int = 1) -> list[dict[str, Any]]:
    """Return a row for each set and concept; the first concept is the one that was asked for."""
    rng, rows = np.random.default_rng(0), []
    for number in range(sets):
        for concept, category in concepts:
            row: dict[str, Any] = {"set": number, "concept": concept, "category": category}
            before = float(rng.uniform(0.1, 0.3))
            for name, prefix in (
                ("effect", "ci"), ("control_effect", "control"), ("matched_effect", "matched"), ("excess", "excess")
            ):  # fmt: skip
                effect, half = float(rng.normal(0, 0.05)), float(rng.uniform(0.001, 0.02))
                row |= {name: effect, f"{prefix}_low": effect - half, f"{prefix}_high": effect + half}
            rows.append(row | {"before": before, "after": before + row["effect"]})
    return rows


def cells(side: int = 3) -> list[dict[str, Any]]:
    """Return a map in which insertion works in the first row alone."""
    return [
        {"row": 2 * row, "column": 2 * column, "y": row + 0.5, "x": column + 0.5, "effect": 0.01 * (column + 1),
         "ci_low": 0.001 if row == 0 else -0.002, "ci_high": 0.05}
        for row in range(side) for column in range(side)
    ]  # fmt: skip


def intervention(digest: str, layer: str, concepts: Sequence[tuple[str, str]], **fields: Any) -> dict[str, Any]:
    """Return what `netdissect intervene --json` prints."""
    made = {
        "generator": "drawing", "generator_digest": digest, "segmenter": "onnx:a.onnx", "layer": layer,
        "units": [[0, 1]], "concept": concepts[0][0], "how": "ablate", "at": None, "samples": 12,
        "effects": effects(concepts), "map": [], "strengths": [],
    }  # fmt: skip
    return made | fields
