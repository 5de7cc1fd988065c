"""The `seawall` command, as far as it goes without a running service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from rich.console import Console
from sqlalchemy import text
from typer.testing import CliRunner

import seawall
import serve.rollout.commands
from moderation.console import errors_told, moment, print_json, progress, show
from moderation.context import Context
from moderation.errors import (
    ConfigError,
    ConflictError,
    LedgerError,
    ModelError,
    NotEnoughDataError,
    RegistryError,
    SeawallError,
    ServiceError,
)
from moderation.metrics import Interval
from moderation.models.card import Card
from moderation.policy import threshold_of
from moderation.ports import free_ports
from moderation.posts import PostIn
from moderation.preprocess.features import Features
from moderation.running import STATE, Running, find
from moderation.settings import Settings
from moderation.storage.ledger import Ledger
from moderation.topology import Topology
from serve.posts import examples
from serve.posts.answers import GroupScores
from serve.posts.moderator import Moderator
from serve.rollout import ray_cluster, serve_config
from serve.rollout.commands import SAMPLES, _show_samples, _table
from simulate.service import light_topology
from tests.rooms import (
    SHIPPED,
    TOPOLOGY,
    VARIANT,
    a_post,
    challenged_context,
    judged_traffic,
    run,
    settings_in,
    shipped_card,
)
from tests.serve.outbox.receiver import Receiver, receiver

SUB_COMMANDS = [
    ("up",),
    ("down",),
    ("status",),
    ("moderate",),
    ("retrain",),
    ("models",),
    ("models", "list"),
    ("models", "show"),
    ("models", "ship"),
    ("config",),
    ("config", "check"),
    ("config", "render"),
    ("drift",),
    ("drift", "check"),
    ("drift", "reference"),
    ("experiment",),
    ("experiment", "create"),
    ("experiment", "ramp"),
    ("experiment", "report"),
    ("experiment", "stop"),
    ("webhooks",),
    ("webhooks", "list"),
    ("webhooks", "redrive"),
    ("webhooks", "send"),
    ("media",),
    ("media", "collect"),
    ("statements",),
    ("statements", "export"),
    ("promote",),
    ("rollback",),
    ("review",),
    ("review", "surface"),
    ("fuse",),
    ("fuse", "list"),
    ("fuse", "reset"),
]


@dataclass(frozen=True, slots=True)
class Done:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `seawall` as its entry point does, in a home of its own, on a topology of one variant."""
    monkeypatch.setenv("SEAWALL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SEAWALL_LEDGER_URL", raising=False)
    monkeypatch.delenv("SEAWALL_MLFLOW_URI", raising=False)

    def seawall_command(*arguments: str) -> Done:
        takes_topology = arguments[0] in ("status", "promote", "rollback", "experiment", "models", "config")
        topology = ("--topology", str(TOPOLOGY)) if takes_topology and "--topology" not in arguments else ()
        monkeypatch.setattr(sys, "argv", ["seawall", *arguments, *topology])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            seawall.main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return seawall_command


@pytest.fixture
def context(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """What the commands find: version 1 is champion, version 2 challenges it."""
    context = challenged_context(tmp_path_factory.getbasetemp(), tmp_path / "home")
    yield context
    context.ledger.close()


def refused(done: Done, kind: type[Exception], text: str) -> None:
    assert done.code == 1, done
    assert done.out == ""
    [told] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert told.startswith(f"error: {kind.__name__}: ")
    assert re.search(text, told), told
    assert "Traceback" not in done.err


def plain(text: str) -> str:
    """Without colours, and without the box that help is drawn in."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_help_shows_every_command_in_its_room() -> None:
    shown = CliRunner().invoke(seawall.app, ["--help"])
    assert shown.exit_code == 0
    text = plain(shown.output)
    for panel in ("Service", "Learning", "Rollout"):
        assert panel in text
    for name in {names[0] for names in SUB_COMMANDS}:
        assert re.search(rf"^\W*{name}\b", text, re.MULTILINE), name


def test_without_a_command_help_is_shown() -> None:
    shown = CliRunner().invoke(seawall.app, [])
    assert "Seawall removes harmful content from a platform" in plain(shown.output)


@pytest.mark.parametrize("names", SUB_COMMANDS, ids=" ".join)
def test_every_command_explains_itself(names: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(seawall.app, [*names, "--help"])
    assert shown.exit_code == 0
    text = plain(shown.output)
    assert re.search(rf"Usage: .*\b{' '.join(names)} ", text)
    assert "--help" in text


def test_no_command_is_without_a_test() -> None:
    groups = {group.name: group.typer_instance for group in seawall.app.registered_groups}
    named: set[tuple[str, ...]] = {
        (info.name or info.callback.__name__,) for info in seawall.app.registered_commands if info.callback
    }
    for name, group in groups.items():
        assert name is not None
        assert group is not None
        named.add((name,))
        named |= {(name, info.name or info.callback.__name__) for info in group.registered_commands if info.callback}
    assert named == set(SUB_COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("sing",),
        ("moderate",),
        ("status", "--loud"),
        ("up", "--port", "0"),
        ("up", "--port", "65536"),
        ("experiment", "create", "try-2", "--share", "1.1"),
        ("experiment", "create", "try-2", "--share", "-0.1"),
        ("drift", "check", VARIANT, "--window-hours", "0"),
        ("promote", VARIANT, "--expect", "one"),
    ],
    ids=" ".join,
)
def test_a_command_that_is_not_understood_ends_with_2_and_does_nothing(
    command: Command, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = command(*arguments)
    assert done.code == 2
    assert "Usage:" in plain(done.err)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "error",
    [
        ServiceError("no Seawall runs"),
        ConfigError("local.yaml: routes", "is missing"),
        ValueError("share is 2"),
        NotImplementedError("retraining knows the ngram architecture"),
    ],
)
def test_an_error_meant_for_people_is_told_and_ends_with_1(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, errors_told():
        raise error
    assert ended.value.code == 1
    assert ended.value.__cause__ is error
    assert capsys.readouterr().err == f"error: {type(error).__name__}: {error}\n"


def test_an_error_is_told_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), errors_told():
        raise SeawallError("no post [/b] in [red]this[/] home, " + "x" * 300)
    assert capsys.readouterr().err == f"error: SeawallError: no post [/b] in [red]this[/] home, {'x' * 300}\n"


@pytest.mark.parametrize("error", [KeyError("a bug"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_what_is_a_bug_is_not_hidden(error: BaseException) -> None:
    with pytest.raises(type(error)), errors_told():
        raise error


def test_what_ends_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with errors_told():
        pass
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T00:00Z", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T09:30:15.25+00:00", datetime(2026, 11, 24, 9, 30, 15, 250_000, tzinfo=UTC)),
        ("2026-11-24 09:30+02:00", datetime(2026, 11, 24, 7, 30, tzinfo=UTC)),
        ("2026-11-24T00:00-05:30", datetime(2026, 11, 24, tzinfo=timezone(-timedelta(hours=5, minutes=30)))),
    ],
)
def test_a_time_is_read_with_its_offset(text: str, expected: datetime) -> None:
    found = moment(text)
    assert found == expected
    assert found.utcoffset() is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("yesterday", "time is 'yesterday'; it must be ISO 8601"),
        ("", "time is ''; it must be ISO 8601"),
        ("2026-13-01T00:00Z", "it must be ISO 8601, such as 2026-11-24T00:00Z"),
        ("24.11.2026", "it must be ISO 8601"),
        ("2026-11-24T00:00", "time '2026-11-24T00:00' has no offset; append Z for UTC"),
        ("2026-11-24", "has no offset"),
    ],
)
def test_a_time_that_says_too_little_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        moment(text)


@pytest.mark.parametrize(
    ("interval", "shown"),
    [
        (Interval(None, None, None), "-"),
        (Interval(0.5, None, None), "0.500"),
        (Interval(0.5, 0.25, 0.75), "0.500 (0.250 to 0.750)"),
        (Interval(0.0, 0.0, 0.0), "0.000 (0.000 to 0.000)"),
        (Interval(-0.12345, -0.2, 0.04999), "-0.123 (-0.200 to 0.050)"),
        (Interval(1.0, 0.5, None), "1.000"),
    ],
)
def test_an_interval_is_shown_as_far_as_it_is_known(interval: Interval, shown: str) -> None:
    assert show(interval) == shown


def test_a_document_is_one_line_of_json_in_its_own_script(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "你好\n[b]", "at": datetime(2026, 11, 24, tzinfo=UTC), "none": None})
    assert capsys.readouterr().out == '{"text": "你好\\n[b]", "at": "2026-11-24 00:00:00+00:00", "none": null}\n'


def test_progress_is_a_line_whenever_it_changes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("starting") as say:
        for message in ("waiting for Ray", "waiting for Ray", "opening the registry", "waiting for Ray"):
            say(message)
    assert capsys.readouterr() == (
        "",
        "starting: waiting for Ray\nstarting: opening the registry\nstarting: waiting for Ray\n",
    )


def test_where_nothing_runs_there_is_nothing_to_end(command: Command) -> None:
    done = command("down")
    assert (done.code, done.out) == (0, "nothing was running\n")


def test_a_text_cannot_be_judged_where_nothing_runs(command: Command, tmp_path: Path) -> None:
    refused(command("moderate", "hello"), ServiceError, rf"no Seawall runs under {tmp_path / 'home'}; start it with")


@pytest.fixture
def deaf_service(tmp_path: Path) -> Iterator[Running]:
    """A service whose process lives and whose port nobody listens on, as while it restarts."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(3600)"])
    [port] = free_ports(1)
    folder = tmp_path / "home" / "run"
    folder.mkdir(parents=True)
    running = Running(
        pid=process.pid,
        started=psutil.Process(process.pid).create_time(),
        address="127.0.0.1:1",
        dashboard_url=f"http://127.0.0.1:{port}",
        port=port,
        scratch=str(folder / "scratch"),
        token_file=str(folder / "token"),
        topology=str(TOPOLOGY),
    )
    (folder / STATE).write_text(json.dumps(asdict(running)), encoding="utf-8")
    yield running
    process.kill()
    process.wait()


def test_a_service_that_does_not_answer_is_told_without_a_traceback(command: Command, deaf_service: Running) -> None:
    refused(command("moderate", "hello"), ServiceError, "does not answer")


def answering(status: int, media_type: str, body: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", media_type)
        handler.send_header("Content-Length", str(len(body.encode())))
        handler.end_headers()
        handler.wfile.write(body.encode())

    return answer


@pytest.fixture
def service(deaf_service: Running, tmp_path: Path) -> Iterator[tuple[Running, Receiver]]:
    """A service that answers every post with one decision, or as it is told."""
    with receiver() as answers:
        answers.answer = lambda _: answering(200, "application/json", examples.DECISION.model_dump_json())
        running = replace(deaf_service, port=int(answers.url.rstrip("/").rsplit(":", 1)[1]))
        (tmp_path / "home" / "run" / STATE).write_text(json.dumps(asdict(running)), encoding="utf-8")
        yield running, answers


@pytest.mark.parametrize(
    ("status", "media_type", "body", "told"),
    [
        (503, "text/plain", "Request dropped:\n2048 are queued\n", "503: Request dropped: 2048 are queued"),
        (503, "text/plain", "", "503: Service Unavailable"),
        (502, "text/html", "<h1>Bad gateway</h1>", "502: <h1>Bad gateway</h1>"),
        (500, "application/json", "[]", r"500: \[\]"),
        (422, "application/problem+json", '{"status": 422, "detail": "/region: is wrong"}', "422: /region: is wrong"),
    ],
)
def test_a_refusal_is_told_in_a_line_with_its_status_problem_or_not(
    command: Command, service: tuple[Running, Receiver], status: int, media_type: str, body: str, told: str
) -> None:
    service[1].answer = lambda _: answering(status, media_type, body)
    refused(command("moderate", "hello"), ServiceError, f"{told}$")
    assert len(service[1].arrivals) == 1


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """Standard error becomes a terminal; what is shown there."""
    shown = StringIO()
    monkeypatch.setattr("moderation.console.err", Console(file=shown, force_terminal=True))
    return shown


@pytest.mark.usefixtures("service")
def test_a_terminal_shows_that_a_decision_is_waited_for(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch)
    done = command("moderate", "hello")
    assert (done.code, "moderating" in shown.getvalue()) == (0, True)
    assert " hello " in done.out


@pytest.mark.parametrize(
    ("options", "path"), [((), r"/v1/posts/cli-[0-9a-f]{32}"), (("--preview",), "/v1/posts:preview")]
)
def test_a_text_is_put_or_only_previewed(
    command: Command, service: tuple[Running, Receiver], options: tuple[str, ...], path: str
) -> None:
    assert command("moderate", "hello", *options).code == 0
    [arrival] = service[1].arrivals
    assert re.fullmatch(path, arrival.path)
    assert arrival.said["text"] == "hello"


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("terminal", [True, False])
def test_json_is_all_that_is_said_where_it_is_asked_for(
    command: Command, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    shown = on_a_terminal(monkeypatch) if terminal else StringIO()
    done = command("moderate", "hello", "--json")
    assert (done.code, done.err, shown.getvalue()) == (0, "", "")
    assert json.loads(done.out) == examples.DECISION.model_dump(mode="json")


def test_the_samples_are_counted_while_they_are_moderated(
    service: tuple[Running, Receiver], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running, answers = service
    _show_samples(running)
    told = capsys.readouterr()
    count = len(answers.arrivals)
    assert count == len(SAMPLES.read_text(encoding="utf-8").splitlines())
    assert {arrival.path for arrival in answers.arrivals} == {"/v1/posts:preview"}  # what nobody posted is not recorded
    assert told.err.splitlines() == [
        f"moderating the sample posts: {number} of {count}" for number in range(1, count + 1)
    ]
    assert told.out.count(" allow ") == count
    shown = on_a_terminal(monkeypatch)
    _show_samples(running)
    assert "moderating the sample posts" in shown.getvalue()


def test_status_of_a_service_that_does_not_answer_is_told_without_a_traceback(
    command: Command, context: Context, deaf_service: Running
) -> None:
    refused(command("status"), ServiceError, f"{deaf_service.url} does not answer")


def up(command: Command, service: Running, *options: str, topology: Path = TOPOLOGY) -> Done:
    return command("up", "--port", str(service.port), "--topology", str(topology), *options)


def test_a_start_is_refused_while_another_one_starts(command: Command, deaf_service: Running, tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "home")
    with ray_cluster.starting(settings):
        refused(up(command, deaf_service), ServiceError, "another `seawall up` is starting under")
    assert find(settings) == deaf_service


@pytest.mark.parametrize(("options", "lives"), [(("--detach",), True), ((), False)], ids=["detached", "foreground"])
def test_ctrl_c_ends_what_ran_before_only_in_the_foreground(
    command: Command,
    context: Context,
    deaf_service: Running,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    lives: bool,
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve.rollout.commands, "_deploy", interrupted)
    done = up(command, deaf_service, *options)
    assert "Traceback" not in done.err
    assert deaf_service.alive() is lives


def test_a_start_that_fails_ends_nothing_that_ran_before(
    command: Command, context: Context, deaf_service: Running
) -> None:
    Path(deaf_service.token_file).write_text("secret", encoding="ascii")
    refused(up(command, deaf_service), ServiceError, f"{deaf_service.url}/api/serve/applications/ does not answer")
    assert deaf_service.alive()


def test_another_topology_for_what_runs_is_written_down(
    command: Command, context: Context, deaf_service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.rollout.commands, "_deploy", lambda *_: None)
    topology = light_topology(tmp_path)
    done = up(command, deaf_service, "--detach", topology=topology)
    assert (done.code, f"Seawall serves at {deaf_service.url} after" in done.out) == (0, True)
    assert find(settings_in(tmp_path / "home")) == replace(deaf_service, topology=str(topology))


def test_where_it_listens_and_whom_it_believes_are_told_to_what_is_started(
    command: Command, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, Any] = {}

    def start(_: Settings, **how: Any) -> Running:
        told.update(how)
        raise ServiceError("told")

    monkeypatch.setattr(ray_cluster, "start", start)
    refused(command("up", "--host", "0.0.0.0", "--behind-proxy", "10.0.0.7/8,192.0.2.1"), ServiceError, "told")
    assert (told["host"], told["behind_proxy"]) == ("0.0.0.0", ("10.0.0.0/8", "192.0.2.1/32"))
    refused(command("up"), ServiceError, "told")
    assert (told["host"], told["behind_proxy"]) == ("127.0.0.1", ())
    told.clear()
    refused(command("up", "--host", "here"), ServiceError, "--host is 'here'; it must be an IP address")
    refused(command("up", "--behind-proxy", "all"), ServiceError, "--behind-proxy names 'all'")
    assert told == {}


def test_what_runs_keeps_its_address_and_another_one_is_refused(
    command: Command, context: Context, deaf_service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.rollout.commands, "_deploy", lambda *_: None)
    settings = settings_in(tmp_path / "home")
    running = replace(deaf_service, host="0.0.0.0", behind_proxy=("10.0.0.0/8",))
    ray_cluster.write_down(settings, running)
    done = up(command, running, "--detach")
    assert (done.code, "and on 0.0.0.0 after" in done.out) == (0, True)
    assert find(settings) == running
    for option in (("--host", "127.0.0.1"), ("--behind-proxy", "")):
        refused(
            up(command, running, "--detach", *option), ServiceError, "host 0.0.0.0, behind 10.0.0.0/8; `seawall down`"
        )
    assert find(settings) == running


@pytest.mark.parametrize("name", ["check", "reference"])
def test_a_time_without_an_offset_is_refused_before_anything_is_read(command: Command, name: str) -> None:
    done = command("drift", name, VARIANT, "--until", "2026-11-24")
    refused(done, ValueError, "time '2026-11-24' has no offset; append Z for UTC")


@pytest.mark.parametrize(
    "arguments",
    [("status",), ("promote", VARIANT), ("rollback", VARIANT), ("experiment", "stop", "try-2")],
    ids=" ".join,
)
def test_a_topology_that_is_not_there_is_named(command: Command, arguments: tuple[str, ...]) -> None:
    refused(
        command(*arguments, "--topology", "/nowhere/eu.yaml"), ConfigError, r"eu\.yaml: cannot be read: .*No such file"
    )


OF_THE_LEDGER = [
    ("status",),
    ("promote", VARIANT),
    ("rollback", VARIANT),
    ("experiment", "report", "try-2"),
    ("drift", "check", VARIANT),
    ("retrain", VARIANT),
    ("config", "render"),
    ("up", "--topology", str(TOPOLOGY)),
]
"""Commands that need a ledger."""


@pytest.mark.parametrize("arguments", OF_THE_LEDGER, ids=" ".join)
def test_a_ledger_that_cannot_be_reached_is_one_line_without_its_password(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    url = "postgresql://seawall:hunter2@127.0.0.1:1/db?application_name=x&sslpassword=hunter3"
    monkeypatch.setenv("SEAWALL_LEDGER_URL", url)
    done = command(*arguments)
    told = (
        r"no ledger at postgresql\+psycopg://seawall:\*\*\*@127\.0\.0\.1:1/db\?.*sslpassword=\*\*\*: OperationalError: "
    )
    refused(done, LedgerError, told + ".*onnection refused")
    assert "hunter" not in done.err
    assert "sqlalche.me" not in done.err
    assert [line for line in done.err.splitlines() if "refused" in line] == [done.err.splitlines()[-1]]


@pytest.mark.parametrize("port", ["s3cret", "70000"])
def test_a_ledger_s_port_that_is_none_is_not_repeated(
    command: Command, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    monkeypatch.setenv("SEAWALL_LEDGER_URL", f"postgresql://seawall:hunter2@127.0.0.1:{port}/db")
    done = command("status")
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"error: (ConfigError|LedgerError): .*\n", done.err)
    assert "hunter2" not in done.err
    assert "s3cret" not in done.err


def test_a_ledger_that_is_no_database_is_told_in_one_line(command: Command, context: Context, tmp_path: Path) -> None:
    context.ledger.close()
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (tmp_path / "home" / name).unlink(missing_ok=True)
    (tmp_path / "home" / "ledger.db").write_bytes(b"these are no pages at all" * 1000)
    done = command("status")
    refused(done, LedgerError, r"no ledger at sqlite:///.*ledger\.db: DatabaseError: file is not a database")
    assert len(done.err.splitlines()) == 1


def test_a_ledger_that_breaks_under_a_command_is_told_in_one_line(command: Command, context: Context) -> None:
    with context.ledger.write() as connection:
        connection.execute(text("ALTER TABLE experiments RENAME TO lost"))
    done = command("status")
    refused(done, LedgerError, r"sqlite:///.*ledger\.db failed: OperationalError: no such table: experiments$")
    assert len(done.err.splitlines()) == 1


def test_a_drift_check_without_posts_says_how_many_there_are(command: Command, context: Context) -> None:
    done = command("drift", "check", VARIANT, "--until", "2026-11-24T00:00Z")
    refused(done, NotEnoughDataError, r"version 1 judged 0 posts between 2026-11-23T00:00:00\+00:00 and")
    done = command("drift", "reference", VARIANT, "--until", "2026-11-24T00:00Z", "--window-hours", "1")
    refused(done, NotEnoughDataError, r"0 posts between 2026-11-23T23:00:00\+00:00 and .*; a reference takes 200")


@pytest.mark.parametrize(("name", "least"), [("check", "a check takes"), ("reference", "a reference takes")])
def test_drift_is_checked_on_the_last_full_window_unless_another_is_named(
    command: Command, context: Context, name: str, least: str
) -> None:
    done = command("drift", name, VARIANT, "--window-hours", "6")
    refused(done, NotEnoughDataError, least)
    found = re.search(r"between (\S+) and (\S+);", done.err)
    assert found is not None
    begin, end = (datetime.fromisoformat(text) for text in found.groups())
    assert end - begin == timedelta(hours=6)
    assert (end.hour % 6, end.minute, end.second, end.microsecond, end.utcoffset()) == (0, 0, 0, 0, timedelta(0))
    assert timedelta(0) <= datetime.now(UTC) - end < timedelta(hours=6, minutes=1)


@pytest.mark.parametrize(("options", "hours"), [((), 6), (("--window-hours", "1"), 1)], ids=["its own", "another"])
def test_drift_is_checked_as_the_topology_says_unless_a_window_is_named(
    command: Command, context: Context, tmp_path: Path, options: tuple[str, ...], hours: int
) -> None:
    topology = light_topology(tmp_path, drift={"minimum_rows": 7, "window_hours": 6})
    for name in ("check", "reference"):
        done = command("drift", name, VARIANT, "--topology", str(topology), *options)
        refused(done, NotEnoughDataError, rf" 0 posts between .*; a {name} takes 7$")
        begin, end = (datetime.fromisoformat(at) for at in re.findall(r"\d{4}-\S+:00(?= and|;)", done.err))
        assert end - begin == timedelta(hours=hours)


def test_status_tells_what_stands_where_nothing_runs(command: Command, context: Context) -> None:
    done = command("status", "--json")
    assert done.code == 0
    assert json.loads(done.out) == {
        "url": None,
        "ready": None,
        "metrics_url": None,
        "variants": {
            VARIANT: {
                "champion": 1,
                "challenger": 2,
                "versions": [1, 2],
                "experiment": None,
                "alerts": 0,
                "retrain_request": None,
            }
        },
    }
    table = command("status").out
    assert table.splitlines()[0] == "not running"
    assert re.search(rf"{VARIANT}\W+1\W+2\W+1, 2\W+-\W+0\W+-", table)


def test_an_experiment_from_its_beginning_to_its_end(command: Command, context: Context) -> None:
    created = command("experiment", "create", "try-2", "--share", "0.1", "--json")
    assert json.loads(created.out) == {
        "experiment": "try-2",
        "variant": VARIANT,
        "champion": 1,
        "challenger": 2,
        "share": 0.1,
        "status": "running",
    }
    refused(command("experiment", "create", "try-3"), ConflictError, "has a running experiment already: 'try-2'")
    assert command("experiment", "ramp", "try-2", "--share", "0.25").out == (
        f"try-2 is running: {VARIANT} version 2 for 25% of authors, version 1 for the others\n"
    )
    refused(command("experiment", "ramp", "try-2", "--share", "0.1"), ConflictError, "share 0.1 is below the 0.25")
    assert "try-2 at 25%" in command("status").out

    refused(command("promote", VARIANT), ConflictError, "experiment 'try-2' says of version 2: not enough labels")
    judged_traffic(context.ledger, "try-2", champion_recall=0.2, challenger_recall=0.9, authors=20)
    shown = command("experiment", "report", "try-2").out
    assert shown.splitlines()[-1] == "under precision>=0.8, the challenger is: better"
    assert re.search(r"champion\W+1\W+20\W+20\W+20\W+0\.667 \(", shown)
    assert json.loads(command("experiment", "report", "try-2", "--json").out)["verdict"] == "better"
    refused(
        command("experiment", "report", "try-2", "--label", "sarcasm"),
        ConfigError,
        "no rule for 'sarcasm'",
    )

    stopped = json.loads(command("experiment", "stop", "try-2", "--json").out)
    assert (stopped["status"], stopped["share"]) == ("stopped", 0.25)
    refused(command("experiment", "ramp", "try-2", "--share", "0.5"), ConflictError, "'try-2' is stopped")
    assert command("promote", VARIANT, "--expect", "1").out == f"{VARIANT}: version 2 is champion, it was 1\n"


@pytest.mark.parametrize("name", ["[red]x", "[/]", "[bold", ":tomato:", "x\\"])
def test_a_name_is_shown_as_it_is(command: Command, context: Context, name: str) -> None:
    said = f"{VARIANT} version 2 for 10% of authors, version 1 for the others\n"
    assert command("experiment", "create", name).out == f"{name} is running: {said}"
    refused(command("experiment", "create", name), ConflictError, re.escape(repr(name)))
    assert f" {name} at 10% " in command("status").out
    assert command("experiment", "stop", name).out == f"{name} is stopped: {said}"
    assert command("experiment", "report", name).code == 0


@pytest.mark.parametrize("name", ["report", "stop"])
def test_an_experiment_that_is_not_there_is_told(command: Command, context: Context, name: str) -> None:
    done = command("experiment", name, "try-9")
    assert (done.code, done.err) == (1, "error: NotFoundError: there is no experiment named 'try-9'\n")


def test_registered_models_are_listed_and_shown(command: Command, context: Context) -> None:
    listed = json.loads(command("models", "list", "--json").out)
    assert [(model["variant"], model["version"], model["aliases"]) for model in listed] == [
        (VARIANT, 1, ["champion"]),
        (VARIANT, 2, ["challenger"]),
    ]
    assert [model["architecture"] for model in listed] == ["ngram", "ngram"]
    assert re.search(rf"{VARIANT}\W+2\W+challenger\W+ngram\W+abuse, hate", command("models", "list").out)

    shown = json.loads(command("models", "show", VARIANT, "--json").out)
    assert shown["version"] == 1
    card = shipped_card()
    assert {row["label"] for row in shown["thresholds"]} == {"abuse", "hate"}
    for row in shown["thresholds"]:
        curve = card.curve(row["label"], row["language"])
        assert row["threshold"] == threshold_of(curve, row["objective"], 0.05 if row["label"] == "abuse" else 0.02)
        assert row["remove_threshold"] == (row["threshold"] if row["label"] == "abuse" else None)
    assert f"{VARIANT}@2: ngram" in command("models", "show", VARIANT, "--version", "2").out
    refused(command("models", "show", VARIANT, "--version", "9"), RegistryError, "no version 9")
    refused(command("models", "show", "text-none"), ConfigError, "no variant 'text-none'")


def test_what_ships_is_registered_and_rendered_before_and_after(command: Command) -> None:
    before = command("config", "render", "--json")
    assert before.err == (
        f"note: no version of {VARIANT!r} is registered; `seawall models ship` or `seawall up` makes version 1\n"
    )
    assert "`seawall models ship`" in command("models", "list").out
    assert f"registered as champions: {VARIANT}@1\n" in command("models", "ship").out
    assert [(model["version"], model["aliases"]) for model in json.loads(command("models", "list", "--json").out)] == [
        (1, ["champion"])
    ]
    after = command("config", "render", "--json")
    assert (after.out, after.err) == (before.out, "")
    assert "every variant has a champion that fits\n" in command("models", "ship").out


def test_the_configuration_is_checked_and_rendered(command: Command, context: Context, tmp_path: Path) -> None:
    checked = command("config", "check")
    assert (checked.code, checked.out) == (0, f"{TOPOLOGY}: fine; policy {Topology.load(TOPOLOGY).policy.version}\n")
    rendered = command("config", "render", "--port", "8123", "--json")
    expected = serve_config.render(context, port=8123)
    assert json.loads(rendered.out) == expected
    assert yaml.safe_load(command("config", "render", "--port", "8123").out) == expected

    raw = yaml.safe_load(TOPOLOGY.read_text(encoding="utf-8"))
    for name in ("policy", "blocklist"):
        raw[name] = str(TOPOLOGY.parent / raw[name])
    raw["variants"][VARIANT] |= {"shipped": str(SHIPPED), "labels": ["abuse", "violence"]}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = command("config", "check", "--topology", str(path))
    refused(done, ValueError, f"variant '{VARIANT}' should score 'violence'; the model that ships scores")


@pytest.mark.parametrize("name", ["local.yaml", "light.yaml", "cluster.yaml", "regions.yaml"])
def test_every_topology_that_ships_passes_the_check(command: Command, name: str) -> None:
    path = TOPOLOGY.parent / name
    done = command("config", "check", "--topology", str(path))
    assert (done.code, done.out) == (0, f"{path}: fine; policy {Topology.load(path).policy.version}\n")


def test_a_champion_is_changed_and_brought_back(command: Command, context: Context) -> None:
    refused(command("promote", VARIANT, "--expect", "2"), ConflictError, "is version 1, expected was 2")
    refused(command("promote", VARIANT), ConflictError, "version 2 was in no experiment")
    done = command("promote", VARIANT, "--without-experiment", "--json")
    assert json.loads(done.out) == {"variant": VARIANT, "from": 1, "to": 2}
    refused(command("promote", VARIANT), RegistryError, "has no challenger")
    refused(command("experiment", "create", "try-3"), RegistryError, "has no challenger")
    assert command("rollback", VARIANT).out == f"{VARIANT}: version 1 is champion, it was 2\n"
    refused(command("rollback", VARIANT), ConflictError, "there is nothing to go back to")


@pytest.mark.parametrize("variant", ["image-multi", "video-multi"])
@pytest.mark.parametrize("arguments", [("retrain",), ("drift", "check"), ("drift", "reference")], ids=" ".join)
def test_what_takes_a_model_of_texts_is_refused_for_pictures_before_it_begins(
    command: Command, tmp_path: Path, arguments: tuple[str, ...], variant: str
) -> None:
    done = command(*arguments, variant)
    refused(done, ModelError, f"variant '{variant}' is of service {variant[:5]}: models of images and videos are")
    assert "`python -m train.champion` trains them" in done.err
    home = tmp_path / "home"
    assert not (home / "ledger.db").exists()
    assert not (home / "lake").exists()


def test_a_retraining_is_refused_a_label_that_the_variant_does_not_score(command: Command, tmp_path: Path) -> None:
    done = command("retrain", "misinformation", "--label", "abuse")
    refused(done, ConfigError, "'misinformation' does not score 'abuse', which it should be judged on; it scores")
    assert not (tmp_path / "home" / "ledger.db").exists()


def test_a_retraining_takes_one_of_the_losses(command: Command) -> None:
    done = command("retrain", VARIANT, "--loss", "hinge")
    assert done.code == 2
    assert "'hinge' is not one of 'cross_entropy', 'focal'" in " ".join(plain(done.err).replace("│", " ").split())


@pytest.mark.parametrize("arguments", [("promote", "text-none"), ("rollback", "text-none")], ids=" ".join)
def test_a_variant_that_is_not_there_has_no_champion(
    command: Command, context: Context, arguments: tuple[str, ...]
) -> None:
    refused(command(*arguments), RegistryError, "variant 'text-none' has no champion")


Known = list[Features]


def a_decision(folder: Path, text: str, *, abuse: float = 0.01) -> dict[str, Any]:
    async def score(_variant: str, _arm: str, texts: list[str], _known: Known, _deadline: float) -> GroupScores:
        return GroupScores(1, [{"abuse": abuse, "hate": 0.02} for _ in texts], [0.0] * len(texts))

    def card(_variant: str, _version: int) -> Card:
        return shipped_card()

    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    moderator = Moderator(Topology.load(TOPOLOGY), ledger, score, card)
    decision: dict[str, Any] = json.loads(run(moderator.moderate("p-1", a_post(text, language="en"))).body)
    ledger.close()
    return decision


def shown_as_table(text: str, decision: dict[str, Any]) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(_table([(text, decision)]))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_decision_is_shown_with_its_reason_and_its_scores(tmp_path: Path) -> None:
    decision = a_decision(tmp_path, "you there", abuse=0.9999)
    threshold = decision["labels"]["abuse"]["threshold"]
    shown = shown_as_table("you there", decision)
    [line] = [line for line in shown.splitlines() if "you there" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[:7] == ["you there", "en", "remove", f"abuse >= {threshold:.2f}", "1.00", "0.02", "-"]


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ({"threshold": None, "remove_threshold": 0.5}, "0.50"),
        ({"threshold": 0.9, "remove_threshold": 0.5}, "0.50"),
        ({"threshold": 0.25, "remove_threshold": None}, "0.25"),
        ({"threshold": 0.25}, "0.25"),
    ],
)
def test_a_flagged_label_is_shown_with_the_score_that_flagged_it(
    tmp_path: Path, bounds: dict[str, float | None], shown: str
) -> None:
    decision = a_decision(tmp_path, "you there", abuse=0.9999)
    for key in ("threshold", "remove_threshold"):
        del decision["labels"]["abuse"][key]
    decision["labels"]["abuse"] |= bounds
    assert f"abuse >= {shown}" in shown_as_table("you there", decision)


@pytest.mark.parametrize("text", ["see [b]this[/b]", "see [/b] here", "[red]red", "a [1] and [x]"])
def test_a_text_is_shown_as_it_was_written(tmp_path: Path, text: str) -> None:
    assert text in shown_as_table(text, a_decision(tmp_path, text))


def test_a_blocked_link_and_a_failed_score_are_shown(tmp_path: Path) -> None:
    decision = a_decision(tmp_path, "see https://malware.example/x")
    decision["labels"]["abuse"]["score"] = None
    decision["models"] = {}
    line = next(line for line in shown_as_table("see", decision).splitlines() if "│ see" in line)
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    assert cells[2:7] == ["review", "link to malware.example is blocked", "-", "0.02", "-"]


def test_a_decision_of_a_release_before_there_were_media_is_shown_beside_one_of_today(tmp_path: Path) -> None:
    new, old = a_decision(tmp_path, "look"), a_decision(tmp_path, "you there")
    new["media"] = [{"text": None}]
    del old["media"]
    del old["labels"]["nudity"], old["labels"]["violence"], old["labels"]["misinformation"]
    console = Console(file=StringIO(), width=200)
    console.print(_table([("look", new), ("you there", old)]))
    assert isinstance(console.file, StringIO)
    line = next(line for line in console.file.getvalue().splitlines() if "you there" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")][4:9] == ["0.01", "0.02", "-", "-", "-"]


def test_samples_that_cannot_be_shown_end_no_service_that_lives(
    deaf_service: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    _show_samples(deaf_service)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"the sample posts are not shown: ServiceError: {deaf_service.url} does not answer")
    process = psutil.Process(deaf_service.pid)
    process.kill()
    process.wait(60)  # a signal takes its time on a busy machine
    with pytest.raises(ServiceError):
        _show_samples(deaf_service)


def test_the_samples_that_are_moderated_at_the_start_are_good_posts() -> None:
    lines = [json.loads(line) for line in SAMPLES.read_text(encoding="utf-8").splitlines()]
    assert len({line["post_id"] for line in lines}) == len(lines) >= 8
    for line in lines:
        PostIn.model_validate_json(json.dumps(line["post"]))
