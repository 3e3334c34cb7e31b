"""The segmenter that labeled a data set, loaded again as the data set records it."""

from netdissect.concepts.machine_masks import MachineMasks
from netdissect.errors import ConfigError, SegmenterError
from netdissect.segmenters.segmenter import Segmenter, load_segmenter

PYTHON = "python:"


def load_recorded(masks: MachineMasks | None, origin: str, *, trust: bool = False) -> Segmenter:
    """Load the segmenter whose masks are the labels of a data set.

    Parameters
    ----------
    masks
        What the data set records; None: nothing.
    origin
        What the data set is called in errors.
    trust
        Whether Python code that the record names may run.

    Raises
    ------
    ConfigError
        If no segmenter is recorded, or it is Python code that is not trusted.
    SegmenterError
        If it cannot be loaded, or is another one now.
    """
    if masks is None:
        raise ConfigError(f"{origin} does not say which segmenter labeled it. Expected it: --segmenter SPEC.")
    if masks.segmenter.startswith(PYTHON) and not trust:
        raise ConfigError(
            f"the segmenter of {origin} is {masks.segmenter}, and code that a file of others names is not run. If you "
            "trust it, name it yourself (--segmenter), or use --trust-network where that is an option."
        )
    segmenter = load_segmenter(masks.segmenter)
    if segmenter.digest != masks.segmenter_digest:
        raise SegmenterError(
            f"the segmenter {masks.segmenter} has the digest {segmenter.digest[:12]}, but that of {origin} had "
            f"{masks.segmenter_digest[:12]}: its weights, labels or words have changed. Restore it, or name the one "
            "whose areas are measured: --segmenter SPEC, with the --labels, --words and --min-score that it had."
        )
    return segmenter
