"""Every error that netdissect raises on purpose.

    NetdissectError
    ├── ConceptsError     a data set is missing, unreadable or contradicts itself
    │   └── SourceError   labeled images that `concepts build` cannot turn into a data set
    ├── NetworkError      a network or its preprocessing cannot be made
    │   ├── CheckpointError   a weights file is missing, foreign, damaged or unsafe
    │   ├── LayerError        a layer does not exist or cannot be dissected
    │   ├── BackendError      a backend cannot run a network; eager can
    │   └── SegmenterError    a segmenter cannot be loaded, or its labels are not known
    ├── ActivationError   a layer's output holds NaN or infinity, or changes its shape
    ├── ShapeError        arrays that belong together do not agree
    ├── ConfigError       options that contradict each other
    ├── ResultError       a run or result file is missing, foreign, damaged or in the way
    ├── MissingExtraError     a package that an extra installs cannot be imported
    └── RequestError      what the explorer was asked for cannot be given

A message says what was seen, what was expected and what to do, in one paragraph. The command line
prints it without a traceback and exits with code 2.
"""


class NetdissectError(Exception):
    """Base class: something the caller can mend."""


class ConceptsError(NetdissectError):
    """A concept data set is missing, unreadable or contradicts itself."""


class SourceError(ConceptsError):
    """Labeled images that cannot be turned into a data set."""


class NetworkError(NetdissectError):
    """A network or its preprocessing cannot be made."""


class CheckpointError(NetworkError):
    """A weights file is missing, foreign, damaged or unsafe to load."""


class LayerError(NetworkError):
    """A layer does not exist or cannot be dissected."""


class BackendError(NetworkError):
    """A backend of the forward pass cannot run a network; PyTorch itself can."""


class SegmenterError(NetworkError):
    """A segmenter cannot be loaded, its labels are not known, or it labels nothing."""


class ActivationError(NetdissectError):
    """A layer's output holds NaN or infinity, or changes its shape between images."""


class ShapeError(NetdissectError):
    """Arrays that belong together do not agree."""


class ConfigError(NetdissectError):
    """Options that contradict each other or lie outside their range."""


class ResultError(NetdissectError):
    """A run or result file is missing, foreign, damaged or in the way."""


class MissingExtraError(NetdissectError):
    """A package that an extra installs cannot be imported."""


class RequestError(NetdissectError):
    """What the explorer was asked for cannot be given.

    Parameters
    ----------
    message
        What was seen, what was expected, what to do.
    status
        Of the HTTP answer.
    """

    def __init__(self, message: str, status: int = 404) -> None:
        super().__init__(message)
        self.status = status
