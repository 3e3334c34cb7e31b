"""What a researcher does wrong in Python on the first day: each mistake is an error that names the remedy.

A row is the mistake, the call, the kind of error, and what its message must hold: what was seen, and what to do.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import transforms

import netdissect
from first_day import FACTORY, PREPROCESSING, Pair, Tiny, filled, network, unchanged
from netdissect import Preprocessing
from netdissect.errors import (
    ActivationError,
    CheckpointError,
    ConceptsError,
    ConfigError,
    LayerError,
    NetdissectError,
    NetworkError,
    ResultError,
    SourceError,
)


def run(model: Any = None, data: Any = "data", **options: Any) -> netdissect.Result:
    """Dissect the tiny network, but for what is given."""
    given = {"layers": "conv2", "bootstrap": 0, "permutations": 0} | options
    return netdissect.dissect(network() if model is None else model, data, **given)


def module(model: Any, **options: Any) -> netdissect.Result:
    return run(model, **({"preprocessing": PREPROCESSING} | options))


def loaded() -> netdissect.Result:
    return netdissect.load_result("run")


def checkpoint(name: str) -> netdissect.Network:
    return netdissect.load_network(f"python:{FACTORY}:tiny", weights=name)


def vision_transformer() -> nn.Module:
    import transformers

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **sizes))


class Images(torch.utils.data.Dataset):
    """Images with classes, as for training."""

    def __len__(self) -> int:
        return 2


Row = tuple[Callable[[], object], type[NetdissectError], tuple[str, ...]]

DATA: dict[str, Row] = {
    "a DataLoader as data": (
        lambda: run(data=torch.utils.data.DataLoader(Images())),
        ConceptsError, ("The data is a DataLoader", "folder of a data set", "netdissect concepts build"),
    ),
    "a torch Dataset as data": (
        lambda: run(data=Images()), ConceptsError, ("The data is a Images", "netdissect.build_dataset"),
    ),
    "a tensor of images as data": (
        lambda: run(data=torch.zeros(2, 3, 32, 32)), ConceptsError, ("The data is a Tensor",),
    ),
    "two data sets in a list": (lambda: run(data=["data", "data"]), ConceptsError, ("The data is a list",)),
    "a result as data": (lambda: run(data=loaded()), ConceptsError, ("The data is a Result",)),
    "no data": (lambda: run(data=None), ConceptsError, ("The data is a NoneType", "ConceptData")),
    "a run folder as data": (
        lambda: run(data="run"), ConceptsError, ("run is not a concept data set: it is a run", "name the data set"),
    ),
    "the folder above the data": (lambda: run(data="."), ConceptsError, ("has no index.csv", "data is one")),
    "the folder below the data": (lambda: run(data="data/images"), ConceptsError, ("has no index.csv", "data is one")),
    "the table of the data": (
        lambda: run(data="data/index.csv"), ConceptsError, ("it is a file", "Expected a folder", "data is one"),
    ),
    "a folder that is not there": (lambda: run(data="broden"), ConceptsError, ("there is no such folder",)),
    "images without labels": (
        lambda: run(data="pictures"), ConceptsError, ("holds images, but no index.csv with their labels",),
    ),
    "labeled images that were not built": (
        lambda: run(data="labeled"), ConceptsError, ("netdissect concepts build masks:labeled --out NEW",),
    ),
    "a category that the data do not have": (
        lambda: run(categories="texture"), ConceptsError, ("no category 'texture'; it has object",),
    ),
    "a category with a typing error": (
        lambda: netdissect.ConceptData.open("data", categories="objct"), ConceptsError, ("Did you mean object?",),
    ),
    "a split with another name": (
        lambda: run(split="test"), ConfigError, ("split cannot be 'test'", "'train' or 'val'"),
    ),
    "a split of an opened data set with another name": (
        lambda: netdissect.ConceptData.open("data", split="test"),  # type: ignore[arg-type]
        ConfigError, ("the split cannot be 'test'. Expected train or val",),
    ),
    "as many images as all": (
        lambda: netdissect.ConceptData.open("data", max_images="all"),  # type: ignore[arg-type]
        ConfigError, ("max_images cannot be 'all'", "None for all"),
    ),
    "less than no image": (
        lambda: netdissect.ConceptData.open("data", max_images=-1), ConfigError, ("max_images cannot be -1", "above 0"),
    ),
    "a source as text": (
        lambda: netdissect.build_dataset("new", "masks:labeled"),  # type: ignore[arg-type]
        SourceError, ("netdissect.parse_source('masks:labeled')",),
    ),
    "a size of a data set in words": (
        lambda: netdissect.WriteOptions(size="big"), ConfigError, ("'size' of a data set was 'big'", "valid integer"),
    ),
}  # fmt: skip

NETWORKS: dict[str, Row] = {
    "data before the model": (
        lambda: netdissect.dissect(Path("data"), network(), layers="conv2"),  # type: ignore[arg-type]
        NetworkError, ("The model is the path data", "the network comes first, then the data"),
    ),
    "a class in place of a module": (lambda: module(Tiny), NetworkError, ("a class or function", "call it, Tiny(...)")),
    "a state_dict in place of a module": (
        lambda: module(Tiny().state_dict()), NetworkError, ("as a state_dict", "module.load_state_dict(...)"),
    ),
    "weights in place of a module": (
        lambda: module("weights.pth"), NetworkError, ("'weights.pth' is a path", "weights='weights.pth'"),
    ),
    "a path of weights in place of a module": (
        lambda: module(Path("weights.pth")), NetworkError, ("is the path weights.pth", "weights='weights.pth'"),
    ),
    "a result in place of a module": (lambda: run(loaded()), NetworkError, ("a Result", "Expected a torch.nn.Module")),
    "a name without its library": (
        lambda: run("resnet18"), NetworkError, ("no network 'resnet18'", "'torchvision:resnet18'"),
    ),
    "a module on the meta device": (
        lambda: module(Tiny().to("meta")), NetworkError, ("on the meta device", "load_state_dict"),
    ),
    "a module without preprocessing": (
        lambda: module(Tiny(), preprocessing=None), NetworkError, ("Tiny", "is not known", "preprocessing=", "mean"),
    ),
    "a model of transformers without its processor": (
        lambda: module(vision_transformer(), preprocessing=None, layers="auto"),
        NetworkError, ("ViTModel", "transformers.AutoImageProcessor.from_pretrained(NAME)"),
    ),
    "transforms that augment": (
        lambda: module(Tiny(), preprocessing=transforms.Compose([transforms.RandomHorizontalFlip(),
                                                                 transforms.ToTensor()])),
        NetworkError, ("RandomHorizontalFlip", "at random", "transforms of evaluation"),
    ),
    "transforms without a size": (
        lambda: module(Tiny(), preprocessing=transforms.ToTensor()), NetworkError, ("name no input size",),
    ),
    "a preprocessing by name": (
        lambda: module(Tiny(), preprocessing="imagenet"), NetworkError, ("'imagenet'", "netdissect.Preprocessing("),
    ),
    "a mean for pixels from 0 to 255": (
        lambda: Preprocessing((32, 32), (123.0, 116.0, 103.0), (58.0, 57.0, 57.0)),
        NetworkError, ("as for pixels from 0 to 255", "divided by 255, mean (0.482353"),
    ),
    "one mean for three channels": (
        lambda: Preprocessing((32, 32), 0.5, 0.25),  # type: ignore[arg-type]
        NetworkError, ("mean of the preprocessing is 0.5", "a number for each channel"),
    ),
    "a size in words": (
        lambda: Preprocessing("224", (0.5,), (0.5,)),  # type: ignore[arg-type]
        NetworkError, ("size of the preprocessing is '224'", "one number for a square"),
    ),
    "gray input for a network of colors": (
        lambda: module(Tiny(), preprocessing=Preprocessing((32, 32), (0.5,), (0.25,))),
        NetworkError, ("expected input[2, 1, 32, 32] to have 3 channels", "give the size and channels"),
    ),
    "a module by the loader of names": (
        lambda: netdissect.load_network(Tiny()),  # type: ignore[arg-type]
        NetworkError, ("a Tiny", "netdissect.as_network(module, preprocessing)"),
    ),
    "weights that are True": (
        lambda: netdissect.load_network("torchvision:resnet18", weights=True),  # type: ignore[arg-type]
        NetworkError, ("The weights are True", "'none' for random ones"),
    ),
    "two sizes for a square input": (
        lambda: netdissect.load_network("torchvision:resnet18", size=(32, 32)),  # type: ignore[arg-type]
        NetworkError, ("(32, 32)", "the side of the square input"),
    ),
    "a network without its name": (
        lambda: netdissect.Network(Tiny(), PREPROCESSING, "tiny"),  # type: ignore[arg-type]
        NetworkError, ("name of a network is a Tiny", "Network(name, module, preprocessing)"),
    ),
    "NaN in the weights": (
        lambda: module(filled(float("nan"))), ActivationError,
        ("'conv2' gives NaN", "unit 0", "weights conv2.0.bias are NaN"),
    ),
    "a checkpoint of another architecture": (
        lambda: checkpoint("other.pth"), CheckpointError, ("other.pth does not fit Tiny", "another architecture"),
    ),
    "a pickled module": (
        lambda: checkpoint("module.pth"), CheckpointError, ("refused, because they can run any code", "state_dict()"),
    ),
    "a checkpoint without weights": (
        lambda: checkpoint("optimizer.pth"), CheckpointError, ("no dictionary of tensors", "module.state_dict()"),
    ),
    "a text as checkpoint": (lambda: checkpoint("notes.txt"), CheckpointError, ("starts with b'noth'", "torch.save")),
    "a head that the checkpoint lacks": (
        lambda: run(checkpoint("headless.pth"), layers="head"),
        ActivationError, ("'head' gives NaN", "head.weight, head.bias", "name another checkpoint"),
    ),
    "a factory with a typing error": (
        lambda: netdissect.load_network(f"python:{FACTORY}:tny"), NetworkError,
        ("no function 'tny'. Did you mean tiny?",),
    ),
    "a factory without preprocessing": (
        lambda: netdissect.load_network(f"python:{FACTORY}:module_alone"), NetworkError, ("returned Tiny", "a pair"),
    ),
    "a factory that takes arguments": (
        lambda: netdissect.load_network(f"python:{FACTORY}:wants_an_argument"), NetworkError, ("without arguments",),
    ),
}  # fmt: skip

LAYERS: dict[str, Row] = {
    "no layer": (lambda: run(layers=None), ConfigError, ("no layer was named", "layers='auto'", "list_layers")),
    "a module as layer": (
        lambda: run(layers=Tiny().conv2), ConfigError, ("layers is a Sequential", "names of modules"),
    ),
    "modules as layers": (lambda: run(layers=[Tiny().conv2]), ConfigError, ("layers is a list of Sequential",)),
    "the number of a layer": (lambda: run(layers=2), ConfigError, ("layers is 2", "such as 'layer4'", "list_layers")),
    "a layer with a typing error": (
        lambda: run(layers="conv3"), LayerError, ("matches 'conv3'", "'conv2'", "netdissect layers"),
    ),
    "a glob without match": (lambda: run(layers="features.*"), LayerError, ("matches 'features.*'", "similar names")),
    "a layer that is not run": (
        lambda: run(layers="unused"), LayerError, ("'unused'", "did not run", "module that runs"),
    ),
    "the layer of a wrapped module": (
        lambda: module(nn.DataParallel(Tiny())), LayerError, ("similar names: 'module.conv2'",),
    ),
}  # fmt: skip

OPTIONS: dict[str, Row] = {
    "layer= for layers=": (
        lambda: netdissect.dissect(network(), "data", layer="conv2"),  # type: ignore[call-arg]
        ConfigError, ("no option 'layer'", "Did you mean layers=", "Known: layers, preprocessing"),
    ),
    "permutation= for permutations=": (lambda: run(permutation=9), ConfigError, ("Did you mean permutations=",)),
    "a limit in percent": (lambda: run(min_iou=4), ConfigError, ("min_iou cannot be 4", "less than 1")),
    "a percentile as quantile": (
        lambda: run(quantile=0.995),
        ConfigError, ("quantile cannot be 0.995", "share of activations above the threshold", "so 0.005 in its place"),
    ),
    "fewer than no permutations": (lambda: run(permutations=-1), ConfigError, ("permutations cannot be -1", "'auto'")),
    "a hold-out in percent": (lambda: run(holdout=50), ConfigError, ("holdout cannot be 50", "less than 1")),
    "a share of the images": (lambda: run(max_images=0.5), ConfigError, ("max_images cannot be 0.5", "valid integer")),
    "batches of nothing": (lambda: run(batch_size=0), ConfigError, ("batch_size cannot be 0", "greater than 0")),
    "a device called gpu": (lambda: run(device="gpu"), ConfigError, ("'gpu' cannot be used", "GPUs are cuda", "auto")),
    "another precision": (lambda: run(precision="fp16"), ConfigError, ("precision cannot be 'fp16'", "'bfloat16'")),
    "a protocol with a typing error": (lambda: run(protocol="papr"), ConfigError, ("'papr'", "Did you mean paper?")),
    "a dictionary as configuration": (
        lambda: run(config={"quantile": 0.1}), ConfigError, ("config is dict", "keyword"),
    ),
    "a progress of another kind": (
        lambda: run(progress=3), ConfigError, ("progress cannot be 3", "a function of stage"),
    ),
    "no step between dissections": (
        lambda: netdissect.DissectEvery("data", every=0, out="steps", layers="conv2"), ConfigError, ("every is 0",),
    ),
    "more shards than there are": (
        lambda: netdissect.dissect_shard(network(), "data", layers="conv2", out="new", shard="3/2"),
        ConfigError, ("shard 3/2 does not exist", "3/8"),
    ),
    "an experiment with a typing error": (
        lambda: netdissect.experiments.load_experiment("rotat"), ConfigError, ("'rotat'. Did you mean rotate?",),
    ),
    "an option of an experiment with a typing error": (
        lambda: netdissect.experiments.rotate(network(), "data", layer="conv2", rotation=2),  # type: ignore[call-arg]
        ConfigError, ("netdissect.experiments.rotate() has no option 'rotation'. Did you mean rotations=",),
    ),
}  # fmt: skip

RESULTS: dict[str, Row] = {
    "a run folder of other layers": (
        lambda: run(layers="conv1", out="run"), ResultError,
        ("a finished run of something else", "Name another folder"),
    ),
    "a file as run folder": (lambda: run(out="notes.txt"), ResultError, ("notes.txt is a file", "name another")),
    "a run folder below a file": (lambda: run(out="notes.txt/run"), ResultError, ("notes.txt is a file",)),
    "the data as run folder": (lambda: run(out="data"), ResultError, ("is the folder of a data set", "name another")),
    "a number as run folder": (lambda: run(out=3), ConfigError, ("out is 3", "path of a run folder")),
    "a result of a run that crashed": (
        lambda: netdissect.load_result("crashed"), ResultError, ("run that is not finished", "same command again"),
    ),
    "a result that is not there": (lambda: netdissect.load_result("nothing"), ResultError, ("no such folder",)),
    "a file of a run": (
        lambda: netdissect.load_result("run/run.json"), ResultError, ("it is a file", "name the folder run"),
    ),
    "the data as result": (lambda: netdissect.load_result("data"), ResultError, ("it is a data set", "--out")),
    "the folder above the runs": (
        lambda: netdissect.load_result("."), ResultError, ("it holds the runs run: name one",),
    ),
    "a result that was loaded": (
        lambda: netdissect.load_result(loaded()),  # type: ignore[arg-type]
        ResultError, ("The run folder is a Result", "a Result already"),
    ),
    "a layer that the run does not have": (lambda: loaded().layer("conv3"), ResultError, ("it has conv2", "Name one")),
    "a rule that does not exist": (
        lambda: loaded().detectors("best"),  # type: ignore[arg-type]
        ConfigError, ("no rule 'best'", "top-label, per-category"),
    ),
    "a limit of detectors in percent": (lambda: loaded().detectors(min_iou=4), ConfigError, ("min_iou is 4", "0.04")),
    "a figure of a folder": (
        lambda: netdissect.plots.bars("run"),  # type: ignore[arg-type]
        ResultError, ("'run' is a path", "netdissect.load_result('run')"),
    ),
    "a figure of several folders": (
        lambda: netdissect.plots.layers(["run", "run"]),  # type: ignore[list-item]
        ResultError, ("netdissect.load_result('run')",),
    ),
    "a figure of another format": (
        lambda: netdissect.plots.save(netdissect.plots.bars(loaded()), "figure.jpg"), ResultError,
        (".pdf, .svg, .png",),
    ),
    "a comparison of folders": (
        lambda: netdissect.compare_results("run", "run"),  # type: ignore[arg-type]
        ResultError, ("netdissect.load_result('run')",),
    ),
    "a difference of folders": (
        lambda: netdissect.paired_differences("run", "run"),  # type: ignore[arg-type]
        ResultError, ("netdissect.load_result('run')",),
    ),
    "a report of a folder": (
        lambda: netdissect.report("run", "page"),  # type: ignore[arg-type]
        ResultError, ("netdissect.load_result('run')",),
    ),
    "a report in place of a file": (
        lambda: netdissect.report(loaded(), "notes.txt"), ResultError, ("which is a file",),
    ),
    "a unit that does not exist": (lambda: netdissect.show_unit(loaded(), "conv2", 99), ResultError, ("0 to 4",)),
    "a requirement as text": (
        lambda: netdissect.check_result(loaded(), "detectors >= 1"),  # type: ignore[arg-type]
        ConfigError, ("netdissect.parse_requirement('detectors >= 1')",),
    ),
    "a count with a typing error": (
        lambda: netdissect.parse_requirement("detectrs >= 1"), ConfigError, ("Did you mean detectors", "Expected"),
    ),
    "a concept with a typing error": (
        lambda: netdissect.check_result(loaded(), [netdissect.parse_requirement("concept:sqare")]),
        ResultError, ("they have wall, square. Did you mean square?",),
    ),
}  # fmt: skip

MISTAKES = DATA | NETWORKS | LAYERS | OPTIONS | RESULTS


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_that_says_what_was_seen_and_what_to_do(mistake: str, first_day_folder: Path) -> None:
    call, error, words = MISTAKES[mistake]
    with unchanged(first_day_folder), pytest.raises(error, match=r"^[^\n]{30,}$") as caught:
        call()
    assert type(caught.value) is error
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error_that_names_what_is(first_day_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"device 'cuda' cannot be used here .* Expected one that is there \(cpu"):
        run(device="cuda")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: netdissect.disect, "no attribute 'disect'. Did you mean dissect"),
        (lambda: netdissect.experiments.rotat, "no attribute 'rotat'. Did you mean rotate"),
    ],
)
def test_a_name_with_a_typing_error_suggests_what_there_is(call: Callable[[], object], message: str) -> None:
    with pytest.raises(AttributeError, match=message):
        call()


NO_MISTAKES: dict[str, Callable[[], netdissect.Result]] = {
    "the data as text": lambda: run(data="data"),
    "the data as path": lambda: run(data=Path("data")),
    "the data opened": lambda: run(data=netdissect.ConceptData.open("data")),
    "a category as text": lambda: run(categories="object"),
    "more images than there are": lambda: run(max_images=10**6),
    "permutations as text": lambda: run(permutations="2"),
    "a device as an object": lambda: run(device=torch.device("cpu")),
    "half precision": lambda: module(Tiny().half()),
    "double precision": lambda: module(Tiny().double()),
    "training mode": lambda: module(Tiny().train()),
    "one number as size": lambda: module(Tiny(), preprocessing=Preprocessing(32, (0.5,) * 3, (0.25,) * 3)),
    "DataParallel": lambda: module(nn.DataParallel(Tiny()), layers="module.conv2"),
    "a compiled module": lambda: module(torch.compile(Tiny()), layers="_orig_mod.conv2"),
    "image-level units": lambda: run(layers="head"),
    "a factory in the working folder": lambda: run(f"python:{FACTORY}:tiny"),
    "a checkpoint as path": lambda: run(checkpoint(Path("weights.pth"))),
    "a checkpoint of DataParallel": lambda: run(checkpoint("parallel.pth")),
    "a checkpoint of a compiled module": lambda: run(checkpoint("compiled.pth")),
    "a checkpoint without the head": lambda: run(checkpoint("headless.pth")),
}


@pytest.mark.parametrize("name", NO_MISTAKES)
def test_what_is_no_mistake_gives_the_same_counts(name: str, first_day_folder: Path) -> None:
    with unchanged(first_day_folder):
        result = NO_MISTAKES[name]()
    layer = next(iter(result.layers))
    assert result.info.data.images == 8
    if layer.endswith("conv2"):
        columns = ["unit", "label", "object-activation", "object-intersect"]
        expected = run().layer("conv2").units
        if "precision" not in name:  # half precision rounds
            assert result.layer(layer).units.select(columns).equals(expected.select(columns))
        assert result.layer(layer).units["iou"].to_list() == pytest.approx(expected["iou"].to_list(), abs=0.02)


def test_dead_units_and_outputs_in_a_tuple_are_dissected(first_day_folder: Path) -> None:
    dead = module(filled(0.0)).layer("conv2").units
    assert dead["iou"].to_list() == [0.0] * 5
    assert module(Pair(), layers="pair").layer("pair").units.height == 3


def test_a_run_folder_may_be_moved_and_copied(first_day_folder: Path, tmp_path: Path) -> None:
    (first_day_folder / "run").rename(tmp_path / "moved")
    try:
        moved = netdissect.load_result(tmp_path / "moved")
        assert moved.detectors()[0].count.detectors == run().detectors()[0].count.detectors
    finally:
        (tmp_path / "moved").rename(first_day_folder / "run")


def test_a_run_beside_other_files_leaves_them(first_day_folder: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("ten months of work")
    run(out=tmp_path)
    assert thesis.read_text() == "ten months of work"


def test_a_checkpoint_without_the_head_is_loaded_and_says_so(
    first_day_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    headless = checkpoint("headless.pth")
    assert "headless.pth has no weights for head.weight, head.bias: layers that need them" in caplog.text
    assert headless.module.state_dict()["head.weight"].isnan().all()
    whole = checkpoint("weights.pth").module.state_dict()
    for name, tensor in headless.module.state_dict().items():
        assert name.startswith("head.") or torch.equal(tensor, whole[name])


def test_classes_are_not_scored_without_the_head(first_day_folder: Path) -> None:
    from netdissect.models.surgery.linear_head import find_head

    with pytest.raises(CheckpointError, match=r"no weights head\.weight, head\.bias.*a checkpoint with the classifier"):
        find_head(checkpoint("headless.pth"), "conv2")
    assert find_head(checkpoint("weights.pth"), "conv2").name == "head"
