"""What one dissection measures, as data.

A `Protocol` pins every choice in which the published programs differ; `PROTOCOLS` names the four
known combinations, and any single choice can be overridden. `DissectConfig` adds which layers and images.

Sources: Bau et al. 2017 :cite:p:`bau2017network`, sections 2.2 and 3; Bau et al. 2020
:cite:p:`bau2020understanding`.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from netdissect.close_matches import did_you_mean
from netdissect.config.literals import (
    PROTOCOL_NAMES,
    Anchor,
    BackendName,
    Duplicates,
    Interpolation,
    NullModel,
    Precision,
    ProtocolName,
    Restriction,
    Split,
    Threshold,
)
from netdissect.config_fields import Config, Option, Values
from netdissect.errors import ConfigError

LARGEST_QUANTILE = 0.9
"""Masks of more than nine tenths of an image come from a percentile that was taken for the share above it."""
Fraction = Annotated[float, Field(gt=0, lt=1)]


def _one_as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else value


OneOrMore = BeforeValidator(_one_as_tuple)
"""Of a field that holds several names or paths: one alone is taken for a list of one."""


def _as_text(value: Any) -> Any:
    """Return a ``torch.device`` as its name."""
    return str(value) if type(value).__module__ == "torch" else value


DeviceName = Annotated[str, BeforeValidator(_as_text)]
"""Of a field that names a Torch device: a ``torch.device`` is taken for its name."""


def _share_above(value: float) -> float:
    """Refuse the percentile of a threshold in place of the share of activations above it."""
    if value > LARGEST_QUANTILE:
        raise ValueError(
            f"expected the share of activations above the threshold, at most {LARGEST_QUANTILE:g}, and not the share "
            f"below it, so {round(1 - value, 9):g} in its place"
        )
    return value


Quantile = Annotated[Fraction, AfterValidator(_share_above)]


BASIS_NAMES = "[LAYER@]neurons|pca[:N]|ica[:N]|nmf[:N]|kmeans[:N]|rotation:SEED|permutation:SEED|file:F|sae:F"
BASIS_FORM = r"(neurons|(pca|ica|nmf|kmeans)(:[1-9]\d{0,5})?|(rotation|permutation):\d{1,9}|(file|sae):.+)"
"""A basis without its layer."""
BasisName = Annotated[str, Field(pattern=rf"^(.+@)?{BASIS_FORM}$")]


def _all_different(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError("no value may be given twice")
    return values


class Protocol(Config):
    """The choices in which published definitions of the same IoU differ."""

    name: Annotated[str, Option("--protocol", metavar="|".join(PROTOCOL_NAMES))] = Field(
        "paper", description="Whose definition of the numbers; the options below change single choices of it."
    )
    quantiles: Annotated[tuple[Quantile, ...], AfterValidator(_all_different), Option("--quantile")] = Field(
        (0.005,),
        min_length=1,
        max_length=6,
        description="Fractions of a unit's activations above its threshold; the first is the run's own.",
    )
    threshold: Threshold = Field(
        "exact",
        description=(
            "exact: the (floor(qN) + 1)-th largest value. interpolated: linear between order statistics, the smallest "
            "at 0 and the largest at 1, as NumPy. hazen: linear between them, each at the middle of its share of 1/N."
        ),
    )
    threshold_grid: int | None = Field(
        None, gt=0, description="Take thresholds over maps upsampled to this size; None: at the layer's own."
    )
    anchor: Anchor = Field(
        "receptive-field",
        description=(
            "Where a cell of the map is on the label map: at the center of its receptive field (exact, or in integers "
            "as in the authors' Caffe code), or as if the map covered the image evenly (exact, or as in Pillow)."
        ),
    )
    restriction: Restriction = Field(
        "annotated",
        description=(
            "Images whose mask counts in the union: those annotated in the concept's category, those in which "
            "the mask overlaps a label of that category, or all."
        ),
    )
    duplicates: Duplicates = Field(
        "once", description="Whether a pixel that has a label in two channels counts once or each time."
    )
    segmentation_size: int | None = Field(
        None, gt=0, description="Bring label maps to this square size (nearest); None: as they are on disk."
    )

    @classmethod
    def merge_options(cls, defaults: Values, given: Values) -> dict[str, Any]:
        """Return the values of a named protocol with single choices changed; its name then lists them.

        >>> Protocol.merge_options({}, {"name": "lite", "threshold": "exact"})["name"]
        'lite+threshold'
        """
        base = cls().model_dump() | dict(defaults)
        name = given.get("name", base["name"].partition("+")[0])
        if name not in PROTOCOL_NAMES and "name" not in given:
            return base | dict(given)  # of a run from Python, which may call its protocol as it likes
        if name not in PROTOCOL_NAMES:
            raise ConfigError(
                f"the protocol cannot be {name!r}: expected one of {', '.join(PROTOCOLS)}."
                f"{did_you_mean(name, PROTOCOLS)}"
            )
        known = PROTOCOLS[name].model_dump()
        values = (known if "name" in given else base) | dict(given)
        changed = [key for key in known if key != "name" and values[key] != known[key]]
        return values | {"name": "+".join([name, *changed])}


# 5 / 999 above is the quantile 994 / 999 that the authors' Caffe code (2017) read out as its 0.995.
PROTOCOLS: dict[ProtocolName, Protocol] = {
    "paper": Protocol(name="paper"),
    "original": Protocol(
        name="original",
        quantiles=(5 / 999,),
        threshold="interpolated",
        anchor="receptive-field-integer",
        duplicates="each",
    ),
    "lite": Protocol(
        name="lite",
        quantiles=(5 / 999,),
        threshold="interpolated",
        anchor="half-pixel-pillow",
        restriction="overlap",
        duplicates="each",
    ),
    "pnas2020": Protocol(
        name="pnas2020",
        quantiles=(0.01,),
        threshold="hazen",
        threshold_grid=56,
        anchor="half-pixel",
        restriction="none",
        segmentation_size=56,
    ),
}


REPORTED_QUANTILES = (0.005, 0.02)
"""At which a concept's attainable IoU is reported: the paper's, and another one on small data sets."""
SMALL_DATA = 10_000
"""Images below which a data set is small; the published one has 63,305."""
SENSITIVITY_QUANTILES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)


def _standard(values: Any) -> Any:
    return SENSITIVITY_QUANTILES if values in ("standard", ("standard",)) else values


class StatisticsConfig(Config):
    """Confidence intervals, a permutation test and further metrics of each label, from the same passes as IoU."""

    bootstrap: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="Replicates of the bootstrap over images, for intervals and stability; 0: none.",
    )
    holdout: Fraction | None = Field(
        None, description="Choose labels on the other images and score them on this share of them; None: not."
    )
    sensitivity: Annotated[tuple[Fraction, ...], BeforeValidator(_standard)] = Field(
        (),
        max_length=6,
        description=(
            "Further quantiles at which labels are chosen and detectors counted; standard: "
            f"{', '.join(map(str, SENSITIVITY_QUANTILES))}."
        ),
    )
    extra_metrics: bool = Field(
        False,
        description=(
            "Whether further metrics of each unit's ten leading concepts are measured, such as precision and AUROC, "
            "which takes every activation once more."
        ),
    )
    iqr: bool = Field(
        False,
        description=(
            "Whether the threshold and label of the highest information quality ratio of each unit are searched, as in "
            "the program of GAN Dissection (2019), which takes every activation once more."
        ),
    )
    permutations: Literal["auto"] | Annotated[int, Field(ge=0, le=100_000)] = Field(
        100,
        description=(
            "Repetitions of the permutation test; auto: 100 to 1,000, as many as take a fifth of the time of a small "
            "network; 0: none."
        ),
    )
    null: NullModel = Field(
        "images",
        description=(
            "Null hypothesis of the permutation test. images: masks are paired with the labels of other images. "
            "locations: labels are shifted within their own image."
        ),
    )
    keep_masks: bool = Field(
        False,
        description="Whether the run keeps the pixels of every mask: netdissect compose makes its formulas from them.",
    )
    moments: bool = Field(
        False,
        description=(
            "Whether the run keeps the mean activation of each unit on each image and its correlation with each "
            "concept over cells, and explains each unit by several concepts: over the whole range of activation, not "
            "by masks alone."
        ),
    )
    stats_seed: int = Field(
        0, ge=0, description="Seed of all resampling; runs with the same seed on the same images are paired."
    )

    @property
    def holdout_share(self) -> float:
        """Share of the images on which moments are scored: that of `holdout`, or half of them."""
        return 0.5 if self.holdout is None else self.holdout

    @property
    def needs_images(self) -> bool:
        """Whether counts are kept image by image until the run ends."""
        return self.bootstrap > 0 or self.holdout is not None or self.moments


def _numbers(value: object) -> object:
    """Read three numbers that were written as a text."""
    if not isinstance(value, str) or value == "half-pixel":
        return value
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)) or numbers[1] <= 0 or numbers[2] <= 0:
        raise ValueError("expected OFFSET,SIZE,STEP in input pixels, size and step above 0, or half-pixel")
    return numbers


class Assumed(Config):
    """Layout and field that are assumed of layers that cannot be traced to the image; other layers keep their own."""

    layout: Annotated[str | None, Option("--assume-layout", metavar="NCHW|NHWC|tokens[:PREFIX]")] = Field(
        None,
        pattern=r"^(NCHW|NHWC|tokens(:\d{1,6})?)$",
        description=(
            "How the output of such layers is read: NCHW, NHWC, or tokens of a square grid, row by row, after PREFIX "
            "others (tokens:PREFIX). None: such layers are refused."
        ),
    )
    receptive_field: Annotated[
        Literal["half-pixel"] | tuple[float, float, float] | None,
        BeforeValidator(_numbers),
        Option(metavar="OFFSET,SIZE,STEP|half-pixel"),
    ] = Field(
        None,
        description=(
            "Offset, size and step in input pixels of their cells, or half-pixel: cells cover the image evenly. "
            "None: refused where cells are anchored at the centers of receptive fields."
        ),
    )


class BasisFit(Config):
    """Sample of cells on which bases are fitted, and how."""

    images: Annotated[int, Option("--basis-images")] = Field(
        500, gt=0, description="Images at most whose cells are sampled, spread evenly over the data set."
    )
    cells: Annotated[int, Option("--basis-cells")] = Field(
        20_000,
        gt=0,
        le=1_000_000,
        description="Cells at most on which a basis is fitted, drawn at random from these images; of a layer of more "
        "than 64 units fewer than a million, so that they take at most 256 MB.",
    )
    iterations: Annotated[int, Option("--basis-iterations")] = Field(
        400, gt=0, description="At most, of ica, nmf and kmeans."
    )
    seed: Annotated[int, Option("--basis-seed")] = Field(
        0, ge=0, description="Of the draw of cells, and of the start of ica, nmf and kmeans."
    )


class DissectConfig(Config):
    """What one dissection measures, apart from the network and the data set."""

    layers: Annotated[tuple[str, ...], OneOrMore, Option("--layer", metavar="LAYER")] = Field(
        min_length=1,
        description=(
            "Dotted module names or globs, e.g. 'layer4'; repeats. auto: the last layer of each stage. blocks: every "
            "block. mlp: the hidden neurons of the perceptrons in transformer blocks."
        ),
    )
    bases: Annotated[tuple[BasisName, ...], OneOrMore, Option("--basis", metavar=BASIS_NAMES, panel="Bases")] = Field(
        ("neurons",),
        min_length=1,
        description=(
            "In which bases each layer is dissected, all in one forward pass; repeats. neurons: its own units. pca, "
            "ica: principal, independent components. nmf: parts of a non-negative factorization. kmeans: clusters. "
            "rotation, permutation: random, of a seed. file: a matrix (.npy, .safetensors), a row for each unit. sae: "
            "latents of a sparse autoencoder. LAYER@BASIS: of this layer alone."
        ),
    )
    basis_fit: Annotated[BasisFit, Option(panel="Bases")] = Field(
        default_factory=BasisFit, description="Sample of cells on which bases are fitted, and how."
    )
    protocol: Annotated[Protocol, Option(panel="Protocol")] = Field(
        default_factory=Protocol, description="The definition of the numbers."
    )
    min_iou: Literal["fdr"] | Annotated[float, Field(ge=0, lt=1)] = Field(
        0.04,
        description=(
            "A unit of at least this IoU is a detector (of more, under the rule per-category). fdr: in each layer, "
            "the smallest IoU at which at most 5 % of its detectors are expected under the permutation null."
        ),
    )
    categories: Annotated[tuple[str, ...] | None, OneOrMore] = Field(
        None, description="Concept categories to read; None: all."
    )
    split: Split | None = Field(None, description="Only this split of the data; None: both, as the paper.")
    max_images: int | None = Field(None, gt=0, description="Dissect this many images, drawn at random; None: all.")
    sample_seed: int = Field(0, ge=0, description="Seed of the draw of the images, or of the samples of a generator.")
    batch_size: Literal["auto"] | Annotated[int, Field(gt=0)] = Field(
        16,
        description=(
            "Images in one forward pass: few fit into the caches of a CPU, more suit a GPU. auto: doubled before the "
            "first batch until images per second rise by less than 5 % or memory runs out; the run records the number."
        ),
    )
    device: DeviceName = Field(
        "auto",
        description=(
            "Torch device of the forward pass, such as cpu, cuda:1 or mps. auto: that of the module where it is on an "
            "accelerator, or else CUDA, MPS or XPU if there is one, or else the CPU; the run records which."
        ),
    )
    precision: Precision = Field("float32", description="Number format of the forward pass.")
    backend: BackendName | Literal["auto"] = Field(
        "eager",
        description=(
            "What runs the forward pass. eager: PyTorch. compile: torch.compile, which takes half a minute first. "
            "onnxruntime: ONNX Runtime on a CPU, in half to four fifths of the time. openvino: OpenVINO on a CPU, "
            "also in bfloat16. The last three change the last bits; where they cannot take a network, PyTorch runs it. "
            "auto: the fastest on the first images that agrees with PyTorch. The run records what it used."
        ),
    )
    layout_check: bool = Field(
        True, description="Check with spots on two images that each layer's cells lie where its layout says."
    )
    force: bool = Field(
        False,
        description="Dissect also layers that this check contradicts, or whose assumed layout it leaves open.",
    )
    allow_nondeterministic: bool = Field(
        False, description="Accept a network that gives other activations each time, or in another batch."
    )
    all_matching: bool = Field(False, description="Take also a glob that matches more than 20 layers.")
    top_images: int = Field(25, gt=0, description="How many images of highest activation each unit keeps.")
    statistics: Annotated[StatisticsConfig, Option(panel="Statistics")] = Field(
        default_factory=StatisticsConfig, description="Confidence intervals, permutation test, further metrics."
    )
    assumed: Assumed = Field(
        default_factory=Assumed, description="Layout and receptive field of layers that cannot be traced."
    )

    @property
    def images_per_batch(self) -> int:
        """The batch size, which a run has found where it is ``auto``.

        Raises
        ------
        ConfigError
            If it is ``auto``, and no run has found one.
        """
        if self.batch_size == "auto":
            raise ConfigError(
                "the batch size 'auto' is found when a run begins, and was not found here. Expected a number of images "
                "(--batch-size 32, in Python batch_size=32)."
            )
        return self.batch_size

    @property
    def permutations(self) -> Literal["auto"] | int:
        """Repetitions of the permutation test: those asked for, and ``auto`` if only a limit was."""
        asked = self.statistics.permutations
        return "auto" if self.min_iou == "fdr" and asked == 0 else asked

    @property
    def quantiles(self) -> tuple[float, ...]:
        """All quantiles at which units are thresholded: the protocol's, then those that statistics alone need."""
        nearby = [either for quantile in self.protocol.quantiles for either in nearby_quantiles(quantile)]
        return tuple(dict.fromkeys([*self.reported_quantiles, *(nearby if self.statistics.bootstrap else ())]))

    @property
    def reported_quantiles(self) -> tuple[float, ...]:
        """Those of the protocol, then those at which detectors are counted for their sensitivity alone."""
        return tuple(dict.fromkeys(self.protocol.quantiles + self.statistics.sensitivity))

    @property
    def listed(self) -> int:
        """At how many quantiles, the first ones, the counts of single images are kept until the run ends."""
        return len(self.protocol.quantiles) if self.statistics.needs_images else 0

    @property
    def mask_quantiles(self) -> int:
        """At how many quantiles, the first ones, the pixels of masks are kept until the run ends."""
        kept = self.permutations or self.statistics.keep_masks or self.statistics.needs_images
        return len(self.protocol.quantiles) if kept else 0


def nearby_quantiles(quantile: float) -> tuple[float, float]:
    """Return a smaller and a larger quantile: between them intervals see what happens when a threshold moves."""
    return 0.9 * quantile, min(1.1 * quantile, (1 + quantile) / 2)


class LoadOptions(Config):
    """How a network is loaded by its name."""

    weights: Annotated[str | None, Option(metavar="FILE|none")] = Field(
        None, description="A checkpoint (.pth, .pt, .safetensors); none: random weights. None: its own."
    )
    state_dict: Annotated[str | None, Option(metavar="KEY")] = Field(
        None,
        description=(
            "Which weights of a checkpoint that holds several sets, such as teacher, state_dict_ema or encoder_q. "
            "None: the only one that fits."
        ),
    )
    weights_seed: int = Field(0, ge=0, description="Seed of random weights.")
    size: Annotated[int | None, Option("--input-size")] = Field(
        None, gt=0, description="Input size in pixels. None: the network's own."
    )
    mean: tuple[float, ...] | None = Field(
        None, description="Mean of each channel on the scale 0..1, such as 0.5,0.5,0.5. None: the network's own."
    )
    std: tuple[float, ...] | None = Field(
        None, description="Standard deviation of each channel on the scale 0..1. None: the network's own."
    )
    interpolation: Interpolation | None = Field(
        None, description="Filter with which images are resized to the input. None: the network's own."
    )


class NetworkSource(LoadOptions):
    """What `netdissect.load_network` was asked for, so that a run can be repeated from its folder."""

    spec: Annotated[str, Option(metavar="NETWORK", argument=True)] = Field(
        description=(
            "torchvision:NAME, timm:NAME, transformers:NAME (or its folder), efficientnet_lite0|1|2, "
            "python:package.module:factory, onnx:FILE, activations:DIR, or a .safetensors file of the demo or an "
            "experiment."
        )
    )


class Execution(Config):
    """How a dissection is carried out. Nothing here changes a count."""

    activation_cache: Literal["auto", "dense", "sparse", "none"] = Field(
        "auto",
        description=(
            "What is kept of the activations between the threshold pass and the counting pass: every cell, those that "
            "can matter, or nothing (a second forward pass instead). auto: sparse, or none if the disk lacks space."
        ),
    )
    engine: Literal["auto", "compiled", "tensor"] = Field(
        "auto",
        description=(
            "compiled: loops on the host. tensor: plain tensor code on the device of the forward pass, which keeps "
            "nothing and runs it twice; sparse layers are counted on the host. auto: compiled for the CPU, tensor for "
            "any other device."
        ),
    )
    memory_mb: int = Field(512, gt=0, description="Largest activations kept in memory for thresholds; more go to disk.")
    cache_folder: Annotated[Path | None, Option(default="the user's cache folder")] = Field(
        None,
        description=(
            "Folder of what the next run on the same data need not do again: label maps stay packed there, and the "
            "digest of what files hold is remembered. It may be deleted at any time. none: files are read and decoded "
            "again."
        ),
    )
    image_cache: bool = Field(
        False,
        description=(
            "Keep decoded, resized images packed in the cache folder, too, so that the next run on the same data "
            "decodes nothing: 0.15 MB for each image of 224 x 224 pixels, at most 10 GB in all."
        ),
    )
    workers: int | None = Field(
        None, gt=0, description="Threads that decode images and label maps, and count. None: those of PyTorch."
    )
    checkpoint_seconds: float = Field(30.0, ge=0, description="Seconds of work that an interruption may cost.")

    @field_validator("image_cache")
    @classmethod
    def _needs_a_folder(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("cache_folder", "") is None:
            raise ValueError(
                "packed images need a cache folder, and there is none. Name it: --cache-folder, in Python cache_folder"
            )
        return value

    @property
    def threads(self) -> int:
        """Number of threads."""
        if self.workers is not None:
            return self.workers
        import torch  # configurations are read without it

        return torch.get_num_threads()


class RunRequest(Config):
    """Everything that repeats a run: the options of ``netdissect run``, and the content of its ``config.json``."""

    network: Annotated[NetworkSource | None, Option(panel="Network")] = Field(
        description="What to load; None if it was made in Python."
    )
    concepts: str | None = Field(description="Data set in Broden's layout; None if its images were chosen in Python.")
    config: DissectConfig
    execution: Annotated[Execution, Option(panel="Execution")] = Field(default_factory=Execution)
    threads: int | None = Field(
        None, gt=0, description="Threads of torch: the last bits of activations depend on them. None: as it is."
    )
