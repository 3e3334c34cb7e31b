"""One run: from a network and a data set to a result.

run_dissection   cost_plan -> layout_checks, determinism_check -> passes (layer_state, forward, label_cache) ->
statistics -> result
work_dir         checkpoints, locks and logs of an unfinished run
distributed      shards, their merge, Ray
reload, verify   the network and data of a finished run; recomputed masks and files
"""

from netdissect.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
