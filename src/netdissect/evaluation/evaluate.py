"""Score the labels that methods gave to the units of a run.

label files -> check_units -> ConceptNames.match -> metrics of each label -> means, intervals, paired differences
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
import polars as pl

from netdissect.config import one_or_more
from netdissect.counted import counted
from netdissect.dissect.reload import network_of
from netdissect.errors import ResultError
from netdissect.evaluation.concept_matching import ConceptNames, match_labels, read_mapping
from netdissect.evaluation.evaluate_config import EvaluateConfig
from netdissect.evaluation.evaluate_options import EvaluateOptions
from netdissect.evaluation.evaluated_labels import Evaluation, covered, summarized
from netdissect.evaluation.generated_images import CosyScores, ImageFolders
from netdissect.evaluation.image_scores import Floats, Pairs
from netdissect.evaluation.label_files import (
    LabelSource,
    check_units,
    label_frame,
    layer_sizes,
    named_files,
    read_label_file,
)
from netdissect.evaluation.label_metrics import LabelMetric, metrics_at
from netdissect.evaluation.run_counts import has_image_means, layer_images, pixel_scores
from netdissect.keywords import read_fields, takes_fields
from netdissect.models import Network
from netdissect.plots.example_images import open_data
from netdissect.progress import Display, ShowProgress, shown
from netdissect.result import Result, cell_correlations, image_means
from netdissect.result.queries import run_quantile
from netdissect.result.result import check_is_run

STAGE = "layers"
NO_MEANS = (
    "The run kept no activations of single images, so that only metrics on pixels were measured. For the others repeat "
    "it with them: netdissect run --config RUN/config.json --moments --out NEW."
)
NO_SYNONYMS = "The data set of the run was not found, so that labels were not compared with its synonyms (--data-root)."


@takes_fields(EvaluateConfig, EvaluateOptions)
def evaluate(
    result: Result,
    labels: Mapping[str, LabelSource] | Sequence[str | Path],
    *,
    config: EvaluateConfig | None = None,
    data_root: str | Path | None = None,
    network: Network | None = None,
    progress: ShowProgress = None,
    **options: Unpack[EvaluateOptions],
) -> Evaluation:
    """Score the labels that one or more methods gave to the units of a run.

    Parameters
    ----------
    result
        A finished run. Without ``moments=True`` it has the metrics on pixels only.
    labels
        Files of labels by the name of their method, or tables with the columns unit and label, and optionally layer and
        score. Of a file, or a list of files, each is named by its stem, or by ``NAME=FILE``.
    config
        Options as an object; single options below override its fields.
    data_root
        Folder of the data set, if it was moved: synonyms of concepts are read from it.
    network
        For ``cosy``: the network of the run; None: loaded as the run recorded it.
    progress
        As for `netdissect.dissect`: None shows on a terminal or in a notebook what is done.

    Returns
    -------
    Evaluation
        Scores of each method with intervals, differences of each two, and every label with its concept.

    Raises
    ------
    ResultError
        If labels cannot be read, belong to units or layers that the run does not have, or none matches a concept.
    ConceptsError
        If images of labels are missing or cannot be read.
    """
    config = read_fields(evaluate, EvaluateConfig, config, options)
    check_is_run(result)
    layers = [result.layer(name).info.name for name in config.layers or result.layers]
    sizes = layer_sizes(result)
    given = {method: check_units(sizes, method, frame, layers) for method, frame in _frames(labels).items()}
    names, notes = _names(result, config, data_root)
    matches = match_labels(given, names)
    units = _matched_units(given, matches)
    if units["concept"].null_count() == len(units) and config.cosy is None:
        raise ResultError(_none_matches(matches))
    with shown(progress) as display:
        units = _scored(result, units, config, display)
        if config.cosy is not None:
            units = units.hstack(_cosy(result, units, config.cosy, network, display))
    if not has_image_means(result):
        notes += (NO_MEANS,)
    scores, differences = summarized(units, result.info.config.statistics.stats_seed, config.replicates)
    shown_units = units.drop("with_images", strict=False)
    return Evaluation(config, covered(units, sizes), matches, shown_units, scores, differences, notes)


def _frames(labels: Mapping[str, LabelSource] | Sequence[str | Path]) -> dict[str, pl.DataFrame]:
    sources: Mapping[str, LabelSource] = labels if isinstance(labels, Mapping) else named_files(one_or_more(labels))
    if not sources:
        raise ResultError("no labels were given. Name at least one file of labels.")
    return {
        method: label_frame(source, method) if isinstance(source, pl.DataFrame) else read_label_file(source)
        for method, source in sources.items()
    }


def _names(
    result: Result, config: EvaluateConfig, data_root: str | Path | None
) -> tuple[ConceptNames, tuple[str, ...]]:
    """Return the names of the run's concepts, and what could not be read of them."""
    data = open_data(result.info, data_root)
    synonyms = {} if data is None else {concept.name: concept.synonyms for concept in data.concepts}
    mapping = {} if config.mapping is None else read_mapping(config.mapping)
    names = ConceptNames.of(result.concepts["concept"].cast(pl.String).to_list(), synonyms, mapping)
    return names, (NO_SYNONYMS,) if data is None else ()


def _matched_units(given: Mapping[str, pl.DataFrame], matches: pl.DataFrame) -> pl.DataFrame:
    """Return every label with its concept: layer, method, unit, label, score, concept, how."""
    frames = [
        frame.join(matches.filter(pl.col("method") == method).drop("units", "near"), on="label", how="left")
        for method, frame in given.items()
    ]
    columns = ("layer", "method", "unit", "label", "score", "concept", "how")
    return pl.concat(frames).select(columns)


def _none_matches(matches: pl.DataFrame) -> str:
    named = matches.head(3)
    near = sorted({name for names in matches["near"] for name in names})[:3]
    similar = f" Similar names: {', '.join(near)}." if near else ""
    return (
        f"none of the {counted(len(matches), 'labels')} is a concept of the run, such as "
        f"{', '.join(map(repr, named['label']))}.{similar} Say which concepts they are with --mapping FILE "
        "(columns label and concept); 'netdissect show RUN --concepts' lists the concepts."
    )


def _scored(result: Result, units: pl.DataFrame, config: EvaluateConfig, display: Display) -> pl.DataFrame:
    """Add the metrics of each label on pixels and, if the run has them, on images."""
    quantile, parts = run_quantile(result, config.quantile), []
    layers = units["layer"].unique(maintain_order=True).to_list()
    for done, layer in enumerate(layers):
        display(STAGE, done, len(layers))
        of_layer = units.filter(pl.col("layer") == layer)
        parts.append(
            of_layer.lazy()
            .join(pixel_scores(result, layer, quantile), on=["unit", "concept"], how="left", maintain_order="left")
            .with_columns(_moment_metrics(result, layer, of_layer, config))
            .collect()
        )
    display(STAGE, len(layers), len(layers))
    return pl.concat(parts)


def _moment_metrics(result: Result, layer: str, units: pl.DataFrame, config: EvaluateConfig) -> Iterator[pl.Series]:
    """Yield the columns of the metrics at the level of images and of cells, if the run has moments."""
    if not has_image_means(result):
        return
    images = layer_images(result, layer, config.active_share)
    order = {name: index for index, name in enumerate(result.concepts["concept"].cast(pl.String))}
    index = units["concept"].replace_strict(order, default=None, return_dtype=pl.Int64)
    known = index.is_not_null().to_numpy()
    pairs = np.stack([units["unit"].to_numpy()[known], index.drop_nulls().to_numpy()]).astype(np.int64)
    distinct, position = np.unique(pairs, axis=1, return_inverse=True)

    def column(metric: LabelMetric, scores: Floats) -> pl.Series:
        values = np.full(len(units), np.nan)
        values[known] = scores[position.ravel()]
        return pl.Series(metric.column, values, pl.Float64).fill_nan(None)

    for metric in metrics_at("images"):
        yield column(metric, images.score(metric, Pairs(*distinct)))
    for metric in metrics_at("cells"):
        yield column(metric, cell_correlations(result, layer, "heldout")[*distinct])


def _cosy(result: Result, units: pl.DataFrame, folder: Path, network: Network | None, display: Display) -> pl.DataFrame:
    control = {layer: image_means(result, layer) for layer in units["layer"].unique(maintain_order=True)}
    scores = CosyScores(
        result, network_of(result.info, network, folder=result.folder), ImageFolders.of(folder), control
    )
    return scores.of(units, display)
