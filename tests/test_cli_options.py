"""Options made from the fields of a model: what they are called, take, say, and what becomes of what was typed."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.testing import CliRunner

from netdissect.cli_options import Typed, with_options
from netdissect.config import PROTOCOLS, Protocol, RunRequest
from netdissect.config_fields import Option, Values, leaves
from netdissect.errors import ConfigError


class Inner(BaseModel):
    """A nested model."""

    depth: int = Field(3, ge=1, lt=9, description="How deep.")
    names: Annotated[tuple[str, ...], Option("--name")] = Field((), description="Which.")
    files: tuple[Path, ...] | None = Field(None, description="Files; None: no file.")


class Outer(BaseModel):
    """What a command takes."""

    subject: Annotated[str, Option(argument=True)] = Field(description="Of what.")
    inner: Annotated[Inner, Option(panel="Inside")] = Field(default_factory=Inner)
    kind: Literal["plain", "none"] = Field("plain", description="Of which kind.")
    share: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="None: nothing.")
    quick: bool = Field(True, description="Whether quickly.")
    secret: Annotated[int, Option(hidden=True)] = 7


def typed(*words: object, defaults: Values | None = None, file: Values | None = None) -> Outer:
    """Return the model of a command line."""
    made: list[Outer] = []
    app = typer.Typer()

    @app.command()
    @with_options(Outer, defaults)
    def command(asked: Typed[Outer]) -> None:
        made.append(asked.model(file))

    outcome = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return made[0]


def test_what_is_not_typed_is_as_the_fields_say() -> None:
    assert typed("x") == Outer(subject="x")


def test_every_option_reaches_its_field() -> None:
    words = ("--depth", 4, "--name", "a,b", "--name", "c", "--files", "a,b", "--kind", "none", "--share", 0.5)
    assert typed("x", *words, "--no-quick") == Outer(
        subject="x", inner=Inner(depth=4, names=("a", "b", "c"), files=(Path("a,b"),)), kind="none", share=0.5,
        quick=False,
    )  # fmt: skip


def test_what_is_typed_goes_before_a_file_and_a_file_before_the_command() -> None:
    command, file = {"inner": {"depth": 5, "names": ("c",)}}, {"subject": "y", "inner": {"depth": 6}, "share": 0.5}
    assert typed("x", defaults=command).inner == Inner(depth=5, names=("c",))
    assert typed(defaults=command, file=file) == Outer(subject="y", inner=Inner(depth=6), share=0.5)
    told = typed("--name", "a", "--share", "none", "--name", "b", defaults=command, file=file)
    assert told == Outer(subject="y", inner=Inner(depth=6, names=("a", "b")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "--depth", "9"], "--depth cannot be '9': input should be less than 9"),
        (["x", "--depth", "deep"], "--depth cannot be 'deep': input should be a valid integer"),
        (["x", "--kind", "odd"], "--kind cannot be 'odd': input should be 'plain' or 'none'"),
        ([], "SUBJECT is missing"),
    ],
)
def test_a_wrong_value_is_named_by_its_option(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        typed(*words)


def test_help_says_types_ranges_and_defaults() -> None:
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @with_options(Outer, {"inner": {"depth": 5}})
    def command(asked: Typed[Outer]) -> None:
        """Do it."""

    text = " ".join(CliRunner().invoke(app, ["--help"], terminal_width=500).output.split())
    for words in (
        "How deep. Range: >= 1, < 9. Default: 5.", "Files. Default: no file.",
        "Default: nothing. Range: > 0, < 1.", "Of which kind. Default: plain.", "Of what. Required.",
        "--quick / --no-quick", "Whether quickly. Default: yes.",
    ):  # fmt: skip
        assert words in text, text
    assert "secret" not in text


def test_fields_of_a_nested_model_can_be_left_out_at_any_depth() -> None:
    class Without(BaseModel):
        config: Annotated[RunRequest, Option(without=("layers", "quantiles"))]

    flags = {leaf.flag for leaf in leaves(Without)}
    assert flags == {leaf.flag for leaf in leaves(RunRequest)} - {"--layer", "--quantile"}


def test_options_of_a_run_have_names_of_their_own_and_a_description() -> None:
    found = list(leaves(RunRequest))
    assert len({leaf.flag for leaf in found}) == len(found) > 40
    assert [leaf.flag for leaf in found if not leaf.field.description] == []


def test_a_protocol_is_a_name_with_single_choices_changed() -> None:
    lite = {"name": "lite", "quantiles": PROTOCOLS["lite"].quantiles}
    merged = {
        "other": Protocol.merge_options(PROTOCOLS["original"].model_dump(), {"name": "lite"}),
        "same choice": Protocol.merge_options({}, lite | {"restriction": "overlap"}),
        "kept": Protocol.merge_options(PROTOCOLS["lite"].model_dump(), {}),
    }
    assert {name: Protocol(**values) for name, values in merged.items()} == dict.fromkeys(merged, PROTOCOLS["lite"])
    changed = Protocol(**Protocol.merge_options({}, {"name": "lite", "quantiles": (0.1,), "threshold": "exact"}))
    assert changed == PROTOCOLS["lite"].model_copy(
        update={"name": "lite+quantiles+threshold", "quantiles": (0.1,), "threshold": "exact"}
    )
    own = PROTOCOLS["paper"].model_dump() | {"name": "mine"}
    assert Protocol.merge_options(own, {"threshold": "hazen"}) == own | {"threshold": "hazen"}
    with pytest.raises(ConfigError, match="the protocol cannot be 'mine': expected one of paper, original"):
        Protocol.merge_options({}, {"name": "mine"})
