"""Network Dissection: say what the single units of a vision network have learned.

    concepts -> models -> sweep -> score -> result -> dissect -> experiments -> show -> serve -> cli

Names are loaded when they are first used, so that reading a result never waits for torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netdissect import experiments as experiments
    from netdissect.concepts import ConceptData as ConceptData
    from netdissect.concepts.build import build_dataset as build_dataset
    from netdissect.concepts.combine import Selection as Selection
    from netdissect.concepts.combine import merge as merge
    from netdissect.concepts.combine import subset as subset
    from netdissect.concepts.download import download as download
    from netdissect.concepts.inspect import inspect_dataset as inspect_dataset
    from netdissect.concepts.render import WriteOptions as WriteOptions
    from netdissect.concepts.sheet import contact_sheet as contact_sheet
    from netdissect.concepts.sources import parse_source as parse_source
    from netdissect.concepts.synthetic import write_synthetic as write_synthetic
    from netdissect.config import PROTOCOLS as PROTOCOLS
    from netdissect.config import Assumed as Assumed
    from netdissect.config import DissectConfig as DissectConfig
    from netdissect.config import Execution as Execution
    from netdissect.config import Protocol as Protocol
    from netdissect.dissect import dissect as dissect
    from netdissect.dissect.cluster import dissect_on_ray as dissect_on_ray
    from netdissect.dissect.merge import merge_parts as merge_parts
    from netdissect.dissect.prediction import Prediction as Prediction
    from netdissect.dissect.prediction import predict as predict
    from netdissect.dissect.shards import Shard as Shard
    from netdissect.dissect.shards import dissect_shard as dissect_shard
    from netdissect.dissect.verify import repair as repair
    from netdissect.dissect.verify import verify_data as verify_data
    from netdissect.dissect.verify import verify_sample as verify_sample
    from netdissect.errors import NetdissectError as NetdissectError
    from netdissect.models import Network as Network
    from netdissect.models import Preprocessing as Preprocessing
    from netdissect.models import list_layers as list_layers
    from netdissect.models import load_network as load_network
    from netdissect.result import LayerCount as LayerCount
    from netdissect.result import Result as Result
    from netdissect.result import check_result as check_result
    from netdissect.result import compare_results as compare_results
    from netdissect.result import load_result, save_result
    from netdissect.result import paired_differences as paired_differences
    from netdissect.result import parse_requirement as parse_requirement
    from netdissect.result import read_published as read_published
    from netdissect.result import write_published as write_published
    from netdissect.result.invariants import check_invariants as check_invariants
    from netdissect.score import count_detectors as count_detectors
    from netdissect.serve import serve as serve
    from netdissect.show import plot as plot
    from netdissect.show import report as report
    from netdissect.show import tables as tables

if TYPE_CHECKING:
    load, save = load_result, save_result

__version__ = version("netdissect")

_HOME = {
    "ConceptData": "netdissect.concepts",
    "DissectConfig": "netdissect.config",
    "Execution": "netdissect.config",
    "NetdissectError": "netdissect.errors",
    "Network": "netdissect.models",
    "PROTOCOLS": "netdissect.config",
    "Assumed": "netdissect.config",
    "Prediction": "netdissect.dissect.prediction",
    "Preprocessing": "netdissect.models",
    "Protocol": "netdissect.config",
    "LayerCount": "netdissect.result",
    "Result": "netdissect.result",
    "Shard": "netdissect.dissect.shards",
    "Selection": "netdissect.concepts.combine",
    "WriteOptions": "netdissect.concepts.render",
    "build_dataset": "netdissect.concepts.build",
    "check_invariants": "netdissect.result.invariants",
    "check_result": "netdissect.result",
    "compare_results": "netdissect.result",
    "contact_sheet": "netdissect.concepts.sheet",
    "dissect_on_ray": "netdissect.dissect.cluster",
    "dissect_shard": "netdissect.dissect.shards",
    "count_detectors": "netdissect.score",
    "download": "netdissect.concepts.download",
    "inspect_dataset": "netdissect.concepts.inspect",
    "list_layers": "netdissect.models",
    "load": "netdissect.result:load_result",
    "load_network": "netdissect.models",
    "merge": "netdissect.concepts.combine",
    "merge_parts": "netdissect.dissect.merge",
    "parse_requirement": "netdissect.result",
    "paired_differences": "netdissect.result",
    "parse_source": "netdissect.concepts.sources",
    "plot": "netdissect.show",
    "predict": "netdissect.dissect.prediction",
    "read_published": "netdissect.result",
    "repair": "netdissect.dissect.verify",
    "report": "netdissect.show",
    "save": "netdissect.result:save_result",
    "subset": "netdissect.concepts.combine",
    "tables": "netdissect.show",
    "verify_data": "netdissect.dissect.verify",
    "verify_sample": "netdissect.dissect.verify",
    "write_published": "netdissect.result",
    "write_synthetic": "netdissect.concepts.synthetic",
}

_ROOMS = ("concepts", "models", "sweep", "score", "result", "dissect", "experiments", "show", "serve")

__all__ = [*_HOME, "dissect", "serve"]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"netdissect.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'netdissect' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, *_ROOMS, "__version__"])
