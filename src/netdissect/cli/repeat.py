"""`--config`: a run's own configuration as defaults of every option, which options given beside it override."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from netdissect.config import PROTOCOLS, SENSITIVITY_QUANTILES, Assumed, NetworkSource, Protocol, StatisticsConfig
from netdissect.errors import ConfigError


def _as_defaults(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        from netdissect.result.run_config import read_config

        asked = read_config(path)
        if asked.network is None:
            raise ConfigError(
                f"the network of {path} was made in Python: nothing says where to load it from. Expected one that "
                "'netdissect run' loaded; repeat this run from Python."
            )
        if asked.concepts is None:
            raise ConfigError(
                f"the images of {path} were chosen in Python: nothing says how to choose them again. Repeat this run "
                "from Python with the same ConceptData."
            )
        config, source = asked.config, asked.network
        context.default_map = {
            "network": partial(_trusted, context, path, source),
            "concepts": asked.concepts,
            "layer": list(config.layers),
            "weights": source.weights,
            "state_dict": source.state_dict,
            "weights_seed": source.weights_seed,
            "size": source.size,
            "mean": _numbers(source.mean),
            "std": _numbers(source.std),
            "interpolation": source.interpolation,
            "assume_layout": config.assumed.layout,
            "receptive_field": _field(config.assumed),
            "min_iou": config.min_iou,
            "categories": None if config.categories is None else list(config.categories),
            "split": config.split,
            "max_images": config.max_images,
            "sample_seed": config.sample_seed,
            "batch_size": config.batch_size,
            "device": config.device,
            "precision": config.precision,
            "backend": config.backend,
            "layout_check": config.layout_check,
            "force": config.force,
            "allow_nondeterministic": config.allow_nondeterministic,
            "top_images": config.top_images,
            "activation_cache": asked.execution.activation_cache,
            "label_cache": str(asked.execution.label_cache).lower()
            if asked.execution.label_cache is None
            else str(asked.execution.label_cache),
            "workers": asked.execution.workers,
            "threads": asked.threads,
            **_statistics(config.statistics),
            **_protocol(config.protocol),
        }
    return path


def _trusted(context: typer.Context, path: Path, source: NetworkSource) -> str:
    """Return the network that a file names: asked for only where the user named none himself."""
    from netdissect.dissect.reload import why_not_loaded

    reason = why_not_loaded(source, trust_network=context.params["trust_network"])
    if reason is not None:
        raise ConfigError(
            f"{path}: {reason}. If you trust whoever made it, name the network yourself (netdissect run {source.spec} "
            "--config ...), or say --trust-network."
        )
    return source.spec


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=_as_defaults,
        metavar="FILE_OR_RUN",
        help="Repeat the run of this config.json or run folder; options given beside it override.",
    ),
]


def _field(assumed: Assumed) -> str | None:
    field = assumed.receptive_field
    return _numbers(field) if isinstance(field, tuple) else field


def _numbers(numbers: tuple[float, ...] | None) -> str | None:
    return None if numbers is None else ",".join(map(repr, numbers))


def _statistics(statistics: StatisticsConfig) -> dict[str, Any]:
    if statistics.sensitivity not in ((), SENSITIVITY_QUANTILES):
        raise ConfigError(
            f"the run was asked for the quantiles {', '.join(map(str, statistics.sensitivity))} beside its own, which "
            "the command line cannot. Repeat it from Python."
        )
    return {
        "bootstrap": statistics.bootstrap,
        "holdout": statistics.holdout,
        "sensitivity": bool(statistics.sensitivity),
        "extra_metrics": statistics.extra_metrics,
        "permutations": str(statistics.permutations),
        "null": statistics.null,
        "stats_seed": statistics.stats_seed,
    }


def _protocol(protocol: Protocol) -> dict[str, Any]:
    """Say a protocol as its name and single choices; all are given, because those of the name change nothing."""
    name = protocol.name.partition("+")[0]
    if name not in PROTOCOLS:
        raise ConfigError(
            f"the run followed the protocol {protocol.name!r}, which has no name here. Expected one of "
            f"{', '.join(PROTOCOLS)} with single choices changed; repeat it from Python."
        )
    choices = protocol.model_dump()
    return {
        "protocol": name,
        "quantile": list(choices["quantiles"]),
        **{key: choices[key] for key in choices if key not in ("name", "quantiles")},
    }
