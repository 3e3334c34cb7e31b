"""The options that say something about a segmenter, of every command that loads one."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import netdissect
from netdissect.errors import ConfigError

if TYPE_CHECKING:
    from netdissect.segmenters import Segmenter

LabelsOption = Annotated[
    Path | None,
    typer.Option("--labels", help="Names of the segmenter's classes: one a line, or CSV with name, value, category."),
]
WordsOption = Annotated[
    Path | None,
    typer.Option("--words", help="Words that a text-prompted segmenter searches for; of another one, labels to keep."),
]
MinScoreOption = Annotated[
    float | None,
    typer.Option(
        "--min-score", min=0, max=1, help="Pixels of a lower score are unlabeled. Default: 0; text-prompted: 0.5."
    ),
]


@dataclass(frozen=True)
class TypedSegmenter:
    """A segmenter as it was typed."""

    spec: str
    labels: Path | None
    words: Path | None
    min_score: float | None

    def load(self) -> "Segmenter":
        """Load it."""
        return netdissect.load_segmenter(self.spec, labels=self.labels, words=self.words, min_score=self.min_score)


def typed_segmenter(
    spec: str | None, labels: Path | None, words: Path | None, min_score: float | None
) -> TypedSegmenter | None:
    """Return the segmenter that was typed; None: no one was.

    Raises
    ------
    ConfigError
        If something is said about a segmenter that is not named.
    """
    if spec is not None:
        return TypedSegmenter(spec, labels, words, min_score)
    said = {"--labels": labels, "--words": words, "--min-score": min_score}
    given = [name for name, value in said.items() if value is not None]
    if given:
        raise ConfigError(f"{given[0]} was given without --segmenter SPEC. Expected the segmenter that it is for.")
    return None
