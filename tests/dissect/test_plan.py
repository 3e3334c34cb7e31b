"""The plan of a layer before its threshold pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import strategies
from netdissect.activations.sparse.sparse_store import SparseStore
from netdissect.concepts import ConceptData, Size
from netdissect.concepts.broden_files import IndexRow
from netdissect.concepts.labels import Concept
from netdissect.config import DissectConfig, Protocol, StatisticsConfig
from netdissect.dissect.choices.count_memory import check_counts, count_text
from netdissect.dissect.cost_estimate import _bytes_of_layer, _with_measured_activity
from netdissect.dissect.cost_plan import ACTIVE_UNITS, CostPlan, LayerPlan
from netdissect.dissect.forward import Activations
from netdissect.dissect.statistics.permutation_cost import MEGABYTE, PermutationCost
from netdissect.errors import ConfigError
from netdissect.models import Layer


def test_the_largest_quantile_decides_how_many_values_are_kept() -> None:
    layer = Layer("layer", "Conv2d", 32, Size(14, 14), None)

    def plan(*quantiles: float) -> LayerPlan:
        config = DissectConfig(layers=("layer",), protocol=Protocol(quantiles=quantiles))
        return LayerPlan(layer, Size(224, 224), 100, config)

    few, many = plan(0.005), plan(0.05)
    for both in (plan(0.005, 0.05), plan(0.05, 0.005)):
        assert both.keep == many.keep > few.keep
        assert both.sparse_bytes == many.sparse_bytes > few.sparse_bytes


def test_the_disk_of_a_plan_holds_the_masks_of_all_images_with_and_without_permutations() -> None:
    layer = Layer("layer3", "Sequential", 512, Size(14, 14), None)

    maxima = 4 * 63_305 * 512

    def disk_bytes(permutations: int, *quantiles: float) -> int:
        statistics = StatisticsConfig(permutations=permutations)
        config = DissectConfig(layers=("layer3",), protocol=Protocol(quantiles=quantiles), statistics=statistics)
        plan = LayerPlan(layer, Size(224, 224), 63_305, config)
        return CostPlan((plan,), "none", tensor=False, spilled=frozenset()).disk_bytes - maxima

    # A ResNet-18 on street images has 3.66 runs of 3.79 bytes for each unit and image.
    measured = 3.66 * 3.79 * 63_305 * 512
    assert measured < disk_bytes(100, 0.005) < 1.25 * measured
    assert disk_bytes(0, 0.005) == disk_bytes(100, 0.005)
    assert disk_bytes(1, 0.005, 0.01) == pytest.approx(3 * disk_bytes(100, 0.005), abs=3)


def test_the_cost_of_permutations_is_expected_from_quantiles_units_and_label_maps() -> None:
    layers = [Layer("fine", "Conv2d", 10, Size(28, 28), None), Layer("coarse", "Conv2d", 20, Size(7, 7), None)]
    config = DissectConfig(layers=("fine", "coarse"), protocol=Protocol(quantiles=(0.005, 0.02)))
    plans = [LayerPlan(layer, Size(224, 224), 3, config) for layer in layers]
    rows = [IndexRow("0.jpg", "train", Size(*size), (), ()) for size in ((100, 200), (100, 200), (60, 10))]
    cost = PermutationCost.expected(plans, ConceptData(Path("nowhere"), (), (), tuple(rows)), config)
    # A share of the pixels in runs two cells long, as if each row of a label map had 14 or 3.5 places for them, or 10.
    assert cost.runs == round(0.025 * (10 * (200 * 14 + 60 * 10) + 20 * 260 * 3.5))
    assert (cost.masks, cost.label_ids, cost.images) == ((20, 40), 1, 3)
    assert cost.nanoseconds == 6 * cost.runs + 1000 * 2 * 3 + 5 * 60
    assert cost.text(100, MEGABYTE) == "100 permutations, about 0 s of computing"


def test_the_time_of_permutations_follows_the_number_of_steps_that_memory_allows() -> None:
    cost = PermutationCost(runs=0, masks=(1000, 250), label_ids=100, images=5000)
    counts = 4 * 100 * 50  # bytes of the counts of one mask in fifty permutations
    assert cost.steps(50, 1250 * counts) == 1  # of both layers together
    assert [cost.steps(50, masks * counts) for masks in (1249, 999, 100, 1, 0)] == [2, 3, 13, 1250, 1250]
    text = "50 permutations, about {:.0f} s of computing"
    assert cost.text(50, 1250 * counts) == text.format(50 * cost.nanoseconds / 1e9 + 5)
    assert cost.text(50, 100 * counts) == text.format(50 * cost.nanoseconds / 1e9 + 13 * 5)


def test_the_store_of_a_sparse_layer_is_planned_and_estimated_as_large_as_it_is(tmp_path: Path) -> None:
    layer, rng = (
        Layer("conv@sae", "Conv2d", 200, Size(5, 4), None, sparse=True, most_active=40),
        np.random.default_rng(0),
    )
    plan = LayerPlan(layer, Size(60, 60), 12, DissectConfig(layers=("conv@sae",)))
    cost = CostPlan((plan,), "dense", tensor=False, spilled=frozenset())
    codes = np.zeros((12, 200, 5, 4), np.float32)
    for image, y, x in np.ndindex(12, 5, 4):
        codes[image, rng.choice(200, 40, replace=False), y, x] = 1
    store = SparseStore(tmp_path / "maps", 200, Size(5, 4))
    for start in (0, 4, 8):
        store.append(strategies.sparse_maps(codes[start : start + 4]))
    assert plan.dense_bytes == plan.sparse_bytes == pytest.approx(store.offsets[-1], rel=0.01)
    assert plan.dense_bytes < codes.nbytes
    estimated = _bytes_of_layer(strategies.sparse_maps(codes[:4]), cost, plan, tmp_path)
    assert estimated == pytest.approx(store.offsets[-1], rel=0.01)
    assert str(cost).endswith(
        "(activation cache: dense); of 1 sparse layer with 200 units only active cells are kept, expected for 40 "
        "active units on each cell"
    )
    unbounded = replace(plan, layer=replace(layer, most_active=None))
    assert replace(cost, layers=(plan, unbounded)).sparse_text.endswith(
        "expected for 40 to 64 active units on each cell"
    )


def test_an_estimate_expects_as_many_active_units_as_a_sparse_layer_has_on_its_sample() -> None:
    layer = Layer("conv@sae", "Conv2d", 200, Size(5, 4), None, sparse=True)
    plan = LayerPlan(layer, Size(60, 60), 12, DissectConfig(layers=("conv@sae",)))
    codes = np.zeros((4, 200, 5, 4), np.float32)
    codes[:, :30] = codes[:2, 30:40] = 1
    cost = CostPlan((plan,), "dense", tensor=False, spilled=frozenset())
    (measured,) = _with_measured_activity(
        cost, Activations(np.arange(4), {"conv@sae": strategies.sparse_maps(codes)})
    ).layers
    assert (plan.active_units, measured.active_units) == (64, 35)
    assert measured.active_values == 12 * 20 * 35


def test_permutations_of_a_sparse_layer_move_fewer_runs_than_its_quantile_asks() -> None:
    config = DissectConfig(layers=("conv@sae",))
    rows = [IndexRow("0.jpg", "train", Size(100, 200), (), ())]
    data = ConceptData(Path("nowhere"), (), (), tuple(rows))

    def runs(**activity: Any) -> int:
        layer = Layer("conv@sae", "Conv2d", 20_000, Size(14, 14), None, **activity)
        return PermutationCost.expected([LayerPlan(layer, Size(224, 224), 1, config)], data, config).runs

    assert runs() == runs(sparse=True, most_active=200) == 0.005 * 20_000 * 100 * 7
    assert runs(sparse=True, most_active=50) == runs() / 2


def test_the_maps_of_a_sparse_layer_take_no_more_than_its_active_cells() -> None:
    layer, config = Layer("conv@sae", "Conv2d", 16_384, Size(14, 14), None), DissectConfig(layers=("conv@sae",))
    dense, sparse = (LayerPlan(replace(layer, sparse=sparse), Size(224, 224), 100, config) for sparse in (False, True))
    assert dense.top_image_bytes == 4 * 16_384 * config.top_images * 196
    assert sparse.top_image_bytes == sparse.range_bytes == 16 * 100 * 196 * ACTIVE_UNITS
    # Of 64 units of 16,384 on each cell fewer cells are active than the quantile asks.
    assert sparse.mask_bytes < dense.mask_bytes


def test_counts_of_very_many_units_are_stated_and_refused_where_they_do_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    concepts = tuple(Concept(number, f"{number}", "object", 1, 1.0, ()) for number in range(1, 1198))

    def stated(units: int, active: int | None = None, images: int = 0, **statistics: Any) -> str:
        rows = (IndexRow("0.jpg", "train", Size(100, 200), (), ()),) * images
        data = ConceptData(Path("nowhere"), ("object",), concepts, rows)
        config = DissectConfig(layers=("conv",), statistics=StatisticsConfig(**statistics))
        layers = [Layer("conv", "Conv2d", units, Size(14, 14), None, sparse=active is not None, most_active=active)]
        check_counts(layers, data, config, 512)
        return count_text(layers, data, config, 512)

    monkeypatch.setattr("os.sysconf", lambda _: 55_000)  # 3 GB
    assert stated(512) == ""
    text = "; counts of 65,536 units and 1,197 concepts and their statistics take up to {} more"
    # A number for each concept, bin of the histogram and cell of the firing map: 8 * 65,536 * (1,198 + 641 + 196);
    # and 2**28 bytes of what is read and freed again and again.
    plain = {"bootstrap": 0, "permutations": 0}
    assert stated(65_536, **plain) == text.format("1.34 GB")
    # Without bins of negative values; five arrays of 2**23 counts or IoUs are 336 MB.
    assert stated(65_536, active=45, holdout=0.5, **plain) == text.format("1.5 GB")
    # At most 45 / 0.0045 = 10,000 units have a threshold above 0, at each of two quantiles nearby: 192 MB. 2**25 sums
    # of replicates and 1,000 labels of each unit: 400 MB.
    assert stated(65_536, active=45, permutations=0, holdout=0.5) == text.format("1.76 GB")
    # 512 MB of counts, and 28 bytes of each unit and permutation: 720 MB.
    assert stated(65_536, active=45) == text.format("2.08 GB")
    # At most 4e6 * 63,305 / (5 * 65,536 * 1,198 + 1,000 * 63,305) = 555 permutations in place of 100: 835 MB more.
    assert stated(65_536, active=45, images=63_305, permutations="auto") == text.format("2.91 GB")
    with pytest.raises(
        ConfigError,
        match=r"up to 4\.63 GB of memory; this machine has 3\.02 GB\. Leave intervals and permutations out .*: 1\.9 GB",
    ):
        stated(100_000, holdout=0.5, bootstrap=2)
    with pytest.raises(ConfigError, match=r"Name fewer layers or bases in one run \(--layer, --basis\)"):
        stated(600_000, **plain)
