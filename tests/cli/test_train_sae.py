"""`netdissect train-sae`: what it prints and writes."""

import json

import pytest

from netdissect.models.dictionaries.dictionary_files import read_dictionary

OPTIONS = {
    "--weights": "none", "--input-size": 48, "--layer": "features.0", "--latents": 24, "--k": 3, "--cells": 400,
    "--epochs": 1, "--batch-cells": 64,
}  # fmt: skip


def command(labeled, out, **changes):
    """Return a short training, with other options."""
    own = {"--train-images": labeled / "images", "--out": out}
    options = OPTIONS | own | changes
    return ("train-sae", "torchvision:squeezenet1_1", *(word for option in options.items() for word in option))


def test_a_dictionary_is_trained_and_trained_once(netdissect, labeled, tmp_path):
    out = tmp_path / "f.safetensors"
    typed = command(labeled, out)
    done = netdissect(*typed, "--json")
    assert done.code == 0, done.err
    assert "8 images, 400 cells of 64 units, 5 steps: about 1 min, 86 kB of memory" in done.err
    report = json.loads(done.out)
    expected = {
        "layer": "features.0", "units": 64, "latents": 24, "images": 8, "heldout_images": 1, "cells": 400,
        "heldout_cells": 50, "out": str(out),
    }  # fmt: skip
    assert {key: report[key] for key in expected} == expected
    assert read_dictionary(out, 64).k == 3
    again = netdissect(*typed)
    assert again.code == 0, again.err
    assert "24 latents of features.0 (64 units) of torchvision:squeezenet1_1, random weights" in again.out
    assert ", trained on 350 cells of 7 images in 5 steps" in again.out
    assert "On 50 cells of 1 held-out image: NMSE" in again.out
    assert f"NMSE {report['nmse']:.4f}, R2 {report['r2']:.4f}, L0 {report['l0']:.1f}." in again.out
    assert f"--basis sae:{out}" in again.out
    assert "cells of 64 units" not in again.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--k": 30}, "ConfigError: k = 30 of 24 latents cannot be active"),
        ({"--k": 0}, "--k"),
        ({"--train-images": "/nowhere"}, "/nowhere"),
        ({"--layer": "features.99"}, "LayerError"),
        ({"--layer": "features.0,features.3"}, "ConfigError: 'features.0,features.3' names 2 layers. Expected one"),
    ],
)
def test_a_mistake_is_one_paragraph_and_code_2(netdissect, labeled, tmp_path, changes, message):
    done = netdissect(*command(labeled, tmp_path / "f", **changes))
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
