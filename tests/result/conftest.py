"""A result with two layers, made from random counts."""

from pathlib import Path

import numpy as np
import pytest

import strategies
from netdissect.concepts import Concept, ConceptData, Size
from netdissect.concepts.broden_files import IndexRow
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.result import DataInfo, Environment, LayerInfo, LayerResult, NetworkInfo, Result, RunInfo
from netdissect.result.tables import concept_table, score_table, threshold_table, top_table, unit_table
from netdissect.scoring import ConceptTotals, FieldSpan, FieldSpans, IoUCounts

QUANTILES = (0.005, 0.02)
CATEGORIES = ("object", "part", "color", "glow")  # the last has concepts, but no unit meets one
NAMES = ("car", "tree, tall", 'the "big" one', "wheel", "red-c", "dusk")


def _data() -> ConceptData:
    places = (0, 0, 1, 1, 2, 3)
    concepts = tuple(
        Concept(3 * i + 1, name, CATEGORIES[place], 5, 2.5)
        for i, (name, place) in enumerate(zip(NAMES, places, strict=True))
    )
    rows = tuple(IndexRow(f"sub/image {i}.jpg", "train", Size(4, 4), (), (1,)) for i in range(6))
    return ConceptData(Path("nowhere"), CATEGORIES, concepts, rows)


def _layer(data: ConceptData, name: str, units: int, seed: int, totals: ConceptTotals) -> LayerResult:
    rng = np.random.default_rng(seed)
    counts = IoUCounts.zeros(len(QUANTILES), units, data)
    counts.intersection[:] = rng.integers(0, 40, counts.intersection.shape)
    counts.activation[:] = rng.integers(40, 400, counts.activation.shape)
    counts.intersection[:, :, data.concepts[-1].label_id] = 0
    counts.intersection[:, 0] = 0  # unit 0 meets nothing
    maps = strategies.activations(rng, "normal", (units, 3, 2, 5))
    maxima = np.sort(maps.max(axis=(2, 3)))[:, ::-1].astype(np.float32)
    rows = np.tile(np.array([2, 0, -1]), (units, 1))
    limits = rng.normal(size=(len(QUANTILES), units)).astype(np.float32)
    thresholds = threshold_table(limits, maxima[:, 0], QUANTILES)
    field = FieldSpans(FieldSpan(-3, 7.5, 2), FieldSpan(0.5, 1, 1)) if seed else None
    return LayerResult(
        info=LayerInfo(name=name, type="Conv2d", units=units, height=2, width=5, field=field),
        thresholds=thresholds,
        units=unit_table(data, totals, counts, thresholds),
        lazy_scores=score_table(data, totals, counts, Protocol(quantiles=QUANTILES)),
        top=top_table(rows, maxima, data),
        top_maps=maps,
    )


@pytest.fixture(scope="session")
def result() -> Result:
    data = _data()
    rng = np.random.default_rng(9)
    numbers = len(data.category_of)
    totals = ConceptTotals(rng.integers(0, 900, numbers), rng.integers(0, 9, numbers), np.full(4, 1000))
    layers = [_layer(data, "features.0/odd name", 7, 0, totals), _layer(data, "layer4", 3, 1, totals)]
    info = RunInfo(
        created="2030-01-02T03:04:05+00:00",
        config=DissectConfig(
            layers=("features.*", "layer4"),
            protocol=Protocol(quantiles=QUANTILES),
            statistics=StatisticsConfig(permutations=0),
        ),
        network=NetworkInfo(name="tiny", digest="ab", size=(8, 8), mean=(0.5,), std=(0.25,)),
        data=DataInfo(root="nowhere", digest="cd", categories=CATEGORIES, images=6),
        layers=tuple(layer.info for layer in layers),
        environment=Environment(netdissect="0", python="3", torch="2", numpy="2", pillow="12", device="cpu", threads=1),
        seconds={"thresholds": 1.5},
    )
    return Result(info, concept_table(data, totals, info.config.protocol), {layer.info.name: layer for layer in layers})
