"""`netdissect experiment NAME ...`: one command for each experiment of the registry, with its inputs as options."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from netdissect.cli.console import console, progress_bars
from netdissect.cli_options import Typed, with_options
from netdissect.experiments.registry import REGISTRY, load_experiment

OutOption = Annotated[Path, typer.Option("--out", help="Folder of the result; an interrupted command there resumes.")]


class ExperimentGroup(TyperGroup):
    """Commands that are made when they are called, since their options need torch."""

    @property  # type: ignore[override]
    def commands(self) -> dict[str, Any]:
        """Every command with its options."""
        return {name: _command(name) for name in REGISTRY}

    @commands.setter
    def commands(self, _commands: dict[str, Any]) -> None:
        """Ignore what typer registers."""

    def list_commands(self, _ctx: Any) -> list[str]:
        """Return the names in the order of the registry."""
        return list(REGISTRY)

    def get_command(self, _ctx: Any, name: str) -> TyperCommand | None:
        """Return a command without its options, for the list of commands."""
        return TyperCommand(name, help=REGISTRY[name].summary) if name in REGISTRY else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that is called."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command if name is None else _command(name), rest


def _command(name: str) -> Any:
    single = typer.Typer(rich_markup_mode="markdown", add_completion=False)
    single.command(name, help=REGISTRY[name].summary)(_function(name))
    return get_command(single)


def _function(name: str) -> Callable[..., None]:
    from netdissect.experiments import make_function

    experiment = load_experiment(name)

    @with_options(experiment.inputs, experiment.defaults)
    def run(typed: Typed[Any], out: OutOption) -> None:
        with progress_bars() as progress:
            result = make_function.run_experiment(name, typed.model(), out, progress)
        folder = make_function.result_folder(name, out)
        screen = console()
        for line in ("", *result.conclusion_lines(), ""):
            screen.print(line, markup=False, highlight=False)
        screen.print(f"Figure {folder}/figure.svg (.pdf, .png), table {folder}/table.csv (.parquet).", soft_wrap=True)

    return run


app = typer.Typer(no_args_is_help=True, cls=ExperimentGroup)


@app.callback()
def _group() -> None:
    pass
