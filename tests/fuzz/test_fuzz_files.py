"""Damaged runs, published tables, checkpoints and arguments: used, or refused with a typed error."""

import hashlib
import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import safetensors.torch
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import to_json
from torch import nn

import strategies
from corruption import FAST, Wound, inflict, snapshot, survives, wounds
from netdissect.cli import main
from netdissect.config import DissectConfig
from netdissect.dissect import dissect
from netdissect.errors import NetdissectError
from netdissect.models import load_checkpoint
from netdissect.report import console_tables, report
from netdissect.result import load_result, read_published, save_result
from netdissect.result.invariants import check_invariants
from netdissect.result.legacy_csv import write_published
from networks import COVERAGE, SIDE, build, images


def write_run(root: Path) -> Path:
    """Write a run of the same bytes each time: otherwise the same wound hits another letter every day."""
    data = strategies.write_broden(root / "data", images(count=3), COVERAGE, image=(SIDE, SIDE))
    config = DissectConfig(
        layers=("wide_relu", "fc"), protocol=strategies.definition("paper", 0.05).protocol, top_images=2
    )
    result = dissect(build(), data, config=config)
    info = result.info.model_copy(
        update={
            "created": "2017-07-21T00:00:00+00:00",
            "seconds": {"thresholds": 1.5},
            "data": result.info.data.model_copy(update={"root": "/data"}),
            "environment": result.info.environment.model_copy(update={"threads": 1}),
        }
    )
    save_result(replace(result, info=info), root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("hostile-run"))


def test_the_run_that_is_damaged_has_the_same_bytes_each_time(pristine: Path, tmp_path: Path) -> None:
    assert snapshot(write_run(tmp_path)) == snapshot(pristine)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("field")
    (folder / "canary").write_bytes(b"private\n")
    return folder


def copied(pristine: Path, field: Path) -> Path:
    shutil.rmtree(field / "run", ignore_errors=True)
    return Path(shutil.copytree(pristine, field / "run"))


def sealed_again(run: Path) -> None:
    """Write digests that fit: a forger's run, whose contents must be understood to be refused."""
    try:
        content = json.loads((run / "run.json").read_bytes())
        content["files"] = {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in content["files"]}
        content.pop("digest", None)
        content["digest"] = hashlib.sha256(to_json(content)).hexdigest()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return
    (run / "run.json").write_bytes(to_json(content, indent=2))


def use(run: Path, out: Path) -> None:
    """Do with a run what commands do."""
    result = load_result(run)
    for rule in ("top-label", "per-category"):
        result.detectors(rule)
    list(check_invariants(result))
    str(console_tables.summary(result))
    console_tables.statistics(result)
    for layer in result.layers:
        console_tables.units(result, layer)
        write_published(result, layer, out / "table.csv")
    console_tables.concepts(result)
    report(result, out / "report")


@settings(**FAST)
@given(blows=st.lists(wounds(), min_size=1, max_size=2), forged=st.booleans())
@example(blows=[Wound("top_maps.npy", "insert", b"'descr'", 1, b"(")], forged=True)  # NumPy: a SyntaxError
@example(blows=[Wound("run.json", "insert", b'"images"', 1, b"[" * 50_000)], forged=False)
def test_a_damaged_or_forged_run_is_used_or_refused(
    pristine: Path, field: Path, blows: list[Wound], forged: bool
) -> None:
    run, out = copied(pristine, field), field / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for blow in blows:
        inflict(run, blow, field / "canary")
    if forged:
        sealed_again(run)
    before = snapshot(field)
    survives(lambda: use(run, out))
    shutil.rmtree(out)
    assert snapshot(field) == before


COLUMNS = st.sampled_from(
    ["unit", "iou", "label", "category", "rank", "image_index", "image", "max_activation", "concept", "quantile"]
)
VALUES: tuple[pl.Expr, ...] = (
    pl.lit(None), pl.lit("../../x"), pl.lit(-1), pl.lit(10**6), pl.lit(float("nan")), pl.lit(float("inf")),
    pl.lit([1]), pl.lit(b"x"),
)  # fmt: skip


@settings(**FAST)
@given(
    table=st.sampled_from(["concepts", "thresholds", "scores", "units", "top"]),
    column=COLUMNS,
    value=st.sampled_from(VALUES),
    how=st.sampled_from(["replaced", "dropped", "emptied", "doubled"]),
)
@example(table="units", column="label", value=VALUES[0], how="dropped")
@example(table="concepts", column="category", value=VALUES[4], how="replaced")
@example(table="scores", column="iou", value=VALUES[4], how="replaced")
@example(table="top", column="image", value=VALUES[1], how="replaced")
def test_a_forged_table_is_used_or_refused(
    pristine: Path, field: Path, table: str, column: str, value: pl.Expr, how: str
) -> None:
    run, out = copied(pristine, field), field / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    path = run / "concepts.parquet" if table == "concepts" else run / "layers" / "wide_relu" / f"{table}.parquet"
    frame = pl.read_parquet(path)
    column = column if column in frame.columns else frame.columns[len(column) % len(frame.columns)]
    forged = {
        "replaced": lambda: frame.with_columns(value.alias(column)),
        "dropped": lambda: frame.drop(column),
        "emptied": lambda: frame.head(0),
        "doubled": lambda: pl.concat([frame, frame]),
    }[how]()
    forged.write_parquet(path)
    sealed_again(run)
    survives(lambda: use(run, out))


@given(blow=wounds())
def test_a_damaged_published_table_is_read_or_refused(pristine: Path, field: Path, blow: Wound) -> None:
    folder = field / "published"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_published(load_result(pristine), "wide_relu", folder / "table.csv")
    path = inflict(folder, blow, field / "canary")
    survives(lambda: read_published(path))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    state = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, folder / "new.pth")
    # The old form sorts storages by their address in memory: with one, which is named by its number, the file has the
    # same bytes each time.
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    parts = torch.cat([tensor.ravel() for tensor in floats.values()]).split([t.numel() for t in floats.values()])
    shared = {name: part.view(floats[name].shape) for name, part in zip(floats, parts, strict=True)}
    torch.save(shared, folder / "old.pth", _use_new_zipfile_serialization=False)
    content = (folder / "old.pth").read_bytes()
    (folder / "old.pth").write_bytes(re.sub(rb"\d{9,}", lambda m: b"0" * len(m[0]), content))
    load_checkpoint(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), folder / "old.pth")
    safetensors.torch.save_file(state, folder / "weights.safetensors")
    return folder


@settings(max_examples=settings().max_examples * 2, **FAST)
@given(blows=st.lists(wounds(), min_size=1, max_size=2))
def test_a_damaged_checkpoint_is_loaded_or_refused_and_nothing_runs(
    weights: Path, field: Path, blows: list[Wound]
) -> None:
    folder = field / "weights"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(weights, folder)
    (path, *_) = [inflict(folder, blow, field / "canary") for blow in blows]
    before = snapshot(field)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    survives(lambda: load_checkpoint(module, path))
    assert snapshot(field) == before


def test_a_checkpoint_that_unpacks_to_far_more_than_it_weighs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, content in parts.items():
            bomb.writestr(name, b"\0" * 300_000_000 if name.endswith("data/0") else content)
    with pytest.raises(NetdissectError):
        load_checkpoint(nn.Linear(2, 2), path)


WORDS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["run", "show", "count", "export", "report", "layers", "concepts", "build", "inspect", "subset", "merge-shards",
         "diff", "check", "verify", "--out", "--layer", "--concepts", "--quantile", "--protocol", "--require",
         "--top", "--max-images", "--weights", "--json", "--help", "--input-size", "--mean", "--concept",
         "--size", "-1", "0", "nan",
         "1e999", "x" * 5000, "../..", "/", "torchvision:resnet18", "python:os:system", "python:nothing:here", "timm:",
         "masks:", "masks:.=x?y=z", "none", "detectors >= 1", "0.5,0.5,0.5"]
    ),
)  # fmt: skip


@settings(**FAST)
@given(words=st.lists(WORDS, max_size=7))
def test_any_arguments_end_in_a_result_or_in_a_message(
    tmp_path_factory: pytest.TempPathFactory, words: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("cli")
    code: object = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["netdissect", *words])
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    assert code in (None, 0, 1, 2), words
    shutil.rmtree(folder)
