"""`netdissect train-sae`: what it prints and writes."""

import json

import pytest

from netdissect.models.dictionaries.dictionary_files import read_dictionary

NETWORK = ("torchvision:squeezenet1_1", "--weights", "none", "--input-size", 48, "--layer", "features.0")
SMALL = ("--latents", 24, "--k", 3, "--cells", 400, "--epochs", 1, "--batch-cells", 64)


def test_a_dictionary_is_trained_and_trained_once(netdissect, labeled, tmp_path):
    out = tmp_path / "f.safetensors"
    command = ("train-sae", *NETWORK, "--train-images", labeled / "images", *SMALL, "--out", out)
    done = netdissect(*command, "--json")
    assert done.code == 0, done.err
    assert "8 images, 400 cells of 64 units, 5 steps: about 1 min, 86 kB of memory" in done.err
    report = json.loads(done.out)
    assert {key: report[key] for key in ("layer", "units", "latents", "images", "cells", "heldout_cells", "out")} == {
        "layer": "features.0", "units": 64, "latents": 24, "images": 8, "cells": 400, "heldout_cells": 50,
        "out": str(out),
    }  # fmt: skip
    assert read_dictionary(out, 64).k == 3
    again = netdissect(*command)
    assert again.code == 0, again.err
    assert "24 latents of features.0 (64 units) of torchvision:squeezenet1_1, random weights" in again.out
    assert ", trained on 350 cells of 8 images in 5 steps" in again.out
    assert f"NMSE {report['nmse']:.4f}, R2 {report['r2']:.4f}, L0 {report['l0']:.1f}." in again.out
    assert f"--basis sae:{out}" in again.out
    assert "cells of 64 units" not in again.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--k", 30), r"ConfigError: k = 30 of 24 latents cannot be active"),
        (("--k", 0), r"--k"),
        (("--train-images", "/nowhere"), r"/nowhere"),
        (("--layer", "features.99"), r"LayerError"),
    ],
)
def test_a_mistake_is_one_paragraph_and_code_2(netdissect, labeled, tmp_path, options, message):
    done = netdissect(
        "train-sae", *NETWORK, "--train-images", labeled / "images", *SMALL, "--out", tmp_path / "f", *options
    )
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
