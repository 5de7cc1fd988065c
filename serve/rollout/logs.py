"""What may stand in a log of an error: where it happened and of which kind, never what a post says or who wrote it.

An exception's text may hold either: a database repeats the row that it refused, a parser what it could not read, and
whoever raises another's error repeats its text.
"""

from __future__ import annotations

import logging
import traceback

from ray.exceptions import RayTaskError
from sqlalchemy.exc import DBAPIError

from moderation.errors import QuotingError, SeawallError

_HARMLESS = (SeawallError, ImportError, AttributeError, NameError)
"""Errors whose text is of code and configuration, unless they are a `QuotingError`."""
_LINKS = 8
"""That many errors of a chain are told."""


class Discreet(logging.Filter):
    """Tells an error as `told` does, whichever handler and formatter the record comes to."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the error out of a record, and leave its telling."""
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = error_text(record.exc_info[1])
            record.exc_info = None
        return True


def keep_discreet(logger: logging.Logger) -> None:
    """Tell errors so wherever this logger is used, in this process; twice is as once."""
    if not any(isinstance(found, Discreet) for found in logger.filters):
        logger.addFilter(Discreet())


def error_text(error: BaseException) -> str:
    """An error with what caused it, the first cause first: the lines of code, its kind, and what it says of itself."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain and len(chain) < _LINKS:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nand then:\n".join(_one(link) for link in reversed(chain))


def _one(error: BaseException) -> str:
    frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    about = _about(error)
    inner = (
        "".join(f"\n{error_text(part)}" for part in error.exceptions) if isinstance(error, BaseExceptionGroup) else ""
    )
    return f"{frames}{type(error).__name__}{f': {about}' if about else ''}{inner}"


def _about(error: BaseException) -> str:
    if isinstance(error, QuotingError):
        return ""
    if isinstance(error, _HARMLESS):
        # Of an error in another process Ray says the whole traceback, with the texts of whatever caused it.
        return str(error.cause if isinstance(error, RayTaskError) else error)
    if isinstance(error, OSError):
        return " ".join(str(part) for part in (error.strerror, error.filename) if part)
    if isinstance(error, DBAPIError):
        cause = error.orig
        codes = (getattr(cause, name, None) for name in ("sqlite_errorname", "sqlstate"))
        return " ".join([type(cause).__name__, *(str(code) for code in codes if code), f"in {error.statement}"])
    return ""
