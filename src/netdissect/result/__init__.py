"""The typed result of one run, and the tables that earlier programs wrote."""

from netdissect.result.files import load_result, save_result
from netdissect.result.published import PublishedTable, read_published, write_published
from netdissect.result.run import (
    DataInfo,
    Environment,
    LayerCount,
    LayerInfo,
    LayerResult,
    NetworkInfo,
    Result,
    RunInfo,
)

__all__ = [
    "DataInfo",
    "Environment",
    "LayerCount",
    "LayerInfo",
    "LayerResult",
    "NetworkInfo",
    "PublishedTable",
    "Result",
    "RunInfo",
    "load_result",
    "read_published",
    "save_result",
    "write_published",
]
