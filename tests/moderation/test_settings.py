"""Where Seawall keeps its state."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderation.settings import DEPLOYMENTS, REPOSITORY, Settings

VARIABLES = ("SEAWALL_HOME", "SEAWALL_LEDGER_URL", "SEAWALL_MLFLOW_URI", "SEAWALL_LAKE_URL", "SEAWALL_MEDIA_URL")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_an_environment_everything_is_under_the_working_folder(tmp_path: Path) -> None:
    settings = Settings.from_environment()
    home = tmp_path / ".seawall"
    assert settings.home == home
    assert settings.ledger_url == f"sqlite:///{home}/ledger.db"
    assert settings.mlflow_uri == f"sqlite:///{home}/mlflow.db"
    assert (settings.lake_url, settings.models) == (f"{home}/lake", home / "models")
    assert settings.media_url == f"{home}/media"
    assert (settings.artifacts, settings.run) == (home / "artifacts", home / "run")
    assert not home.exists()


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    bare = Settings.from_environment()
    monkeypatch.setenv(name, "")
    assert Settings.from_environment() == bare


def test_a_relative_home_is_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAWALL_HOME", "some/../place")
    assert Settings.from_environment().home == tmp_path / "place"


def test_a_tilde_is_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ann"))
    monkeypatch.setenv("SEAWALL_HOME", "~/seawall")
    assert Settings.from_environment().home == tmp_path / "ann" / "seawall"


def test_each_database_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAWALL_LEDGER_URL", "postgresql://db/seawall")
    assert Settings.from_environment().ledger_url == "postgresql://db/seawall"
    assert Settings.from_environment().mlflow_uri == f"sqlite:///{tmp_path}/.seawall/mlflow.db"
    monkeypatch.setenv("SEAWALL_MLFLOW_URI", "http://mlflow:5000")
    assert Settings.from_environment().mlflow_uri == "http://mlflow:5000"


@pytest.mark.parametrize("name", ["lake", "media"])
def test_the_lake_and_the_media_are_in_a_folder_or_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"SEAWALL_{name.upper()}_URL", "some/../water")
    assert getattr(Settings.from_environment(), f"{name}_url") == f"{tmp_path}/water"
    monkeypatch.setenv(f"SEAWALL_{name.upper()}_URL", "s3://bucket/some/prefix")
    assert getattr(Settings.from_environment(), f"{name}_url") == "s3://bucket/some/prefix"


def test_another_process_gets_the_same_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(tmp_path / "home", "sqlite:////a.db", "http://mlflow:5000")
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")
    assert Settings.from_environment() == settings


def test_the_repository_is_found_from_anywhere() -> None:
    assert (REPOSITORY / "pyproject.toml").is_file()
    assert DEPLOYMENTS == REPOSITORY / "deployments"


def test_a_home_is_its_user_s_alone_also_one_that_was_made_open(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    home.chmod(0o755)
    files = [home / "ledger.db", home / "ledger.db-wal", home / "run" / "ray.log"]
    for file in files:
        file.touch()
        file.chmod(0o644)
    elsewhere = tmp_path / "elsewhere.db"
    elsewhere.touch()
    elsewhere.chmod(0o644)
    (home / "features.db").symlink_to(elsewhere)
    Settings(home, "", "").keep_private()
    assert [path.stat().st_mode & 0o777 for path in (home, home / "run", *files)] == [0o700] * 2 + [0o600] * 3
    assert elsewhere.stat().st_mode & 0o777 == 0o644
    fresh = Settings(tmp_path / "fresh" / "home", "", "")
    fresh.keep_private()
    assert {path.stat().st_mode & 0o777 for path in (fresh.home, fresh.run)} == {0o700}
