"""Names of files that manifests give never lead out of their folder: each reader is tried with each way out.

`MANIFESTS` lists the readers by the module that parses the manifest. A module that parses anything else with the same
calls stands in `NAMELESS`, with what it reads. A new one fails the last test: put the file names that it reads through
`netdissect.paths.contained` and try it here, or say there that it holds none.
"""

import ast
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic_core import to_json

import netdissect
import strategies
from netdissect.concepts import ConceptData
from netdissect.concepts.inspect.inspect import inspect_dataset
from netdissect.concepts.sources import parse_source
from netdissect.concepts.transfer.download import download
from netdissect.concepts.transfer.subset_merge import DatasetSource
from netdissect.concepts.transfer.unzip import Archive
from netdissect.config import DissectConfig
from netdissect.dissect import dissect
from netdissect.dissect.distributed.merge import merge_shards
from netdissect.dissect.distributed.shard_result import ShardResult
from netdissect.dissect.distributed.shards import Shard, dissect_shard
from netdissect.errors import ConceptsError, NetdissectError
from netdissect.experiments.result_files import load_experiment_result
from netdissect.models.stored_activations.stored_files import read_folder
from netdissect.plots.example_images import read_image
from netdissect.result.files import corrupted_files, layer_folder, load_result, repair_file
from networks import COVERAGE, SIDE, build, images

PRIVATE = "private.png"
WAYS_OUT = {
    "up": f"../{PRIVATE}",
    "up and down": f"inner/../../{PRIVATE}",
    "backslash": f"..\\{PRIVATE}",
    "root": f"/tmp/{PRIVATE}",  # noqa: S108  never opened
    "drive": f"C:{PRIVATE}",
    "share": f"\\\\host\\{PRIVATE}",
    "null": f"a\0{PRIVATE}",
    "half a pair": f"\ud800{PRIVATE}",
    "link": f"link/{PRIVATE}",
}
REFUSED = r"outside|leads out of|no path below|cannot be read as a CSV table"
CONFIG = DissectConfig(
    layers=("fc",), batch_size=2, top_images=2, protocol=strategies.definition("paper", 0.05).protocol
)  # fmt: skip


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a run of it, and shards of it whose thresholds are merged."""
    root = tmp_path_factory.mktemp("pristine")
    data = strategies.write_broden(root / "data", images(count=4), COVERAGE, image=(SIDE, SIDE))
    dissect(build(), data, config=CONFIG, out=root / "run")
    for _ in range(2):
        for number in (1, 2):
            dissect_shard(build(), data, config=CONFIG, shard=Shard(number, 2), out=root / "parts")
        if not (root / "parts" / "merged-thresholds").exists():
            merge_shards(root / "parts")
    return root


@pytest.fixture
def world(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "world")
    Image.new("RGB", (SIDE, SIDE), "red").save(tmp_path / PRIVATE)
    Image.new("RGB", (SIDE, SIDE), "red").save(tmp_path / "world" / PRIVATE)
    return tmp_path / "world"


def linked(folder: Path) -> Path:
    """Put a link into a folder that leads out of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "link").symlink_to(folder.parent, target_is_directory=True)
    return folder


def index(world: Path, old: str, name: str) -> Path:
    """Let index.csv of the data set name something else."""
    linked(world / "data" / "images")
    path = world / "data" / "index.csv"
    path.write_bytes(path.read_bytes().replace(old.encode(), name.encode(errors="surrogatepass"), 1))
    return world / "data"


def image_of_index(world: Path, name: str) -> None:
    ConceptData.open(index(world, "0.png", name)).image_path(0)


def map_of_index(world: Path, name: str) -> None:
    ConceptData.open(index(world, "0_0.png", name)).labels(0)


def category_of_data(world: Path, name: str) -> None:
    table = linked(world / "data") / "category.csv"
    if ".." not in name:
        pytest.skip("a file of this category lies below the folder: its name begins with c_")
    first = table.read_text().splitlines()[1].partition(",")[0]
    for path in (table, world / "data" / "index.csv"):
        path.write_text(path.read_text().replace(first, f"x/{name}", 1))
    ConceptData.open(world / "data")


def image_to_inspect(world: Path, name: str) -> None:
    problems = inspect_dataset(index(world, "0.png", name)).problems
    raise ConceptsError(" ".join(problem.message for problem in problems))


def map_to_inspect(world: Path, name: str) -> None:
    problems = inspect_dataset(index(world, "0_0.png", name)).problems
    raise ConceptsError(" ".join(problem.message for problem in problems))


def image_to_combine(world: Path, name: str) -> None:
    list(DatasetSource.open(index(world, "0.png", name)).samples())


def map_to_combine(world: Path, name: str) -> None:
    for sample in DatasetSource.open(index(world, "0_0.png", name)).samples():
        sample.read_labels()


def index_of_download(world: Path, name: str) -> None:
    if name.startswith("link/"):
        pytest.skip("no member becomes a link")
    data = index(world, "0.png", name)
    with zipfile.ZipFile(world / "broden1_224.zip", "w") as archive:
        for path in data.rglob("*"):
            if path.is_file():
                archive.write(path, path.relative_to(data))
    download("broden1_224", world / "fetched")


def member_of_archive(world: Path, name: str) -> None:
    if name.startswith("link/"):
        pytest.skip("no member becomes a link")
    member = zipfile.ZipInfo("placeholder")
    member.filename = name
    with zipfile.ZipFile(world / "a.zip", "w") as archive:
        try:
            archive.writestr(member, b"x")
        except UnicodeEncodeError:
            pytest.skip("no archive can hold this name")
    Archive(world / "a.zip").unpack(world / "unpacked")


def file_of_coco(world: Path, name: str, kind: str = "instances") -> None:
    folder = world / "coco"
    linked(folder / "val2017")
    linked(folder / "annotations" / "panoptic_val2017")
    Image.new("RGB", (8, 8)).save(folder / "val2017" / "1.png")
    shape = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 8]], "bbox": [0, 0, 8, 8]}
    listed = {"id": 1, "file_name": name if kind == "instances" else "1.png", "height": 8, "width": 8}
    if kind == "panoptic":
        shape |= {"file_name": name, "segments_info": [{"id": 1, "category_id": 1}]}
    content = {"images": [listed], "annotations": [shape], "categories": [{"id": 1, "name": "a"}]}
    (folder / "annotations" / f"{kind}_val2017.json").write_text(json.dumps(content))
    list(parse_source(f"coco:{folder}").samples("x"))


def map_of_coco(world: Path, name: str) -> None:
    file_of_coco(world, name, "panoptic")


def drawn(world: Path, file: str, content: str) -> None:
    folder = linked(world / "drawn")
    (folder / file).write_text(content, encoding="utf-8")
    list(parse_source(f"polygons:{folder}").samples("x"))


def file_of_labelme(world: Path, name: str) -> None:
    shape = {"label": "a", "points": [[0, 0], [8, 0], [8, 8]]}
    content = {"imagePath": name, "imageHeight": 8, "imageWidth": 8, "shapes": [shape]}
    drawn(world, "a.json", json.dumps(content))


def file_of_via(world: Path, name: str) -> None:
    outline = {"name": "rect", "x": 0, "y": 0, "width": 8, "height": 8}
    region = {"shape_attributes": outline, "region_attributes": {"class": "a"}}
    drawn(world, "via.json", json.dumps({"a": {"filename": name, "regions": [region]}}))


def file_of_cvat(world: Path, name: str) -> None:
    if "\0" in name or "\ud800" in name:
        pytest.skip("no XML can hold this name")
    box = '<box label="a" xtl="0" ytl="0" xbr="8" ybr="8"/>'
    drawn(world, "a.xml", f'<annotations><image name="{name}" width="8" height="8">{box}</image></annotations>')


def subset_of_cvat(world: Path, name: str) -> None:
    """The folder of the image, whose own name leads out, so that it is sought by its file name."""
    if "\0" in name or "\ud800" in name:
        pytest.skip("no XML can hold this name")
    box = '<box label="a" xtl="0" ytl="0" xbr="8" ybr="8"/>'
    folder = name.rpartition(PRIVATE)[0]
    image = f'<image name="/x/{PRIVATE}" subset="{folder}" width="8" height="8">{box}</image>'
    drawn(world, "a.xml", f"<annotations>{image}</annotations>")


def file_of_label_studio(world: Path, name: str) -> None:
    value = {"x": 0, "y": 0, "width": 100, "height": 100, "rectanglelabels": ["a"]}
    result = {"type": "rectanglelabels", "original_width": 8, "original_height": 8, "value": value}
    drawn(world, "a.json", json.dumps([{"data": {"image": name}, "annotations": [{"result": [result]}]}]))


def row_of_labels(world: Path, name: str) -> None:
    if "\ud800" in name:
        pytest.skip("what is no UTF-8 is read as Latin-1")
    linked(world / "labels")
    (world / "labels" / "labels.csv").write_text(f'image,label\n"{name}",cat\n')
    list(parse_source(f"labels:{world / 'labels' / 'labels.csv'}=object").samples("x"))


def cell_of_huggingface(world: Path, name: str) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra 'hf'")
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra 'hf'")
    if "\0" in name or "\ud800" in name:
        pytest.skip("no Arrow table holds this name")
    features = datasets.Features({"image": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": [{"path": name, "bytes": None}], "kind": [0]}
    table = datasets.Dataset.from_dict(rows, features=features)
    linked(world / "hf")
    (world / "hf" / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data.arrow"}], "_fingerprint": "x", "_format_columns": None,
                    "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None})
    )  # fmt: skip
    table.info.write_to_directory(str(world / "hf"))
    with (
        pyarrow.OSFile(str(world / "hf" / "data.arrow"), "wb") as sink,
        pyarrow.ipc.new_stream(sink, table.data.schema) as out,
    ):
        out.write_table(table.data.table)
    for sample in parse_source(f"hf:{world / 'hf'}=scene").samples("x"):
        np.asarray(sample.image)


def named(manifest: Path, world: Path, name: str) -> Path:
    """Let a description name a file, with digests that fit, as a forger would."""
    if "\ud800" in name:
        pytest.skip("no forger could seal it")
    content = json.loads(manifest.read_bytes())
    content["files"][name] = hashlib.sha256((world / PRIVATE).read_bytes()).hexdigest()
    content.pop("digest")
    content["digest"] = hashlib.sha256(to_json(content)).hexdigest()
    manifest.write_bytes(to_json(content))
    return manifest.parent


def file_of_run(world: Path, name: str) -> Path:
    return named(linked(world / "run") / "run.json", world, name)


def file_to_verify(world: Path, name: str) -> None:
    corrupted_files(file_of_run(world, name))


def file_to_load(world: Path, name: str) -> None:
    load_result(file_of_run(world, name))


def file_to_restore(world: Path, name: str) -> None:
    repair_file(file_of_run(world, name), world / "run", name)


def file_of_piece(world: Path, name: str) -> Path:
    return named(linked(world / "parts" / "shards" / "1-of-2" / "counting") / "shard.json", world, name)


def file_to_open(world: Path, name: str) -> None:
    ShardResult.open(file_of_piece(world, name))


def file_to_merge(world: Path, name: str) -> None:
    file_of_piece(world, name)
    merge_shards(world / "parts")


def image_of_a_table(world: Path, name: str) -> None:
    linked(world / "data" / "images")
    if read_image(world / "data" / "images", name) is None:
        raise ConceptsError(f"{name!r} lies outside of what is shown")


def table_of_an_outcome(world: Path, name: str) -> None:
    out = linked(world / "outcome")
    load_result(world / "run").concepts.write_parquet(out / "table.parquet")
    conclusion = {"question": "?", "finding": "x", "outcome": "agrees", "paper": "x"}
    if "\ud800" in name:
        pytest.skip("no forger could seal it")
    saved = {
        "name": "rotate",
        "conclusion": conclusion,
        "config": {},
        "context": {},
        "seconds": {},
        "extra_tables": [name],
    }
    saved["files"] = {}
    saved["digest"] = hashlib.sha256(to_json(saved)).hexdigest()
    (out / "conclusion.json").write_text(json.dumps(saved))
    load_experiment_result(out)


def file_of_shards(world: Path, name: str) -> None:
    folder = linked(world / "activations")
    metadata = {"layers": [0], "content_tokens_per_example": 1, "cls_token": False, "d_model": 1, "n_examples": 1}
    (folder / "metadata.json").write_text(json.dumps(metadata | {"dtype": "float32", "protocol": "2.1"}))
    if "\ud800" in name:
        pytest.skip("no JSON holds this name")
    (folder / "shards.json").write_text(json.dumps([{"name": name, "n_examples": 1}]))
    read_folder(folder)


MANIFESTS: dict[str, list[Callable[[Path, str], None]]] = {
    "concepts/broden_files.py": [image_of_index, map_of_index],
    "concepts/dataset.py": [category_of_data],
    "concepts/inspect/inspect.py": [image_to_inspect, map_to_inspect],
    "concepts/transfer/subset_merge.py": [image_to_combine, map_to_combine],
    "concepts/transfer/download.py": [index_of_download],
    "concepts/transfer/unzip.py": [member_of_archive],
    "concepts/sources/datasets/coco.py": [file_of_coco, map_of_coco],
    "concepts/sources/csv_labels.py": [row_of_labels],
    "concepts/sources/annotation_tools/formats.py": [
        file_of_labelme,
        file_of_via,
        file_of_cvat,
        subset_of_cvat,
        file_of_label_studio,
    ],
    "concepts/sources/datasets/huggingface.py": [cell_of_huggingface],
    "result/files.py": [file_to_verify, file_to_load, file_to_restore],
    "dissect/distributed/shard_result.py": [file_to_open, file_to_merge],
    "plots/example_images.py": [image_of_a_table],
    "experiments/result_files.py": [table_of_an_outcome],
    "models/stored_activations/stored_files.py": [file_of_shards],
}


@pytest.mark.parametrize("reader", [each for readers in MANIFESTS.values() for each in readers])
@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_name_that_leads_out_is_refused(reader: Callable[[Path, str], None], way: str, world: Path) -> None:
    before = {path: path.read_bytes() for path in (world / PRIVATE, world.parent / PRIVATE)}
    with pytest.raises(NetdissectError, match=REFUSED):
        reader(world, WAYS_OUT[way])
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", ["..", ".", "..."])
def test_a_layer_whose_name_is_dots_lies_below_the_layers(name: str, tmp_path: Path) -> None:
    assert layer_folder(tmp_path, name).resolve().parent == tmp_path / "layers"


NAMELESS = {
    "dissect/compose/unit_log.py": "our own notes of formulas, with a checksum each",
    "result/formulas/table_folder.py": "digests of our own tables of formulas",
    "concepts/inspect/validate.py": "names are tried through concepts/inspect/inspect.py",
    "concepts/build/manifest.py": "our own notes of a build, beside what it builds",
    "concepts/sources/datasets/ade20k.py": "label maps lie beside their image",
    "concepts/sources/list_columns.py": "labels in a cell",
    "concepts/sources/readers.py": "parses for the sources",
    "concepts/sources/class_tables.py": "values, colors and names of classes",
    "concepts/sources/datasets/huggingface_labels.py": "values, labels and their names",
    "concepts/sources/annotation_tools/polygon_files.py": "the image that a file holds; tried through formats.py",
    "concepts/sources/annotation_tools/roboflow.py": "values and names of classes",
    "concepts/sources/datasets/opensurfaces.py": "colors of materials",
    "dissect/work_dir/work_dir.py": "choices of the run and names of layers",
    "dissect/layout_checks.py": "verdicts on layers, by their names",
    "models/preprocessing_configs.py": "sizes, means and deviations, from files of fixed names",
    "result/folder_lock.py": "who holds a folder",
    "result/run_config.py": "what the user asked for: his own folders, which may lie anywhere",
    "dissect/label_cache.py": "blocks by number",
    "caches/cache_note.py": "what a cached file says of itself, which is only shown",
    "caches/list_caches.py": "the same",
    "models/preprocessing.py": "sizes, means and interpolation",
    "models/checkpoint_file.py": "whether the members of an archive of weights are whole; PyTorch reads them",
    "experiments/reproduce/execute.py": "seconds",
    "training/weights_file.py": "training configurations, logs, labels and words",
    "training/train.py": "a precision",
    "training/class_names.py": "names of classes, which are only shown, from a file of a fixed name",
    "result/legacy_csv.py": "numbers and labels of units",
    "evaluation/label_files.py": "numbers and labels of units",
    "concepts/machine_masks.py": "labels of a segmenter and their IoU",
    "segmenters/label_tables.py": "names and categories of labels",
    "result/segmentation/composed_segmentation.py": "our own summary; its files have fixed names",
    "models/dictionaries/tensor_bytes.py": "the header of tensors that were just serialized",
    "models/dictionaries/foreign_dictionaries.py": "sizes and settings of an encoder",
    "models/dictionaries/saelens_folders.py": "settings of an encoder and the name of a layer, which is only shown",
    "dissect/segment/segment.py": "sizes of label maps",
    "evaluation/open_vocabulary/embedding_rows.py": "names that are only compared",
    "training/sparse_autoencoders/train_sae.py": "numbers of a training",
    "training/sparse_autoencoders/layer_cells.py": "a number of images",
    "experiments/interventions/intervention_files.py": "areas, units and names that are only shown",
}
PARSERS = re.compile(
    r"json\.loads?|\w+\.model_validate_json|csv\.\w*[rR]eader|zipfile\.ZipFile|read_(json|any_json|table|csv_rows)|fromstring"
)


def test_every_module_that_parses_a_manifest_is_tried_or_holds_no_names() -> None:
    root = Path(netdissect.__file__).parent
    parsing = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and PARSERS.fullmatch(ast.unparse(node.func))
    }
    assert parsing <= MANIFESTS.keys() | NAMELESS.keys()
