"""The functions of all experiments for type checkers and editors. Written by ``docs/generate.py``."""
# fmt: off

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from polars import DataFrame

from netdissect.concepts import ConceptData
from netdissect.config import Progress
from netdissect.experiments.outcome import ExperimentResult
from netdissect.experiments.training_dynamics.snapshots import Snapshot
from netdissect.models import Network
from netdissect.result import Result
from netdissect.training.classification_data import LabeledImages
from netdissect.training.task_images import TaskImages

def rotate(
    model: Network | torch.nn.Module | str, data: ConceptData | str | Path, *, layer: str | Sequence[str], rotations:
    int = ..., steps: int = ..., rule: Literal["top-label", "per-category"] = ..., basis: str | Sequence[str] = ...,
    basis_images: int = ..., basis_cells: int = ..., basis_iterations: int = ..., basis_seed: int = ..., protocol: str =
    ..., quantile: float | Sequence[float] = ..., threshold: Literal["exact", "interpolated", "hazen"] = ...,
    threshold_grid: int | None = ..., anchor: Literal["receptive-field", "receptive-field-integer", "half-pixel",
    "half-pixel-pillow"] = ..., restriction: Literal["annotated", "overlap", "none"] = ..., duplicates: Literal["once",
    "each"] = ..., segmentation_size: int | None = ..., min_iou: Literal["fdr"] | float = ..., categories: str |
    Sequence[str] | None = ..., split: Literal["train", "val"] | None = ..., max_images: int | None = ..., sample_seed:
    int = ..., batch_size: Literal["auto"] | int = ..., device: str = ..., precision: Literal["float32", "bfloat16"] =
    ..., backend: Literal["eager", "compile", "onnxruntime", "openvino"] | Literal["auto"] = ..., layout_check: bool =
    ..., force: bool = ..., allow_nondeterministic: bool = ..., all_matching: bool = ..., top_images: int = ...,
    bootstrap: int = ..., holdout: float | None = ..., sensitivity: float | Sequence[float] = ..., extra_metrics: bool =
    ..., iqr: bool = ..., permutations: Literal["auto"] | int = ..., null: Literal["images", "locations"] = ...,
    keep_masks: bool = ..., moments: bool = ..., stats_seed: int = ..., assume_layout: str | None = ...,
    receptive_field: Literal["half-pixel"] | tuple[float, float, float] | None = ..., weights: str | None = ...,
    state_dict: str | None = ..., weights_seed: int = ..., input_size: int | None = ..., mean: float | Sequence[float] |
    None = ..., std: float | Sequence[float] | None = ..., interpolation: Literal["nearest", "bilinear", "bicubic",
    "lanczos", "box", "hamming"] | None = ..., preprocessing: object = ..., out: str | Path | None = ..., progress:
    Progress | bool | None = ...,
) -> ExperimentResult: ...

def layer_profile(
    model: Network | torch.nn.Module | str, data: ConceptData | str | Path, *, rule: Literal["top-label",
    "per-category"] = ..., layer: str | Sequence[str] = ..., basis: str | Sequence[str] = ..., basis_images: int = ...,
    basis_cells: int = ..., basis_iterations: int = ..., basis_seed: int = ..., protocol: str = ..., quantile: float |
    Sequence[float] = ..., threshold: Literal["exact", "interpolated", "hazen"] = ..., threshold_grid: int | None = ...,
    anchor: Literal["receptive-field", "receptive-field-integer", "half-pixel", "half-pixel-pillow"] = ..., restriction:
    Literal["annotated", "overlap", "none"] = ..., duplicates: Literal["once", "each"] = ..., segmentation_size: int |
    None = ..., min_iou: Literal["fdr"] | float = ..., categories: str | Sequence[str] | None = ..., split:
    Literal["train", "val"] | None = ..., max_images: int | None = ..., sample_seed: int = ..., batch_size:
    Literal["auto"] | int = ..., device: str = ..., precision: Literal["float32", "bfloat16"] = ..., backend:
    Literal["eager", "compile", "onnxruntime", "openvino"] | Literal["auto"] = ..., layout_check: bool = ..., force:
    bool = ..., allow_nondeterministic: bool = ..., all_matching: bool = ..., top_images: int = ..., bootstrap: int =
    ..., holdout: float | None = ..., sensitivity: float | Sequence[float] = ..., extra_metrics: bool = ..., iqr: bool =
    ..., permutations: Literal["auto"] | int = ..., null: Literal["images", "locations"] = ..., keep_masks: bool = ...,
    moments: bool = ..., stats_seed: int = ..., assume_layout: str | None = ..., receptive_field: Literal["half-pixel"]
    | tuple[float, float, float] | None = ..., weights: str | None = ..., state_dict: str | None = ..., weights_seed:
    int = ..., input_size: int | None = ..., mean: float | Sequence[float] | None = ..., std: float | Sequence[float] |
    None = ..., interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = ...,
    preprocessing: object = ..., out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def compare(
    sources: Result | Path | Network | torch.nn.Module | str | Sequence[Result | Path | Network | torch.nn.Module | str]
    = ..., data: ConceptData | str | Path | None = ..., *, layer: str | Sequence[str] = ..., quantile: float | None =
    ..., rule: Literal["top-label", "per-category"] = ..., published: str | Path | None = ..., expected: str |
    Sequence[str] = ..., basis: str | Sequence[str] = ..., basis_images: int = ..., basis_cells: int = ...,
    basis_iterations: int = ..., basis_seed: int = ..., protocol: str = ..., threshold: Literal["exact", "interpolated",
    "hazen"] = ..., threshold_grid: int | None = ..., anchor: Literal["receptive-field", "receptive-field-integer",
    "half-pixel", "half-pixel-pillow"] = ..., restriction: Literal["annotated", "overlap", "none"] = ..., duplicates:
    Literal["once", "each"] = ..., segmentation_size: int | None = ..., min_iou: Literal["fdr"] | float = ...,
    categories: str | Sequence[str] | None = ..., split: Literal["train", "val"] | None = ..., max_images: int | None =
    ..., sample_seed: int = ..., batch_size: Literal["auto"] | int = ..., device: str = ..., precision:
    Literal["float32", "bfloat16"] = ..., backend: Literal["eager", "compile", "onnxruntime", "openvino"] |
    Literal["auto"] = ..., layout_check: bool = ..., force: bool = ..., allow_nondeterministic: bool = ...,
    all_matching: bool = ..., top_images: int = ..., bootstrap: int = ..., holdout: float | None = ..., sensitivity:
    float | Sequence[float] = ..., extra_metrics: bool = ..., iqr: bool = ..., permutations: Literal["auto"] | int =
    ..., null: Literal["images", "locations"] = ..., keep_masks: bool = ..., moments: bool = ..., stats_seed: int = ...,
    assume_layout: str | None = ..., receptive_field: Literal["half-pixel"] | tuple[float, float, float] | None = ...,
    weights: str | None = ..., state_dict: str | None = ..., weights_seed: int = ..., input_size: int | None = ...,
    mean: float | Sequence[float] | None = ..., std: float | Sequence[float] | None = ..., interpolation:
    Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = ..., preprocessing: object = ...,
    out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def training_dynamics(
    snapshots: Snapshot | Sequence[Snapshot] | str | Path, data: ConceptData | str | Path | None = ..., *, network:
    Network | torch.nn.Module | str | None = ..., layer: str | None = ..., quantile: float | None = ..., rule:
    Literal["top-label", "per-category"] = ..., basis: str | Sequence[str] = ..., basis_images: int = ..., basis_cells:
    int = ..., basis_iterations: int = ..., basis_seed: int = ..., protocol: str = ..., threshold: Literal["exact",
    "interpolated", "hazen"] = ..., threshold_grid: int | None = ..., anchor: Literal["receptive-field",
    "receptive-field-integer", "half-pixel", "half-pixel-pillow"] = ..., restriction: Literal["annotated", "overlap",
    "none"] = ..., duplicates: Literal["once", "each"] = ..., segmentation_size: int | None = ..., min_iou:
    Literal["fdr"] | float = ..., categories: str | Sequence[str] | None = ..., split: Literal["train", "val"] | None =
    ..., max_images: int | None = ..., sample_seed: int = ..., batch_size: Literal["auto"] | int = ..., device: str =
    ..., precision: Literal["float32", "bfloat16"] = ..., backend: Literal["eager", "compile", "onnxruntime",
    "openvino"] | Literal["auto"] = ..., layout_check: bool = ..., force: bool = ..., allow_nondeterministic: bool =
    ..., all_matching: bool = ..., top_images: int = ..., bootstrap: int = ..., holdout: float | None = ...,
    sensitivity: float | Sequence[float] = ..., extra_metrics: bool = ..., iqr: bool = ..., permutations:
    Literal["auto"] | int = ..., null: Literal["images", "locations"] = ..., keep_masks: bool = ..., moments: bool =
    ..., stats_seed: int = ..., assume_layout: str | None = ..., receptive_field: Literal["half-pixel"] | tuple[float,
    float, float] | None = ..., state_dict: str | None = ..., input_size: int | None = ..., mean: float |
    Sequence[float] | None = ..., std: float | Sequence[float] | None = ..., interpolation: Literal["nearest",
    "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = ..., preprocessing: object = ..., out: str | Path |
    None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def seeds(
    *, scale: Literal["tiny", "small"] = ..., seeds: int | None = ..., steps: int | None = ..., out: str | Path | None =
    ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def dropout(
    *, scale: Literal["tiny", "small"] = ..., seeds: int | None = ..., steps: int | None = ..., out: str | Path | None =
    ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def batchnorm(
    *, scale: Literal["tiny", "small"] = ..., seeds: int | None = ..., steps: int | None = ..., out: str | Path | None =
    ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def width(
    *, scale: Literal["tiny", "small"] = ..., seeds: int | None = ..., steps: int | None = ..., out: str | Path | None =
    ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def depth(
    *, scale: Literal["tiny", "small"] = ..., seeds: int | None = ..., steps: int | None = ..., out: str | Path | None =
    ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def supervision(
    data: ConceptData | str | Path, *, train_images: TaskImages | str | Path | None = ..., task: Literal["scene",
    "object", "rotation", "context", "jigsaw", "colorization", "crosschannel", "inpainting", "simclr", "random"] |
    Sequence[Literal["scene", "object", "rotation", "context", "jigsaw", "colorization", "crosschannel", "inpainting",
    "simclr", "random"]] = ..., seeds: int = ..., rule: Literal["top-label", "per-category"] = ..., input_size: int =
    ..., num_images: int = ..., held_out: int = ..., data_seed: int = ..., units: int | Sequence[int] = ..., batch_norm:
    bool = ..., steps: int = ..., train_batch_size: int = ..., learning_rate: float = ..., weight_decay: float = ...,
    train_precision: Literal["auto", "float32", "bfloat16"] = ..., layer: str | Sequence[str] = ..., basis: str |
    Sequence[str] = ..., basis_images: int = ..., basis_cells: int = ..., basis_iterations: int = ..., basis_seed: int =
    ..., protocol: str = ..., quantile: float | Sequence[float] = ..., threshold: Literal["exact", "interpolated",
    "hazen"] = ..., threshold_grid: int | None = ..., anchor: Literal["receptive-field", "receptive-field-integer",
    "half-pixel", "half-pixel-pillow"] = ..., restriction: Literal["annotated", "overlap", "none"] = ..., duplicates:
    Literal["once", "each"] = ..., segmentation_size: int | None = ..., min_iou: Literal["fdr"] | float = ...,
    categories: str | Sequence[str] | None = ..., split: Literal["train", "val"] | None = ..., max_images: int | None =
    ..., sample_seed: int = ..., batch_size: Literal["auto"] | int = ..., device: str = ..., precision:
    Literal["float32", "bfloat16"] = ..., backend: Literal["eager", "compile", "onnxruntime", "openvino"] |
    Literal["auto"] = ..., layout_check: bool = ..., force: bool = ..., allow_nondeterministic: bool = ...,
    all_matching: bool = ..., top_images: int = ..., bootstrap: int = ..., holdout: float | None = ..., sensitivity:
    float | Sequence[float] = ..., extra_metrics: bool = ..., iqr: bool = ..., permutations: Literal["auto"] | int =
    ..., null: Literal["images", "locations"] = ..., keep_masks: bool = ..., moments: bool = ..., stats_seed: int = ...,
    assume_layout: str | None = ..., receptive_field: Literal["half-pixel"] | tuple[float, float, float] | None = ...,
    out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def linear_probe(
    models: Network | torch.nn.Module | str | Sequence[Network | torch.nn.Module | str], data: ConceptData | str | Path,
    *, class_images: LabeledImages | str | Path, category: str = ..., rule: Literal["top-label", "per-category"] = ...,
    pool: Literal["mean", "max"] = ..., penalty: float = ..., penalties: float | Sequence[float] = ..., folds: int =
    ..., splits: int = ..., layer: str | Sequence[str] = ..., basis: str | Sequence[str] = ..., basis_images: int = ...,
    basis_cells: int = ..., basis_iterations: int = ..., basis_seed: int = ..., protocol: str = ..., quantile: float |
    Sequence[float] = ..., threshold: Literal["exact", "interpolated", "hazen"] = ..., threshold_grid: int | None = ...,
    anchor: Literal["receptive-field", "receptive-field-integer", "half-pixel", "half-pixel-pillow"] = ..., restriction:
    Literal["annotated", "overlap", "none"] = ..., duplicates: Literal["once", "each"] = ..., segmentation_size: int |
    None = ..., min_iou: Literal["fdr"] | float = ..., categories: str | Sequence[str] | None = ..., split:
    Literal["train", "val"] | None = ..., max_images: int | None = ..., sample_seed: int = ..., batch_size:
    Literal["auto"] | int = ..., device: str = ..., precision: Literal["float32", "bfloat16"] = ..., backend:
    Literal["eager", "compile", "onnxruntime", "openvino"] | Literal["auto"] = ..., layout_check: bool = ..., force:
    bool = ..., allow_nondeterministic: bool = ..., all_matching: bool = ..., top_images: int = ..., bootstrap: int =
    ..., holdout: float | None = ..., sensitivity: float | Sequence[float] = ..., extra_metrics: bool = ..., iqr: bool =
    ..., permutations: Literal["auto"] | int = ..., null: Literal["images", "locations"] = ..., keep_masks: bool = ...,
    moments: bool = ..., stats_seed: int = ..., assume_layout: str | None = ..., receptive_field: Literal["half-pixel"]
    | tuple[float, float, float] | None = ..., weights: str | None = ..., state_dict: str | None = ..., weights_seed:
    int = ..., input_size: int | None = ..., mean: float | Sequence[float] | None = ..., std: float | Sequence[float] |
    None = ..., interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = ...,
    preprocessing: object = ..., out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def rater_agreement(
    ratings: DataFrame | str | Path, *, layer: str | Sequence[str] | None = ..., min_iou: float = ..., stats_seed: int =
    ..., resamples: int = ..., out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def attribution(
    model: Network | torch.nn.Module | str, images: str | Path | Sequence[str | Path], *, classes: str | Sequence[str] |
    str | Path | None = ..., run: Result | str | Path | None = ..., layer: str | None = ..., top: int = ..., shown: int
    = ..., batch_size: int = ..., device: str = ..., weights: str | None = ..., state_dict: str | None = ...,
    weights_seed: int = ..., input_size: int | None = ..., mean: float | Sequence[float] | None = ..., std: float |
    Sequence[float] | None = ..., interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
    | None = ..., preprocessing: object = ..., out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def formulas(
    model: Network | torch.nn.Module | str, data: ConceptData | str | Path, *, control: Network | torch.nn.Module | str
    | None = ..., null_permutations: int = ..., layer: str | Sequence[str] = ..., basis: str | Sequence[str] = ...,
    basis_images: int = ..., basis_cells: int = ..., basis_iterations: int = ..., basis_seed: int = ..., protocol: str =
    ..., quantile: float | Sequence[float] = ..., threshold: Literal["exact", "interpolated", "hazen"] = ...,
    threshold_grid: int | None = ..., anchor: Literal["receptive-field", "receptive-field-integer", "half-pixel",
    "half-pixel-pillow"] = ..., restriction: Literal["annotated", "overlap", "none"] = ..., duplicates: Literal["once",
    "each"] = ..., segmentation_size: int | None = ..., min_iou: Literal["fdr"] | float = ..., categories: str |
    Sequence[str] | None = ..., split: Literal["train", "val"] | None = ..., max_images: int | None = ..., sample_seed:
    int = ..., batch_size: Literal["auto"] | int = ..., device: str = ..., precision: Literal["float32", "bfloat16"] =
    ..., backend: Literal["eager", "compile", "onnxruntime", "openvino"] | Literal["auto"] = ..., layout_check: bool =
    ..., force: bool = ..., allow_nondeterministic: bool = ..., all_matching: bool = ..., top_images: int = ...,
    bootstrap: int = ..., holdout: float | None = ..., sensitivity: float | Sequence[float] = ..., extra_metrics: bool =
    ..., iqr: bool = ..., permutations: Literal["auto"] | int = ..., null: Literal["images", "locations"] = ...,
    keep_masks: bool = ..., moments: bool = ..., stats_seed: int = ..., assume_layout: str | None = ...,
    receptive_field: Literal["half-pixel"] | tuple[float, float, float] | None = ..., ranges: str | None = ..., length:
    int = ..., operators: Literal["or", "and", "and-not"] | Sequence[Literal["or", "and", "and-not"]] = ..., search:
    Literal["optimal", "beam"] = ..., beam: int = ..., time_limit: float | None = ..., weights: str | None = ...,
    state_dict: str | None = ..., weights_seed: int = ..., input_size: int | None = ..., mean: float | Sequence[float] |
    None = ..., std: float | Sequence[float] | None = ..., interpolation: Literal["nearest", "bilinear", "bicubic",
    "lanczos", "box", "hamming"] | None = ..., preprocessing: object = ..., out: str | Path | None = ..., progress:
    Progress | bool | None = ...,
) -> ExperimentResult: ...

def labelers(
    model: Network | torch.nn.Module | str, data: ConceptData | str | Path, *, labels: str | Sequence[str] = ...,
    embeddings: str | None = ..., formulas: bool = ..., layer: str | Sequence[str] = ..., basis: str | Sequence[str] =
    ..., basis_images: int = ..., basis_cells: int = ..., basis_iterations: int = ..., basis_seed: int = ..., protocol:
    str = ..., quantile: float | Sequence[float] = ..., threshold: Literal["exact", "interpolated", "hazen"] = ...,
    threshold_grid: int | None = ..., anchor: Literal["receptive-field", "receptive-field-integer", "half-pixel",
    "half-pixel-pillow"] = ..., restriction: Literal["annotated", "overlap", "none"] = ..., duplicates: Literal["once",
    "each"] = ..., segmentation_size: int | None = ..., min_iou: Literal["fdr"] | float = ..., categories: str |
    Sequence[str] | None = ..., split: Literal["train", "val"] | None = ..., max_images: int | None = ..., sample_seed:
    int = ..., batch_size: Literal["auto"] | int = ..., device: str = ..., precision: Literal["float32", "bfloat16"] =
    ..., backend: Literal["eager", "compile", "onnxruntime", "openvino"] | Literal["auto"] = ..., layout_check: bool =
    ..., force: bool = ..., allow_nondeterministic: bool = ..., all_matching: bool = ..., top_images: int = ...,
    bootstrap: int = ..., holdout: float | None = ..., sensitivity: float | Sequence[float] = ..., extra_metrics: bool =
    ..., iqr: bool = ..., permutations: Literal["auto"] | int = ..., null: Literal["images", "locations"] = ...,
    keep_masks: bool = ..., moments: bool = ..., stats_seed: int = ..., assume_layout: str | None = ...,
    receptive_field: Literal["half-pixel"] | tuple[float, float, float] | None = ..., length: int = ..., operators:
    Literal["or", "and", "and-not"] | Sequence[Literal["or", "and", "and-not"]] = ..., search: Literal["optimal",
    "beam"] = ..., beam: int = ..., time_limit: float | None = ..., weights: str | None = ..., state_dict: str | None =
    ..., weights_seed: int = ..., input_size: int | None = ..., mean: float | Sequence[float] | None = ..., std: float |
    Sequence[float] | None = ..., interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
    | None = ..., preprocessing: object = ..., out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def concept_vectors(
    model: Network | torch.nn.Module | str, data: ConceptData | str | Path, *, layer: str | Sequence[str], classes: str
    | Sequence[str] | str | Path | None = ..., cells: int = ..., basis: str | Sequence[str] = ..., basis_images: int =
    ..., basis_cells: int = ..., basis_iterations: int = ..., basis_seed: int = ..., protocol: str = ..., quantile:
    float | Sequence[float] = ..., threshold: Literal["exact", "interpolated", "hazen"] = ..., threshold_grid: int |
    None = ..., anchor: Literal["receptive-field", "receptive-field-integer", "half-pixel", "half-pixel-pillow"] = ...,
    restriction: Literal["annotated", "overlap", "none"] = ..., duplicates: Literal["once", "each"] = ...,
    segmentation_size: int | None = ..., min_iou: Literal["fdr"] | float = ..., categories: str | Sequence[str] | None =
    ..., split: Literal["train", "val"] | None = ..., max_images: int | None = ..., sample_seed: int = ..., batch_size:
    Literal["auto"] | int = ..., device: str = ..., precision: Literal["float32", "bfloat16"] = ..., backend:
    Literal["eager", "compile", "onnxruntime", "openvino"] | Literal["auto"] = ..., layout_check: bool = ..., force:
    bool = ..., allow_nondeterministic: bool = ..., all_matching: bool = ..., top_images: int = ..., bootstrap: int =
    ..., holdout: float | None = ..., sensitivity: float | Sequence[float] = ..., extra_metrics: bool = ..., iqr: bool =
    ..., permutations: Literal["auto"] | int = ..., null: Literal["images", "locations"] = ..., keep_masks: bool = ...,
    moments: bool = ..., stats_seed: int = ..., assume_layout: str | None = ..., receptive_field: Literal["half-pixel"]
    | tuple[float, float, float] | None = ..., tcav: int = ..., target_class: str | Sequence[str] = ..., top_classes:
    int = ..., images_per_class: int = ..., examples: int = ..., weights: str | None = ..., state_dict: str | None =
    ..., weights_seed: int = ..., input_size: int | None = ..., mean: float | Sequence[float] | None = ..., std: float |
    Sequence[float] | None = ..., interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
    | None = ..., preprocessing: object = ..., out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def bases(
    model: Network | torch.nn.Module | str, data: ConceptData | str | Path, *, layer: str | Sequence[str], embeddings:
    str | None = ..., rule: Literal["top-label", "per-category"] = ..., cells: int = ..., basis: str | Sequence[str] =
    ..., basis_images: int = ..., basis_cells: int = ..., basis_iterations: int = ..., basis_seed: int = ..., protocol:
    str = ..., quantile: float | Sequence[float] = ..., threshold: Literal["exact", "interpolated", "hazen"] = ...,
    threshold_grid: int | None = ..., anchor: Literal["receptive-field", "receptive-field-integer", "half-pixel",
    "half-pixel-pillow"] = ..., restriction: Literal["annotated", "overlap", "none"] = ..., duplicates: Literal["once",
    "each"] = ..., segmentation_size: int | None = ..., min_iou: Literal["fdr"] | float = ..., categories: str |
    Sequence[str] | None = ..., split: Literal["train", "val"] | None = ..., max_images: int | None = ..., sample_seed:
    int = ..., batch_size: Literal["auto"] | int = ..., device: str = ..., precision: Literal["float32", "bfloat16"] =
    ..., backend: Literal["eager", "compile", "onnxruntime", "openvino"] | Literal["auto"] = ..., layout_check: bool =
    ..., force: bool = ..., allow_nondeterministic: bool = ..., all_matching: bool = ..., top_images: int = ...,
    bootstrap: int = ..., holdout: float | None = ..., sensitivity: float | Sequence[float] = ..., extra_metrics: bool =
    ..., iqr: bool = ..., permutations: Literal["auto"] | int = ..., null: Literal["images", "locations"] = ...,
    keep_masks: bool = ..., moments: bool = ..., stats_seed: int = ..., assume_layout: str | None = ...,
    receptive_field: Literal["half-pixel"] | tuple[float, float, float] | None = ..., weights: str | None = ...,
    state_dict: str | None = ..., weights_seed: int = ..., input_size: int | None = ..., mean: float | Sequence[float] |
    None = ..., std: float | Sequence[float] | None = ..., interpolation: Literal["nearest", "bilinear", "bicubic",
    "lanczos", "box", "hamming"] | None = ..., preprocessing: object = ..., out: str | Path | None = ..., progress:
    Progress | bool | None = ...,
) -> ExperimentResult: ...

def ablate(
    model: Network | torch.nn.Module | str, data: ConceptData | str | Path | None = ..., *, layer: str, classes: str |
    Sequence[str] | str | Path | None = ..., run: Result | str | Path | None = ..., class_images: LabeledImages | str |
    Path | None = ..., category: str = ..., max_images: int | None = ..., units: int | Sequence[int] = ..., rank:
    Literal["effect", "score", "iou"] = ..., random_sets: int = ..., sample_seed: int = ..., batch_size: int = ...,
    device: str = ..., resamples: int = ..., weights: str | None = ..., state_dict: str | None = ..., weights_seed: int
    = ..., input_size: int | None = ..., mean: float | Sequence[float] | None = ..., std: float | Sequence[float] | None
    = ..., interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = ...,
    preprocessing: object = ..., out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...

def causes(
    model: Network | torch.nn.Module | str, *, segmenter: str, layer: str | Sequence[str], labels: str | Path | None =
    ..., words: str | Path | None = ..., min_score: float | None = ..., samples: int = ..., ablated_samples: int = ...,
    basis: str | Sequence[str] = ..., basis_images: int = ..., basis_cells: int = ..., basis_iterations: int = ...,
    basis_seed: int = ..., protocol: str = ..., quantile: float | Sequence[float] = ..., threshold: Literal["exact",
    "interpolated", "hazen"] = ..., threshold_grid: int | None = ..., anchor: Literal["receptive-field",
    "receptive-field-integer", "half-pixel", "half-pixel-pillow"] = ..., restriction: Literal["annotated", "overlap",
    "none"] = ..., duplicates: Literal["once", "each"] = ..., segmentation_size: int | None = ..., min_iou:
    Literal["fdr"] | float = ..., sample_seed: int = ..., batch_size: Literal["auto"] | int = ..., device: str = ...,
    precision: Literal["float32", "bfloat16"] = ..., backend: Literal["eager", "compile", "onnxruntime", "openvino"] |
    Literal["auto"] = ..., layout_check: bool = ..., force: bool = ..., allow_nondeterministic: bool = ...,
    all_matching: bool = ..., top_images: int = ..., bootstrap: int = ..., holdout: float | None = ..., sensitivity:
    float | Sequence[float] = ..., extra_metrics: bool = ..., iqr: bool = ..., permutations: Literal["auto"] | int =
    ..., null: Literal["images", "locations"] = ..., keep_masks: bool = ..., moments: bool = ..., stats_seed: int = ...,
    assume_layout: str | None = ..., receptive_field: Literal["half-pixel"] | tuple[float, float, float] | None = ...,
    weights: str | None = ..., state_dict: str | None = ..., weights_seed: int = ..., input_size: int | None = ...,
    mean: float | Sequence[float] | None = ..., std: float | Sequence[float] | None = ..., interpolation:
    Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"] | None = ..., preprocessing: object = ...,
    out: str | Path | None = ..., progress: Progress | bool | None = ...,
) -> ExperimentResult: ...
