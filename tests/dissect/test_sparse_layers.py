"""Layers of which only active cells are kept: whole runs give what the same layers give with all their cells."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import oracle
import run_asserts
import strategies
from netdissect import dissect, dissect_shard, merge_shards
from netdissect.activations.activation_range import RangeMaps
from netdissect.activations.sparse.sparse_maps import SparseMaps
from netdissect.activations.sparse.unit_maps import SparseImageMaps
from netdissect.concepts import Size
from netdissect.config import ProtocolName
from netdissect.dissect.statistics import activation_tables, layer_counts, measurements
from netdissect.dissect.work_dir import work_dir
from netdissect.errors import ActivationError
from netdissect.models import Network
from netdissect.report.layer_tables import LayerTables, number_runs
from netdissect.report.statistics_text import layer_facts
from netdissect.report.views.unit_views import unit_view
from netdissect.result import Result, load_result
from netdissect.result.queries import image_maxima
from netdissect.scoring.sparse.count_rows import CountRows
from networks import COVERAGE, SIDE, Spoiled, build, images

pytestmark = pytest.mark.usefixtures("tight")

LATENTS, ACTIVE = 20, 3
LAYERS = ("wide_relu", "wide_relu@sae", "fc@sae")


class InterruptedRunError(Exception):
    """The run was stopped."""


@dataclass(frozen=True, eq=False)
class TopKBasis:
    """The largest positive products of a cell with random directions, some of which no cell ever reaches."""

    kind: ClassVar[str] = "test"
    most_active: ClassVar[int] = ACTIVE

    source: str
    matrix: Tensor
    sparse: bool
    shift: float = 0.0

    @property
    def inputs(self) -> int:
        """Units of the layer."""
        return self.matrix.shape[1]

    @property
    def units(self) -> int:
        """Units of the basis."""
        return len(self.matrix)

    def encode(self, cells: Tensor) -> Tensor:
        """Return all codes."""
        values = cells @ self.matrix.T
        largest = values.topk(ACTIVE, dim=1).indices
        codes = torch.zeros_like(values).scatter(1, largest, values.gather(1, largest))
        return codes.clamp(min=0) - self.shift * (codes > 0)

    def encode_sparse(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the codes that are not 0."""
        codes = self.encode(cells)
        cell, unit = codes.nonzero(as_tuple=True)
        return cell, unit, codes[cell, unit]

    def decode(self, _codes: Tensor) -> Tensor | None:
        """There is no inverse."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Return what the digest is made of."""
        return {"matrix": self.matrix}


def network(*, sparse: bool, shift: float = 0.0, **changes: Any) -> Network:
    """Make a network in which three layers have latents, the last five of which are dead."""
    plain, rng = build(**changes), torch.Generator().manual_seed(0)
    bases = {}
    for layer, units in (("wide_relu", 4), ("deep_relu", 5), ("fc", 3)):
        matrix = torch.randn(LATENTS, units, generator=rng)
        matrix[-5:] = 0
        bases[f"{layer}@sae"] = TopKBasis(layer, matrix, sparse, shift)
    return replace(plain, bases=bases)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "broden"
    return strategies.write_broden(root, images(13, sizes=((12, 12), (6, 8))), COVERAGE, image=(SIDE, SIDE))


def run(data: Path, *, sparse: bool, **options: Any) -> Result:
    chosen = {"layers": LAYERS, "quantile": 0.05, "batch_size": 4, "top_images": 6, "permutations": 3}
    return dissect(network(sparse=sparse), data, **chosen | {"bootstrap": 20} | options)


EVERYTHING = {"holdout": 0.5, "sensitivity": (0.02,), "keep_masks": True, "moments": True, "extra_metrics": True}


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("paper", EVERYTHING),
        ("paper", {"engine": "tensor", "keep_masks": True}),
        ("pnas2020", {"activation_cache": "none"}),
        ("lite", {"memory_mb": 1, "bootstrap": 0}),
    ],
)
def test_a_sparse_layer_gives_every_table_of_the_same_layer_with_all_cells(
    data: Path, protocol: ProtocolName, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(data, sparse=False, protocol=protocol, **options)
    monkeypatch.setattr(measurements, "REPLICATED_PIXELS", 2000)
    monkeypatch.setattr(activation_tables, "BLOCK_VALUES", 5000)
    run_asserts.assert_same_run(run(data, sparse=True, protocol=protocol, **options), expected)


def every_mask_has_its_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count masks at nearby quantiles also where the threshold is the same."""

    def of(thresholds: npt.NDArray[np.float32], reported: int) -> CountRows:
        return CountRows(np.arange(thresholds.size).reshape(thresholds.shape), reported)

    monkeypatch.setattr(CountRows, "of", of)


def stop_at(stage: str, images: int) -> Any:
    """Return a function of progress that interrupts a run."""

    def stop(now: str, done: int, _total: int | None) -> None:
        if now == stage and done >= images:
            raise InterruptedRunError("here")

    return stop


@pytest.mark.parametrize("way", ["whole", "resumed", "shards"])
def test_counts_of_equal_masks_that_are_kept_once_give_the_same_tables(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    options: dict[str, Any] = {"layers": LAYERS[:2], "quantile": 0.12, "holdout": 0.4}
    monkeypatch.setattr(layer_counts, "HALF_COUNTS", 100)  # the units of a layer are not all held out at a time
    folder = tmp_path / "run"
    if way == "shards":
        shared = {"batch_size": 4, "top_images": 6, "permutations": 3, "bootstrap": 20, "out": folder}
        for stage in ("thresholds", "counting"):
            for shard in ("1/2", "2/2"):
                dissect_shard(network(sparse=True), data, shard=shard, **options | shared)
            if stage == "counting":
                for path in (folder / "shards" / name / "counting" for name in ("1-of-2", "2-of-2")):
                    assert 0 < len(np.load(path / "layer1.further_intersection.npy")) < 2 * LATENTS
            merge_shards(folder)
        found = load_result(folder)
    else:
        if way == "resumed":
            monkeypatch.setattr(work_dir, "MAX_LOST_SECONDS", 0.0)  # a checkpoint after each batch
            with pytest.raises(InterruptedRunError, match="here"):
                run(data, sparse=True, out=folder, progress=stop_at("counting", 8), checkpoint_seconds=0, **options)
            with np.load(folder / "work" / "counting.npz") as saved:
                assert 0 < len(saved["layer1.further_intersection"]) < 2 * LATENTS
        found = run(data, sparse=True, out=folder, **options)
    every_mask_has_its_own_counts(monkeypatch)
    run_asserts.assert_same_run(found, run(data, sparse=True, **options))


def test_units_that_are_rarely_active_or_dead_are_named_and_shown_on_their_images(
    data: Path,
) -> None:
    options: dict[str, Any] = {
        "layers": LAYERS[1],
        "quantile": 0.2,
        "permutations": 0,
        "bootstrap": 0,
        "top_images": 13,
    }
    own, names = network(sparse=True), oracle.read_broden(data, None).images
    maps = run_asserts.hooked(own, data, names, ["wide_relu"], 4)["wide_relu"]
    cells = torch.from_numpy(maps.transpose(0, 2, 3, 1).reshape(-1, maps.shape[1]).copy())
    active = (own.bases[LAYERS[1]].encode(cells) > 0).sum(dim=0).numpy()
    dead, rare = np.flatnonzero(active == 0), np.flatnonzero((active > 0) & (active <= 0.2 * len(cells)))
    assert len(dead) >= 5
    assert len(rare)
    result = run(data, sparse=True, **options)
    facts = layer_facts(result, LAYERS[1], 0.2)
    assert facts["threshold 0"].startswith(f"{len(rare)} unit")
    assert facts["dead"] == f"{len(dead)} units: {', '.join(map(str, dead))}"
    images = (image_maxima(result, LAYERS[1]).maxima > 0).sum(axis=1)
    few = np.flatnonzero((images > 0) & (images < 13))
    assert len(few)
    for unit in few.tolist():
        view = unit_view(LayerTables(number_runs([result])[0], 0), unit, 13)
        assert view.active_images == len(view.top_images) == images[unit]
        assert all(image.value > 0 for image in view.top_images)


@pytest.mark.parametrize(("stage", "removed"), [("thresholds", False), ("counting", False), ("counting", True)])
def test_an_interrupted_sparse_run_continues(data: Path, tmp_path: Path, stage: str, removed: bool) -> None:
    stop = stop_at(stage, 8)
    options: dict[str, Any] = {"permutations": 0, "bootstrap": 0, "layers": LAYERS[1], "out": tmp_path / "run"}
    with pytest.raises(InterruptedRunError, match="here"):
        run(data, sparse=True, progress=stop, checkpoint_seconds=0, **options)
    if removed:
        (tmp_path / "run/work/wide_relu%40sae.bin").unlink()
    finished = run(data, sparse=True, **options)
    run_asserts.assert_same_run(finished, run(data, sparse=True, **options | {"out": None}))


def test_shards_of_a_sparse_layer_keep_its_active_cells_and_give_the_run_of_one_process(
    data: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"layers": LAYERS[:2], "quantile": 0.05, "batch_size": 4, "permutations": 2}
    shards, folder = ("1/3", "2/3", "3/3"), tmp_path / "run"
    folders = [folder / "shards" / shard.replace("/", "-of-") for shard in shards]
    for stage in ("thresholds", "counting"):
        for shard in shards:
            dissect_shard(network(sparse=True), data, shard=shard, out=folder, **options)
        assert [path.name for path in folders[0].glob("counting/range*")] in (
            [],
            ["range0.maps.npy"],
        )  # not of the second
        merge_shards(tmp_path / stage, folders[:2], partial=True)
        merge_shards(folder, [tmp_path / stage, folders[2]])
    run_asserts.assert_same_run(load_result(folder), dissect(network(sparse=False), data, **options))


@pytest.mark.parametrize(("layers", "passes"), [(LAYERS, 2), (LAYERS[1:], 1)])
def test_a_device_that_counts_keeps_only_active_cells_of_sparse_layers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layers: tuple[str, ...], passes: int
) -> None:
    monkeypatch.setattr(SparseMaps, "dense", lambda _maps: pytest.fail("all cells of a sparse layer were kept"))
    options: dict[str, Any] = {"layers": layers, "batch_size": 4, "permutations": 2}
    dissect(network(sparse=True), data, engine="tensor", out=tmp_path / "run", **options)
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert f"{'one forward pass' if passes == 1 else '2 forward passes'} on cpu" in log
    assert "of 2 sparse layers with 40 units only active cells are kept, expected for 3 active units" in log


def test_shards_of_different_engines_keep_the_same_of_a_sparse_layer(data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"layers": LAYERS[:2], "batch_size": 4, "permutations": 0, "bootstrap": 0}
    for _stage in ("thresholds", "counting"):
        for shard, engine in (("1/2", "tensor"), ("2/2", "auto")):
            dissect_shard(network(sparse=True), data, shard=shard, out=tmp_path / "run", engine=engine, **options)
        merge_shards(tmp_path / "run")
    run_asserts.assert_same_run(load_result(tmp_path / "run"), dissect(network(sparse=False), data, **options))


def test_a_layer_that_is_not_finite_is_refused_though_no_code_is_kept_of_its_cells(data: Path) -> None:
    spoiled = network(sparse=True, head=Spoiled(float("nan"), 2, lambda maps: maps.sum(dim=(1, 2, 3)) < 1e9))
    with pytest.raises(ActivationError, match=r"layer 'deep_relu@sae' gives NaN or infinity, first in unit 0 on 0.png"):
        dissect(spoiled, data, layers="deep_relu@sae", layout_check=False)


def test_a_basis_that_says_it_is_sparse_but_gives_negative_codes_is_refused(data: Path) -> None:
    with pytest.raises(ActivationError, match=r"gives -\d[\d.e+-]* for its unit \d+. Expected codes of 0 or more"):
        dissect(network(sparse=True, shift=1e3), data, layers="wide_relu@sae", layout_check=False)


def test_maps_of_chosen_images_are_those_of_dense_maps_also_after_a_checkpoint() -> None:
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(6, 5, 3, 4)) - 1, 0).astype(np.float32)
    chosen, cells = np.array([[0, 3, -1], [5, 1, 2], [4, 0, 5], [-1, -1, -1], [2, 3, 4]]), Size(3, 4)
    expected, first = RangeMaps(chosen, cells), SparseImageMaps(chosen, cells)
    expected.update(torch.from_numpy(maps), 0)
    first.update(strategies.sparse_maps(maps[:4]), 0)
    second = SparseImageMaps(chosen, cells)
    second.restore(first.state())
    second.update(strategies.sparse_maps(maps[4:]), 4)
    np.testing.assert_array_equal(second.maps(0, 3)[:], expected.maps)
    np.testing.assert_array_equal(second.maps(1, 3)[2:4], expected.maps[2:4, 1:])
