"""What a user does wrong in the shell on the first day: one paragraph that says what to do, and exit code 2.

A row is the mistake, the command, and what the message must hold: what was seen, and what to do.
"""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from first_day import FACTORY, unchanged
from netdissect.cli.app import app

TINY = f"python:{FACTORY}:tiny"
RUN = f"run {TINY} --concepts data --layer conv2 --out new"

Row = tuple[str, tuple[str, ...]]

USAGE: dict[str, Row] = {
    "a run without anything": ("run", ("--out is missing", "netdissect run --help")),
    "a run without a network": ("run --concepts data --layer conv2 --out new", ("NETWORK is missing", "--help")),
    "a run without data": (f"run {TINY} --layer conv2 --out new", ("--concepts is missing",)),
    "a run without layers": (f"run {TINY} --concepts data --out new", ("--layer is missing",)),
    "a run without a folder": (f"run {TINY} --concepts data --layer conv2", ("--out is missing",)),
    "--layers for --layer": (RUN.replace("--layer", "--layers"), ("no option --layers. Did you mean --layer",)),
    "--permutation for --permutations": (f"{RUN} --permutation 9", ("Did you mean --permutations",)),
    "an unknown option": ("run --foo", ("netdissect run has no option --foo.",)),
    "a command with a typing error": (
        "cout run", ("netdissect has no command cout. Did you mean count? See netdissect --help",),
    ),
    "an experiment with a typing error": ("experiment rotat", ("no command rotat. Did you mean rotate?",)),
    "a figure with a typing error": ("figure bar run", ("netdissect figure has no command bar. Did you mean bars?",)),
    "a wrong option of an experiment": ("experiment rotate --foo", ("experiment rotate has no option --foo.",)),
    "show without a run": ("show", ("RUN is missing. See netdissect show --help",)),
    "--unit for --units": ("show run --unit", ("netdissect show has no option --unit. Did you mean --units",)),
    "two runs where one is shown": ("show one two", ("netdissect show: got unexpected extra argument",)),
    "no row": ("show run --top 0", ("--top cannot be '0': input should be greater than or equal to 1.",)),
    "an option without its value": ("show run --top", ("option '--top' requires an argument.",)),
    "a rule that does not exist": ("count run --rule best", ("--rule cannot be 'best'", "'top-label'")),
    "a limit in words": ("count run --min-iou much", ("--min-iou cannot be 'much': input should be a valid number",)),
    "an export without a file": ("export run", ("--out is missing. See netdissect export --help",)),
    "inspect without a data set": ("concepts inspect", ("DIR is missing. See netdissect concepts inspect --help",)),
    "a check without a requirement": ("check run", ("--require is missing",)),
    "two layers where one is trained on": (
        f"train-sae {TINY} --layer conv1 --layer conv2 --train-images data --out new.safetensors",
        ("--layer was given 2 times, and netdissect train-sae takes one value of it.", "once for each value"),
    ),
    "two layers where one is exported": (
        "export run --layer conv2 --layer conv1 --out new.csv",
        ("--layer was given 2 times, and netdissect export takes one",),
    ),
    "two layers where one is checked": (
        "check run --require concept:square --layer conv1 --layer conv2", ("--layer was given 2 times",),
    ),
    "two layers where one is drawn": (
        "figure overlap run --layer conv1 --layer conv2 --out f.pdf", ("netdissect figure overlap takes one",),
    ),
    "three folders for one run": (f"{RUN} --out other --out third", ("--out was given 3 times",)),
}  # fmt: skip

NETWORKS: dict[str, Row] = {
    "a name without its library": ("layers resnet18", ("NetworkError", "similar names: 'torchvision:resnet18'")),
    "a name with a typing error": ("layers torchvision:resnet81", ("NetworkError", "'resnet18'")),
    "weights in place of a network": (
        RUN.replace(TINY, "weights.pth"), ("NetworkError", "'weights.pth' is a path", "--weights FILE"),
    ),
    "a file of Python in place of a factory": (
        RUN.replace(TINY, f"{FACTORY}.py"), ("is a path", f"python:{FACTORY}:FUNCTION"),
    ),
    "a factory without python:": (
        RUN.replace(TINY, f"{FACTORY}:tiny"), ("NetworkError", f"Did you mean 'python:{FACTORY}:tiny'?"),
    ),
    "a factory with .py": (
        RUN.replace(TINY, f"python:{FACTORY}.py:tiny"),
        ("cannot be imported", "named without .py, in the working folder"),
    ),
    "a factory with a typing error": (
        RUN.replace(":tiny", ":tny"), ("has no function 'tny'. Did you mean tiny?",),
    ),
    "a folder that is no model of transformers": (
        RUN.replace(TINY, "transformers:empty"), ("transformers cannot load", "config.json, model.safetensors"),
    ),
    "a checkpoint that is not there": (f"{RUN} --weights w.pth", ("w.pth cannot be opened", "correct the path")),
    "a folder as checkpoint": (f"{RUN} --weights run", ("run cannot be opened (Is a directory)", "a file of weights")),
    "a checkpoint of another architecture": (
        f"{RUN} --weights other.pth", ("CheckpointError", "does not fit Tiny", "another architecture"),
    ),
    "a pickled module": (
        f"{RUN} --weights module.pth", ("CheckpointError", "refused", "torch.save(module.state_dict()"),
    ),
    "a layer with a typing error": (
        f"run {TINY} --concepts data --layer conv3 --out new", ("LayerError", "'conv2'", "netdissect layers"),
    ),
    "a glob without match": (
        f"run {TINY} --concepts data --layer features.* --out new", ("LayerError", "'features.*'"),
    ),
    "a layer that is not run": (f"run {TINY} --concepts data --layer unused --out new", ("did not run",)),
    "means of pixels from 0 to 255": (f"{RUN} --mean 123,116,103", ("from 0 to 255", "divided by 255")),
    "a mean in words": (f"{RUN} --mean a,b", ("--mean",)),
    "an input without pixels": (f"{RUN} --input-size 0", ("--input-size cannot be '0'",)),
}  # fmt: skip

DATA: dict[str, Row] = {
    "a folder that is not there": (
        RUN.replace("data", "broden"), ("ConceptsError", "no such folder", "concepts build"),
    ),
    "the folder above the data": (RUN.replace("data", "."), ("ConceptsError", "no index.csv", "data is one")),
    "the folder below the data": (RUN.replace("data", "data/images"), ("ConceptsError", "data is one")),
    "a run in place of data": (
        RUN.replace("data", "run"), ("ConceptsError", "run is not a concept data set: it is a run"),
    ),
    "images without labels": (RUN.replace("data", "pictures"), ("ConceptsError", "holds images, but no index.csv")),
    "labeled images that were not built": (
        RUN.replace("data", "labeled"), ("ConceptsError", "netdissect concepts build masks:labeled --out NEW"),
    ),
    "labeled images that are inspected": (
        "concepts inspect labeled", ("ConceptsError", "concepts build masks:labeled"),
    ),
    "a category that the data do not have": (f"{RUN} --categories texture", ("no category 'texture'; it has object",)),
    "a category with a typing error": (f"{RUN} --categories objct", ("'objct'", "Did you mean object?")),
    "a split with another name": (f"{RUN} --split test", ("--split cannot be 'test'", "'train' or 'val'")),
    "a source without its type": ("concepts build labeled --out new", ("SourceError", "TYPE:DIR")),
    "a source of an unknown type": ("concepts build dreams:there --out new", ("SourceError", "masks")),
    "a source that is not there": ("concepts build masks:nowhere --out new", ("SourceError", "nowhere does not exist")),
    "a source without masks": ("concepts build masks:pictures --out new", ("SourceError", "masks/")),
    "folders without a category": ("concepts build folders:labeled --out new", ("folders:labeled=texture",)),
    "a data set in place of another": ("concepts build masks:labeled --out data", ("ConceptsError", "--overwrite")),
    "a data set in place of its source": ("concepts build masks:labeled --out labeled", ("never replaced",)),
    "a data set in place of a thesis": ("concepts build masks:labeled --out taken", ("never replaced",)),
    "a data set in place of a file": ("concepts build masks:labeled --out notes.txt", ("notes.txt is in the way",)),
    "a data set without pixels": ("concepts build masks:labeled --out new --size 0", ("'size' of a data set was 0",)),
    "a published data set with a typing error": ("concepts download brodn --out new", ("'brodn'", "broden1_224")),
}  # fmt: skip

OPTIONS: dict[str, Row] = {
    "a limit in percent": (f"{RUN} --min-iou 4", ("--min-iou cannot be '4'", "less than 1")),
    "a limit below nothing": (f"{RUN} --min-iou -1", ("--min-iou cannot be '-1'",)),
    "a percentile as quantile": (f"{RUN} --quantile 0.995", ("--quantile cannot be '0.995'", "so 0.005 in its place")),
    "a quantile in percent": (f"{RUN} --quantile 99.5%", ("--quantile cannot be '99.5%'", "valid number")),
    "a quantile twice": (f"{RUN} --quantile 0.02 --quantile 0.02", ("--quantile", "twice")),
    "fewer than no permutations": (f"{RUN} --permutations -1", ("--permutations cannot be '-1'", "'auto'")),
    "a hold-out in percent": (f"{RUN} --holdout 50", ("--holdout cannot be '50'", "less than 1")),
    "no image": (f"{RUN} --max-images 0", ("--max-images cannot be '0'",)),
    "batches of nothing": (f"{RUN} --batch-size 0", ("--batch-size cannot be '0'",)),
    "a device called gpu": (f"{RUN} --device gpu", ("device 'gpu' cannot be used here", "GPUs are cuda", "auto")),
    "a backend by half of its name": (
        f"{RUN} --backend onnx", ("--backend cannot be 'onnx'", "Did you mean onnxruntime?"),
    ),
    "a configuration that is not there": (
        "run --config nosuch --out x", ("nosuch cannot be read (No such file or directory). Expected the config.json",),
    ),
    "another precision": (f"{RUN} --precision fp16", ("--precision cannot be 'fp16'", "'bfloat16'")),
    "a protocol with a typing error": (f"{RUN} --protocol papr", ("'papr'", "Did you mean paper?")),
    "a layout that does not exist": (f"{RUN} --assume-layout HWC", ("--assume-layout", "NCHW|NHWC")),
    "more shards than there are": (f"{RUN} --shard 3/2", ("shard 3/2 does not exist",)),
    "a table as configuration": (f"{RUN} --config notes.csv", ("notes.csv",)),
}  # fmt: skip

RESULTS: dict[str, Row] = {
    "a run folder of other layers": (
        f"run {TINY} --concepts data --layer conv1 --out run",
        ("run holds a finished run of something else", "another folder"),
    ),
    "a file as run folder": (RUN.replace("new", "notes.txt"), ("ResultError", "notes.txt is a file")),
    "the data as run folder": (RUN.replace("new", "data"), ("ResultError", "data is the folder of a data set")),
    "a run that crashed": ("show crashed", ("ResultError", "not finished", "run the same command again")),
    "a run that is not there": ("show nothing", ("ResultError", "no such folder")),
    "data in place of a run": ("show data", ("ResultError", "data is no run folder", "it is a data set")),
    "the folder above the runs": ("show .", ("ResultError", "it holds the runs run: name one")),
    "a file of a run": ("report run/run.json", ("ResultError", "name the folder run")),
    "weights in place of a run": ("count weights.pth", ("ResultError", "weights.pth")),
    "a table of something else": ("count notes.csv", ("ResultError", "notes.csv")),
    "a layer that the run does not have": ("show run --units --layer conv3", ("no layer 'conv3'; it has conv2",)),
    "a quantile that the run does not have": ("show run --quantile 0.1", ("no quantile 0.1; it has 0.005",)),
    "a limit of detectors in percent": ("count run --min-iou 4", ("ConfigError", "4", "0.04")),
    "a report in place of a file": ("report run --out notes.txt", ("ResultError", "which is a file")),
    "a comparison with a run that crashed": ("diff run crashed", ("ResultError", "not finished")),
    "a comparison with data": ("diff run data", ("ResultError", "it is a data set")),
    "shards of nothing": ("merge-shards empty", ("ResultError", "no finished shard")),
    "a requirement in words": ("check run --require many", ("'many' is not a requirement", "Expected")),
    "a concept with a typing error": ("check run --require concept:sqare", ("Did you mean square?",)),
    "a figure of another format": ("figure bars run --out figure.jpg", ("ResultError", ".pdf, .svg, .png")),
    "a figure of another layer": ("figure bars run --layer conv3 --out f.pdf", ("no layer 'conv3'",)),
    "a figure of what was not measured": ("figure sensitivity run --out f.pdf", ("Repeat it with --sensitivity",)),
    "a run in place of a network": (
        "experiment rotate run --layer conv2 --concepts data --out new", ("NetworkError", "'run' is a path"),
    ),
    "a folder without snapshots": ("experiment training-dynamics run --out new", ("ResultError", "step-1000")),
    "an explorer of nothing": ("serve nothing", ("ResultError", "no such folder")),
}  # fmt: skip

MISTAKES = USAGE | NETWORKS | DATA | OPTIONS | RESULTS


def told(outcome, *words):
    """Check that the command failed as a user should see it."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err + outcome.out
    for word in words:
        assert word in outcome.err.replace("\n", " "), outcome.err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_paragraph_that_says_what_to_do(netdissect, first_day_folder, mistake):
    command, words = MISTAKES[mistake]
    with unchanged(first_day_folder):
        outcome = netdissect(*command.split())
    told(outcome, *words)
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert "Error: " in outcome.err.split(" ", 1)[0] + " "
    assert not set("╭│╰─") & set(outcome.err)


def test_a_group_without_a_command_prints_its_help_with_the_exit_code_of_an_error(netdissect):
    for group in ((), ("concepts",), ("experiment",), ("figure",)):
        outcome = netdissect(*group)
        assert (outcome.code, outcome.err) == (2, "")
        assert "Usage" in outcome.out


def test_activations_that_are_not_finite(netdissect, first_day_folder, tmp_path):
    command = RUN.replace(":tiny", ":poisoned").replace("new", str(tmp_path / "run"))
    told(netdissect(*command.split()), "ActivationError", "NaN", "conv2.0.bias")


def test_a_head_that_the_checkpoint_lacks(netdissect, first_day_folder, tmp_path):
    command = f"run {TINY} --weights headless.pth --concepts data --permutations 0 --out {tmp_path / 'run'} --layer"
    told(netdissect(*command.split(), "head"), "ActivationError", "head.weight, head.bias")
    shutil.rmtree(tmp_path / "run")
    outcome = netdissect(*command.split(), "conv2")
    assert outcome.code == 0
    assert "headless.pth has no weights for head.weight, head.bias" in outcome.err


def test_help_and_the_completion_of_a_shell_take_options_that_were_typed_twice(netdissect):
    twice = ("--min-iou", "0.1", "--min-iou", "0.2")
    helped = netdissect("run", *twice, "--help")
    assert helped.code == 0
    assert "Usage: netdissect run" in helped.out
    command = typer.main.get_command(app).commands["run"]
    context = command.make_context("run", list(twice), resilient_parsing=True)
    assert context.params["config__min_iou"] == "0.2"


def test_an_image_that_is_cut_short_is_named(netdissect, first_day_folder, tmp_path):
    shutil.copytree("data", tmp_path / "data")
    image = sorted((tmp_path / "data" / "images").rglob("*.jpg"))[3]
    image.write_bytes(image.read_bytes()[:300])
    command = RUN.replace("data", str(tmp_path / "data")).replace("new", str(tmp_path / "run"))
    told(netdissect(*command.split()), "ConceptsError", image.name)


def test_a_checkpoint_that_would_run_code_is_refused(netdissect, first_day_folder, tmp_path):
    import os

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    weights = tmp_path / "weights.pth"
    weights.write_bytes(pickle.dumps(Hostile()))
    told(netdissect(*RUN.split(), "--weights", weights), "CheckpointError", "weights.pth")
    assert not (tmp_path / "owned").exists()


def test_a_factory_in_the_working_folder_is_found_as_an_installed_command_is_started(
    netdissect, first_day_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry not in ("", ".")])
    (tmp_path / "my_own_networks.py").write_text(f"from {FACTORY} import tiny\n")
    shutil.copy(first_day_folder / f"{FACTORY}.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    outcome = netdissect("layers", "python:my_own_networks:tiny", "--all")
    assert outcome.code == 0
    assert "conv2" in outcome.out


def mask(folder: Path, **changes: np.ndarray) -> Path:
    """Replace one image or mask, of the name before `_`."""
    for name, pixels in changes.items():
        Image.fromarray(pixels).save(folder / name / "3.png")
    return folder


SQUARE = np.full((48, 48), 1, np.uint8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masks": SQUARE[:20, :20]}, ("masks/3.png is 20 x 20 pixels", "its image", "48 x 48", "nearest")),
        ({"masks": SQUARE * 9}, ("holds the value 9, which has no name", "name it")),
        ({"images": np.zeros((1, 1), np.uint8).repeat(13400, 0).repeat(13400, 1)}, ("images/3.png", "pixels")),
    ],
    ids=["a mask of another size", "a value without a name", "a huge image"],
)
def test_an_image_that_cannot_be_used_is_named(netdissect, first_day_folder, tmp_path, changes, words):
    labeled = mask(Path(shutil.copytree("labeled", tmp_path / "labeled")), **changes)
    with unchanged(first_day_folder):
        told(netdissect("concepts", "build", f"masks:{labeled}", "--workers", 1, "--out", tmp_path / "data"), *words)
    assert not (tmp_path / "data" / "index.csv").exists()


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_gray_transparent_and_16_bit_images_are_no_mistake(netdissect, first_day_folder, tmp_path, mode):
    labeled = Path(shutil.copytree("labeled", tmp_path / "labeled"))
    for path in (labeled / "images").iterdir():
        gray = Image.open(path).convert("L")
        deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
        (deep if mode == "I;16" else gray.convert(mode)).save(path)
    build = ("concepts", "build", f"masks:{labeled}", "--size", 32, "--workers", 1)
    assert netdissect(*build, "--out", tmp_path / "data").code == 0
    written = Image.open(sorted((tmp_path / "data" / "images").rglob("*.jpg"))[0])
    assert np.asarray(written).std() > 5
    assert (written.mode, written.size) == ("RGB", (32, 32))
