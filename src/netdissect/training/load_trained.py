"""Load a network as a command names it, also one that an experiment trained.

    ROOT/trained/DIGEST.safetensors        a scene network, of a workspace or the demo
    OUT/trained/TASK-DIGEST.safetensors    the backbone of a task
    FILE.safetensors                        a generator of synthetic scenes

The facts in these files say how to build the network. They hold tensors and text alone: loading them runs no code.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import safetensors
from torch import nn

from netdissect.config import LoadOptions
from netdissect.errors import CheckpointError, ConfigError
from netdissect.keywords import AnyConfig
from netdissect.models import Network, load_network
from netdissect.training.generators.scene_generator import CONFIG, SceneGenerator, load_generator
from netdissect.training.scene_net import load_trained, random_network
from netdissect.training.task_networks import backbone_of, load_task
from netdissect.training.weights_file import fact_names


def open_network(text: str, options: LoadOptions | None = None) -> Network:
    """Load a network from the text of a command: ``NETWORK``, ``NETWORK@FILE``, ``NETWORK@FILE#KEY``, ``NETWORK@none``.

    Parameters
    ----------
    text
        NETWORK is as for `netdissect.load_network`, or the ``.safetensors`` file of a network that an experiment
        trained.
    options
        Weights and preprocessing. None: the network's own.

    Raises
    ------
    NetworkError
        If there is no such network.
    CheckpointError
        If its weights cannot be used.
    ConfigError
        If the options contradict the text.
    """
    given = {} if options is None else options.model_dump(exclude_defaults=True)
    if text.endswith(".safetensors") and ("@" not in text or Path(text).is_file()):
        return load_network(text, **given)
    spec, _, weights = text.partition("@")
    if weights and given.keys() & {"weights", "state_dict"}:
        raise ConfigError(
            f"{text} names its weights, and so do the options. Expected them once: {spec}@FILE, or {spec} with "
            "--weights FILE."
        )
    if weights:
        file, _, key = (weights, "", "") if Path(weights).is_file() else weights.partition("#")
        given |= {"weights": file, "state_dict": key or None}
    return load_network(spec, **given)


def trained_network(path: str | Path, weights_seed: int | None = None) -> Network:
    """Load a network that an experiment trained; `netdissect.load_network` calls this for a ``.safetensors`` file.

    Parameters
    ----------
    path
        A ``.safetensors`` file.
    weights_seed
        Draw its weights at random from this seed, as before a training. None: the trained weights.

    Returns
    -------
    Network
        Its name is its task and seed, or the name of its file.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or no experiment trained it.
    """
    path = Path(path)
    try:
        facts = fact_names(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be opened as a network ({error}). Expected a .safetensors file that an experiment trained, "
            "such as those in the folder 'trained' of 'netdissect experiment supervision'; for weights of another "
            "network name NETWORK@FILE."
        ) from error
    if "inputs" in facts:
        task = load_task(path)
        return _network(task.network(), task.train_config, backbone_of, weights_seed)
    if CONFIG in facts:
        generator = load_generator(path)
        return _network(generator, cast(SceneGenerator, generator.module).config, SceneGenerator, weights_seed)
    if "train_config" in facts:
        trained = load_trained(path)
        return _network(trained.network(path.stem), trained.train_config, random_network, weights_seed)
    raise CheckpointError(
        f"{path} holds weights, but does not say of which network: no experiment trained it. Name the network before "
        f"them: NETWORK@{path.name}."
    )


def _network(
    trained: Network, config: AnyConfig, build: Callable[[AnyConfig], nn.Module], weights_seed: int | None
) -> Network:
    """Return a trained network, or the same with random weights."""
    if weights_seed is None or trained.source is None:
        return trained
    module = build(config.model_copy(update={"seed": weights_seed})).eval()
    source = trained.source.model_copy(update={"weights": "none", "weights_seed": weights_seed})
    name = f"{trained.name}, random weights of seed {weights_seed}"
    return replace(trained, name=name, module=module, source=source)
