"""What commands print at each width of a terminal, and into a pipe."""

import re
import subprocess

import pytest

NAME = "encoder_with_a_rather_long_name.layers_of_the_first_stage.convolution_of_the_block"
FACTORY = """
import torch
from netdissect import Preprocessing

def make():
    torch.manual_seed(0)
    network = torch.nn.Sequential()
    for name in reversed("{name}".split(".")):
        inner, network = network, torch.nn.Sequential()
        network.add_module(name, inner if len(inner) else torch.nn.Conv2d(3, 12, 3, padding=1))
    return network, Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3)
"""
QUANTILES = ("0.005", "0.01", "0.02", "0.05", "0.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("wide")


@pytest.fixture
def commands(netdissect, labeled, folder, monkeypatch):
    """Commands that print tables, of a run with a long layer name and five quantiles."""
    monkeypatch.syspath_prepend(str(folder))
    data, run, network = folder / "data", folder / "run", "python:long_names:make"
    if not run.exists():
        (folder / "long_names.py").write_text(FACTORY.format(name=NAME))
        netdissect("concepts", "build", f"masks:{labeled}", "--size", 32, "--colors", "--workers", 1, "--out", data)
        quantiles = [word for quantile in QUANTILES for word in ("--quantile", quantile)]
        options = ("--layer", NAME, "--permutations", 20, "--min-iou", 0.01, *quantiles, "--out", run)
        done = netdissect("run", network, "--concepts", data, *options)
        assert done.code == 0, done.err
    return {
        "show": ("show", run),
        "show --layers": ("show", run, "--layers"),
        "show --units": ("show", run, "--units"),
        "show --counts": ("show", run, "--counts"),
        "show --statistics": ("show", run, "--statistics"),
        "show --concepts": ("show", run, "--concepts", "--quantile", 0.1),
        "count": ("count", run, "--rule", "per-category"),
        "diff": ("diff", run, run),
        "layers": ("layers", network, "--all"),
        "inspect": ("concepts", "inspect", data, "--workers", 1),
    }


def numbers(text):
    return set(re.findall(r"(?<![\w.])\d[\d.,]*%?(?![\w.])", text))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_command_cuts_a_number_or_a_line_at_any_width(netdissect, commands, monkeypatch, width):
    for name, command in commands.items():
        with monkeypatch.context() as terminal:
            for variable, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("COLUMNS", str(width))):
                terminal.setenv(variable, value)
            shown = netdissect(*command)
        text = re.sub(r"\x1b\[[0-9;]*m", "", shown.out)
        piped = netdissect(*command).out
        assert shown.code == 0, name
        tables = [line for line in text.splitlines() if "/" not in line or "─" in line or "  " in line]
        assert max(map(len, tables)) <= width, name
        assert not set("…│") & set(text), name
        assert numbers(piped) <= numbers(text), name
        if name != "inspect":
            assert NAME in piped, name
            assert NAME[:12] in text, name


def test_every_row_of_a_piped_table_names_its_layer_and_quantile_and_awk_reads_it(netdissect, commands):
    out = netdissect(*commands["show --counts"]).out
    program = '$1 == "layer" { n = NF } $1 == name { if (NF != n) exit 1; print $2, $3 }'
    done = subprocess.run(
        ["awk", "-F", "  +", "-v", f"name={NAME}", program], input=out, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"{quantile} {rule}" for quantile in QUANTILES for rule in ("top-label", "per-category")
    ]
    assert "\x1b" not in out


def test_a_run_closes_with_at_most_fifteen_lines(netdissect, commands):
    run = commands["show"][1]
    again = netdissect("run", "--config", run, "--trust-network", "--out", run)
    lines = again.out.splitlines()
    assert 5 <= len(lines) <= 15, again
    assert re.fullmatch(
        rf"{NAME}: \d+ unique detectors? \[\d+, \d+\]; [\d.]+ ± [\d.]+ under the permutation null", lines[1]
    )
    assert lines[: len(lines) - 2] == netdissect("show", run).out.splitlines()[: len(lines) - 2]
    assert lines[-1] == f"More: netdissect show {run} --units; as a page: netdissect report {run}"
    assert any("--permutations 1000" in line for line in lines)
