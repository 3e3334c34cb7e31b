"""Segmenters that netdissect trained: ``FILE.safetensors``, of the synthetic data set or of labeled images."""

from torch import Tensor, nn

from netdissect.errors import SegmenterError
from netdissect.models.network import module_digest
from netdissect.segmenters.label_scores import ClassScores, Head, score_segmenter
from netdissect.segmenters.label_tables import ClassLabels
from netdissect.segmenters.segmenter import Segmenter, SegmenterOptions, SegmentLabel
from netdissect.training.segmentation.segmentation_net import load_trained_segmenter


def load(spec: str, name: str, options: SegmenterOptions) -> Segmenter:
    """Load a trained segmenter; see `load_segmenter`."""
    if options.labels is not None:
        raise SegmenterError(f"the file {spec} names its labels itself. Expected no --labels; remove it.")
    trained = load_trained_segmenter(name)
    labels = [[None, *(SegmentLabel(name, category) for name in names)] for category, names in trained.heads.items()]
    classes = ClassLabels.of_classes(spec, [label for head in labels for label in head])
    classes = classes.keep_words(spec, options.words)
    ids = iter(classes.ids)
    heads = tuple(Head(tuple(next(ids) for _ in head)) for head in labels)
    scores = ClassScores(trained.module, trained.train_config.preprocessing, _logits, heads)
    return score_segmenter(spec, classes, heads, scores, module_digest(trained.module, {}), options.min_score)


def _logits(module: nn.Module, inputs: Tensor) -> Tensor:
    logits: Tensor = module(inputs)
    return logits
