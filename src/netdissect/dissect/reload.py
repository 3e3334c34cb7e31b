"""Load the network and the data of a finished run, if they are unchanged."""

from dataclasses import replace
from pathlib import Path

import torch

from netdissect.concepts import ConceptData, Size
from netdissect.config import NetworkSource
from netdissect.dissect.bases.basis_files import kept_bases, missing_bases
from netdissect.errors import ConceptsError, NetworkError
from netdissect.models import Network, Preprocessing, reload_network
from netdissect.models.surgery.rotations import with_recorded_rotations
from netdissect.result import RunInfo

NAME_FOLDER = "name the folder to which it was moved (--data-root FOLDER; of verify and merge-shards --concepts FOLDER)"


def why_not_loaded(source: NetworkSource | None, *, trust_network: bool = False) -> str | None:
    """Return why a network is not loaded as a file specifies; None: it can be.

    Parameters
    ----------
    source
        Source of the network in a run folder or a ``config.json``.
    trust_network
        Whether Python code that the file names may run.
    """
    if source is None:
        return "the network was made in Python, and its source is not recorded"
    if _is_code(source) and not trust_network:
        return f"the network comes from {source.spec}, and code that a file of others names is not run"
    kind, _, path = source.spec.partition(":")
    files = [path] if kind in ("onnx", "activations") else [source.spec] if source.spec.endswith(".safetensors") else []
    files += [source.weights] if source.weights not in (None, "none") else []
    missing = [name for name in files if not Path(name).exists()]
    return f"the network was loaded from {missing[0]}, which is not there any more" if missing else None


def _is_code(source: NetworkSource | None) -> bool:
    """Tell whether loading the network runs code that the file names."""
    return source is not None and source.spec.startswith("python:")


def network_of(
    info: RunInfo,
    network: Network | torch.nn.Module | None = None,
    *,
    folder: Path | None,
    trust_network: bool = False,
) -> Network:
    """Load the network of a run, or check that a given one is the same.

    Parameters
    ----------
    info
        Of the run.
    network
        A module gets the name and the preprocessing that the run recorded. None: loaded as the run recorded it.
    folder
        Of the run, which holds the bases of its virtual layers; None: it was made in memory.
    trust_network
        Import the Python factory that the run names, if any: the author of the run can then execute any code here.

    Raises
    ------
    NetworkError
        If the source of the network is not recorded or is untrusted code, or if structure, weights or preprocessing
        have changed.
    """
    opened = open_network_of(info, network, folder=folder, trust_network=trust_network)
    if opened.digest != info.network.digest:
        raise NetworkError(
            f"{opened.name!r} has the digest {opened.digest[:12]} but the run was made with {info.network.name!r} of "
            f"digest {info.network.digest[:12]}: structure or weights have changed. Restore the weights of the run."
        )
    return opened


def open_network_of(
    info: RunInfo,
    network: Network | torch.nn.Module | None = None,
    *,
    folder: Path | None,
    trust_network: bool = False,
) -> Network:
    """Load or take the network of a run, whatever its weights; see `network_of`, which compares them by their digest.

    The bases of virtual layers are added: rotations, which the run names, and those that its folder holds.

    Raises
    ------
    NetworkError
        If the source of the network is not recorded or is untrusted code, or if the preprocessing has changed.
    ResultError
        If the folder holds a damaged basis.
    """
    return _with_recorded_bases(open_module_of(info, network, trust_network=trust_network), info, folder)


def open_module_of(
    info: RunInfo, network: Network | torch.nn.Module | None = None, *, trust_network: bool = False
) -> Network:
    """Load or take the network of a run without its virtual layers; see `open_network_of`."""
    if network is None:
        source = info.network.source
        reason = why_not_loaded(source, trust_network=trust_network)
        if source is None or reason is not None:
            raise NetworkError(
                f"{reason} (the run calls it {info.network.name!r}). Give the network itself (--network NETWORK, or in "
                "Python network=, also its module)"
                + (", or trust its code where --trust-network is an option." if _is_code(source) else ".")
            )
        network = reload_network(source)
    elif not isinstance(network, Network):
        used = info.network
        preprocessing = Preprocessing(Size(*used.size), used.mean, used.std, used.interpolation)
        network = Network(used.name, network, preprocessing)
    given, used = network.preprocessing, info.network
    if (given.size, given.mean, given.std, given.interpolation) != (used.size, used.mean, used.std, used.interpolation):
        raise NetworkError(
            f"{network.name!r} takes images of {given.size.height} x {given.size.width} pixels "
            f"({given.interpolation}), mean {given.mean} and deviation {given.std}; the run used "
            f"{used.size[0]} x {used.size[1]} ({used.interpolation}), {used.mean} and {used.std}. Give it the same "
            "preprocessing."
        )
    return network


def _with_recorded_bases(network: Network, info: RunInfo, folder: Path | None) -> Network:
    """Return a network with the virtual layers of a run; those that it has are not made again."""
    network = with_recorded_rotations(network, [layer.name for layer in info.layers])
    virtual = [layer for layer in info.layers if layer.basis_of is not None and layer.name not in network.bases]
    lacking = missing_bases(folder, virtual)
    if lacking:
        raise NetworkError(
            f"{network.name!r} has no layer {', '.join(lacking)}: the run does not hold its basis, because it was kept "
            "in memory or written by an older version. Give the network with its bases, Network(..., bases=...)."
        )
    if folder is None or not virtual:
        return network
    return replace(network, bases={**network.bases, **kept_bases(folder, virtual)})


def data_of(info: RunInfo, root: ConceptData | str | Path | None = None) -> ConceptData:
    """Open the data set of a run, with the same choice of images.

    Parameters
    ----------
    info
        Of the run.
    root
        Folder of the data set, if it was moved; or the data set itself, if its images were chosen in Python.

    Raises
    ------
    ConceptsError
        If it does not exist, its images were chosen in Python, or tables, files or choice of images have changed.
    """
    data = open_run_data(info, root)
    if data.digest != info.data.digest:
        raise ConceptsError(
            f"{data.root} has the digest {data.digest[:12]} but the run was made with {info.data.digest[:12]}: its "
            f"tables or files have changed. Restore the data set, or {NAME_FOLDER}."
        )
    return data


def open_run_data(info: RunInfo, root: ConceptData | str | Path | None = None) -> ConceptData:
    """Open the data set of a run without checking that it is unchanged.

    Raises
    ------
    ConceptsError
        If it does not exist or cannot be read, or its images were chosen in Python.
    """
    if isinstance(root, ConceptData):
        return root
    if info.data.chosen_in_python:
        raise ConceptsError(
            f"the run used {info.data.images:,} images of {info.data.root} that were chosen in Python, and the choice "
            "is not recorded. Give the same ConceptData in place of the folder."
        )
    if root is None and not Path(info.data.root).exists():
        raise ConceptsError(
            f"the data set of the run, {info.data.root}, is not there any more. Restore it, or {NAME_FOLDER}."
        )
    config = info.config
    return ConceptData.open(
        info.data.root if root is None else root,
        categories=config.categories, split=config.split, max_images=config.max_images, sample_seed=config.sample_seed,
    )  # fmt: skip
