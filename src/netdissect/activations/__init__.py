"""Images as networks take them, streaming statistics of activations, and the activation cache.

image_reader.py (decoded or packed images) -> network -> topk.py (thresholds), histogram.py, top_images.py -> store.py
"""

from netdissect.activations.image_batches import (
    PREFETCHED_BATCHES,
    Batch,
    batch_starts,
    prefetch,
)
from netdissect.activations.image_reader import ImageReader
from netdissect.activations.store import ActivationStore
from netdissect.activations.top_images import TopImages
from netdissect.activations.topk import StreamingTopK, ranks

__all__ = [
    "PREFETCHED_BATCHES",
    "ActivationStore",
    "Batch",
    "ImageReader",
    "StreamingTopK",
    "TopImages",
    "batch_starts",
    "prefetch",
    "ranks",
]
