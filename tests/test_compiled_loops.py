"""Compiled loops never leave their arrays, whatever the labels are: none, at the ends, in the middle, of one cell."""

import re
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
import torch
from numba.core.registry import CPUDispatcher
from numpy.testing import assert_allclose
from polars.testing import assert_frame_equal
from torch import nn

import drawn_codes
import guarded
import oracle
import strategies
from formula_oracle import as_table, draw_images
from netdissect import jit
from netdissect.activations import topk
from netdissect.concepts import Size
from netdissect.config import DissectConfig, Execution, ProtocolName, StatisticsConfig
from netdissect.dissect import dissect
from netdissect.dissect.compose import permuted_rows
from netdissect.evaluation.dictionaries.logistic_probes import UnitProbes
from netdissect.evaluation.dictionaries.probe_scores import heldout_scores
from netdissect.experiments.concept_vectors.cell_masks import best_thresholds
from netdissect.models import Network, Preprocessing
from netdissect.models.dictionaries.sparse_dictionary import DictionaryWeights, SparseDictionary
from netdissect.plots import outlines
from netdissect.result import Result
from netdissect.scoring.formulas import FormulaResult, FormulaSearch, SearchOptions
from netdissect.scoring.formulas.image_rows import UnitRuns, count_mask_rows
from netdissect.scoring.formulas.search import Restriction
from netdissect.scoring.statistics import bootstrap, permutation_kernel
from networks import COVERAGE, SIDE, build, images

# Everything that can be asked for, little of each.
ASKED = (
    StatisticsConfig(bootstrap=4, holdout=0.5, sensitivity=(0.2,), permutations=2, extra_metrics=True, moments=True),
    StatisticsConfig(bootstrap=3, holdout=0.3, permutations=2, null="locations", iqr=True),
    StatisticsConfig(bootstrap=0, permutations=0),
)
EMPTY = oracle.OracleImage((np.zeros((12, 12), np.int64),), (), Size(12, 12))


def one_unit() -> Network:
    """A network of one unit with one cell."""
    module = nn.Sequential(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1))
    half = (127.5 / 255,) * 3
    return Network("one", module, Preprocessing(Size(SIDE, SIDE), half, (128 / 255,) * 3))


def latents() -> Network:
    """A network with a layer of which only the active cells are kept; some units are active in few of them."""
    plain, drawn = build(), torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 4, generator=drawn)
    weights = DictionaryWeights(matrix, torch.zeros(12), matrix, torch.zeros(4))
    return replace(plain, bases={"wide_relu@sae": SparseDictionary("wide_relu", weights, k=2)})


def labels_of(case: str) -> list[oracle.OracleImage]:
    """Draw the labels of some images."""
    drawn = images(5)
    objects = list(COVERAGE["object"])
    return {
        "empty first, middle and last": [EMPTY, drawn[0], EMPTY, drawn[1], drawn[2], EMPTY],
        "empty batches": [EMPTY] * 3 + drawn[:2] + [EMPTY] * 3,
        "nothing at all": [EMPTY] * 4,
        "no labels in a category": [
            oracle.OracleImage(
                tuple(np.where(np.isin(p, objects), 0, p) for p in one.label_channels), one.image_level, one.size
            )
            for one in drawn[:4]
        ],
        "one image": drawn[:1],
        "one empty image": [EMPTY],
    }[case]


CASES = ("empty first, middle and last", "empty batches", "nothing at all", "no labels in a category", "one image",
         "one empty image")  # fmt: skip


def dissected(
    root: Path, name: ProtocolName, network: Network, layers: tuple[str, ...], asked: StatisticsConfig
) -> Result:
    config = DissectConfig(
        layers=layers,
        protocol=strategies.definition(name, 0.05, 8).protocol,
        batch_size=3,
        top_images=2,
        statistics=asked,
    )
    return dissect(network, root, config=config, execution=Execution(activation_cache="sparse"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_index_leaves_its_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    root = strategies.write_broden(tmp_path / "data", labels_of(case), COVERAGE, image=(SIDE, SIDE))
    jobs: list[tuple[ProtocolName, Network, tuple[str, ...], StatisticsConfig]] = [
        ("paper", build(), ("wide_relu", "fc"), ASKED[0]),
        ("pnas2020", build(), ("wide_relu", "fc"), ASKED[1]),
        ("original", one_unit(), ("0", "1"), ASKED[0]),
        ("lite", one_unit(), ("0", "1"), ASKED[1]),
        ("paper", latents(), ("wide_relu@sae",), ASKED[0]),
    ]
    # No room to spare: bounds of the largest values rise on tiny data, too.
    monkeypatch.setattr(topk, "buffer_capacity", lambda keep, total: min(total, keep + 3))
    compiled = [dissected(root, *job) for job in jobs]
    drawn, found, probed = outlines_of_masks(), formulas_of_masks(), probes_of_cells()
    names, calls = guarded.guard_all(monkeypatch)
    assert outlines_of_masks() == drawn
    assert formulas_of_masks() == found
    assert_allclose(probes_of_cells(), probed, rtol=1e-12)
    for job, expected in zip(jobs, compiled, strict=True):
        assert_same_tables(dissected(root, *job), expected)
    if case == CASES[0]:
        # Loops of activation ranges run where ranges are asked for; other tests may have imported them. Label sets are
        # counted where an image has many labels, as in the next test.
        others = r"activations\.clusters|range_rows|permutation_sets"
        assert calls.keys() == {name for name in names if not re.search(others, name)}


@pytest.mark.slow
def test_no_index_leaves_its_array_where_masks_are_counted_by_label_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = strategies.write_broden(tmp_path / "data", labels_of(CASES[0]), COVERAGE, image=(SIDE, SIDE))
    jobs: list[tuple[ProtocolName, StatisticsConfig]] = [("paper", ASKED[1]), ("lite", ASKED[0])]
    compiled = [dissected(root, name, build(), ("wide_relu",), asked) for name, asked in jobs]
    monkeypatch.setattr(permutation_kernel, "MOST_BLOCKS", 0)
    names, calls = guarded.guard_all(monkeypatch)
    for (name, asked), expected in zip(jobs, compiled, strict=True):
        assert_same_tables(dissected(root, name, build(), ("wide_relu",), asked), expected)
    of_sets = {name for name in names if "permutation_sets" in name}
    assert of_sets
    assert of_sets <= calls.keys()


# What a run with default options calls; the scoring kernel calls `any_above` itself.
DEFAULT_LOOPS = {
    "activations.histogram._count", "activations.histogram._find_bins", "activations.image_values._largest",
    "activations.store._scatter", "activations.store._select", "activations.top_images._insert",
    "activations.topk._keep_largest", "concepts.label_sets._split_sets", "scoring.kernel._count_images",
    "scoring.statistics.bootstrap._find_pairs", "scoring.statistics.bootstrap.add_weighted",
    "scoring.statistics.jackknife._add_masks",
    "scoring.statistics.permutation._find_best", "scoring.statistics.permutation_kernel._count_images",
}  # fmt: skip


def test_a_default_run_compiles_each_of_its_loops_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = strategies.write_broden(tmp_path / "data", images(5), COVERAGE, image=(SIDE, SIDE))
    signatures: defaultdict[str, set[object]] = defaultdict(set)

    def recorded(name: str, loop: Any) -> Callable[..., Any]:
        def called(*arrays: object) -> Any:
            signatures[name].add(tuple(map(numba.typeof, arrays)))
            return loop(*arrays)

        return called

    for module in [module for name, module in sys.modules.items() if name.startswith("netdissect.")]:
        for name, loop in list(vars(module).items()):
            if isinstance(loop, CPUDispatcher) and isinstance(loop._cache, jit._Cache) and name != "any_above":
                home = loop.py_func.__module__.removeprefix("netdissect.")
                monkeypatch.setattr(module, name, recorded(f"{home}.{name}", loop))
    dissected(root, "paper", build(), ("wide_relu", "fc"), StatisticsConfig())
    assert signatures.keys() == DEFAULT_LOOPS
    assert {name: found for name, found in signatures.items() if len(found) > 1} == {}


def outlines_of_masks() -> list[str]:
    """Outline masks of several sizes, with corners, holes and nothing inside."""
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 4), (5, 7), (12, 12)]
    masks = [rng.random(size) > share for size in sizes for share in (0, 0.5, 1)]
    return [text for mask in masks for text in (outlines.mask_path(mask), outlines.mask_runs_text(mask))]


def formulas_of_masks() -> list[FormulaResult]:
    """Search for formulas under both restrictions; some label sets are empty, some concepts never occur."""
    images, category_of = draw_images(seed=2, concepts=4, categories=2, images=2)
    table, active = as_table(images, category_of)
    runs = UnitRuns(*(np.array(column, np.uint32) for column in ([0, 1, 1], [0, 0, 5], [1, 2, 1])))
    assert count_mask_rows(runs, np.array([0, 1, 0, 0, 0, 2], np.int32), 0, 3).active.tolist() == [1, 1, 1, 1]
    counts = np.zeros((2, 3), np.uint32)
    permuted_rows._add_runs(*runs, np.array([0, 1, 0, 0, 0, 2], np.int32), counts)
    assert counts.tolist() == [[1, 0, 0], [1, 1, 1]]
    restrictions: tuple[Restriction, ...] = ("none", "annotated")
    return [FormulaSearch(table, SearchOptions(4, restriction=name)).find(active) for name in restrictions]


def probes_of_cells() -> npt.NDArray[np.float64]:
    """Probe drawn codes for concepts, score the probes, and threshold a unit; one concept never occurs."""
    labels = drawn_codes.drawn_concepts()
    codes = drawn_codes.drawn_codes(labels, True)
    probes = UnitProbes.of(codes, labels).best()
    scores, swept = heldout_scores(codes, labels, probes, 0, 2), best_thresholds(codes.toarray()[:, 0], labels)
    return np.stack([probes.loss, scores.average_precision, scores.loss, swept.threshold, swept.iou])


def assert_same_tables(found: Result, expected: Result) -> None:
    """Compare tables: compiled loops may sum in another order, so numbers that are no counts agree to rounding."""
    for name, layer in found.layers.items():
        other = expected.layers[name]
        for table in ("thresholds", "units", "scores", "top"):
            assert_frame_equal(getattr(layer, table), getattr(other, table))
        for table, frame in layer.statistics.items():
            assert_frame_equal(frame.collect(), other.statistics[table].collect(), abs_tol=1e-6)


def test_an_index_beyond_an_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.guard_all(monkeypatch)
    sums = np.zeros((2, 3), np.int64)
    ones, weights = np.ones(1, np.int64), np.ones((1, 3), np.uint8)
    for row, target in ((1, 0), (-1, 0), (0, 2), (0, -1)):
        with pytest.raises(IndexError, match="leaves an array"):
            bootstrap.add_weighted(target * ones, row * ones, ones, weights, sums)
    bootstrap.add_weighted(ones, 0 * ones, 5 * ones, weights, sums)
    assert sums.tolist() == [[0, 0, 0], [5, 5, 5]]
