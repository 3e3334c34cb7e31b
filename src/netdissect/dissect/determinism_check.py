"""The determinism check of a run: an image must give the same activations twice, and alone or in a batch."""

import warnings

import torch

from netdissect.dissect.devices import number_format, torch_device
from netdissect.dissect.forward import DissectionInputs
from netdissect.errors import NetworkError
from netdissect.models.determinism import TOLERANCE, find_difference
from netdissect.result import RunInfo


def with_determinism_check(source: DissectionInputs, info: RunInfo) -> RunInfo:
    """Check that the network is deterministic, or that the configuration accepts that it is not.

    Parameters
    ----------
    source
        Network, data and layers.
    info
        Of the run.

    Returns
    -------
    RunInfo
        With the difference, if it was accepted; unchanged if there is none.

    Raises
    ------
    NetworkError
        If a layer differs, and ``allow_nondeterministic`` is not set.
    """
    network, data, config = source.network, source.data, source.config
    device = torch_device(config.device)
    rows = sorted({0, len(data) // 2, len(data) - 1})
    preprocessing = network.preprocessing
    pixels = source.images.read(rows)
    with network.prepared(device), number_format(device, config):
        difference = find_difference(
            network, source.layers, preprocessing.normalize(torch.from_numpy(pixels).to(device))
        )
    if difference is None:
        return info
    if not config.allow_nondeterministic:
        raise NetworkError(
            f"Network {network.name!r} is not deterministic: {difference} Expected differences of at most {TOLERANCE}: "
            "correct the network, or accept it with --allow-nondeterministic (in Python allow_nondeterministic=True), "
            "which is recorded; another run or another batch size then gives other numbers."
        )
    warnings.warn(f"the network is not deterministic, which was accepted: {difference}", stacklevel=3)
    return info.model_copy(update={"nondeterministic": str(difference)})
