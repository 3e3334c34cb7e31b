"""One look at the data: a stream of batches, exact thresholds, and the activation store."""

from netdissect.activations.image_batches import (
    PREFETCHED_BATCHES,
    Batch,
    batch_starts,
    image_batches,
    prefetch,
    read_images,
)
from netdissect.activations.store import ActivationStore
from netdissect.activations.top_images import TopImages
from netdissect.activations.topk import StreamingTopK, ranks

__all__ = [
    "PREFETCHED_BATCHES",
    "ActivationStore",
    "Batch",
    "StreamingTopK",
    "TopImages",
    "batch_starts",
    "image_batches",
    "prefetch",
    "ranks",
    "read_images",
]
