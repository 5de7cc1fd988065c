"""What the commands share: times, tables, errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from moderation import errors
from moderation.console import errors_told, moment, print_json, progress, show
from moderation.metrics import Interval


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T00:00Z", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T02:00:00+02:00", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24 00:00:00.5+00:00", datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=0.5)),
    ],
)
def test_a_time_with_its_offset_is_read(text: str, expected: datetime) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("yesterday", "time is 'yesterday'; it must be ISO 8601, such as 2026-11-24T00:00Z"),
        ("2026-13-01T00:00Z", "time is '2026-13-01T00:00Z'; it must be ISO 8601"),
        ("2026-11-24T00:00", "time '2026-11-24T00:00' has no offset; append Z for UTC"),
    ],
)
def test_a_time_that_is_none_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        moment(text)


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (Interval(None, None, None), "-"),
        (Interval(0.0, None, None), "0.000"),
        (Interval(0.5, 0.25, 0.75), "0.500 (0.250 to 0.750)"),
    ],
)
def test_an_interval_is_shown_and_null_is_not_zero(interval: Interval, shown: str) -> None:
    assert show(interval) == shown


@pytest.mark.parametrize("error", [errors.ConflictError("[bold]7[/] is taken"), ValueError("[bold]7[/] is taken")])
def test_an_error_for_people_ends_with_one_and_its_very_text(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, errors_told():
        raise error
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"error: {type(error).__name__}: [bold]7[/] is taken\n"


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (lambda folder: (folder / "run").mkdir(), "FileExistsError: {folder}/run: File exists"),
        (
            lambda folder: (folder / "no" / "ray.log").open("a"),
            "FileNotFoundError: {folder}/no/ray.log: No such file or",
        ),
        (
            lambda _: httpx.get("http://127.0.0.1:1/api", trust_env=False),
            "ServiceError: http://127.0.0.1:1/api does not answer: [Errno 111] Connection refused",
        ),
    ],
    ids=["there", "not there", "deaf"],
)
def test_what_a_disk_or_a_service_refuses_is_a_line_that_says_where(
    work: Callable[[Path], object], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit) as ended, errors_told():
        work(tmp_path)
    assert ended.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told.format(folder=tmp_path)}")


def test_an_error_of_ours_is_not_hidden() -> None:
    with pytest.raises(KeyError), errors_told():
        raise KeyError("a bug")


@pytest.mark.parametrize(
    "kind",
    [
        errors.ModelError,
        errors.ConflictError,
        errors.NotFoundError,
        errors.RegistryError,
        errors.NotEnoughDataError,
        errors.ServiceError,
    ],
)
def test_every_error_on_purpose_is_for_people(kind: type[Exception], capsys: pytest.CaptureFixture[str]) -> None:
    assert issubclass(kind, errors.SeawallError)
    with pytest.raises(SystemExit), errors_told():
        raise kind("5 rows; 200 are needed")
    assert "5 rows; 200 are needed" in capsys.readouterr().err


def test_a_config_error_keeps_where_and_what() -> None:
    error = errors.ConfigError("local.yaml: gateway.replicas", "is 0, at least 1")
    assert isinstance(error, errors.SeawallError)
    assert (error.path, error.problem) == ("local.yaml: gateway.replicas", "is 0, at least 1")
    assert str(error) == "local.yaml: gateway.replicas: is 0, at least 1"


def test_json_is_one_line_in_any_script(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "домой 🍅", "at": datetime(2020, 1, 1, tzinfo=UTC), "none": None})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "домой 🍅" in printed
    assert json.loads(printed) == {"text": "домой 🍅", "at": "2020-01-01 00:00:00+00:00", "none": None}


def test_progress_says_each_thing_once_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("starting") as say:
        for message in ("ray", "ray", "serve", "serve", "ray"):
            say(message)
    told = capsys.readouterr()
    assert told.err.splitlines() == ["starting: ray", "starting: serve", "starting: ray"]
    assert told.out == ""
