"""Take a finished run up again: its network and its data, if they are still what they were."""

from pathlib import Path

from netdissect.concepts import ConceptData
from netdissect.config import NetworkSource
from netdissect.errors import ConceptsError, NetworkError
from netdissect.models import Network, reload_network
from netdissect.result import RunInfo


def why_not_loaded(source: NetworkSource | None, *, trust_network: bool = False) -> str | None:
    """Say why a network is not loaded as a file names it; None: it may be.

    Parameters
    ----------
    source
        What a run folder or a ``config.json`` says of it.
    trust_network
        Whether the user has said that Python code which the file names may run.
    """
    if source is None:
        return "the network was made in Python, and nothing says how to load it again"
    if source.spec.startswith("python:") and not trust_network:
        return f"the network comes from {source.spec}, and files from others may not name code to be run here"
    return None


def network_of(info: RunInfo, network: Network | None = None, *, trust_network: bool = False) -> Network:
    """Load the network of a run, or see that a given one is the same.

    Parameters
    ----------
    info
        Of the run.
    network
        None: loaded as the run recorded it.
    trust_network
        Import the Python factory that the run names, if it names one: whoever made the run can have any code run here.

    Raises
    ------
    NetworkError
        If the run does not say what it was loaded from, or names code that is not trusted, or its structure, weights
        or preprocessing have changed.
    """
    if network is None:
        source = info.network.source
        reason = why_not_loaded(source, trust_network=trust_network)
        if source is None or reason is not None:
            raise NetworkError(
                f"{reason} (the run calls it {info.network.name!r}). Give the network itself (--network, network=...)"
                + ("." if source is None else ", or say that it may run (--trust-network, trust_network=True).")
            )
        network = reload_network(source)
    if network.digest != info.network.digest:
        raise NetworkError(
            f"{network.name!r} has the digest {network.digest[:12]} but the run was made with {info.network.name!r} of "
            f"digest {info.network.digest[:12]}: structure or weights have changed. Restore the weights of the run."
        )
    taken, used = network.preprocessing, info.network
    if (taken.size, taken.mean, taken.std, taken.interpolation) != (used.size, used.mean, used.std, used.interpolation):
        raise NetworkError(
            f"{network.name!r} takes images of {taken.size.height} x {taken.size.width} pixels "
            f"({taken.interpolation}), mean {taken.mean} and deviation {taken.std}; the run used "
            f"{used.size[0]} x {used.size[1]} ({used.interpolation}), {used.mean} and {used.std}. Give it the same "
            "preprocessing."
        )
    return network


def data_of(info: RunInfo, root: ConceptData | str | Path | None = None) -> ConceptData:
    """Open the data set of a run, with the choice of images that it made.

    Parameters
    ----------
    info
        Of the run.
    root
        Where the data set is, if it was moved; or the data set itself, if its images were chosen in Python.

    Raises
    ------
    ConceptsError
        If it is gone, its images were chosen in Python, or its tables, its files or the choice of images have changed.
    """
    data = opened_data(info, root)
    if data.digest != info.data.digest:
        raise ConceptsError(
            f"{data.root} has the digest {data.digest[:12]} but the run was made with {info.data.digest[:12]}: its "
            "tables or files have changed. Restore the data set, or name where it was moved."
        )
    return data


def opened_data(info: RunInfo, root: ConceptData | str | Path | None = None) -> ConceptData:
    """Do the same, whether or not it has changed."""
    if isinstance(root, ConceptData):
        return root
    if info.data.chosen_in_python:
        raise ConceptsError(
            f"the run saw {info.data.images:,} images of {info.data.root} that were chosen in Python: nothing says how "
            "to choose them again. Give the same ConceptData in place of the folder."
        )
    config = info.config
    return ConceptData.open(
        info.data.root if root is None else root,
        categories=config.categories, split=config.split, max_images=config.max_images, sample_seed=config.sample_seed,
    )  # fmt: skip
