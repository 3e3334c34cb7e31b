"""Before a run: one of its images twice, and alone or in a batch, must give the same."""

import warnings

import torch

from netdissect.activations import read_images
from netdissect.dissect.forward import DissectionInputs, torch_device
from netdissect.errors import NetworkError
from netdissect.models.determinism import TOLERANCE, find_difference
from netdissect.result import RunInfo


def with_repeatability(source: DissectionInputs, info: RunInfo) -> RunInfo:
    """See that the network gives the same for an image each time, or that it was accepted that it does not.

    Parameters
    ----------
    source
        Network, data and layers.
    info
        Of the run.

    Returns
    -------
    RunInfo
        With what differs, if that was accepted; as it is where all agree.

    Raises
    ------
    NetworkError
        If a layer differs, and ``allow_nondeterministic`` is not set.
    """
    network, data, config = source.network, source.data, source.config
    device = torch_device(config.device)
    rows = sorted({0, len(data) // 2, len(data) - 1})
    preprocessing = network.preprocessing
    pixels = read_images(data, rows, preprocessing)
    with network.prepared(device), torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        found = find_difference(network, source.layers, preprocessing.normalize(torch.from_numpy(pixels).to(device)))
    if found is None:
        return info
    if not config.allow_nondeterministic:
        raise NetworkError(
            f"Network {network.name!r} does not repeat itself: {found} Expected differences of at most {TOLERANCE}: "
            "mend the network, or accept it with --allow-nondeterministic (in Python allow_nondeterministic=True), "
            "which is recorded; another run, or another batch size, gives other numbers then."
        )
    warnings.warn(f"the network does not repeat itself, which was accepted: {found}", stacklevel=3)
    return info.model_copy(update={"nondeterministic": str(found)})
