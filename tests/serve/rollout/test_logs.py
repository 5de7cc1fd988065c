"""What a log tells of an error, and what it never does."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable

import pytest
from pydantic import BaseModel
from ray.exceptions import RayTaskError
from sqlalchemy import text

from moderation.errors import ModelError
from moderation.storage import dialect
from serve.errors import DeadlineError
from serve.http.problems import Problem
from serve.rollout.logs import error_text, keep_discreet

SAID = "what nobody else may read"


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    """A logger as replicas have one, and what it writes."""
    logger, written = logging.Logger("a log"), io.StringIO()
    logger.addHandler(logging.StreamHandler(written))
    keep_discreet(logger)
    keep_discreet(logger)
    return logger, written


class Typed(BaseModel):
    number: int


def a_row_that_is_refused() -> None:
    engine = dialect.open_engine(dialect.parse("sqlite://", setting="a test"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE posts (text TEXT CHECK (length(text) < 3))"))
        connection.execute(text("INSERT INTO posts VALUES (:text)"), {"text": SAID})


def repeated() -> None:
    try:
        raise ValueError(SAID)
    except ValueError as error:
        raise RuntimeError(f"failed: {error}") from error


def in_a_group() -> None:
    raise ExceptionGroup(SAID, [ValueError(SAID), KeyError(SAID)])


def ask(error: Exception) -> None:
    raise error


BREAKS: list[Callable[[], object]] = [
    a_row_that_is_refused,
    repeated,
    in_a_group,
    lambda: json.loads(f'"{SAID}'),
    lambda: int(SAID),
    lambda: {}[SAID],  # type: ignore[misc]
    lambda: Typed.model_validate({"number": SAID}),
    lambda: f"{SAID}\ud800".encode(),
    lambda: ask(Problem(422, SAID)),
    lambda: ask(RayTaskError("score", f"ValueError: {SAID}", DeadlineError("late")).as_instanceof_cause()),
]


@pytest.mark.parametrize("breaks", BREAKS)
def test_an_error_is_logged_with_its_lines_and_kinds_and_without_what_it_repeats(
    log: tuple[logging.Logger, io.StringIO], breaks: Callable[[], object]
) -> None:
    logger, written = log
    try:
        breaks()
    except Exception as error:
        logger.exception("a post failed")
        kind = type(error).__name__
    said = written.getvalue()
    assert said.startswith("a post failed\n")
    assert kind in said
    assert "test_logs.py" in said
    assert SAID not in said


def test_a_cause_comes_first_and_a_database_says_what_it_refused() -> None:
    with pytest.raises(RuntimeError) as caught:
        repeated()
    said = error_text(caught.value)
    assert said.index("ValueError") < said.index("and then:") < said.index("RuntimeError")
    with pytest.raises(Exception, match="CHECK constraint failed") as refused:
        a_row_that_is_refused()
    assert SAID not in str(refused.value)  # also where nobody is discreet
    assert error_text(refused.value).endswith("IntegrityError SQLITE_CONSTRAINT_CHECK in INSERT INTO posts VALUES (?)")


def test_what_is_meant_for_operators_is_told() -> None:
    assert error_text(ModelError("the card names text-9")) == "ModelError: the card names text-9"
    assert error_text(FileNotFoundError(2, "No such file or directory", "/models")) == (
        "FileNotFoundError: No such file or directory /models"
    )


def test_an_error_that_causes_itself_is_told_once() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert error_text(first).count("ValueError") == 1
