"""Dissect a network every so many steps of its training.

    DissectEvery           from any loop: watch(module, step)
    LightningCallback      for lightning.pytorch.Trainer (extra "lightning")
    TransformersCallback   for transformers.Trainer (extra "transformers")

Each dissection is a run of its own; ``netdissect experiment snapshots FOLDER`` follows the detectors through them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from netdissect.dissect.callbacks.every import DissectEvery

if TYPE_CHECKING:
    from netdissect.dissect.callbacks.huggingface import TransformersCallback as TransformersCallback
    from netdissect.dissect.callbacks.lightning import LightningCallback as LightningCallback

__all__ = ["DissectEvery", "LightningCallback", "TransformersCallback"]

_HOME = {"LightningCallback": "lightning", "TransformersCallback": "huggingface"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'netdissect.callbacks' has no attribute {name!r}")
    return getattr(import_module(f"netdissect.dissect.callbacks.{_HOME[name]}"), name)
