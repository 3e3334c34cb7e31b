"""Options that hold several values."""

from collections.abc import Sequence

from netdissect.errors import ConfigError


def split_names(items: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return names given as repeated options, as a comma-separated list, or both."""
    return tuple(name for item in items for name in item.split(",") if name) if items else None


def split_numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return comma-separated numbers.

    Raises
    ------
    ConfigError
        If one is no number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} cannot be {text!r}: expected one number a channel, such as 0.5,0.5,0.5.") from None
