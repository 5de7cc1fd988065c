"""Every error that Seawall raises on purpose; `tests/test_architecture.py` keeps the drawing true.

SeawallError
├── ConfigError               a topology, policy or setting is wrong; names the field's path
├── ModelError                a model folder cannot be loaded, or does not fit what it is asked
├── ConflictError             the ledger holds something newer, or something else under the same name
├── NotFoundError             nothing is recorded under that name
├── RegistryError             MLflow does not hold what was asked for
├── LedgerError               the ledger cannot be reached, or fails
├── NotEnoughDataError        too few rows to say anything
├── MediaUnavailableError     the store of images and videos cannot be reached, or fails
├── FeaturesUnavailableError  the store of online features cannot be reached, or fails
├── TooManyGroupsError        a measurement would have more groups than may be asked for
├── ServiceError              the running service did not answer, or did not become ready
├── QueueFullError            more wait than may, or for longer
│   └── ClientShareError      one client's own items are what fills its share of the queue
├── DeadlineError             nobody waits for the answer any more
├── NoAnswerError             a model gave no answer to a request that is nothing without it
├── WorkerError               a process that decodes media is of no more use
│   ├── Died                  it ended
│   ├── Late                  it takes longer than it may
│   └── Garbled               it says what is no answer
└── QuotingError              its text may quote what came from outside
    ├── Problem               a request is answered with a problem (RFC 9457)
    ├── RefusedError          a request is refused in OpenAI's shape
    ├── PerspectiveError      a request is refused in Perspective's shape
    ├── RefusedMediumError    a post holds a medium that is refused
    ├── _NotReadError         a medium is not read from its `uri`
    └── Undecodable           a reader of videos cannot decode one
"""


class SeawallError(Exception):
    """Base of all errors meant for a user; its text says the value and the bound."""


class ConfigError(SeawallError):
    """A configuration file or setting is wrong.

    Args:
        path: where, as `file: field.subfield`.
        problem: what is wrong there, with the value and the bound.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class ModelError(SeawallError):
    """A model folder cannot be loaded, or does not fit what it is asked."""


class ConflictError(SeawallError):
    """The ledger holds something newer, or something else under the same name."""


class NotFoundError(SeawallError):
    """Nothing is recorded under that name."""


class RegistryError(SeawallError):
    """MLflow does not hold what was asked for."""


class LedgerError(SeawallError):
    """The ledger cannot be reached, or fails."""


class NotEnoughDataError(SeawallError):
    """Too few rows to say anything."""


class MediaUnavailableError(SeawallError):
    """The store of images and videos cannot be reached, or fails; nothing is decided about what it does not hold."""


class FeaturesUnavailableError(SeawallError):
    """The store of online features cannot be reached, or fails; posts can be decided without it."""


class TooManyGroupsError(SeawallError):
    """A measurement would have more groups than may be asked for.

    Args:
        detail: what was asked for, with the value and the bound.
        bound: groups.
    """

    def __init__(self, detail: str, bound: int) -> None:
        super().__init__(detail)
        self.bound = bound


class ServiceError(SeawallError):
    """The running service did not answer, or did not become ready."""


class QuotingError(SeawallError):
    """Its text may quote what came from outside, so whoever asked is told it, and no log is."""
