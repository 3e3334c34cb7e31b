"""Dissect while Lightning trains."""

from typing import Any

from netdissect.dissect.callbacks.dissect_every import DissectEvery
from netdissect.dissect.callbacks.logged_counts import logged_counts
from netdissect.extras import need

need("lightning", "lightning", "LightningCallback")

from lightning.pytorch import LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402


class LightningCallback(Callback):  # type: ignore[misc]
    """Dissect every n steps of a Lightning training, on the first process, and report the counts to its loggers.

    They are reported at the step of the dissection, whatever ``log_every_n_steps`` is.

    Parameters
    ----------
    watch
        Steps, layers and protocol.
    attribute
        Name of the module in the LightningModule that takes images; None: the LightningModule itself.
    """

    def __init__(self, watch: DissectEvery, attribute: str | None = None) -> None:
        self.watch = watch
        self.attribute = attribute

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Dissect the network as it is before its first step."""
        self._dissect(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_rest: Any) -> None:
        """Dissect after a step if a dissection is due."""
        self._dissect(trainer, pl_module)

    def _dissect(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            module = pl_module if self.attribute is None else pl_module.get_submodule(self.attribute)
            result = self.watch(module, trainer.global_step)
            if result is not None:
                for logger in trainer.loggers:
                    logger.log_metrics(logged_counts(result), step=trainer.global_step)
