"""All commands. An error prints one paragraph on standard error and exits with code 2, without a traceback."""

import gc
import logging
import sys
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperArgument, TyperOption

import netdissect
from netdissect.cli import (
    checks,
    concepts,
    demo,
    experiment,
    figure,
    merge_shards,
    networks,
    reproduce,
    results,
    run,
    serve,
)
from netdissect.cli.cache import commands as cache
from netdissect.cli.console import console
from netdissect.cli.dictionaries import train_sae
from netdissect.cli.evaluate import bases
from netdissect.cli.evaluate import commands as evaluate
from netdissect.cli.evaluate.label import label
from netdissect.cli.generators import intervene
from netdissect.cli.process_tuning import tune_malloc, tune_openmp
from netdissect.cli.segment import commands as segment
from netdissect.cli.usage_errors import OneValueCommand, commands_of, usage_error
from netdissect.errors import NetdissectError
from netdissect.process.interruption import spare_locks


def _display_type(parameter: Any, ctx: Any) -> str | None:
    flag = isinstance(parameter, TyperOption) and parameter.is_flag
    return None if flag or isinstance(parameter, TyperArgument) else parameter.metavar or parameter.display_type(ctx)


for parameter_class in (TyperArgument, TyperOption):
    # Typer would show the type of a flag as <bool>, and an argument's name twice.
    setattr(parameter_class, "display_type_rich", _display_type)  # noqa: B010 - mypy forbids to assign a method

INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    name="netdissect",
    help="Label the units of a vision network with the concepts that they detect.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
app.add_typer(concepts.app, name="concepts", help="Build, download and inspect data sets with labeled concepts.")
app.add_typer(experiment.app, name="experiment", help="The experiments of the paper, one command each.")
app.add_typer(cache.app, name="cache", help="List and clear what runs keep for the next ones.")
app.command("demo")(demo.demo)
app.command("reproduce")(reproduce.reproduce)
app.command("layers")(networks.layers)
app.command("run")(run.run)
app.command("estimate")(run.estimate)
app.command("show")(results.show)
app.command("count")(results.count)
app.command("export")(results.export)
app.command("compose")(results.compose)
app.command("segment")(segment.segment)
app.command("evaluate")(evaluate.evaluate)
app.command("evaluate-bases")(bases.evaluate_bases)
app.command("label")(label)
app.command("report")(results.report)
app.command("serve")(serve.serve)
app.command("train-sae")(train_sae.train_sae)
app.command("intervene")(intervene.intervene)
app.command("merge-shards")(merge_shards.merge)
app.add_typer(figure.app, name="figure", help="Draw figures for a paper: PDF, SVG or PNG.")
app.command("diff")(checks.diff)
app.command("check")(checks.check)
app.command("verify")(checks.verify)
for command in commands_of(app):
    command.cls = OneValueCommand


def _print_version(requested: bool) -> None:
    if requested:
        console().print(netdissect.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


class _LogPrinter(logging.Handler):
    """Print the log of the library on standard error."""

    def __init__(self, errors: Console) -> None:
        super().__init__(logging.INFO)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        if record.name.startswith("netdissect"):
            self._errors.print(f"[dim]{escape(record.getMessage())}[/]")


def _call() -> int:
    """Call the command that was typed, and return its exit code."""
    try:
        return app(prog_name="netdissect", standalone_mode=False) or 0
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # the help has been printed
            return 2
        raise usage_error(error) from error


def main() -> None:
    """Run the command line."""
    spare_locks()
    tune_malloc()
    tune_openmp()
    errors = Console(stderr=True, soft_wrap=True, emoji=False)  # python:factory:name is no emoji
    notes = logging.getLogger("netdissect")
    notes.setLevel(logging.INFO)
    notes.handlers[:] = [_LogPrinter(errors)]
    warnings.showwarning = lambda message, *_args, **_kwargs: errors.print(f"[yellow]note:[/] {escape(str(message))}")
    try:
        sys.exit(_call())
    except NetdissectError as error:
        errors.print(f"[bold red]{type(error).__name__}:[/] {escape(str(error))}")
        sys.exit(2)
    except MemoryError as error:
        errors.print(
            f"[bold red]MemoryError:[/] this machine has too little memory ({escape(str(error)) or 'for this run'}). "
            "Finished work is kept: close other programs or use a smaller --batch-size, and run the same command again."
        )
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # typer's exit code for Ctrl-C
            errors.print("interrupted: finished work is kept, the same command resumes")
        raise
    finally:
        gc.freeze()  # else Python collects the objects of torch at exit, which takes half a second
