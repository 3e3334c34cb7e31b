"""Options of a dissection for type checkers and editors. Written by ``docs/generate.py``: do not edit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class DissectOptions(TypedDict, total=False):
    """Keywords of `netdissect.dissect` and of the functions that take the same options."""

    basis: str | Sequence[str]
    """In which bases each layer is dissected, all in one forward pass; repeats. neurons: its own units. pca, ica:
    principal, independent components. nmf: parts of a non-negative factorization. kmeans: clusters. rotation,
    permutation: random, of a seed. file: a matrix (.npy, .safetensors), a row for each unit. sae: latents of a sparse
    autoencoder. LAYER@BASIS: of this layer alone."""

    basis_images: int
    """Images at most whose cells are sampled, spread evenly over the data set."""

    basis_cells: int
    """Cells at most on which a basis is fitted, drawn at random from these images; of a layer of more than 64 units
    fewer than a million, so that they take at most 256 MB."""

    basis_iterations: int
    """At most, of ica, nmf and kmeans."""

    basis_seed: int
    """Of the draw of cells, and of the start of ica, nmf and kmeans."""

    protocol: str
    """Whose definition of the numbers; the options below change single choices of it."""

    quantile: float | Sequence[float]
    """Fractions of a unit's activations above its threshold; the first is the run's own."""

    threshold: Literal["exact", "interpolated", "hazen"]
    """exact: the (floor(qN) + 1)-th largest value. interpolated: linear between order statistics, the smallest at 0 and
    the largest at 1, as NumPy. hazen: linear between them, each at the middle of its share of 1/N."""

    threshold_grid: int | None
    """Take thresholds over maps upsampled to this size; None: at the layer's own."""

    anchor: Literal["receptive-field", "receptive-field-integer", "half-pixel", "half-pixel-pillow"]
    """Where a cell of the map is on the label map: at the center of its receptive field (exact, or in integers as in
    the authors' Caffe code), or as if the map covered the image evenly (exact, or as in Pillow)."""

    restriction: Literal["annotated", "overlap", "none"]
    """Images whose mask counts in the union: those annotated in the concept's category, those in which the mask
    overlaps a label of that category, or all."""

    duplicates: Literal["once", "each"]
    """Whether a pixel that has a label in two channels counts once or each time."""

    segmentation_size: int | None
    """Bring label maps to this square size (nearest); None: as they are on disk."""

    min_iou: Literal["fdr"] | float
    """A unit of at least this IoU is a detector (of more, under the rule per-category). fdr: in each layer, the
    smallest IoU at which at most 5 % of its detectors are expected under the permutation null."""

    categories: str | Sequence[str] | None
    """Concept categories to read; None: all."""

    split: Literal["train", "val"] | None
    """Only this split of the data; None: both, as the paper."""

    max_images: int | None
    """Dissect this many images, drawn at random; None: all."""

    sample_seed: int
    """Seed of the draw of the images, or of the samples of a generator."""

    batch_size: Literal["auto"] | int
    """Images in one forward pass: few fit into the caches of a CPU, more suit a GPU. auto: doubled before the first
    batch until images per second rise by less than 5 % or memory runs out; the run records the number."""

    device: str
    """Torch device of the forward pass, such as cpu, cuda:1 or mps. auto: that of the module where it is on an
    accelerator, or else CUDA, MPS or XPU if there is one, or else the CPU; the run records which."""

    precision: Literal["float32", "bfloat16"]
    """Number format of the forward pass."""

    backend: Literal["eager", "compile", "onnxruntime", "openvino"] | Literal["auto"]
    """What runs the forward pass. eager: PyTorch. compile: torch.compile, which takes half a minute first. onnxruntime:
    ONNX Runtime on a CPU, in half to four fifths of the time. openvino: OpenVINO on a CPU, also in bfloat16. The last
    three change the last bits; where they cannot take a network, PyTorch runs it. auto: the fastest on the first images
    that agrees with PyTorch. The run records what it used."""

    layout_check: bool
    """Check with spots on two images that each layer's cells lie where its layout says."""

    force: bool
    """Dissect also layers that this check contradicts, or whose assumed layout it leaves open."""

    allow_nondeterministic: bool
    """Accept a network that gives other activations each time, or in another batch."""

    all_matching: bool
    """Take also a glob that matches more than 20 layers."""

    top_images: int
    """How many images of highest activation each unit keeps."""

    bootstrap: int
    """Replicates of the bootstrap over images, for intervals and stability; 0: none."""

    holdout: float | None
    """Choose labels on the other images and score them on this share of them; None: not."""

    sensitivity: float | Sequence[float]
    """Further quantiles at which labels are chosen and detectors counted; standard: 0.001, 0.002, 0.005, 0.01, 0.02,
    0.05."""

    extra_metrics: bool
    """Whether further metrics of each unit's ten leading concepts are measured, such as precision and AUROC, which
    takes every activation once more."""

    iqr: bool
    """Whether the threshold and label of the highest information quality ratio of each unit are searched, as in the
    program of GAN Dissection (2019), which takes every activation once more."""

    permutations: Literal["auto"] | int
    """Repetitions of the permutation test; auto: 100 to 1,000, as many as take a fifth of the time of a small network;
    0: none."""

    null: Literal["images", "locations"]
    """Null hypothesis of the permutation test. images: masks are paired with the labels of other images. locations:
    labels are shifted within their own image."""

    keep_masks: bool
    """Whether the run keeps the pixels of every mask: netdissect compose makes its formulas from them."""

    moments: bool
    """Whether the run keeps the mean activation of each unit on each image and its correlation with each concept over
    cells, and explains each unit by several concepts: over the whole range of activation, not by masks alone."""

    stats_seed: int
    """Seed of all resampling; runs with the same seed on the same images are paired."""

    assume_layout: str | None
    """How the output of such layers is read: NCHW, NHWC, or tokens of a square grid, row by row, after PREFIX others
    (tokens:PREFIX). None: such layers are refused."""

    receptive_field: Literal["half-pixel"] | tuple[float, float, float] | None
    """Offset, size and step in input pixels of their cells, or half-pixel: cells cover the image evenly. None: refused
    where cells are anchored at the centers of receptive fields."""

    activation_cache: Literal["auto", "dense", "sparse", "none"]
    """What is kept of the activations between the threshold pass and the counting pass: every cell, those that can
    matter, or nothing (a second forward pass instead). auto: sparse, or none if the disk lacks space."""

    engine: Literal["auto", "compiled", "tensor"]
    """compiled: loops on the host. tensor: plain tensor code on the device of the forward pass, which keeps nothing and
    runs it twice; sparse layers are counted on the host. auto: compiled for the CPU, tensor for any other device."""

    memory_mb: int
    """Largest activations kept in memory for thresholds; more go to disk."""

    cache_folder: str | Path | None
    """Folder of what the next run on the same data need not do again: label maps stay packed there, and the digest of
    what files hold is remembered. It may be deleted at any time. none: files are read and decoded again."""

    image_cache: bool
    """Keep decoded, resized images packed in the cache folder, too, so that the next run on the same data decodes
    nothing: 0.15 MB for each image of 224 x 224 pixels, at most 10 GB in all."""

    workers: int | None
    """Threads that decode images and label maps, and count. None: those of PyTorch."""

    checkpoint_seconds: float
    """Seconds of work that an interruption may cost."""
