"""The words that may be labels: one a line of a text file."""

from collections.abc import Sequence
from pathlib import Path

from netdissect.config import one_or_more
from netdissect.errors import ConfigError
from netdissect.paths import check_regular

LONGEST_WORD = 300
MOST_BYTES = 64 * 2**20


def read_words(source: Sequence[str] | str | Path) -> tuple[str, ...]:
    """Return the words of a file, or check those that were given.

    Parameters
    ----------
    source
        A text file in UTF-8 with one word or phrase a line, empty lines ignored; or a sequence of words.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a word is empty, too long, or there twice. Spaces at the ends of a word do not
        count; case does.
    """
    if isinstance(source, str | Path):
        origin, lines = str(source), _lines(Path(source))
        numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    else:
        origin, numbered = "words", list(enumerate((_text(word).strip() for word in one_or_more(source)), 1))
    first: dict[str, int] = {}
    for number, word in numbered:
        if not word:
            raise ConfigError(f"{origin}: word {number} is empty. Expected a word or phrase; leave it out.")
        if len(word) > LONGEST_WORD or not word.isprintable():
            raise ConfigError(
                f"{origin}: word {number}, {word[:40]!r}, has {len(word)} characters or one that cannot be printed. "
                f"Expected a word or phrase of at most {LONGEST_WORD} printable characters a line."
            )
        if word in first:
            raise ConfigError(
                f"{origin}: {word!r} is word {first[word]} and word {number}. Expected each word once: of two equal "
                "words neither would be stable. Remove one."
            )
        first[word] = number
    if len(first) < 2:
        raise ConfigError(
            f"{origin} holds {len(first) or 'no'} word{'s' if not first else ''}. Expected at least two, one a line: "
            "the best of them is chosen."
        )
    return tuple(first)


def _lines(path: Path) -> list[str]:
    try:
        check_regular(path)
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} has more than {MOST_BYTES // 2**20} MB. Expected a list of words, one a line.")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no text in UTF-8 (byte {error.start} is none). Expected a list of words, one a line."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror}). Expected a text file of words, one a line."
        ) from error


def _text(word: object) -> str:
    if not isinstance(word, str):
        raise ConfigError(f"one of the words is a {type(word).__name__}. Expected text.")
    return word
