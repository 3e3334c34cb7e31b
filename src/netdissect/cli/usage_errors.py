"""What cannot be parsed, as one paragraph like all errors: what was seen, what was expected and what to do."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperCommand, TyperOption
from typer.models import CommandInfo

from netdissect.close_matches import did_you_mean
from netdissect.counted import counted
from netdissect.errors import ConfigError


class OneValueCommand(TyperCommand):
    """A command whose options are typed once, unless they repeat: Typer would take the last value and drop others."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what was typed.

        Raises
        ------
        ConfigError
            If an option that takes one value was typed more often.
        """
        rest = super().parse_args(ctx, list(args))  # what is parsed is taken out of the list
        if ctx.resilient_parsing:  # a shell completes what is being typed
            return rest
        _, _, typed = self.make_parser(ctx).parse_args(list(args))
        for option, times in Counter(typed).items():
            if times > 1 and isinstance(option, TyperOption) and not (option.multiple or option.is_flag):
                name = max(option.opts, key=len)
                raise ConfigError(
                    f"{name} was given {counted(times, 'times')}, and {ctx.command_path} takes one value of it. "
                    "Expected one: run the command once for each value, or remove all but one."
                )
        return rest


def commands_of(app: typer.Typer) -> Iterator[CommandInfo]:
    """Yield the commands of a program and of its groups."""
    yield from app.registered_commands
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands_of(group.typer_instance)


def usage_error(error: typer.TyperException) -> ConfigError:
    """Return the error of the program for one of the parser."""
    context: Any = getattr(error, "ctx", None)
    path = "netdissect" if context is None else context.command_path
    return ConfigError(f"{_seen(error, context, path)} See {path} --help for what it takes.")


def _seen(error: typer.TyperException, context: Any, path: str) -> str:
    kind = type(error).__name__  # typer makes no other class public
    if kind == "NoSuchOption":
        name: str = getattr(error, "option_name", "")
        known = (one for parameter in context.command.params for one in (*parameter.opts, *parameter.secondary_opts))
        return f"{path} has no option {name}.{did_you_mean(name, known)}"
    if error.message.startswith("No such command "):
        name = error.message.split("'")[1]
        return f"{path} has no command {name}.{did_you_mean(name, context.command.list_commands(context))}"
    if kind == "MissingParameter":
        return f"{_parameter(error)} is missing."
    if isinstance(error, typer.BadParameter):
        return f"{_parameter(error)}{_value(error)}: {_sentence(error.message)}"
    return f"{path}: {_sentence(error.format_message())}"


def _parameter(error: typer.TyperException) -> str:
    """Return the option or argument of an error as it is typed."""
    parameter: Any = getattr(error, "param", None)
    if parameter is None:
        return str(getattr(error, "param_hint", None) or "a value")
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name)
    return str(max(parameter.opts, key=len))


def _value(error: typer.TyperException) -> str:
    """Return the value that was not allowed, if the types of the command refused it."""
    if not isinstance(error.__cause__, ValidationError):
        return ""
    return f" cannot be {error.__cause__.errors()[0]['input']!r}"


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".").removeprefix("Value error, ")
    return f"{text[:1].lower()}{text[1:]}."
