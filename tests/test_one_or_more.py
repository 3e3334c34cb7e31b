"""Wherever several names are asked for, a single string is one name, and never its letters."""

from pathlib import Path

import pytest

import netdissect
import strategies
from netdissect.concepts import ConceptData
from netdissect.concepts.transfer.subset_merge import Selection
from netdissect.config import DissectConfig, Protocol, StatisticsConfig, one_or_more
from netdissect.errors import ConceptsError, LayerError, ResultError, SourceError
from netdissect.experiments.compare.experiment import CompareConfig, compare
from netdissect.experiments.counts import count_rows
from netdissect.experiments.rater_agreement.experiment import RaterAgreementConfig
from netdissect.experiments.reproduce.reproduce_config import ReproduceConfig
from netdissect.explorer.run_registry import RunRegistry
from netdissect.models import resolve_layers
from netdissect.result import Result, compare_results, paired_differences
from networks import COVERAGE, SIDE, build, images


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return strategies.write_broden(tmp_path_factory.mktemp("data") / "broden", images(), COVERAGE, image=(SIDE, SIDE))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    config = DissectConfig(
        layers="wide_relu",
        categories="object",
        protocol=Protocol(quantiles=(0.2,)),
        statistics=StatisticsConfig(bootstrap=5),
    )
    netdissect.dissect(build(), root, config=config, out=out)
    return out


@pytest.fixture(scope="module")
def result(run: Path) -> Result:
    return netdissect.load_result(run)


def test_a_run_of_one_layer_and_one_category_may_name_them_alone(root: Path, result: Result) -> None:
    assert list(result.layers) == ["wide_relu"]
    assert result.info.config.layers == ("wide_relu",)
    assert result.info.data.categories == ("object",)
    assert list(netdissect.dissect(build(), root, layers="deep_*").layers) == ["deep_relu"]
    with pytest.raises(LayerError, match="'nothing'"):
        netdissect.dissect(build(), root, layers="nothing")


def test_functions_take_one_name_for_a_list_of_one(root: Path, run: Path, result: Result, tmp_path: Path) -> None:
    assert [layer.name for layer in resolve_layers(build(), "deep_relu")] == ["deep_relu"]
    assert ConceptData.open(root, categories="part").categories == ("part",)
    with pytest.raises(ConceptsError, match="no category 'p-a-r-t'"):
        ConceptData.open(root, categories="p-a-r-t")
    assert set(count_rows(result, "wide_relu")["layer"]) == {"wide_relu"}
    assert netdissect.concepts.merge(tmp_path / "merged", str(root)).name == "merged"
    assert netdissect.concepts.merge(tmp_path / "again", root).name == "again"
    assert [[one.id for one in RunRegistry.open(given)] for given in (str(run), run)] == [["run"], ["run"]]
    assert compare(str(run), CompareConfig(), out=tmp_path).table["network"].unique().to_list() == ["tiny"]
    with pytest.raises(ResultError, match=f"{run} holds no finished shard"):
        netdissect.merge_shards(run, str(run))


def test_configurations_take_one_name_for_a_list_of_one(run: Path) -> None:
    measured = DissectConfig(layers="conv5")
    assert measured.layers == ("conv5",)
    assert Selection(categories="object", concepts="car").concepts == ("car",)
    assert CompareConfig(layers="conv5", expected="a").layers == ("conv5",)
    assert DissectConfig(layers="conv5", bases="pca").bases == ("pca",)
    assert RaterAgreementConfig(layers="conv5").layers == ("conv5",)
    asked = ReproduceConfig(names="torchvision:alexnet", layers="features.10")
    assert (asked.names, asked.layers) == (("torchvision:alexnet",), ("features.10",))
    assert one_or_more({"a": 1}) == ("a",)


def test_names_of_runs_are_as_many_as_the_runs(result: Result, tmp_path: Path) -> None:
    page = netdissect.report(result, tmp_path / "report", names="my run").read_text()
    assert "my run" in page
    with pytest.raises(ResultError, match=r"2 names \(a, b\) were given for 1 run"):
        netdissect.report(result, tmp_path / "report", names=["a", "b"])
    with pytest.raises(ResultError, match=r"1 names \(ab\) were given for 2 runs"):
        netdissect.plots.concept_scatter(result, result, names="ab")
    with pytest.raises(ResultError, match=r"1 names \(ab\) were given for 2 runs"):
        netdissect.plots.layers([result, result], names="ab")


@pytest.mark.parametrize("layers", ["wide_relu", ["wide_relu"], ("wide_relu", "wide_relu"), "ab", [("a", "b", "c")]])
def test_where_pairs_of_layers_are_expected_names_are_refused(result: Result, layers: object) -> None:
    for function in (compare_results, paired_differences):
        with pytest.raises(ResultError, match="Expected pairs of a layer on the left and one on the right"):
            function(result, result, layers=layers)


def test_a_source_in_words_is_refused_with_what_makes_it_one(tmp_path: Path) -> None:
    for sources in ("masks:DIR", ["masks:DIR"]):
        with pytest.raises(SourceError, match=r"netdissect\.parse_source\('masks:DIR'\)"):
            netdissect.build_dataset(tmp_path / "out", sources)
