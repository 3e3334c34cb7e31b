"""Take a finished run up again: its network and its data, if they are still what they were."""

from pathlib import Path

from netdissect.concepts import ConceptData
from netdissect.errors import ConceptsError, NetworkError
from netdissect.models import Network, reload_network
from netdissect.result import RunInfo


def network_of(info: RunInfo, network: Network | None = None) -> Network:
    """Load the network of a run, or see that a given one is the same.

    Raises
    ------
    NetworkError
        If the run does not say what it was loaded from, or its structure or weights have changed.
    """
    if network is None:
        if info.network.source is None:
            raise NetworkError(
                f"the run's network {info.network.name!r} was made in Python: nothing says where to load it from. "
                "Pass the network itself."
            )
        network = reload_network(info.network.source)
    if network.digest != info.network.digest:
        raise NetworkError(
            f"{network.name!r} has the digest {network.digest[:12]} but the run was made with {info.network.name!r} of "
            f"digest {info.network.digest[:12]}: structure or weights have changed. Restore the weights of the run."
        )
    return network


def data_of(info: RunInfo, root: str | Path | None = None) -> ConceptData:
    """Open the data set of a run, with the choice of images that it made.

    Parameters
    ----------
    info
        Of the run.
    root
        Where the data set is, if it was moved.

    Raises
    ------
    ConceptsError
        If it is gone, or its tables, its files or the choice of images have changed.
    """
    config = info.config
    data = ConceptData.open(
        info.data.root if root is None else root,
        categories=config.categories, split=config.split, limit=config.limit, seed=config.seed,
    )  # fmt: skip
    if data.digest != info.data.digest:
        raise ConceptsError(
            f"{data.root} has the digest {data.digest[:12]} but the run was made with {info.data.digest[:12]}: its "
            "tables or files have changed. Restore the data set, or name where it was moved."
        )
    return data
