"""The specification of a source: ``TYPE:LOCATION[=CATEGORY][?OPTION=VALUE&OPTION=VALUE]``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netdissect.concepts.build.write_options import CATEGORY_SPELLING
from netdissect.errors import SourceError

OPTIONS = re.compile(r"[a-z_]+=[^&]*(?:&[a-z_]+=[^&]*)*")
YES, NO = ("yes", "true", "1"), ("no", "false", "0", "")


@dataclass(frozen=True)
class SourceSpec:
    """The parts of a source specification.

    Attributes
    ----------
    type
        Source type, before the colon.
    location
        A folder, a file, or a name.
    category
        Text after the equals sign; None if there is none.
    options
        Options after the question mark.
    """

    type: str
    location: str
    category: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "SourceSpec":
        """Parse a specification.

        A question mark begins options only if ``option=value`` follows. An equals sign begins a category only if no
        slash follows. Otherwise both are part of the path.

        Raises
        ------
        SourceError
            If there is no type or location, or the category or an option is misspelled.
        """
        source_type, colon, rest = text.partition(":")
        if not colon:
            raise SourceError(
                f"the source {text!r} cannot be read: it has no type. Expected TYPE:DIR or TYPE:DIR=CATEGORY, "
                "e.g. masks:photos=object or folders:textures=texture."
            )
        rest, options = _split_options(rest, text)
        location, equals, category = rest.rpartition("=")
        if not equals or "/" in category or "\\" in category:
            location, category = rest, ""
        elif not CATEGORY_SPELLING.fullmatch(category):
            raise SourceError(
                f"the source {text!r} names the category {category!r}. Expected lower-case letters, digits and "
                "underscores, e.g. object, part, material, scene or texture."
            )
        if not location:
            raise SourceError(
                f"the source {text!r} names no folder. Expected {source_type}:DIR or {source_type}:DIR=CATEGORY."
            )
        return cls(source_type, location, category or None, options)

    @property
    def folder(self) -> Path:
        """The location as a path."""
        return Path(self.location)

    @property
    def text(self) -> str:
        """The specification as one string."""
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        category = f"={self.category}" if self.category else ""
        return f"{self.type}:{self.location}{category}" + (f"?{options}" if options else "")

    def check(self, *options: str, category: bool = True) -> "SourceSpec":
        """Return the specification if it has no other options, and no category unless one is allowed.

        Raises
        ------
        SourceError
            If it has others.
        """
        if self.category and not category:
            raise SourceError(
                f"the source {self.text!r} names the category {self.category!r}, but {self.type}: says itself what is "
                f"an object, a part or a scene. Expected {self.type}:{self.location}; leave the category out."
            )
        if unknown := [key for key in self.options if key not in options]:
            known = f"one of {', '.join(options)}" if options else "none"
            raise SourceError(
                f"the source {self.text!r} has the option {unknown[0]!r}, which {self.type}: does not know. "
                f"Expected {known}; correct or remove it."
            )
        return self

    def flag(self, option: str, *, default: bool = False) -> bool:
        """Return whether a yes-or-no option is yes; `default` if it is not given.

        Raises
        ------
        SourceError
            If its value is neither.
        """
        value = self.options.get(option, "yes" if default else "no").lower()
        if value not in YES + NO:
            raise SourceError(f"the source {self.text!r} says {option}={value}. Expected {option}=yes or {option}=no.")
        return value in YES

    def choice(self, option: str, known: Sequence[str]) -> str | None:
        """Return the value of an option, which must be one of `known`; None if it is not given.

        Raises
        ------
        SourceError
            If the value is another one.
        """
        value = self.options.get(option)
        if value is not None and value not in known:
            raise SourceError(f"the source {self.text!r} says {option}={value}. Expected {' or '.join(known)}.")
        return value

    def choices(self, option: str, known: Sequence[str]) -> tuple[str, ...] | None:
        """Return the comma-separated values of an option; None if it is not given.

        Raises
        ------
        SourceError
            If a value is not in `known`.
        """
        if option not in self.options:
            return None
        values = tuple(value.strip() for value in self.options[option].split(",") if value.strip())
        if not values or any(value not in known for value in values):
            raise SourceError(
                f"the source {self.text!r} says {option}={self.options[option]}. Expected some of "
                f"{', '.join(known)}, separated by commas."
            )
        return values


def _split_options(rest: str, text: str) -> tuple[str, dict[str, str]]:
    location, mark, tail = rest.rpartition("?")
    if not mark or not OPTIONS.fullmatch(tail):
        return rest, {}
    pairs = [pair.partition("=") for pair in tail.split("&")]
    options = {key: value for key, _, value in pairs}
    if len(options) < len(pairs):
        raise SourceError(f"the source {text!r} gives an option twice. Expected each once.")
    return location, options
