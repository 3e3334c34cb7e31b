"""How long the stages of an experiment take."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


@contextmanager
def timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add the wall time of what is done inside to `seconds[stage]`."""
    start = monotonic()
    yield
    seconds[stage] = round(seconds.get(stage, 0.0) + monotonic() - start, 1)
