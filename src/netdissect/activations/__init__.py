"""Streaming statistics of activations, and the activation cache.

image_batches.py -> network -> topk.py (thresholds), histogram.py, top_images.py -> store.py (activation cache)
"""

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
