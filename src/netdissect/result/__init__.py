"""The typed result of one run.

result              RunInfo, LayerResult, Result and their tables (schema, statistics_schema, tables)
files               the run folder: save_result, load_result, repair; run_config, folder_lock
compare             two runs by concept; run_differences: intervals and permutation null of the difference
queries             detectors, detected concepts and best scores of a run
requirements        conditions that a run must meet; invariants: laws that every run obeys
legacy_csv, published_counts   tables of other programs
"""

from netdissect.result.compare import Comparison, compare_results
from netdissect.result.files import load_result, save_result
from netdissect.result.legacy_csv import PublishedTable, read_published, write_published
from netdissect.result.queries import cell_correlations, concept_shares, image_means
from netdissect.result.requirements import DetectorCriteria, Requirement, check_result, parse_requirement
from netdissect.result.result import (
    BackendCheck,
    DataInfo,
    Environment,
    LayerCount,
    LayerInfo,
    LayerResult,
    LayoutCheckInfo,
    NetworkInfo,
    Result,
    RunInfo,
)
from netdissect.result.run_differences import (
    PairedDifference,
    count_difference,
    mean_paired_difference,
    paired_differences,
)
from netdissect.result.summary import difference_sentence

__all__ = [
    "BackendCheck",
    "Comparison",
    "DataInfo",
    "DetectorCriteria",
    "Environment",
    "LayerCount",
    "LayerInfo",
    "LayerResult",
    "LayoutCheckInfo",
    "NetworkInfo",
    "PairedDifference",
    "PublishedTable",
    "Requirement",
    "Result",
    "RunInfo",
    "cell_correlations",
    "check_result",
    "compare_results",
    "concept_shares",
    "count_difference",
    "difference_sentence",
    "image_means",
    "load_result",
    "mean_paired_difference",
    "paired_differences",
    "parse_requirement",
    "read_published",
    "save_result",
    "write_published",
]
