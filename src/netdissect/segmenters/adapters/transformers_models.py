"""Segmenters of transformers: ``transformers:NAME_OR_DIR``.

Three tasks, by the class of the model that the configuration names:

- semantic (``...ForSemanticSegmentation``): softmax of the logits of each pixel;
- panoptic and universal (Mask2Former, MaskFormer, OneFormer, EoMT, DETR): each query has a distribution over classes p
  and a mask m, and the score of class c at a pixel is the sum over queries of p(c) m, the semantic inference of
  MaskFormer; OneFormer is given the task "semantic";
- text-prompted (CLIPSeg): sigmoid of the logits of each word.

Sources: Cheng, Schwing and Kirillov 2021 :cite:p:`cheng2021maskformer`, section 3.4; Lüddecke and Ecker 2022
:cite:p:`luddecke2022clipseg`.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from netdissect.errors import SegmenterError
from netdissect.extras import need
from netdissect.models import Network, Preprocessing
from netdissect.models.model_zoos import hub_model
from netdissect.segmenters.label_scores import ClassScores, Head, RawScores, score_segmenter
from netdissect.segmenters.label_tables import ClassLabels, class_labels, read_words
from netdissect.segmenters.segmenter import Segmenter, SegmenterOptions, SegmentLabel

WORDS_AT_ONCE = 16
"""Words of a text-prompted model in one pass of its decoder."""

EXPECTED = (
    "a semantic model (...ForSemanticSegmentation), a panoptic one (Mask2Former, MaskFormer, OneFormer, EoMT, DETR) or "
    "CLIPSeg"
)
TASK = "the task is semantic"
"""What OneFormer takes beside an image."""


def load(spec: str, name: str, options: SegmenterOptions) -> Segmenter:
    """Load a segmenter from the Hugging Face hub or its cache, or from a folder; see `load_segmenter`."""
    library = need("transformers", "transformers", f"Segmenter {spec!r}")
    with hub_model(name, f"the segmenter {name!r}", SegmenterError) as where:
        config = library.AutoConfig.from_pretrained(name, **where)
        architecture = str((config.architectures or [""])[0])
        build = _task(spec, architecture)
        kind: Any = getattr(library, architecture)
        module = kind.from_pretrained(name, config=config, use_safetensors=True, **where)
        # OneFormer's reads the names of classes from a second file of the hub, if it is not told otherwise.
        processor = library.AutoImageProcessor.from_pretrained(name, **where, **_without_classes(architecture))
    network = Network(spec, module.eval(), Preprocessing.read(processor))
    return build(spec, network, options, partial(_tokenizer, library, name, where))


Tokenizer = Callable[[], Any]
Build = Callable[[str, Network, SegmenterOptions, Tokenizer], Segmenter]


def _task(spec: str, architecture: str) -> Build:
    if architecture.endswith("ForSemanticSegmentation"):
        return partial(_fixed, raw=semantic_logits, activation="softmax")
    if architecture == "OneFormerForUniversalSegmentation":
        return _with_task
    if architecture.endswith("ForUniversalSegmentation") or architecture in (
        "MaskFormerForInstanceSegmentation",
        "DetrForSegmentation",
    ):
        return partial(_fixed, raw=query_scores, activation="identity")
    if architecture == "CLIPSegForImageSegmentation":
        return _prompted
    raise SegmenterError(
        f"{spec!r} is a {architecture or 'model of no class'}, which is no segmenter. Expected {EXPECTED}."
    )


def _fixed(
    spec: str, network: Network, options: SegmenterOptions, _: Tokenizer, raw: RawScores, activation: Any
) -> Segmenter:
    own: dict[int, str] = network.module.config.id2label  # type: ignore[assignment, union-attr]
    classes = class_labels(spec, own, len(own), options.labels).keep_words(spec, options.words)
    heads = (Head(classes.ids, activation),)
    scores = ClassScores(network.module, network.preprocessing, raw, heads)
    return score_segmenter(spec, classes, heads, scores, network.digest, options.min_score)


def _with_task(spec: str, network: Network, options: SegmenterOptions, tokenizer: Tokenizer) -> Segmenter:
    """Return a OneFormer, which takes the numbers of the words of its task."""
    length = int(network.module.config.task_seq_len)  # type: ignore[arg-type, union-attr]
    tokens = tokenizer()([TASK], padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    task = tokens["input_ids"] * tokens["attention_mask"]
    return _fixed(spec, network, options, tokenizer, partial(query_scores, task=task), "identity")


def _without_classes(architecture: str) -> dict[str, None]:
    return {"class_info_file": None} if architecture.startswith("OneFormer") else {}


def _prompted(spec: str, network: Network, options: SegmenterOptions, tokenizer: Tokenizer) -> Segmenter:
    if options.labels is not None or options.words is None:
        raise SegmenterError(
            f"the segmenter {spec!r} searches for words and has no labels of its own. Expected --words FILE "
            "(words=FILE) with a word on each line" + (" in place of --labels." if options.labels else ".")
        )
    words = read_words(options.words)
    classes = ClassLabels.of_classes(spec, [SegmentLabel(word.name, word.category or "object") for word in words])
    module: Any = network.module
    tokens = tokenizer()([word.name.partition(";")[0] for word in words], padding=True, return_tensors="pt")
    with torch.no_grad():
        embeddings = module.clip.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
    heads = (Head(classes.ids, "sigmoid"),)
    scores = ClassScores(module, network.preprocessing, partial(prompted_logits, embeddings=embeddings), heads)
    return score_segmenter(spec, classes, heads, scores, network.digest, options.min_score)


def _tokenizer(library: ModuleType, name: str, where: dict[str, Any]) -> Any:
    try:
        return library.AutoTokenizer.from_pretrained(name, **where)
    except Exception as error:  # whatever the readers of its files raise
        reason = str(error).strip().partition("\n")[0]
        raise SegmenterError(
            f"transformers cannot load the tokenizer of {name!r} ({type(error).__name__}: {reason}). Expected its "
            "files beside the model: save it there by tokenizer.save_pretrained(FOLDER)."
        ) from error


def semantic_logits(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return the logits of a semantic model, float (B, K, h, w)."""
    logits: Tensor = module(pixel_values=inputs).logits
    return logits


def query_scores(module: nn.Module, inputs: Tensor, task: Tensor | None = None) -> Tensor:
    """Return the sum over queries of class probability times mask probability, float (B, K, h, w).

    `task` is what a OneFormer takes beside images, int64 (1, length).
    """
    more = {} if task is None else {"task_inputs": task.to(inputs.device).expand(len(inputs), -1)}
    output = module(pixel_values=inputs, **more)
    queries = output.class_queries_logits if "class_queries_logits" in output else output.logits
    masks = output.masks_queries_logits if "masks_queries_logits" in output else output.pred_masks
    return torch.einsum("bqc,bqhw->bchw", queries.softmax(-1)[..., :-1], masks.sigmoid())


def prompted_logits(module: Any, inputs: Tensor, embeddings: Tensor) -> Tensor:
    """Return the logits of each word of CLIPSeg, float (B, words, h, w); the image is encoded once for all words."""
    seen = module.clip.vision_model(inputs, output_hidden_states=True)
    layers = [seen.hidden_states[index + 1] for index in module.extract_layers]
    parts = []
    for words in torch.split(embeddings, WORDS_AT_ONCE):
        repeated = [layer.repeat_interleave(len(words), 0) for layer in layers]
        logits = module.decoder(repeated, words.repeat(len(inputs), 1)).logits
        parts.append(logits.unflatten(0, (len(inputs), len(words))))
    return torch.cat(parts, 1)
