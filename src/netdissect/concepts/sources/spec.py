"""The words that name a source: ``KIND:PLACE[=CATEGORY][?OPTION=VALUE&OPTION=VALUE]``."""

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
    """What the words of a source say, before its kind makes sense of them.

    Attributes
    ----------
    type
        The word before the colon.
    location
        A folder, a file, or a name.
    category
        After the equals sign; None if there is none.
    options
        After the question mark.
    """

    type: str
    location: str
    category: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> "SourceSpec":
        """Take the words apart.

        A question mark begins options only if ``option=value`` follows; an equals sign begins a category only if
        no slash follows. Both may otherwise stand in a path.

        Raises
        ------
        SourceError
            If there is no kind, no place, or the category or an option is misspelled.
        """
        kind, colon, rest = text.partition(":")
        if not colon:
            raise SourceError(
                f"the source {text!r} cannot be read: it names no kind. Expected KIND:DIR or KIND:DIR=CATEGORY, "
                "e.g. masks:photos=object or folders:textures=texture."
            )
        rest, options = _split_options(rest, text)
        place, equals, category = rest.rpartition("=")
        if not equals or "/" in category or "\\" in category:
            place, category = rest, ""
        elif not CATEGORY_SPELLING.fullmatch(category):
            raise SourceError(
                f"the source {text!r} names the category {category!r}. Expected lower-case letters, digits and "
                "underscores, e.g. object, part, material, scene or texture."
            )
        if not place:
            raise SourceError(f"the source {text!r} names no folder. Expected {kind}:DIR or {kind}:DIR=CATEGORY.")
        return cls(kind, place, category or None, options)

    @property
    def folder(self) -> Path:
        """The place as a path."""
        return Path(self.location)

    @property
    def text(self) -> str:
        """The words, put together again."""
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        category = f"={self.category}" if self.category else ""
        return f"{self.type}:{self.location}{category}" + (f"?{options}" if options else "")

    def check(self, *options: str, category: bool = True) -> "SourceSpec":
        """Return the words if they hold no other option, and no category where the kind fixes its own.

        Raises
        ------
        SourceError
            If they do.
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
        """Return whether a yes-or-no option is yes; `default` unless given.

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
        """Return the value of an option that is one of `known`; None unless given.

        Raises
        ------
        SourceError
            If it is none of them.
        """
        value = self.options.get(option)
        if value is not None and value not in known:
            raise SourceError(f"the source {self.text!r} says {option}={value}. Expected {' or '.join(known)}.")
        return value

    def choices(self, option: str, known: Sequence[str]) -> tuple[str, ...] | None:
        """Return the values of an option, separated by commas; None unless given.

        Raises
        ------
        SourceError
            If one is none of `known`.
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
    place, mark, tail = rest.rpartition("?")
    if not mark or not OPTIONS.fullmatch(tail):
        return rest, {}
    pairs = [pair.partition("=") for pair in tail.split("&")]
    options = {key: value for key, _, value in pairs}
    if len(options) < len(pairs):
        raise SourceError(f"the source {text!r} gives an option twice. Expected each once.")
    return place, options
