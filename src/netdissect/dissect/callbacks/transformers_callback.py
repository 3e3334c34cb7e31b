"""Dissect while Hugging Face's Trainer trains."""

from typing import Any

import torch

from netdissect.dissect.callbacks.dissect_every import DissectEvery
from netdissect.dissect.callbacks.logged_counts import logged_counts
from netdissect.extras import need

need("transformers", "transformers", "TransformersCallback")

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: E402


class TransformersCallback(TrainerCallback):  # type: ignore[misc]
    """Dissect every n steps of a `transformers.Trainer`, on the first process, and report the counts to its loggers.

    Parameters
    ----------
    watch
        Steps, layers and protocol.
    trainer
        The trainer to which the callback is added; what it logs goes to its history and to all that it reports to.

    Examples
    --------
    ::

        trainer = transformers.Trainer(model, arguments, train_dataset=images)
        trainer.add_callback(TransformersCallback(dissect_every, trainer))
    """

    def __init__(self, watch: DissectEvery, trainer: Trainer) -> None:
        self.watch = watch
        self.trainer = trainer

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **given: Any
    ) -> None:
        """Dissect the network as it is before its first step."""
        self._dissect(given["model"], state)

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **given: Any
    ) -> None:
        """Dissect after a step if a dissection is due."""
        self._dissect(given["model"], state)

    def _dissect(self, model: torch.nn.Module, state: TrainerState) -> None:
        if state.is_world_process_zero:
            result = self.watch(model, state.global_step)
            if result is not None:
                self.trainer.log(logged_counts(result))
