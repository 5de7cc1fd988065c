"""The ledger's schema: made, upgraded and adopted, on both databases."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, inspect, text

from moderation.errors import ConfigError, LedgerError
from moderation.storage import schema
from moderation.storage.dialect import claim, open_engine, parse
from moderation.storage.ledger import SETTING, Ledger
from moderation.storage.media_rows import posts_with
from moderation.storage.people_tables import actions
from serve.review import appeals
from tests.moderation.storage.media import SHA, with_media
from tests.moderation.storage.rows import a_label, an_entry, record, say
from tests.moderation.waiting import LONG_S
from tests.processes import a_process

metadata = actions.metadata
FOLDER = Path(schema.__file__).parent / "migrations"
BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(params=BOTH)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def engine(empty: str) -> Iterator[Engine]:
    engine = open_engine(parse(empty, setting=SETTING))
    yield engine
    engine.dispose()


def config(connection: Any = None) -> Config:
    made = Config(attributes={"connection": connection} if connection is not None else {})
    made.set_main_option("script_location", str(FOLDER))
    made.set_main_option("path_separator", "os")
    return made


def upgrade(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        command.upgrade(config(connection), revision)


def steps() -> list[str]:
    """All revisions, the first first."""
    scripts = list(ScriptDirectory.from_config(config()).walk_revisions())
    return [script.revision for script in reversed(scripts)]


def revision_of(engine: Engine) -> str | None:
    with engine.connect() as connection:
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def shape(engine: Engine) -> dict[str, Any]:
    """What the database itself says of its tables."""
    inspector = inspect(engine)
    tables: dict[str, Any] = {}
    for name in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        columns = {
            column["name"]: (str(column["type"]), column["nullable"], column["default"])
            for column in inspector.get_columns(name)
        }
        indexes = sorted(
            (str(index["name"]), index["column_names"], bool(index["unique"]), sorted(map(str, _where(index))))
            for index in inspector.get_indexes(name)
        )
        unique = sorted(constraint["column_names"] for constraint in inspector.get_unique_constraints(name))
        primary = inspector.get_pk_constraint(name)["constrained_columns"]
        tables[name] = (columns, primary, unique, indexes)
    return tables


def _where(index: Any) -> list[str]:
    return [str(value) for key, value in index.get("dialect_options", {}).items() if key.endswith("_where")]


# The steps.


def test_the_steps_are_one_chain_and_the_code_knows_its_end() -> None:
    names = sorted(path.name for path in (FOLDER / "versions").glob("0*.py"))
    assert [name.partition("_")[0] for name in names] == steps()
    assert ScriptDirectory.from_config(config()).get_heads() == [schema.HEAD]
    assert steps()[0] == schema.FIRST


def test_models_and_migrations_agree(empty: str, engine: Engine) -> None:
    Ledger(empty).close()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    migrated = shape(engine)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        metadata.create_all(connection)
    assert shape(engine) == migrated


def test_each_step_works_on_a_ledger_with_rows(empty: str, engine: Engine) -> None:
    upgrade(engine, schema.FIRST)
    write_old_rows(engine)
    for step in steps()[1:]:
        upgrade(engine, step)
        assert revision_of(engine) == step
    ledger = Ledger(empty)
    assert ledger.newest(["p-1"])["p-1"].content_version == 1
    assert record(ledger, an_entry(text="other", minutes=1)).content_version == 2
    assert say(ledger, a_label("l-2", "p-1")).accepted == 1
    with ledger.read() as connection:
        assert connection.execute(text("SELECT max(decision_id) FROM decisions")).scalar() == 2
        assert connection.execute(text("SELECT max(label_seq) FROM labels")).scalar() == 2
    ledger.close()


def test_media_come_to_a_ledger_with_rows(empty: str, engine: Engine) -> None:
    upgrade(engine, "0004")
    write_old_rows(engine)
    before = {name: shape(engine)[name] for name in ("posts", "decisions", "labels", "reviews", "actions")}
    with engine.connect() as connection:
        rows = [connection.execute(text(f"SELECT * FROM {name}")).all() for name in before]
    upgrade(engine, "0005")
    with engine.connect() as connection:
        assert [connection.execute(text(f"SELECT * FROM {name}")).all() for name in before] == rows
    assert {name: shape(engine)[name] for name in before} == before
    ledger = Ledger(empty)
    record(ledger, with_media(text="other", minutes=1))
    assert posts_with(ledger, SHA) == [("p-1", 2)]
    ledger.close()


def test_an_old_appeal_is_one_against_the_last_removal_before_it(empty: str, engine: Engine) -> None:
    upgrade(engine, schema.FIRST)
    write_old_rows(engine)
    upgrade(engine, "0006")
    action = "INSERT INTO actions (post_id, content_version, action, actor, labels, acted_at) VALUES ('p-1', 1, "
    with engine.begin() as connection:
        for told in (
            "'remove', 'model', '[]', '2020-01-01 00:00:00'",
            "'restore', 'appeal', '[]', '2020-01-03 00:00:00'",
        ):
            connection.execute(text(f"{action}{told})"))
        connection.execute(
            text(
                "INSERT INTO appeals (post_id, content_version, reason, review_id, status, created_at)"
                " VALUES ('p-1', 1, 'why', 1, 'upheld', '2020-01-02 00:00:00')"
            )
        )
        connection.execute(text(f"{action}'remove', 'review', '[]', '2020-01-04 00:00:00')"))
        connection.execute(
            text(
                "INSERT INTO reports (post_id, content_version, reporter_id, reason, weight, created_at)"
                " VALUES ('p-1', 1, 'r-1', 'rude', 0.5, '2020-01-01 00:00:00')"
            )
        )
    ledger = Ledger(empty)
    assert [appeal.action_id for appeal in appeals.of_post(ledger, "p-1")] == [1]
    with ledger.read() as connection:
        assert connection.execute(text("SELECT report_id, reporter_id, weight FROM reports")).all() == [(1, "r-1", 0.5)]
    ledger.close()


def write_old_rows(engine: Engine) -> None:
    """A post, its decision and a label, in the columns that the first step knows."""
    entry = an_entry()
    at = "2020-01-01 00:00:00"
    said = {"post_id": "p-1", "version": 1, "hash": entry.content_hash, "at": at}
    said |= {"body": entry.decision.model_dump_json(), "json": json.dumps({"abuse": True})}
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO posts VALUES (:post_id, :version, :hash, 'u-1', 'gardening', 'US', :at, 'ripe', :json, :at)",
            "INSERT INTO decisions (post_id, content_version, decision, body, features, decided_at)"
            " VALUES (:post_id, :version, 'allow', :body, :json, :at)",
            "INSERT INTO labels (id, post_id, content_version, labels, source, labelled_at, digest, received_at)"
            " VALUES ('l-1', :post_id, :version, :json, 'review', :at, 'd', :at)",
        ):
            connection.execute(text(statement), said)


def test_a_step_that_fails_leaves_nothing_behind(empty: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE other (name VARCHAR(9))"))
        # The last thing that the first step makes.
        connection.execute(text("CREATE INDEX retrain_requests_one_active ON other (name)"))
    with pytest.raises(LedgerError, match="retrain_requests_one_active"):
        Ledger(empty)
    assert set(inspect(engine).get_table_names()) == {"other"}
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE other"))
    Ledger(empty).close()
    assert revision_of(engine) == schema.HEAD


# Opening.


def statements_of_opening(url: str) -> list[str]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        Ledger(url).close()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return [statement for statement in seen if statement != "BEGIN"]


def test_where_nothing_is_to_do_one_query_is_made(empty: str) -> None:
    assert len(statements_of_opening(empty)) > 10
    asked = statements_of_opening(empty)
    assert asked[-1] == "SELECT version_num FROM alembic_version"
    assert not [
        statement
        for statement in asked[:-1]
        if not statement.startswith("select pg_catalog.version()")
        and not statement.startswith(("select current_schema()", "show "))
    ]


def test_where_nothing_is_to_do_alembic_is_not_even_imported(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    code = f"import sys; from moderation.storage.ledger import Ledger; Ledger({url!r}); print('alembic' in sys.modules)"
    said = [subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout for _ in range(2)]
    assert said == [b"True\n", b"False\n"]


def test_many_threads_that_open_the_same_new_ledger_all_can(empty: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        for ledger in pool.map(lambda _: Ledger(empty), range(6)):
            ledger.close()


def test_threads_that_open_different_new_ledgers_all_can(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        for ledger in pool.map(lambda number: Ledger(f"sqlite:///{tmp_path / str(number)}.db"), range(12)):
            assert ledger.newest(["p-1"]) == {}
            ledger.close()


def test_who_opens_a_ledger_while_another_migrates_it_waits_and_finds_it_done(empty: str, engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            claim(connection, "schema")
            command.upgrade(config(connection), schema.HEAD)
            waiting = pool.submit(Ledger, empty)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        waiting.result(LONG_S).close()
    assert revision_of(engine) == schema.HEAD


def test_a_new_file_that_another_writes_to_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE other (name)")
    other.execute("BEGIN IMMEDIATE")  # not in WAL mode yet, so that none can change the mode
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(Ledger, f"sqlite:///{tmp_path / 'ledger.db'}")
        with pytest.raises(TimeoutError):
            waiting.result(0.5)
        other.execute("COMMIT")
        waiting.result(LONG_S).close()
    other.close()


@pytest.mark.slow
def test_processes_that_open_the_same_new_ledger_all_can(empty: str, engine: Engine) -> None:
    code = f"from moderation.storage.ledger import Ledger; print('ready', flush=True); input(); Ledger({empty!r})"
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with ExitStack() as running:
        started = [running.enter_context(a_process([sys.executable, "-c", code], **pipes)) for _ in range(4)]
        for process in started:
            assert process.stdout.readline() == b"ready\n"
        for process in started:
            process.stdin.write(b"\n")
            process.stdin.flush()
        for process in started:
            _, problem = process.communicate(timeout=LONG_S)
            assert process.returncode == 0, problem.decode()
    assert revision_of(engine) == schema.HEAD


def test_a_newer_ledger_is_refused_and_left_alone(empty: str, engine: Engine) -> None:
    Ledger(empty).close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(ConfigError, match=f"SEAWALL_LEDGER_URL: the ledger's schema is 0999, newer than {schema.HEAD}"):
        Ledger(empty)
    assert revision_of(engine) == "0999"


def test_the_database_of_something_else_is_refused(empty: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('1bd49d398cd2')"))
    with pytest.raises(ConfigError, match="'1bd49d398cd2': it is no ledger"):
        Ledger(empty)
    assert inspect(engine).get_table_names() == ["alembic_version"]


def test_half_a_ledger_is_refused(empty: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE experiments (name VARCHAR(9))"))
    with pytest.raises(ConfigError, match=r"holds experiments, but not alerts, .+: it is neither empty nor a ledger"):
        Ledger(empty)
    assert inspect(engine).get_table_names() == ["experiments"]


# What was made before there were steps.


def test_a_ledger_without_a_revision_is_adopted(empty: str, engine: Engine) -> None:
    upgrade(engine, schema.FIRST)
    write_old_rows(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    for _ in range(2):
        ledger = Ledger(empty)
        assert set(ledger.newest(["p-1"])) == {"p-1"}
        ledger.close()
    assert revision_of(engine) == schema.HEAD


def test_the_first_step_makes_what_was_made_before_there_were_steps(tmp_path: Path) -> None:
    made = sqlite3.connect(tmp_path / "old.db")
    made.executescript(" ".join(BEFORE.split()))
    made.close()
    old, new = (create_engine(f"sqlite:///{tmp_path / name}") for name in ("old.db", "new.db"))
    upgrade(new, schema.FIRST)
    assert shape(new) == shape(old)
    Ledger(str(old.url)).close()
    assert revision_of(old) == schema.HEAD
    assert shape(old).keys() == {table.name for table in metadata.sorted_tables}


def test_alembic_s_own_command_takes_the_ledger_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv(SETTING, url)
    command.upgrade(config(), "head")
    command.check(config())
    engine = create_engine(url)
    assert revision_of(engine) == schema.HEAD
    engine.dispose()


BEFORE = """
CREATE TABLE posts ( post_id VARCHAR(128) NOT NULL, content_version INTEGER NOT NULL, content_hash VARCHAR(64)
    NOT NULL, author_id VARCHAR(128) NOT NULL, community VARCHAR(128) NOT NULL, region VARCHAR(2) NOT NULL,
    created_at DATETIME NOT NULL, text TEXT NOT NULL, author JSON NOT NULL, received_at DATETIME NOT NULL, PRIMARY
    KEY (post_id, content_version) );
CREATE TABLE decisions ( decision_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, post_id VARCHAR(128) NOT NULL,
    content_version INTEGER NOT NULL, decision VARCHAR(8) NOT NULL, body TEXT NOT NULL, features JSON NOT NULL,
    variant VARCHAR(64), model_version INTEGER, experiment VARCHAR(64), arm VARCHAR(16), decided_at DATETIME NOT
    NULL, UNIQUE (post_id, content_version) );
CREATE INDEX decisions_experiment ON decisions (experiment);
CREATE TABLE labels ( label_seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR(128) NOT NULL, post_id
    VARCHAR(128) NOT NULL, content_version INTEGER NOT NULL, labels JSON NOT NULL, source VARCHAR(16) NOT NULL,
    labelled_at DATETIME NOT NULL, sampling_probability FLOAT, digest VARCHAR(64) NOT NULL, received_at DATETIME NOT
    NULL, UNIQUE (id) );
CREATE INDEX labels_post ON labels (post_id, content_version);
CREATE TABLE experiments ( name VARCHAR(64) NOT NULL, variant VARCHAR(64) NOT NULL, champion_version INTEGER NOT
    NULL, challenger_version INTEGER NOT NULL, salt VARCHAR(64) NOT NULL, buckets INTEGER NOT NULL, history JSON NOT
    NULL, status VARCHAR(8) NOT NULL, created_at DATETIME NOT NULL, stopped_at DATETIME, PRIMARY KEY (name) );
CREATE UNIQUE INDEX experiments_one_running ON experiments (variant) WHERE status = 'running';
CREATE TABLE drift_windows ( window_id INTEGER NOT NULL, variant VARCHAR(64) NOT NULL, model_version INTEGER NOT
    NULL, window_from DATETIME NOT NULL, window_to DATETIME NOT NULL, rows INTEGER NOT NULL, drifted BOOLEAN NOT
    NULL, columns JSON NOT NULL, checked_at DATETIME NOT NULL, PRIMARY KEY (window_id), UNIQUE (variant,
    model_version, window_from, window_to) );
CREATE TABLE drift_references ( variant VARCHAR(64) NOT NULL, model_version INTEGER NOT NULL, window_from
    DATETIME NOT NULL, window_to DATETIME NOT NULL, rows INTEGER NOT NULL, made_at DATETIME NOT NULL, PRIMARY KEY
    (variant, model_version) );
CREATE TABLE alerts ( alert_id INTEGER NOT NULL, variant VARCHAR(64) NOT NULL, model_version INTEGER NOT NULL,
    window_to DATETIME NOT NULL, evidence JSON NOT NULL, created_at DATETIME NOT NULL, PRIMARY KEY (alert_id) );
CREATE TABLE retrain_requests ( request_id INTEGER NOT NULL, variant VARCHAR(64) NOT NULL, alert_id INTEGER,
    reason TEXT NOT NULL, status VARCHAR(8) NOT NULL, outcome JSON, created_at DATETIME NOT NULL, updated_at
    DATETIME NOT NULL, PRIMARY KEY (request_id) );
CREATE UNIQUE INDEX retrain_requests_one_active ON retrain_requests (variant) WHERE status IN ('open',
    'running');
CREATE TABLE promotions ( promotion_id INTEGER NOT NULL, variant VARCHAR(64) NOT NULL, kind VARCHAR(8) NOT NULL,
    from_version INTEGER, to_version INTEGER NOT NULL, evidence JSON NOT NULL, created_at DATETIME NOT NULL, PRIMARY
    KEY (promotion_id) );
CREATE TABLE locks ( name VARCHAR(128) NOT NULL, holder VARCHAR(128) NOT NULL, expires_at DATETIME NOT NULL,
    PRIMARY KEY (name) );
"""
