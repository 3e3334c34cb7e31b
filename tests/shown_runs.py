"""A small synthetic data set with planted units, and results made from it by hand, without a network."""

import csv
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from PIL import Image

from netdissect.activations import TopImages
from netdissect.activations.activation_range import choose_images
from netdissect.activations.image_values import ImageValues, sampled_maxima
from netdissect.concepts import ConceptData, Size
from netdissect.config import RULES, DissectConfig, Protocol, StatisticsConfig
from netdissect.dissect.layer_state import ThresholdResult
from netdissect.dissect.statistics.activation_tables import activation_tables
from netdissect.result import (
    DataInfo,
    Environment,
    LayerInfo,
    LayerResult,
    NetworkInfo,
    Result,
    RunInfo,
    statistics_schema,
)
from netdissect.result.tables import concept_table, score_table, threshold_table, top_table, unit_table
from netdissect.scoring import (
    BatchLabels,
    ConceptTotals,
    FieldSpan,
    FieldSpans,
    ImageLabels,
    IoUCounter,
    make_upsampler,
)
from netdissect.scoring.metrics import METRICS

Maps = npt.NDArray[np.float32]
MakeResult = Callable[..., Result]

INPUT, SEGMENTATION, CELLS = 64, 32, 8
INPUT_SIZE = Size(INPUT, INPUT)
FIELD = FieldSpans(FieldSpan(-4, 16, 8), FieldSpan(-4, 16, 8))
NAMES = {"object": ("square", "disk <script>alert(1)</script>", "a$b_$ [bold]"), "color": ("red-c", "blue-c")}


def write_data_set(root: Path, images: int = 24) -> Path:
    """Draw images with a red square or a blue disk on noise, and label them in Broden's layout."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    label_ids = {name: index + 1 for index, name in enumerate(name for each in NAMES.values() for name in each)}
    rows = []
    down, right = np.mgrid[:INPUT, :INPUT]
    for index in range(images):
        top, left = rng.integers(8, 40, size=2)
        shape = index % 3
        inside = (abs(down - top - 8) <= 8) & (abs(right - left - 8) <= 8)
        if shape == 1:
            inside = (down - top - 8) ** 2 + (right - left - 8) ** 2 <= 64
        pixels = rng.integers(90, 165, (INPUT, INPUT, 3)).astype(np.uint8)
        pixels[inside] = ((200, 30, 30), (30, 30, 200), (120, 120, 120))[shape]
        name = f"{index:02d} é'&.png" if index == 3 else f"{index:02d}.png"
        Image.fromarray(pixels).save(root / "images" / name)
        half = inside[::2, ::2]
        for category, label_id in (("object", shape + 1), ("color", (4, 5, 0)[shape])):
            labels = np.zeros((SEGMENTATION, SEGMENTATION, 3), np.uint8)
            labels[half, 0] = label_id
            Image.fromarray(labels).save(root / "images" / f"{index:02d}_{category}.png")
        rows.append((name, "train", INPUT, INPUT, SEGMENTATION, SEGMENTATION,
                     f"{index:02d}_object.png", f"{index:02d}_color.png"))  # fmt: skip
    _write(root / "index.csv", ("image", "split", "ih", "iw", "sh", "sw", *NAMES), rows)
    _write(root / "category.csv", ("name", "first", "last", "count", "frequency"),
           [(category, 1, 5, len(each), images) for category, each in NAMES.items()])  # fmt: skip
    _write(root / "label.csv", ("number", "name", "category", "frequency", "coverage", "syns"),
           [(label_ids[name], name, f"{category}(8)", 8, 1.0, "") for category, each in NAMES.items() for name in each],
    )  # fmt: skip
    for category, each in NAMES.items():
        _write(root / f"c_{category}.csv", ("code", "number", "name", "frequency", "coverage"),
               [(code, label_ids[name], name, 8, 1.0) for code, name in enumerate(each, 1)])  # fmt: skip
    return root


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def planted_maps(data: ConceptData) -> Maps:
    """Return float32 (N, 8, 8, 8): units for labels 1, 2, 3, two of noise, a faint, a dead and a constant unit."""
    rng = np.random.default_rng(1)
    maps = rng.random((len(data), 8, CELLS, CELLS)).astype(np.float32)
    for image_index in range(len(data)):
        channel = data.labels(image_index).label_channels[0]
        for label_id in (1, 2, 3):
            share = (channel == label_id).reshape(CELLS, 4, CELLS, 4).mean(axis=(1, 3))
            maps[image_index, label_id - 1] = share + 0.01 * maps[image_index, label_id - 1]
    maps[:, 6], maps[:, 7] = 0, 3
    return maps


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    """Make a result from a data set and activations, as a dissection does."""
    return make


def make(
    data: ConceptData,
    layers: dict[str, Maps],
    config: DissectConfig,
    size: Size = INPUT_SIZE,
    field: FieldSpans | None = FIELD,
) -> Result:
    quantiles = config.protocol.quantiles
    totals = ConceptTotals.zeros(data)
    counters = {name: IoUCounter(data, _thresholds(maps, quantiles), config.protocol.restriction)
                for name, maps in layers.items()}  # fmt: skip
    for image_index in range(len(data)):
        image = ImageLabels.of(data.labels(image_index), data, config.protocol.duplicates)
        totals.update(image)
        segmentation = image.size
        for name, maps in layers.items():
            cells = Size(*maps.shape[2:])
            upsampler = make_upsampler(cells, segmentation, size, field, config.protocol.anchor)
            counters[name].update_batch(maps[image_index][None], BatchLabels.of([image]), upsampler)
    results = {name: _layer(name, maps, counters[name], totals, data, config, field) for name, maps in layers.items()}
    info = RunInfo(
        created="2024-01-02T03:04:05+00:00",
        config=config,
        network=NetworkInfo(name="planted", digest="ab" * 32, size=tuple(size), mean=(0.5,) * 3, std=(0.5,) * 3),
        data=DataInfo(
            root=str(data.root.resolve()), digest=data.digest, categories=data.categories, images=len(data.rows)
        ),
        layers=tuple(layer.info for layer in results.values()),
        environment=Environment(netdissect="0", python="3", torch="2", numpy="2", pillow="11", device="cpu", threads=1),
        seconds={"thresholds": 1.5},
    )
    return Result(info, concept_table(data, totals, config.protocol), results)


def _thresholds(maps: Maps, quantiles: Sequence[float]) -> Maps:
    values = np.sort(maps.transpose(1, 0, 2, 3).reshape(maps.shape[1], -1), axis=1)[:, ::-1]
    return np.stack([values[:, int(quantile * values.shape[1])] for quantile in quantiles])


def _layer(
    name: str,
    maps: Maps,
    counter: IoUCounter,
    totals: ConceptTotals,
    data: ConceptData,
    config: DissectConfig,
    field: FieldSpans | None,
) -> LayerResult:
    quantiles = config.protocol.quantiles
    images = TopImages(maps.shape[1], Size(*maps.shape[2:]), config.top_images)
    images.update(maps, maps.max(axis=(2, 3)), np.arange(len(maps)))
    with TemporaryDirectory() as folder:
        every = ImageValues(Path(folder) / "maxima", maps.shape[1])
        every.append(maps.max(axis=(2, 3)))
        chosen, sample = choose_images([every], seed=0), sampled_maxima([every])
    limits = _thresholds(maps, quantiles)
    result = ThresholdResult(limits, *images.ranked(), *chosen, sample)
    range_maps = maps[chosen[0].clip(0), np.arange(maps.shape[1])[:, None]]
    rows, maxima, kept = images.ranked()
    thresholds = threshold_table(limits, maxima[:, 0], quantiles)
    return LayerResult(
        info=LayerInfo(name=name, type="Conv2d", units=maps.shape[1], height=maps.shape[2], width=maps.shape[3],
                       field=field),
        thresholds=thresholds,
        units=unit_table(data, totals, counter.counts, thresholds),
        lazy_scores=score_table(data, totals, counter.counts, config.protocol),
        top=top_table(rows, maxima, data),
        top_maps=kept,
        statistics=activation_tables(result, range_maps, data, config.protocol),
    )  # fmt: skip


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> ConceptData:
    """24 synthetic images."""
    return ConceptData.open(write_data_set(tmp_path_factory.mktemp("data_set") / "broden"))


@pytest.fixture(scope="session")
def result(data_set: ConceptData) -> Result:
    """Two layers of 8 units at two quantiles; the second layer has one cell for each image."""
    maps = planted_maps(data_set)
    protocol = Protocol(quantiles=(0.05, 0.1))
    config = DissectConfig(layers=("*",), protocol=protocol, top_images=7, statistics=StatisticsConfig(permutations=0))
    return make(data_set, {"block.1": maps, "head/<b>": maps.max(axis=(2, 3), keepdims=True)}, config)


@pytest.fixture(scope="session")
def with_statistics(result: Result) -> Result:
    """The same run with all statistics and extra metrics of the first layer, and sensitivity of both."""
    info = result.info.model_copy(
        update={
            "config": result.info.config.model_copy(
                update={"min_iou": "fdr", "statistics": StatisticsConfig(permutations=1000)}
            ),
            "fdr_limit": 0.3,
            "fdr_limits": {"block.1": 0.1234, "head/<b>": 1.0},
        }
    )
    layers = {
        name: replace(layer, statistics={**layer.statistics, "sensitivity": _sensitivity(result, seed).lazy()})
        for seed, (name, layer) in enumerate(result.layers.items())
    }
    first = layers["block.1"]
    layers["block.1"] = replace(first, statistics={**first.statistics, **_statistics(first)})
    return Result(info, result.concepts, layers)


def _sensitivity(result: Result, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    keys = itertools.product((0.01, 0.05, 0.1), (0.01, 0.04, 0.1), RULES, (*result.info.data.categories, "total"))
    rows = [(*key, *rng.integers(0, 6, 2).tolist()) for key in keys]
    return pl.DataFrame(rows, schema=list(statistics_schema.SENSITIVITY), orient="row")


def _statistics(layer: LayerResult) -> dict[str, pl.LazyFrame]:
    rng = np.random.default_rng(2)
    units = layer.units.select("quantile", "unit", "label", "category", "iou")
    names = (
        "iou_ci_low",
        "iou_ci_high",
        "stability",
        "selection_iou",
        "heldout_iou",
        "p_value",
        "q_value_bh",
        "q_value_by",
        "null_iou_p95",
    )
    units = units.with_columns(pl.Series(name, rng.random(len(units)) / 10) for name in names)
    units, linear_explanations = _with_moments(layer, units)
    top = layer.scores.filter(pl.col("iou") > 0).sort("iou", descending=True).group_by("quantile", "unit").head(10)
    names = [metric.name for metric in METRICS if metric.name not in top.columns]
    scores = top.with_columns(pl.Series(name, rng.random(len(top))) for name in names).with_columns(
        pl.col("concept", "category").cast(pl.String), pl.lit(0).alias("rank")
    )
    scores = scores.select(name for name in statistics_schema.SCORES if name in scores.columns)
    keys = [(quantile, rule, "total") for quantile in units["quantile"].unique() for rule in RULES]
    counts = pl.DataFrame(keys, schema=["quantile", "rule", "category"], orient="row").with_columns(
        pl.lit(3).alias("unique_detectors"), pl.lit(1.0).alias("unique_detectors_ci_low"),
        pl.lit(4.0).alias("unique_detectors_ci_high"),
        pl.lit(0.5).alias("null_unique_detectors"),
    )  # fmt: skip
    return {
        "units": statistics_schema.complete(units, statistics_schema.UNITS).lazy(),
        "scores": statistics_schema.complete(scores, statistics_schema.SCORES).lazy(),
        "counts": statistics_schema.complete(counts, statistics_schema.COUNTS).lazy(),
        "linear_explanations": linear_explanations.lazy(),
    }


def _with_moments(layer: LayerResult, units: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Add the columns of a run with moments, and make its linear explanations: of all units but two, one term more."""
    rng = np.random.default_rng(4)
    names = ("label_correlation", "label_r2", "linear_correlation", "linear_r2")
    explained = pl.col("unit") < layer.info.units - 2
    units = units.with_columns(
        pl.when(explained).then(pl.Series(name, rng.random(len(units)))).alias(name) for name in names
    )
    concepts = layer.scores.select("label_id", "concept", "category").unique(maintain_order=True).rows()
    rows = [
        (unit, rank, *concepts[rank], 0.5 - rank, (0.5 - rank) / 4, 0.25, 0.1 * rank)
        for unit in range(layer.info.units - 2)
        for rank in range(1 + unit % 3)
    ]
    terms = pl.DataFrame(rows, schema=list(statistics_schema.LINEAR_EXPLANATIONS), orient="row")
    return units, statistics_schema.complete(terms, statistics_schema.LINEAR_EXPLANATIONS)


@pytest.fixture(scope="session")
def no_detectors(data_set: ConceptData) -> Result:
    """Three units that are never active."""
    maps = np.zeros((len(data_set), 3, CELLS, CELLS), np.float32)
    maps[:, 2] = 1
    return make(data_set, {"dead": maps}, DissectConfig(layers=("dead",)))


@pytest.fixture(scope="session")
def camvid(shared: Path) -> Result:
    """32 units of a real layer on real street images."""
    data = ConceptData.open(shared / "data" / "broden-camvid")
    maps = np.load(shared / "reference" / "camvid-efficientnet_lite0_blocks.10-activations.npy")
    span = FieldSpan(-154, 339, 16)
    config = DissectConfig(layers=("_blocks.10",), protocol=Protocol(quantiles=(0.005, 0.02)))
    return make(data, {"_blocks.10": maps}, config, Size(224, 224), FieldSpans(span, span))


@pytest.fixture(scope="session")
def reference(shared: Path) -> pl.DataFrame:
    """Load independent counts of those units."""
    return pl.read_csv(shared / "reference" / "camvid-efficientnet_lite0_blocks.10-paper.csv")
