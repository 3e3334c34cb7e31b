"""Options as keywords: the names, types and defaults of the command line, and what becomes of a wrong one."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

import netdissect
import run_asserts
import strategies
from generated_pages import GENERATE
from netdissect.cli.app import app
from netdissect.config import PROTOCOLS, Assumed, DissectConfig, Execution, Protocol, RunRequest, StatisticsConfig
from netdissect.config_fields import Config, summary
from netdissect.dissect.compose.compose_options import ComposeOptions
from netdissect.dissect.segment.segment_options import SegmentOptions
from netdissect.dissect_options import DissectOptions
from netdissect.errors import ConceptsError, ConfigError
from netdissect.keywords import ConfigObjects, read_options
from networks import COVERAGE, SIDE, build, images

FUNCTIONS = [netdissect.dissect, netdissect.estimate, netdissect.dissect_shard, netdissect.dissect_on_ray]
CONFIGS = [DissectConfig, Protocol, StatisticsConfig, Assumed, Execution, RunRequest]
NOT_OF_A_FUNCTION = {
    "spec", "weights", "state_dict", "weights_seed", "input_size", "mean", "std", "interpolation",  # load_network
    "concepts", "layer", "out", "config", "trust_network", "threads", "shard", "ray", "help",
    "samples", "segmenter", "labels", "words", "min_score",  # segment_samples
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", images(), COVERAGE, image=(SIDE, SIDE))


def read(config: DissectConfig | None = None, execution: Execution | None = None, **options: Any) -> Any:
    """Return what is made of the options of one layer, or of a configuration."""
    layers = "conv5" if config is None else None
    return read_options(netdissect.dissect, options, ConfigObjects(layers, config, execution))


# Names


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_options_of_the_command_are_keywords_of_the_functions(function: Callable[..., Any]) -> None:
    commands = dict(GENERATE.leaf_commands(typer.main.get_command(app)))
    flags = [one.opts[0] for one in commands["netdissect", "run"].params if one.opts[0].startswith("--")]
    options = {flag.removeprefix("--").replace("-", "_") for flag in flags} - NOT_OF_A_FUNCTION
    keywords = inspect.signature(function).parameters
    assert {"max_images", "permutations", "holdout", "min_iou", "protocol", "activation_cache", "workers"} <= options
    assert options <= keywords.keys()
    assert list(keywords)[:2] == ["model", "data"]
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in [*keywords.values()][2:])


def test_editors_read_the_same_options_as_are_taken() -> None:
    text = Path(inspect.getfile(DissectOptions)).read_text(encoding="utf-8")
    assert text == GENERATE.dissect_options(), "run python docs/generate.py"
    parameters = inspect.signature(netdissect.dissect).parameters
    for name, kind in get_type_hints(DissectOptions).items():
        assert parameters[name].annotation == kind
        assert f'"""{GENERATE.option_leaves()[name][1].field.description.split()[0]}' in text


OBJECTS = {"result", "source", "out", "config", "data_root", "execution", "network", "progress"}


@pytest.mark.parametrize(
    ("function", "options", "text"),
    [
        (netdissect.compose, ComposeOptions, GENERATE.compose_options),
        (netdissect.segment, SegmentOptions, GENERATE.segment_options),
    ],
)
def test_editors_read_the_options_of_formulas_and_segmentations(
    function: Callable[..., Any], options: type, text: Callable[[], str]
) -> None:
    assert Path(inspect.getfile(options)).read_text(encoding="utf-8") == text(), "run python docs/generate.py"
    assert {*get_type_hints(options)} == {*inspect.signature(function).parameters} - OBJECTS


@pytest.mark.parametrize("function", FUNCTIONS)
def test_help_describes_every_parameter(function: Callable[..., Any]) -> None:
    text = inspect.getdoc(function) or ""
    entries = [line.partition(" : ")[0] for line in text.splitlines() if line and not line.startswith(" ")]
    described = {name.strip() for entry in entries for name in entry.split(",")}
    assert inspect.signature(function).parameters.keys() <= described
    assert 'permutations : Literal["auto"] | int, default 100\n    Repetitions of the permutation test' in text


@pytest.mark.parametrize("kind", CONFIGS)
def test_help_describes_every_field_of_a_configuration(kind: type[Config]) -> None:
    text = " ".join((inspect.getdoc(kind) or "").split())
    for name, field in kind.model_fields.items():
        assert f" {name} : " in text
        assert " ".join((field.description or "").split()) in text
    assert "Parameters" not in summary(kind)
    assert "Annotated" not in str(inspect.signature(kind))


# Values


def test_keywords_make_the_configuration_of_the_objects() -> None:
    config, execution = read(
        quantile=(0.01, 0.02), anchor="half-pixel", assume_layout="tokens:1", receptive_field=(1, 2, 3), min_iou="fdr",
        permutations=20, holdout=0.5, null="locations", sensitivity="standard", categories="object", max_images=7,
        cache_folder="cache", workers=3,
    )  # fmt: skip
    assert config == DissectConfig(
        layers=("conv5",),
        protocol=Protocol(name="paper+quantiles+anchor", quantiles=(0.01, 0.02), anchor="half-pixel"),
        statistics=StatisticsConfig(permutations=20, holdout=0.5, null="locations", sensitivity="standard"),
        assumed=Assumed(layout="tokens:1", receptive_field=(1, 2, 3)),
        min_iou="fdr", categories=("object",), max_images=7,
    )  # fmt: skip
    assert execution == Execution(cache_folder=Path("cache"), workers=3)
    assert read(protocol="lite")[0].protocol == PROTOCOLS["lite"]
    assert read(quantile=0.01)[0].protocol.quantiles == (0.01,)


def test_keywords_override_the_objects() -> None:
    base = DissectConfig(
        layers="conv4", protocol=PROTOCOLS["lite"], statistics=StatisticsConfig(holdout=0.5, bootstrap=9)
    )
    config, execution = read(base, Execution(workers=5, memory_mb=3), bootstrap=7, quantile=0.1, workers=1)
    assert config.statistics == StatisticsConfig(holdout=0.5, bootstrap=7)
    assert config.protocol == PROTOCOLS["lite"].model_copy(update={"name": "lite+quantiles", "quantiles": (0.1,)})
    assert execution == Execution(workers=1, memory_mb=3)
    assert read(base, max_images=None)[0] == base
    both = read_options(netdissect.dissect, {}, ConfigObjects(["conv5", "fc"], base, None))[0]
    assert both == base.model_copy(update={"layers": ("conv5", "fc")})
    assert read(base)[0] is base


def test_a_dissection_by_keywords_is_that_of_the_objects(root: Path) -> None:
    config = DissectConfig(
        layers="wide_relu", protocol=Protocol(name="paper+quantiles", quantiles=(0.2,)), max_images=5, sample_seed=3,
        statistics=StatisticsConfig(bootstrap=5),
    )  # fmt: skip
    expected = netdissect.dissect(build(), root, config=config)
    network = build()
    found = netdissect.dissect(
        network.module, root, layers="wide_relu", preprocessing=network.preprocessing, quantile=0.2, max_images=5,
        sample_seed=3, bootstrap=5, workers=1,
    )  # fmt: skip
    assert found.info.config == expected.info.config
    assert found.layer("wide_relu").units.equals(expected.layer("wide_relu").units)
    run_asserts.assert_same_run(netdissect.dissect(network, root, config=config), expected)


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_image": 3}, r"^netdissect\.dissect\(\) has no option 'max_image'\. Did you mean max_images=\.\.\.\? "
         r"Known: layers, preprocessing, config, execution, out, progress, basis, .*, checkpoint_seconds\.$"),
        ({"layer": "conv4"}, r"has no option 'layer'\. Did you mean layers="),
        ({"quantiles": 0.1}, r"has no option 'quantiles'\. Did you mean quantile="),
        ({"threads": 2}, r"has no option 'threads'.*call torch\.set_num_threads"),
        ({"weights": "x.pth"}, r"has no option 'weights'\. It belongs to netdissect\.load_network\.$"),
        ({"statistics": 3}, r"Pass the fields of StatisticsConfig as keywords of their own: bootstrap, holdout,"),
        ({"max_images": "many"}, r"^netdissect\.dissect\(\): max_images cannot be 'many': input should be a valid"),
        ({"split": "test"}, r"split cannot be 'test': input should be 'train' or 'val'\. See help\(netdissect\.dis"),
        ({"quantile": 2}, r"quantile cannot be 2: input should be less than 1\. See"),
        ({"assume_layout": "HWC"}, r"assume_layout cannot be 'HWC': expected NCHW\|NHWC\|tokens\[:PREFIX\]\. See"),
        ({"permutations": "lots"}, r"permutations cannot be 'lots': input should be 'auto' or a valid integer"),
        ({"permutations": True}, r"permutations cannot be True: a number or a name was expected, and True"),
        ({"batch_size": True}, r"batch_size cannot be True: a number or a name"),
        ({"workers": 0}, r"workers cannot be 0: input should be greater than 0\. See"),
        ({"protocol": "litte"},
         r"the protocol cannot be 'litte': expected one of paper, original, lite, pnas2020\. Did you mean lite\?$"),
        ({"protocol": ["lite"]}, r"the protocol cannot be \['lite'\]: expected one of paper"),
    ],
)  # fmt: skip
def test_a_wrong_keyword_is_an_error_that_says_what_is_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(**options)
    assert caught.value.__cause__ is None


def test_wrong_objects_and_layers_are_errors_of_their_own(root: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"config is dict, but netdissect\.dissect\(\) takes a netdissect\.DissectConfig"
    ):
        netdissect.dissect(build(), root, config={"layers": "conv5"})  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match=r"execution is DissectConfig, but netdissect\.estimate\(\) takes a netdissect\.Ex"
    ):
        netdissect.estimate(build(), root, layers="fc", execution=DissectConfig(layers="fc"))  # type: ignore[arg-type]
    with pytest.raises(ConceptsError, match=r"^no category is chosen: categories are \(\)\. Name one or more of"):
        netdissect.dissect(build(), root, layers="fc", categories=[])
    with pytest.raises(ConfigError, match=r"layers is 5\. Expected names of modules"):
        netdissect.dissect(build(), root, layers=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"no layer was named\. Pass layers=\['layer4'\]"):
        netdissect.dissect(build(), root, max_images=3)
    with pytest.raises(ConfigError, match=r"^netdissect\.dissect_shard\(\) has no option 'adress'"):
        netdissect.dissect_shard(build(), root, shard="1/2", out=root / "run", layers="fc", adress=1)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"'2' is not a shard\. Expected I/N"):
        netdissect.dissect_shard(build(), root, shard="2", out=root / "run", layers="fc")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DissectConfig(layer="a"),
         r"^DissectConfig has no field 'layer'\. Did you mean layers=\.\.\.\? Known: layers, bases, .*, assumed\.$"),
        (lambda: DissectConfig(layers="a", permutations=3),
         r"no field 'permutations'\. Did you mean statistics=StatisticsConfig\(permutations=\.\.\.\)\?"),
        (lambda: DissectConfig(layers="a", quantile=3), r"Did you mean protocol=Protocol\(quantiles=\.\.\.\)\?"),
        (lambda: DissectConfig(), r"^layers is missing\. See help\(DissectConfig\)\.$"),
        (lambda: DissectConfig(layers="a", max_images=0), r"^max_images cannot be 0: input should be greater than 0"),
        (lambda: DissectConfig(layers="a", protocol="lite"), r"^protocol cannot be 'lite': input should be a valid"),
        (lambda: DissectConfig(layers="a", statistics={"bootstrp": 3}), r"^StatisticsConfig has no field 'bootstrp'"),
        (lambda: DissectConfig(layers="a", statistics={"bootstrap": -3}), r"^statistics\.bootstrap cannot be -3"),
        (lambda: DissectConfig(layers="a", statistics={"permutations": True}),
         r"^statistics\.permutations cannot be True: a number"),
        (lambda: Execution(worker=1), r"^Execution has no field 'worker'\. Did you mean workers=\.\.\.\?"),
        (lambda: Protocol(quantiles=(0.1, 3)), r"^quantiles cannot be 3: input should be less than 1\."),
    ],
)  # fmt: skip
def test_a_wrong_field_is_an_error_of_netdissect(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert caught.value.__cause__ is None
