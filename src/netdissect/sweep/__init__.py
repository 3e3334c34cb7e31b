"""One look at the data: a stream of batches, exact thresholds, and the activation store."""

from netdissect.sweep.store import ActivationStore
from netdissect.sweep.stream import BATCHES_AHEAD, Batch, ahead, batch_starts, image_batches, read_rows
from netdissect.sweep.thresholds import TopValues, ranks
from netdissect.sweep.top_images import TopImages

__all__ = [
    "BATCHES_AHEAD",
    "ActivationStore",
    "Batch",
    "TopImages",
    "TopValues",
    "ahead",
    "batch_starts",
    "image_batches",
    "ranks",
    "read_rows",
]
