"""Images as networks take them, streaming statistics of activations, and the activation cache.

image_reader.py (decoded or packed images) -> network -> topk.py (thresholds), histogram.py, top_images.py -> store.py
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
