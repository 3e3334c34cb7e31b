"""The network of a served run: loaded again as the run recorded it, or given by the user and compared with the run."""

from netdissect.dissect.bases.basis_files import missing_bases
from netdissect.dissect.image_maps import checked_network
from netdissect.dissect.reload import network_of, why_not_loaded
from netdissect.errors import NetworkError
from netdissect.explorer.run_registry import OpenRun
from netdissect.models import Network


def network_for(run: OpenRun) -> Network:
    """Load or take the network of a run.

    Raises
    ------
    NetdissectError
        If it cannot be loaded, or is not that of the run.
    """
    reason = unavailable_reason(run)
    if reason is not None:
        raise NetworkError(reason)
    if run.network is None:
        return network_of(run.result.info, folder=run.result.folder)
    return checked_network(run.result, run.images, run.network)


def unavailable_reason(run: OpenRun) -> str | None:
    """Return why a run's network cannot be loaded again, and what helps; None: there is no known reason."""
    if run.network is not None:
        return None
    info = run.result.info
    reason = why_not_loaded(info.network.source)
    bases = missing_bases(run.result.folder, info.layers)
    if reason is None and bases:
        reason = f"the run does not record the basis of its layer {bases[0]}"
    if reason is None:
        return None
    python = "in Python netdissect.serve(run, network=module)"
    command = f"netdissect serve {run.folder} --network python:MODULE:FUNCTION, where the function returns it; "
    return (
        f"{reason[0].upper()}{reason[1:]}. Start the explorer with the network: "
        f"{'' if run.folder is None else command}{python}."
    )
