"""Open a network that an experiment trained, whichever it was, by its file.

    ROOT/trained/DIGEST.safetensors        a scene network, of a bench or the demonstration
    OUT/trained/TASK-DIGEST.safetensors    the backbone of a task

The file says what made it. It holds tensors and text alone: opening it runs no code.
"""

from pathlib import Path

import safetensors

from netdissect.errors import CheckpointError
from netdissect.models import Network
from netdissect.training.scene_net import load_trained
from netdissect.training.task_networks import load_task


def trained_network(path: str | Path) -> Network:
    """Open a network that an experiment trained.

    Parameters
    ----------
    path
        A ``.safetensors`` file.

    Returns
    -------
    Network
        Called by its task and seed, or by its file.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or no experiment trained it.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be opened as a network ({error}). Expected a .safetensors file that an experiment trained, "
            "such as those in the folder 'trained' of 'netdissect experiment tasks'; for weights of another network "
            "name NETWORK@FILE."
        ) from error
    if "made" in facts:
        return load_task(path).network()
    if "recipe" in facts:
        return load_trained(path).network(path.stem)
    raise CheckpointError(
        f"{path} holds weights, but not what they are weights of: no experiment trained it. Name the network before "
        f"them: NETWORK@{path.name}."
    )
