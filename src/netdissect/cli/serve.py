"""`netdissect serve`: the explorer of finished runs in a browser."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from platformdirs import user_cache_path

import netdissect
from netdissect.errors import ConfigError

if TYPE_CHECKING:
    from netdissect.evaluation.open_vocabulary.embedding_source import EmbeddingSource


def serve(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Folders of finished runs. Default: those of --training."),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Default: 8461, or the next free one; 0: any.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option("--data-root", help="Data set folder, if it was moved.")] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            metavar="[RUN=]NETWORK",
            help=(
                "Network of a run that cannot load it again, such as python:my_module:build or NETWORK@FILE; of "
                "several runs RUN=NETWORK, repeated. It is compared with the run."
            ),
        ),
    ] = None,
    segmenter: Annotated[
        list[str] | None,
        typer.Option(
            "--segmenter",
            metavar="[RUN=]SPEC",
            help=(
                "Segmenter that measures concepts in changed samples of a generator; of several runs RUN=SPEC, "
                "repeated. Default: the one that labeled the samples, unless it is python: code."
            ),
        ),
    ] = None,
    ratings: Annotated[
        Path | None, typer.Option("--ratings", help="SQLite file of ratings; without it, the rating page is off.")
    ] = None,
    training: Annotated[
        list[Path] | None,
        typer.Option(
            "--training",
            metavar="FOLDER",
            help="Result of 'netdissect experiment training-dynamics': its --out folder; repeats.",
        ),
    ] = None,
    intervention: Annotated[
        list[Path] | None,
        typer.Option(
            "--intervention",
            metavar="FILE",
            help="What 'netdissect intervene RUN --json' printed, for a page of its areas and controls; repeats.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Label file of a single run, such as that of label: units are found by its words."
        ),
    ] = None,
    embeddings: Annotated[
        str | None,
        typer.Option(
            "--embeddings",
            metavar="SPEC",
            help="Model of images and words, as for label: sorts the units of a run with --moments by any word.",
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Allow a --host that other machines can reach.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Another host name of a public server.")
    ] = None,
) -> None:
    """Explore runs in a browser: thresholds, uploaded images, comparisons, ratings. Ctrl-C ends it."""
    shown = runs or _snapshots(training or ())
    source = None if embeddings is None else _source(embeddings)
    netdissect.serve(
        shown, data_root=data_root,
        network={run: netdissect.training.open_network(spec) for run, spec in _by_run("network", shown, network)},
        segmenter={run: netdissect.load_segmenter(spec) for run, spec in _by_run("segmenter", shown, segmenter)},
        ratings=ratings, training=training or (), interventions=intervention or (), labels=labels, embeddings=source,
        host=host, port=port, public=public, allow_hosts=allow_host or (), open_browser=open_browser,
    )  # fmt: skip


def _source(spec: str) -> "EmbeddingSource":
    from netdissect.evaluation.open_vocabulary.embedding_source import EmbeddingSource

    return EmbeddingSource(spec, cache_folder=user_cache_path("netdissect"))


def _snapshots(trainings: Sequence[Path]) -> list[Path]:
    """Return the runs of trainings; needed where none is named."""
    from netdissect.report.views.training_views import snapshot_runs

    runs = snapshot_runs(trainings)
    if not runs:
        where = f": {', '.join(map(str, trainings))} holds none in its folder 'runs'" if trainings else ""
        raise ConfigError(f"no run was named{where}. Expected RUN..., folders that 'netdissect run' wrote.")
    return runs


def _by_run(option: str, runs: Sequence[Path], texts: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Yield the run folders, as they were typed, with the specification that an option has for each."""
    done: set[Path] = set()
    for text in texts or ():
        name, separator, spec = text.partition("=")
        named = [run for run in runs if separator and name in (str(run), run.resolve().name)]
        run, spec = (named[0], spec) if len(named) == 1 else (runs[0], text)
        if (len(runs) > 1 and len(named) != 1) or run in done:
            raise ConfigError(
                f"--{option} {text!r} does not say of which run it is. Expected one {option} for a single run; of "
                f"several RUN={option.upper()} with RUN among {', '.join(map(str, runs))}, each once."
            )
        done.add(run)
        yield str(run), spec
