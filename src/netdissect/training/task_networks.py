"""Backbones that were trained on a task, read from their files; training them is in `train_tasks`.

load_task(file) -> TaskNetwork (backbone, loss and accuracy on held-out images)
"""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from netdissect.config import NetworkSource
from netdissect.models import Network
from netdissect.training.choices import TaskName
from netdissect.training.scene_net import TrainConfig, file_source, preprocessing, scene_network
from netdissect.training.weights_file import as_checkpoint_error, read_weights


@dataclass(frozen=True)
class TaskNetwork:
    """A backbone that was trained on a task.

    Attributes
    ----------
    task, train_config
        What made it.
    module
        The convolutions ``conv1`` and so on, in evaluation mode.
    loss, accuracy
        On held-out images; None where the task has no classes.
    source
        The file that it was read from; None: it is in memory alone.
    """

    task: TaskName
    train_config: TrainConfig
    module: nn.Sequential
    loss: float | None
    accuracy: float | None
    source: NetworkSource | None = None

    def network(self) -> Network:
        """Return it with its preprocessing, ready to be dissected."""
        name = f"{self.task}, seed {self.train_config.seed}"
        return Network(name, self.module, preprocessing(self.train_config.size), source=self.source)


def load_task(path: str | Path) -> TaskNetwork:
    """Read a network that `supervision` trained and kept in ``OUT/trained``.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or no such network.
    """
    with as_checkpoint_error(
        path,
        "what was trained there",
        missing="Train it with netdissect experiment supervision.",
        damaged="Remove it; the same command trains it again.",
    ):
        weights, (inputs, loss, accuracy) = read_weights(path, "inputs", "loss", "accuracy")
        train_config = TrainConfig.model_validate(inputs["train_config"])
        module = backbone_of(train_config).eval()
        module.load_state_dict(weights)
        return TaskNetwork(inputs["task"], train_config, module, loss, accuracy, file_source(path))


def backbone_of(train_config: TrainConfig) -> nn.Sequential:
    """Return the convolutions and poolings of a scene network, with the weights of its seed."""
    whole = scene_network(train_config.units, seed=train_config.seed, batch_norm=train_config.batch_norm)
    names = list(dict(whole.named_children()))
    return whole[: names.index(train_config.layers[-1]) + 1]
