"""What a user does wrong ends with one paragraph that says what to do, and exit code 2."""

import pytest


def told(outcome, *words):
    """Check that the command failed as a user should see it."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err + outcome.out
    for word in words:
        assert word in outcome.err.replace("\n", " "), outcome.err


@pytest.fixture
def data(netdissect, labeled, tmp_path):
    netdissect("concepts", "build", f"masks:{labeled}", "--size", 32, "--workers", 1, "--out", tmp_path / "data")
    return tmp_path / "data"


def test_a_folder_that_is_no_data_set(netdissect, module, tmp_path):
    told(
        netdissect(
            "run", f"python:{module}:red", "--concepts", tmp_path / "none", "--layer", "0", "--out", tmp_path / "run"
        ),
        "ConceptsError",
        "index.csv",
        "netdissect concepts build",
    )


def test_an_unknown_network_suggests_similar_names(netdissect):
    told(netdissect("layers", "torchvision:resnet81"), "NetworkError", "resnet18")
    told(netdissect("layers", "resnet18"), "NetworkError", "torchvision:")


def test_an_unknown_layer_suggests_near_names(netdissect, module, data, tmp_path):
    told(
        netdissect(
            "run", f"python:{module}:red", "--concepts", data, "--layer", "features.0", "--out", tmp_path / "run"
        ),
        "LayerError",
        "features.0",
        "netdissect layers",
    )
    assert not (tmp_path / "run").exists()


def test_activations_that_are_not_finite(netdissect, module, data, tmp_path):
    told(
        netdissect("run", f"python:{module}:poisoned", "--concepts", data, "--layer", "0", "--out", tmp_path / "run"),
        "ActivationError",
        "NaN",
    )


def test_an_image_that_is_cut_short_is_named(netdissect, module, data, tmp_path):
    image = sorted((data / "images").rglob("*.jpg"))[3]
    image.write_bytes(image.read_bytes()[:300])
    told(
        netdissect("run", f"python:{module}:red", "--concepts", data, "--layer", "0", "--out", tmp_path / "run"),
        "ConceptsError",
        image.name,
    )


def test_options_outside_their_range(netdissect, module, data, tmp_path):
    common = ("run", f"python:{module}:red", "--concepts", data, "--layer", "0", "--out", tmp_path / "run")
    told(netdissect(*common, "--quantile", 1.5), "--quantile", "1.5")
    told(netdissect(*common, "--quantile", 0.02, "--quantile", 0.02), "--quantile", "twice")
    told(netdissect(*common, "--min-iou", -1), "--min-iou", "-1")
    told(netdissect(*common, "--categories", "smell"), "smell", "object")
    told(netdissect(*common, "--device", "abacus"), "abacus")
    told(netdissect(*common, "--mean", "a,b"), "--mean")


def test_a_source_that_does_not_exist_or_is_unknown(netdissect, tmp_path):
    told(
        netdissect("concepts", "build", f"masks:{tmp_path}/nowhere", "--out", tmp_path / "data"),
        "SourceError",
        "nowhere",
    )
    told(netdissect("concepts", "build", "dreams:there", "--out", tmp_path / "data"), "SourceError", "masks:")


def test_a_finished_data_set_is_not_overwritten(netdissect, labeled, data):
    told(netdissect("concepts", "build", f"masks:{labeled}", "--out", data), "--overwrite")


def test_a_path_that_is_neither_a_run_nor_a_table(netdissect, tmp_path):
    foreign = tmp_path / "notes.csv"
    foreign.write_text("a,b\n1,2\n")
    told(netdissect("count", foreign), "ResultError", "notes.csv")
    told(netdissect("show", tmp_path), "ResultError", "run.json")
    told(netdissect("report", tmp_path / "nothing"), "ResultError", "run.json")


def test_a_checkpoint_that_would_run_code_is_refused(netdissect, tmp_path, module, data):
    import os
    import pickle

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/owned",)

    weights = tmp_path / "weights.pth"
    weights.write_bytes(pickle.dumps(Hostile()))
    told(
        netdissect(
            "run",
            f"python:{module}:red",
            "--weights",
            weights,
            "--concepts",
            data,
            "--layer",
            "0",
            "--out",
            tmp_path / "run",
        ),
        "CheckpointError",
        "weights.pth",
    )
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show",), "RUN is missing. See netdissect show --help"),
        (("show", "run", "--unit"), "netdissect show has no option --unit. Did you mean --units"),
        (("cout", "run"), "netdissect has no command cout. Did you mean count? See netdissect --help"),
        (("count", "run", "--rule", "best"), "--rule cannot be 'best': 'best' is not one of 'top-label'"),
        (("count", "run", "--min-iou", "much"), "--min-iou cannot be 'much': input should be a valid number"),
        (("export", "run"), "--out is missing. See netdissect export --help"),
        (("run", "--foo"), "netdissect run has no option --foo."),
        (("run", "--out", "run"), "NETWORK is missing."),
        (("show", "one", "two"), "netdissect show: got unexpected extra argument"),
        (("show", "run", "--top", "0"), "--top cannot be '0': input should be greater than or equal to 1."),
        (("show", "run", "--top"), "option '--top' requires an argument."),
        (("experiment", "rotat"), "netdissect experiment has no command rotat. Did you mean rotate?"),
        (("experiment", "rotate", "--foo"), "netdissect experiment rotate has no option --foo."),
        (("concepts", "inspect"), "DIR is missing. See netdissect concepts inspect --help"),
    ],
)
def test_what_cannot_be_parsed_is_one_plain_paragraph(netdissect, arguments, words):
    outcome = netdissect(*arguments)
    told(outcome, words)
    assert outcome.out == ""
    assert outcome.err.startswith("ConfigError: ")
    assert outcome.err.count("\n") == 1
    assert not set("╭│╰─") & set(outcome.err)


def test_a_group_without_a_command_prints_its_help_with_the_exit_code_of_an_error(netdissect):
    for group in ((), ("concepts",), ("experiment",), ("figure",)):
        outcome = netdissect(*group)
        assert (outcome.code, outcome.err) == (2, "")
        assert "Usage" in outcome.out
