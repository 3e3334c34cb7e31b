"""The explorer as a process: binds a port, opens a browser, ends by Ctrl-C."""

import logging
import socket
import threading
import warnings
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from netdissect.config import one_or_more
from netdissect.errors import ConfigError
from netdissect.evaluation.open_vocabulary.embedding_source import Embeddings, EmbeddingSource
from netdissect.explorer.asgi import create_app, guarded
from netdissect.explorer.run_registry import GivenNetwork, GivenSegmenter
from netdissect.explorer.security import is_loopback
from netdissect.report.views.intervention_views import Interventions
from netdissect.report.views.training_views import Trainings
from netdissect.result import Result

logger = logging.getLogger(__name__)

PORT = 8461
FALLBACKS = 20
"""Ports tried after the default one."""
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - refused unless the user asks for it


def serve(
    runs: Sequence[str | Path | Result] | str | Path | Result,
    *,
    data_root: str | Path | None = None,
    network: GivenNetwork | None = None,
    segmenter: GivenSegmenter | None = None,
    ratings: str | Path | None = None,
    training: Trainings = (),
    interventions: Interventions = (),
    labels: str | Path | None = None,
    embeddings: Embeddings | EmbeddingSource | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    public: bool = False,
    allow_hosts: Sequence[str] = (),
    open_browser: bool = False,
) -> None:
    """Serve the explorer until Ctrl-C.

    Parameters
    ----------
    runs, data_root, network, segmenter, ratings, training, interventions, labels, embeddings
        See `netdissect.explorer.create_app`.
    host
        Address to listen at.
    port
        None: 8461, or the next free port.
    public
        Allow an address that others can reach.
    allow_hosts
        Further host names of a public server.
    open_browser
        Open a browser as soon as the server listens.

    Raises
    ------
    ConfigError
        If other machines can reach the address and `public` is false, or the port is taken.
    ResultError
        If a folder holds no finished run.
    NetworkError
        If a given network is not that of its run.
    """
    _check_host(host, public)
    app = create_app(
        runs, data_root=data_root, network=network, segmenter=segmenter, ratings=ratings, training=training,
        interventions=interventions, labels=labels, embeddings=embeddings,
    )  # fmt: skip
    hosts = [host, *one_or_more(allow_hosts), *([socket.gethostname()] if host in WILDCARDS else [])]
    config = uvicorn.Config(
        guarded(app, hosts, any_address=host in WILDCARDS), log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=3, lifespan="on",
    )  # fmt: skip
    listening = _bind(host, port)
    address = address_of(host, listening.getsockname()[1])
    logger.info("The explorer is at %s (Ctrl-C ends it).", address)
    server = uvicorn.Server(config)
    if open_browser:
        threading.Thread(target=_open_when_ready, args=(server, address), daemon=True).start()
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        # uvicorn has shut down and passes the signal on.
        logger.info("The explorer has ended.")
    finally:
        listening.close()


def address_of(host: str, port: int) -> str:
    """Return the address to open in a browser."""
    name = "localhost" if host in WILDCARDS else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def _check_host(host: str, public: bool) -> None:
    if is_loopback(host):
        return
    if not public:
        raise ConfigError(
            f"the address {host!r} can be reached from other machines, and the explorer has no password. "
            "Expected 127.0.0.1; use --public to allow it."
        )
    warnings.warn(
        f"The explorer listens at {host}: everyone who can reach this machine can see these runs and their images, run "
        "the networks on images, and rate units.",
        stacklevel=3,
    )


def _bind(host: str, port: int | None) -> socket.socket:
    ports = range(PORT, PORT + FALLBACKS) if port is None else range(port, port + 1)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in ports:
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, candidate))
            listening.listen(128)
        except (OSError, OverflowError) as error:
            listening.close()
            reason = error
            continue
        if candidate != ports[0]:
            logger.info("Port %d is taken; port %d is used.", ports[0], candidate)
        return listening
    raise ConfigError(
        f"nothing can listen at {host} port {ports[0]}{f' to {ports[-1]}' if len(ports) > 1 else ''} ({reason}). "
        "Name a free one with --port; 0 takes any."
    )


def _open_when_ready(server: uvicorn.Server, address: str) -> None:
    pause = threading.Event()
    while not server.started and not server.should_exit:
        pause.wait(0.05)
    webbrowser.open(address)
