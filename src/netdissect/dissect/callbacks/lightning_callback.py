"""Dissect while Lightning trains."""

from typing import Any

from netdissect.dissect.callbacks.dissect_every import DissectEvery
from netdissect.extras import need

need("lightning", "lightning", "LightningCallback")

from lightning.pytorch import LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402


class LightningCallback(Callback):  # type: ignore[misc]
    """Dissect every n steps of a Lightning training, on the first process.

    Parameters
    ----------
    watch
        When, and what of it.
    attribute
        Name of the module within the LightningModule that takes images; None: the LightningModule itself, whose
        `forward` then takes them.
    """

    def __init__(self, watch: DissectEvery, attribute: str | None = None) -> None:
        self.watch = watch
        self.attribute = attribute

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Dissect the network as it is before its first step."""
        self._look(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_rest: Any) -> None:
        """Dissect after a step if it is time to."""
        self._look(trainer, pl_module)

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            module = pl_module if self.attribute is None else pl_module.get_submodule(self.attribute)
            self.watch(module, trainer.global_step)
