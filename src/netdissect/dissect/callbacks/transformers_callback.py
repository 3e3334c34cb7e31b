"""Dissect while Hugging Face's Trainer trains."""

from typing import Any

import torch

from netdissect.dissect.callbacks.dissect_every import DissectEvery
from netdissect.extras import need

need("transformers", "transformers", "TransformersCallback")

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments  # noqa: E402


class TransformersCallback(TrainerCallback):  # type: ignore[misc]
    """Dissect every n steps of a `transformers.Trainer`, on the first process.

    Parameters
    ----------
    watch
        Steps, layers and protocol.
    """

    def __init__(self, watch: DissectEvery) -> None:
        self.watch = watch

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
            self.watch(model, state.global_step)
