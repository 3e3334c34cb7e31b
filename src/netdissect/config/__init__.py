"""What one dissection measures, and how it is carried out: configurations and the words that their options take.

`literals` needs no pydantic, so that what computes can be imported without it.
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
