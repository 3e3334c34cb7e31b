"""`netdissect experiment` and `paper` as a user types them."""

import numpy as np
import pytest


@pytest.fixture
def data(netdissect, labeled, tmp_path):
    done = netdissect(
        "concepts", "build", f"masks:{labeled}", "--size", 32, "--colors", "--workers", 1, "--out", tmp_path / "data"
    )
    assert done.code == 0, done.err
    return tmp_path / "data"


@pytest.fixture
def network(module):
    return f"python:{module}:red"


def test_a_layer_is_rotated_and_two_runs_are_compared(netdissect, data, network, tmp_path):
    out = tmp_path / "rotate"
    done = netdissect(
        "experiment", "rotate", network, "--layer", "1", "--concepts", data, "--rotations", 1, "--steps", 1,
        "--basis", "permutation:0", "--quantile", 0.05, "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Question: Do single units mean more" in done.out
    assert "one forward pass on cpu in batches of 32 over 8 images" in done.err  # what it costs is said first
    assert {"figure.svg", "table.csv", "table.parquet", "conclusion.json"} <= {path.name for path in out.iterdir()}
    run = out / "runs" / "rotate"
    beside = netdissect("experiment", "compare", run, run, "--out", tmp_path / "compare")
    assert beside.code == 0, beside.err
    assert "Unique detectors, most first" in beside.out


def test_a_basis_that_does_not_fit_ends_with_one_paragraph(netdissect, data, network, tmp_path):
    np.save(tmp_path / "wide.npy", np.eye(99))
    done = netdissect(
        "experiment", "rotate", network, "--layer", "1", "--concepts", data, "--basis", f"file:{tmp_path / 'wide.npy'}",
        "--rotations", 0, "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 2
    assert "ShapeError" in done.err
    assert "Traceback" not in done.err


def test_an_unknown_basis_is_named(netdissect, data, network, tmp_path):
    done = netdissect(
        "experiment", "rotate", network, "--layer", "1", "--concepts", data, "--basis", "fourier", "--out", tmp_path
    )
    assert done.code == 2
    assert "fourier" in done.err


def test_layers_are_followed_and_networks_need_a_data_set_to_be_compared(netdissect, data, network, tmp_path):
    done = netdissect(
        "experiment", "layer-profile", network, "--concepts", data, "--quantile", 0.05, "--out", tmp_path / "out"
    )
    assert done.code == 0, done.err
    refused = netdissect("experiment", "compare", network, "--out", tmp_path / "out2")
    assert refused.code == 2
    assert "--concepts" in refused.err


def test_reproduce_full_prints_its_plan_and_stops(netdissect, data, network, tmp_path):
    done = netdissect(
        "reproduce", "--scale", "full", "--concepts", data, "--network", network, "--layer", "1", "--dry-run",
        "--out", tmp_path / "paper",
    )  # fmt: skip
    assert done.code == 0, done.err
    for text in ("8 images", "rotate: ", "layer-profile: ", "compare: ", "of forward passes and training", "are free"):
        assert text in done.out
    assert not (tmp_path / "paper").exists()
    refused = netdissect("reproduce", "--scale", "full", "--out", tmp_path / "paper")
    assert refused.code == 2
    assert "--concepts" in refused.err


def test_reproduce_small_prints_its_plan(netdissect, tmp_path):
    done = netdissect("reproduce", "--scale", "small", "--dry-run", "--out", tmp_path / "paper")
    assert done.code == 0
    assert "rotate, layer-profile, compare" in done.out
