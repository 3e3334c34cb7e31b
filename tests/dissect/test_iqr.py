"""Thresholds and labels of the highest information quality ratio of whole runs, against masks of single pixels."""

from pathlib import Path

import numpy as np
import pytest

import netdissect
import oracle
import run_asserts
import strategies
from netdissect.config import DissectConfig, Execution, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.errors import ConfigError
from netdissect.result import Result
from netdissect.scoring.iqr.information_quality import FRACTIONS
from networks import FIELDS, SIDE, build

LAYERS = ("wide_relu", "deep_relu")
CONFIG = DissectConfig(
    layers=LAYERS, protocol=strategies.definition("paper", 0.05).protocol, batch_size=3,
    statistics=StatisticsConfig(bootstrap=0, permutations=0, iqr=True),
)  # fmt: skip


def run(broden: Path, **how: object) -> Result:
    return dissect(build(), broden, config=CONFIG, execution=Execution(**how))  # type: ignore[arg-type]


def entropy(*shares: float) -> float:
    return -sum(share * np.log(share) for share in shares if share > 0)


def ratio(active: np.ndarray, concept: np.ndarray) -> float:
    """Return (H(u) + H(c) - H(u, c)) / H(u, c), which is I / H."""
    joint = entropy(*(((active == a) & (concept == c)).mean() for a in (False, True) for c in (False, True)))
    parts = [entropy(each.mean(), 1 - each.mean()) for each in (active, concept)]
    return (sum(parts) - joint) / joint if joint else 0.0


@pytest.mark.usefixtures("tight")
def test_each_unit_has_the_threshold_and_label_of_its_highest_ratio(broden: Path) -> None:
    network, known = build(), oracle.read_broden(broden)
    result = dissect(network, broden, config=CONFIG)
    maps = run_asserts.hooked(network, broden, known.images, list(LAYERS), 3)
    found = 0
    for name in LAYERS:
        rows = {row["unit"]: row for row in result.layer(name).statistics["iqr"].collect().to_dicts()}
        large = [
            np.stack([oracle.upsample(unit, its.size, (SIDE, SIDE), FIELDS[name], "field") for unit in image])
            for image, its in zip(maps[name], known.source_images, strict=True)
        ]
        for unit in range(min(maps[name].shape[1], 5)):
            values = np.sort(maps[name][:, unit].ravel())[::-1]
            best = (-1.0, 0, 0)
            for label, category in known.category_of.items():
                chosen = [
                    (large[index][unit].ravel(), np.any([c == label for c in its.channels()], axis=0).ravel())
                    for index, its in enumerate(known.source_images)
                    if any(known.category_of[other] == category for other in its.label_ids())
                ]
                heights, concept = map(np.concatenate, zip(*chosen, strict=True))
                for fraction in FRACTIONS:
                    threshold = values[int(np.floor(fraction * len(values)))]
                    mask = heights > threshold
                    if threshold > 0 and concept.mean() >= 1e-3 and (mask == concept).mean() > 0.8:
                        best = max(best, (ratio(mask, concept), -fraction, -label))
            if unit not in rows:
                assert best[0] <= 0
                continue
            found += 1
            row = rows[unit]
            assert row["iqr"] == pytest.approx(best[0], abs=1e-9)
            assert (row["quantile"], row["label_id"]) == (pytest.approx(-best[1]), -best[2])
            assert row["threshold"] == values[int(np.floor(row["quantile"] * len(values)))]
    assert found > 3


def test_the_iou_is_that_of_a_run_at_the_fraction_that_was_found(broden: Path) -> None:
    rows = run(broden).layer("wide_relu").statistics["iqr"].collect()
    row = rows.row(0, named=True)
    at = CONFIG.model_copy(
        update={
            "statistics": StatisticsConfig(bootstrap=0, permutations=0),
            "protocol": CONFIG.protocol.model_copy(update={"quantiles": (row["quantile"],)}),
        }
    )
    scores = dissect(build(), broden, config=at).layer("wide_relu").scores
    assert row["iou"] == scores.filter(unit=row["unit"], label_id=row["label_id"])["iou"][0]


def test_stores_and_engines_give_the_same_table(broden: Path) -> None:
    first, *others = [
        run(broden, activation_cache="dense"), run(broden, activation_cache="none"), run(broden, engine="tensor"),
    ]  # fmt: skip
    for name in LAYERS:
        expected = first.layer(name).statistics["iqr"].collect()
        for other in others:
            assert other.layer(name).statistics["iqr"].collect().equals(expected)
    assert "label by IQR" in str(netdissect.console_tables.units(first, LAYERS[0]))


def test_a_shard_is_refused(broden: Path, tmp_path: Path) -> None:
    shard = netdissect.Shard.parse("1/2")
    with pytest.raises(ConfigError, match=r"a shard cannot search for the highest information quality"):
        netdissect.dissect_shard(build(), broden, config=CONFIG, shard=shard, out=tmp_path / "run")
