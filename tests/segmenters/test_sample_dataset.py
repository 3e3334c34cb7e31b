"""Dissect a generator on its own samples: what is drawn, labeled, counted and refused."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import netdissect
from netdissect.cli.app import app
from netdissect.concepts import ConceptData
from netdissect.config import BackendName, DissectConfig, Execution, StatisticsConfig
from netdissect.errors import ConceptsError, ConfigError, LayerError, SegmenterError
from netdissect.models import Generator
from netdissect.segmenters import load_segmenter
from netdissect.segmenters.sample_cost import estimate_on_samples
from netdissect.segmenters.sample_dataset import SampleOptions, draw_samples, segment_samples
from netdissect.training import PaintSegmenter, save_generator, scene_generator
from netdissect.training.generators.scene_generator import SceneGenerator
from scene_generators import PAINT, TINY, tiny_generator

COUNT = 24


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("samples") / "samples"
    return segment_samples(tiny_generator(), load_segmenter(PAINT), out, SampleOptions(samples=COUNT), progress=False)


@pytest.fixture(scope="module")
def result(samples: Path) -> netdissect.Result:
    return netdissect.dissect(
        tiny_generator(), samples, layers="layer1", quantile=0.01, bootstrap=0, permutations=0, progress=False
    )


def test_the_data_set_holds_what_the_generator_draws_and_the_segmenter_labels(samples: Path) -> None:
    data = ConceptData.open(samples)
    drawn = tiny_generator().images(torch.tensor([[0, index] for index in range(COUNT)])).numpy()
    maps = PaintSegmenter().segment(drawn)[:, 0, 1::2, 1::2]
    names = np.array(["", "vegetation", "building", "vehicle"])
    name_of = {concept.label_id: concept.name for concept in data.concepts if concept.category == "object"}
    for row, entry in enumerate(data.rows):
        index = int(Path(entry.image).stem)
        stored = np.asarray(Image.open(data.image_path(row)))
        assert np.abs(stored.astype(int) - drawn[index].astype(int)).max() <= 1
        labels = data.labels(row).label_channels
        objects = np.where(np.isin(labels, [*name_of]), labels, 0).max(axis=0)
        np.testing.assert_array_equal(np.vectorize(lambda label: name_of.get(label, ""))(objects), names[maps[index]])
    assert len(data.rows) == COUNT


def test_an_estimate_on_samples_covers_their_drawing_and_labels(samples: Path) -> None:
    config = DissectConfig(layers=("layer1",), statistics=StatisticsConfig(bootstrap=0, permutations=0))
    cost = estimate_on_samples(
        tiny_generator(), load_segmenter(PAINT), SampleOptions(samples=50_000), config, Execution(), sample=COUNT
    )
    assert cost.images == cost.plan.layers[0].images == 50_000
    assert {"samples", "thresholds", "counting"} <= {*cost.seconds}
    bytes_of_one = sum(path.stat().st_size for path in samples.rglob("*.png")) / COUNT
    assert 0.5 < cost.disk_bytes / (50_000 * bytes_of_one) < 3


def test_planted_units_match_their_concepts_and_so_does_the_decoy(result: netdissect.Result) -> None:
    units = result.layer("layer1").units.sort("unit")
    planted = TINY.planted_units
    assert [units["object-label"][unit] for unit in planted.values()] == [*planted]
    assert units["object-label"][TINY.decoy] == "vegetation"
    assert units["object-iou"][TINY.decoy] == units["object-iou"][planted["vegetation"]]
    assert set(units.sort("object-iou", descending=True)["unit"][:4]) == {*planted.values(), TINY.decoy}


def test_counts_are_those_of_maps_that_cover_the_output_evenly(samples: Path, result: netdissect.Result) -> None:
    generator, data = tiny_generator(), ConceptData.open(samples)
    thresholds = result.layer("layer1").thresholds.sort("unit")["threshold"].to_numpy()
    expected = np.zeros((TINY.decoy + 1, len(data.concepts) + 1), np.int64)
    assert isinstance(generator.module, SceneGenerator)
    for row, entry in enumerate(data.rows):
        scene, style, things = generator.latent_input.latents(torch.tensor([[0, int(Path(entry.image).stem)]]))
        module = generator.module
        with torch.no_grad():
            code = module.start(torch.cat([module.scene(scene), style], 1)).relu().unflatten(1, (-1, 8, 8))
            maps = module.layer1(torch.cat([code, things], 1))
        fine = torch.nn.functional.interpolate(maps.double(), (32, 32), mode="bilinear", align_corners=False)[0]
        active = fine.float().numpy() > thresholds[:, None, None]
        for label in range(1, len(data.concepts) + 1):
            channels = data.labels(row).label_channels
            expected[:, label] += (active & (channels == label).any(axis=0)).sum(axis=(1, 2))
    scores = result.layer("layer1").scores.filter(pl.col("intersection") > 0)
    found = np.zeros_like(expected)
    for unit, label, intersection in scores.select("unit", "label_id", "intersection").iter_rows():
        found[unit, label] = intersection
    np.testing.assert_array_equal(found[TINY.units :], expected[TINY.units :])
    assert expected[TINY.units :].sum() > 0


def test_the_run_says_that_its_cells_cover_the_output_and_that_this_was_checked(result: netdissect.Result) -> None:
    assert result.info.config.assumed.receptive_field == "half-pixel"
    assert result.info.layers[0].field is None
    assert result.info.layout_checks is not None
    assert result.info.layout_checks["layer1"].verdict == "confirmed"


def test_shards_of_samples_are_merged_into_the_counts_of_the_whole(
    samples: Path, result: netdissect.Result, tmp_path: Path
) -> None:
    for _ in range(2):
        for shard in ("1/2", "2/2"):
            netdissect.dissect_shard(
                tiny_generator(), samples, layers="layer1", quantile=0.01, bootstrap=0, permutations=0, progress=False,
                out=tmp_path / "run", shard=netdissect.Shard.parse(shard), batch_size=16,
            )  # fmt: skip
        netdissect.merge_shards(tmp_path / "run")
    merged = netdissect.load_result(tmp_path / "run")
    assert merged.layer("layer1").scores.equals(result.layer("layer1").scores)


def test_what_was_drawn_before_an_interruption_is_not_drawn_again(tmp_path: Path) -> None:
    folder = tmp_path / ".hidden" / "samples"
    draw_samples(tiny_generator(), folder, SampleOptions(samples=3))
    first = folder / "0" / "000" / "000001.png"
    first.write_bytes(b"kept")
    draw_samples(tiny_generator(), folder, SampleOptions(samples=5))
    assert first.read_bytes() == b"kept"
    assert sorted(path.name for path in folder.rglob("*.png")) == [f"00000{index}.png" for index in range(5)]
    other = scene_generator(SceneGenerator(TINY.model_copy(update={"seed": 1})).eval())
    draw_samples(other, folder, SampleOptions(samples=2))
    assert first.read_bytes() != b"kept"
    assert len([*folder.rglob("*.png")]) == 2


@pytest.mark.parametrize("note", [b"", b'{"digest": "', b"[]"])
def test_a_note_of_what_was_drawn_that_was_not_written_whole_is_replaced(note: bytes, tmp_path: Path) -> None:
    folder = tmp_path / ".hidden" / "samples"
    for _ in range(2):
        draw_samples(tiny_generator(), folder, SampleOptions(samples=1))
        written = (folder.parent / "generator.json").read_bytes()
        (folder.parent / "generator.json").write_bytes(note)
    assert json.loads(written)["digest"] == tiny_generator().digest


def test_samples_of_another_generator_are_refused(samples: Path) -> None:
    other = scene_generator(SceneGenerator(TINY.model_copy(update={"seed": 1})).eval())
    with pytest.raises(
        ConceptsError, match=r"is not what 'scene generator' draws for this sample: they differ by up to"
    ):
        netdissect.dissect(other, samples, layers="layer1", progress=False)


def test_a_folder_of_samples_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConceptsError, match=r"writing the data set .*data failed: Not a directory .* run again"):
        segment_samples(tiny_generator(), load_segmenter(PAINT), tmp_path / "file" / "data", SampleOptions(samples=2))


def test_images_that_are_no_samples_are_refused(tmp_path: Path) -> None:
    data = netdissect.write_synthetic(tmp_path / "data", images=2, size=64, progress=False)
    with pytest.raises(ConceptsError, match=r"is no sample of a generator"):
        netdissect.dissect(tiny_generator(), data, layers="layer1", progress=False)


def test_a_finished_data_set_is_kept_only_for_the_same_samples(samples: Path) -> None:
    before = (samples / "index.csv").stat().st_mtime_ns
    segment_samples(tiny_generator(), load_segmenter(PAINT), samples, SampleOptions(samples=COUNT), progress=False)
    assert (samples / "index.csv").stat().st_mtime_ns == before
    with pytest.raises(ConceptsError, match=r"holds 24 images, not the 25 samples of seed 0"):
        segment_samples(tiny_generator(), load_segmenter(PAINT), samples, SampleOptions(samples=25), progress=False)


def test_a_generator_of_images_that_are_not_square_is_refused(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 96), torch.nn.Unflatten(1, (3, 4, 8)), torch.nn.Tanh())
    wide = netdissect.as_generator(module, lambda drawn: torch.randn(2, generator=drawn))
    with pytest.raises(ConfigError, match=r"draws images of 4 x 8 pixels. Expected square ones"):
        segment_samples(wide, load_segmenter(PAINT), tmp_path / "out", progress=False)


def test_the_command_draws_labels_and_dissects_samples(tmp_path: Path) -> None:
    generator = tiny_generator()
    assert isinstance(generator, Generator)
    assert isinstance(generator.module, SceneGenerator)
    path = save_generator(generator.module, tmp_path / "scenes.safetensors")
    command = ["run", str(path), "--layer", "layer1", "--out", str(tmp_path / "run"), "--samples", "8", "--segmenter"]
    rest = [PAINT, "--sample-seed", "5", "--protocol", "pnas2020", "--bootstrap", "0", "--permutations", "0"]
    for _ in range(2):
        done = CliRunner().invoke(app, [*command, *rest], catch_exceptions=False)
        assert done.exit_code == 0
    run = netdissect.load_result(tmp_path / "run")
    assert run.info.data.root == str((tmp_path / "run" / "samples").resolve())
    assert run.info.config.protocol.quantiles == (0.01,)
    assert {row.image for row in ConceptData.open(run.info.data.root).rows} == {
        f"samples/5/000/00000{index}.png" for index in range(8)
    }
    repeated = ["run", "--config", str(tmp_path / "run"), "--out", str(tmp_path / "again")]
    assert CliRunner().invoke(app, repeated, catch_exceptions=False).exit_code == 0
    again = netdissect.load_result(tmp_path / "again")
    assert again.layer("layer1").scores.equals(run.layer("layer1").scores)
    assert again.info.config == run.info.config


def test_what_is_said_about_a_segmenter_is_said_to_each_command(tmp_path: Path) -> None:
    module = tiny_generator().module
    assert isinstance(module, SceneGenerator)
    path = save_generator(module, tmp_path / "scenes.safetensors")
    (tmp_path / "words.txt").write_text("vehicle\n")
    said = ["--segmenter", PAINT, "--words", str(tmp_path / "words.txt")]

    def typed(*words: str) -> int:
        return CliRunner().invoke(app, [*words], catch_exceptions=False).exit_code

    run = ["run", str(path), "--layer", "layer1", "--out", str(tmp_path / "run"), "--bootstrap", "0", *said]
    assert typed(*run, "--permutations", "0", "--samples", "8") == 0
    data = ConceptData.open(tmp_path / "run" / "samples")
    assert [concept.name for concept in data.concepts if concept.category == "object"] == ["vehicle"]
    intervene = ["intervene", str(tmp_path / "run"), "--concept", "vehicle", "--units", "top:1", "--random-sets", "1"]
    assert typed(*intervene, *said) == 0
    with pytest.raises(SegmenterError, match=r"labels or words have changed. .* with the --labels, --words"):
        typed(*intervene, "--trust-network")
    with pytest.raises(ConfigError, match=r"--words was given without --segmenter SPEC"):
        typed(*intervene, *said[2:])


def test_samples_without_a_segmenter_and_of_a_classifier_are_refused(tmp_path: Path) -> None:
    out = ["--layer", "features.3", "--out", str(tmp_path / "run")]
    runner = CliRunner()
    with pytest.raises(ConfigError, match=r"--samples was given without --segmenter SPEC"):
        runner.invoke(app, ["run", "torchvision:squeezenet1_1", *out, "--samples", "8"], catch_exceptions=False)
    command = ["run", "torchvision:squeezenet1_1", "--weights", "none", *out, "--samples", "8", "--segmenter", PAINT]
    with pytest.raises(ConfigError, match=r"is no generator: it takes images"):
        runner.invoke(app, command, catch_exceptions=False)


def test_a_layer_whose_cells_are_elsewhere_on_the_output_is_refused(samples: Path) -> None:
    class Turned(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return maps.flip(3)

    original = tiny_generator()
    module = SceneGenerator(TINY)
    module.load_state_dict(original.module.state_dict())
    module.layer1 = torch.nn.Sequential(module.layer1, Turned())
    module.layer2 = torch.nn.Sequential(Turned(), module.layer2)
    with pytest.raises(LayerError, match=r"does not change the output at the cell: .* correlate at"):
        netdissect.dissect(scene_generator(module.eval()), samples, layers="layer1", progress=False)


@pytest.mark.parametrize("backend", ["compile", "onnxruntime", "openvino"])
def test_other_backends_leave_a_generator_to_pytorch_and_say_so(
    samples: Path, result: netdissect.Result, backend: BackendName
) -> None:
    with pytest.warns(UserWarning, match=rf"backend {backend}: .* take images, and '[^']*' takes latents"):
        other = netdissect.dissect(
            tiny_generator(), samples, layers="layer1", quantile=0.01, bootstrap=0, permutations=0, progress=False,
            backend=backend,
        )  # fmt: skip
    assert other.info.config.backend == "eager"
    assert other.layer("layer1").scores.equals(result.layer("layer1").scores)
