"""The explorer as a process: started, under load, ended by Ctrl-C; and its responses against its own OpenAPI."""

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient
from typer.testing import CliRunner

import netdissect
from explorer_client import HOME, Pair
from netdissect.cli.app import app as commands
from netdissect.errors import ConfigError
from netdissect.explorer import create_app, guarded
from netdissect.explorer import server as server_module
from netdissect.explorer.server import address_of, serve

EXAMPLES = int(os.environ.get("NETDISSECT_API_EXAMPLES", "6"))  # 200 in the long form
NO_INVALID_INPUT = {
    "/api/runs", "/api/trainings", "/api/interventions", "/api/rating/summary", "/api/matches/{match}"
}  # fmt: skip
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@contextmanager
def started(pair: Pair, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `netdissect serve` and yield the process and its address."""
    command = [
        sys.executable,
        "-c",
        "from netdissect.cli import main; main()",
        "serve",
        *map(str, pair.folders),
        *options,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    seen = ""
    try:
        for line in process.stderr:
            seen += line
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            if found:
                yield process, found[0]
                break
        else:
            pytest.fail(f"the server has ended: {seen}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_server_process_serves_parallel_requests_and_ends_by_ctrl_c(pair: Pair) -> None:
    with started(pair, "--port", "0") as (process, address):
        units = "api/runs/first-run/layers/{}/units?quantile={}"
        paths = ["", "api/runs", "api/concepts", units.format(0, 0.02), units.format(1, 0.1), "static/lib.js"]
        paths += ["api/runs/second/layers/1/counts?min_iou=0.05", "images/0/{image_index}.webp"]
        image_index = pair.results[0].layers["wide_relu"].top["image_index"][0]

        def request(index: int) -> tuple[int, float]:
            began = time.perf_counter()
            answer = clients[index % 8].get(address + paths[index % len(paths)].format(image_index=image_index))
            return answer.status_code, time.perf_counter() - began

        clients = [httpx.Client(timeout=30) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(request, range(200)))
        for client in clients:
            client.close()
        assert {status for status, _ in found} == {200}
        # 0.1 s on a quiet machine; a bound for a busy one.
        assert np.percentile([seconds for _, seconds in found], 95) < 5
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_the_next_free_port_is_used_if_the_default_is_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(server_module, "PORT", port)
        with caplog.at_level(logging.INFO, "netdissect"), server_module._bind("127.0.0.1", None) as listening:
            assert listening.getsockname()[1] > port
        assert f"Port {port} is taken" in caplog.text
        with pytest.raises(ConfigError, match=rf"nothing can listen at 127\.0\.0\.1 port {port}"):
            server_module._bind("127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.org", "::"])  # noqa: S104
def test_an_address_that_other_machines_can_reach_needs_public(pair: Pair, host: str) -> None:
    with pytest.raises(ConfigError, match="has no password"):
        serve(pair.folders, host=host)
    with pytest.warns(UserWarning, match="everyone who can reach this machine"):
        server_module._check_host(host, public=True)
    result = CliRunner().invoke(commands, ["serve", str(pair.folders[0]), "--host", host])
    assert isinstance(result.exception, ConfigError)


def test_the_address_to_open_is_valid_in_a_browser() -> None:
    assert address_of("127.0.0.1", 8461) == "http://127.0.0.1:8461/"
    assert address_of("::1", 8461) == "http://[::1]:8461/"
    assert address_of("0.0.0.0", 80) == "http://localhost:80/"  # noqa: S104


REAL = {"run": ["first-run", "second"], "left": ["first-run"], "right": ["second", "first-run"], "layer": range(3),
        "left_layer": range(2), "right_layer": range(3), "unit": range(7), "image_index": range(26),
        "quantile": [0.02, 0.07, 0.4], "rater": ["Ann"], "item": range(8)}  # fmt: skip


def with_existing_names(case: schemathesis.Case) -> None:
    """Replace drawn values by names that exist, or nearly: else nearly all responses are 404."""
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            for name in values.keys() & REAL.keys():
                choices = list(REAL[name])
                values[name] = choices[zlib.crc32(repr(values[name]).encode()) % len(choices)]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_response_conforms_to_openapi(pair: Pair, tmp_path: Path, mode: schemathesis.GenerationMode) -> None:
    app = guarded(create_app(pair.folders, network=pair.given, ratings=tmp_path / "ratings.sqlite"))
    statuses: Counter[int] = Counter()
    with TestClient(app, base_url=HOME) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        schema.app = app
        for found in schema.get_all_operations():
            operation = found.ok()
            if mode is schemathesis.GenerationMode.NEGATIVE and operation.path in NO_INVALID_INPUT:
                continue

            @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(case=operation.as_strategy(generation_mode=mode))
            def conforms(case: schemathesis.Case) -> None:
                if mode is schemathesis.GenerationMode.POSITIVE:
                    with_existing_names(case)
                statuses[case.call_and_validate(headers={"host": "127.0.0.1:8461"}).status_code] += 1

            conforms()
    wanted = {200, 404} if mode is schemathesis.GenerationMode.POSITIVE else {422}
    assert wanted <= set(statuses)
    assert max(statuses) <= 422


def typed_networks(pair: Pair, monkeypatch: pytest.MonkeyPatch, *typed: str) -> dict[str, Any]:
    """Return what `netdissect serve` is called with, by the two runs and these options."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(netdissect, "serve", lambda runs, **options: given.update(runs=runs, **options))
    monkeypatch.setattr(netdissect.training, "open_network", lambda text: f"the network {text}")
    result = CliRunner().invoke(commands, ["serve", *map(str, pair.folders), *typed])
    if result.exception is not None:
        raise result.exception
    return given


def test_networks_are_typed_by_the_names_of_their_runs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ("--network", "second=python:nets:a=b", "--network", f"{pair.folders[0]}=timm:resnet10t")
    given = typed_networks(pair, monkeypatch, *typed)
    assert given["network"] == {
        str(pair.folders[0]): "the network timm:resnet10t", str(pair.folders[1]): "the network python:nets:a=b"
    }  # fmt: skip
    for wrong in (["third=x"], ["x"], ["second=x", "second=y"]):
        with pytest.raises(ConfigError, match="does not say of which run it is"):
            typed_networks(pair, monkeypatch, *(part for text in wrong for part in ("--network", text)))
