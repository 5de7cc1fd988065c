"""The registry, on real MLflow with SQLite."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from moderation.errors import ConflictError, RegistryError
from moderation.models.card import CARD
from moderation.models.load import load_text_classifier
from moderation.registry import Registry, Version
from moderation.settings import Settings
from tests.moderation.models.making import a_model

# Some seconds, all of them for MLflow to make its tables: they are made once, and every test has a variant of its own.
pytestmark = pytest.mark.slow

NUMBERS = count(1)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("registry") / "home"
    return Settings(home, f"sqlite:///{home / 'ledger.db'}", f"sqlite:///{home / 'mlflow.db'}")


@pytest.fixture(scope="module")
def registry(settings: Settings) -> Registry:
    return Registry(settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registry") / "model"
    a_model().save(folder)
    return folder


@pytest.fixture
def variant() -> str:
    return f"variant-{next(NUMBERS)}"


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """Another machine: the same registry, no local copies."""
    return replace(settings, home=tmp_path / "elsewhere")


@pytest.fixture
def cut_off(settings: Settings, tmp_path: Path) -> Registry:
    """The same machine, from which MLflow cannot be reached."""
    (tmp_path / "no-folder").write_text("", encoding="utf-8")
    return Registry(replace(settings, mlflow_uri=f"sqlite:///{tmp_path / 'no-folder' / 'mlflow.db'}"))


def test_a_registered_version_has_its_tags_and_no_alias(registry: Registry, folder: Path, variant: str) -> None:
    registered = registry.register(variant, folder, evidence={}, metrics={"recall": 0.5}, tags={"gate": "passed"})
    assert registered == Version(variant, 1, (), {"gate": "passed"}, registered.run_id)
    assert registry.version(variant, 1) == registered
    assert registry.alias(variant, "champion") is None
    assert registry.alias(variant, "challenger") is None


def test_versions_are_counted_for_each_variant_and_come_oldest_first(
    registry: Registry, folder: Path, variant: str
) -> None:
    assert registry.versions(variant) == []
    for number in range(1, 12):
        registry.register(variant, folder, evidence={}, tags={"number": str(number)})
    assert registry.register(f"{variant}-b", folder, evidence={}).version == 1
    versions = registry.versions(variant)
    assert [version.version for version in versions] == list(range(1, 12))
    assert [version.tags["number"] for version in versions] == [str(number) for number in range(1, 12)]
    assert len({version.run_id for version in versions}) == 11


def test_evidence_comes_back_as_it_was_told(registry: Registry, folder: Path, variant: str) -> None:
    evidence = {
        "gate": {"passed": False, "reasons": ["recall: 0.5, at least 0.6"]},
        "rows": 300,
        "none": None,
        "Ж": "🍅",
    }
    registry.register(variant, folder, evidence=evidence)
    registry.register(variant, folder, evidence={"second": True})
    assert registry.evidence(variant, 1) == evidence
    assert registry.evidence(variant, 2) == {"second": True}


def test_what_is_not_registered_is_told(registry: Registry, folder: Path, variant: str) -> None:
    with pytest.raises(RegistryError, match=f"variant '{variant}' has no version 1"):
        registry.version(variant, 1)
    with pytest.raises(RegistryError, match=f"variant '{variant}' has no champion; `seawall models ship` registers"):
        registry.champion(variant)
    registry.register(variant, folder, evidence={})
    for ask in (registry.version, registry.evidence, registry.fetch, registry.card):
        with pytest.raises(RegistryError, match="has no version 7"):
            ask(variant, 7)
    with pytest.raises(RegistryError, match="has no champion"):
        registry.champion(variant)


def test_an_alias_is_set_moved_and_taken_away(registry: Registry, folder: Path, variant: str) -> None:
    for _ in range(2):
        registry.register(variant, folder, evidence={})
    registry.move_alias(variant, "champion", 1, expected=None)
    assert registry.champion(variant) == registry.alias(variant, "champion") == 1
    registry.move_alias(variant, "challenger", 2, expected=None)
    assert registry.version(variant, 2).aliases == ("challenger",)
    registry.move_alias(variant, "champion", 2, expected=1)
    assert registry.version(variant, 1).aliases == ()
    assert registry.version(variant, 2).aliases == ("challenger", "champion")
    registry.move_alias(variant, "challenger", None, expected=2)
    assert registry.alias(variant, "challenger") is None
    assert registry.version(variant, 2).aliases == ("champion",)
    registry.move_alias(variant, "challenger", None, expected=None)
    assert registry.champion(variant) == 2


@pytest.mark.parametrize("expected", [None, 2])
@pytest.mark.parametrize("target", [2, None])
def test_an_alias_moves_only_from_where_it_is_expected(
    registry: Registry, folder: Path, variant: str, expected: int | None, target: int | None
) -> None:
    for _ in range(2):
        registry.register(variant, folder, evidence={})
    registry.move_alias(variant, "champion", 1, expected=None)
    with pytest.raises(ConflictError, match=f"champion of '{variant}' is version 1, expected was {expected}"):
        registry.move_alias(variant, "champion", target, expected=expected)
    assert registry.champion(variant) == 1


def test_an_alias_that_is_expected_and_not_there_is_a_conflict(registry: Registry, folder: Path, variant: str) -> None:
    registry.register(variant, folder, evidence={})
    with pytest.raises(ConflictError, match=f"challenger of '{variant}' is version None, expected was 1"):
        registry.move_alias(variant, "challenger", 1, expected=1)
    assert registry.alias(variant, "challenger") is None


def test_another_process_sees_what_was_registered(
    registry: Registry, elsewhere: Settings, folder: Path, variant: str
) -> None:
    registered = registry.register(variant, folder, evidence={"a": 1})
    registry.move_alias(variant, "champion", 1, expected=None)
    other = Registry(elsewhere)
    assert other.champion(variant) == 1
    assert other.version(variant, 1) == replace(registered, aliases=("champion",))
    assert other.evidence(variant, 1) == {"a": 1}


def test_a_fetched_model_is_the_registered_one(
    registry: Registry, settings: Settings, folder: Path, variant: str
) -> None:
    registry.register(variant, folder, evidence={})
    fetched = registry.fetch(variant, 1)
    assert fetched == settings.models / variant / "1"
    assert {path.name: path.read_bytes() for path in fetched.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert [path.name for path in fetched.parent.iterdir()] == ["1"]
    text = ["you are wonderful"]
    assert load_text_classifier(fetched).score(text).confidence.tolist() == a_model().score(text).confidence.tolist()
    assert registry.card(variant, 1).weights_sha256 == load_text_classifier(folder).card.weights_sha256


def test_a_local_copy_needs_no_registry(registry: Registry, cut_off: Registry, folder: Path, variant: str) -> None:
    registry.register(variant, folder, evidence={})
    fetched = registry.fetch(variant, 1)
    before = fetched.stat().st_mtime_ns
    assert cut_off.fetch(variant, 1) == registry.fetch(variant, 1) == fetched
    assert cut_off.card(variant, 1).labels == ("abuse", "hate")
    assert fetched.stat().st_mtime_ns == before


def test_a_copy_that_was_deleted_is_made_again(registry: Registry, folder: Path, variant: str) -> None:
    registry.register(variant, folder, evidence={})
    shutil.rmtree(registry.fetch(variant, 1))
    assert load_text_classifier(registry.fetch(variant, 1)).card.labels == ("abuse", "hate")


def test_a_copy_of_which_only_the_folder_was_made_is_completed(
    registry: Registry, settings: Settings, folder: Path, variant: str
) -> None:
    registry.register(variant, folder, evidence={})
    (settings.models / variant / "1").mkdir(parents=True)
    assert (registry.fetch(variant, 1) / "model.json").is_file()


def test_many_who_fetch_at_once_get_one_whole_model(
    registry: Registry, elsewhere: Settings, folder: Path, variant: str
) -> None:
    registry.register(variant, folder, evidence={})
    registries = [Registry(elsewhere) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda each: each.fetch(variant, 1), registries))
    assert set(folders) == {elsewhere.models / variant / "1"}
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(path.name for path in folder.iterdir())
    assert [path.name for path in folders[0].parent.iterdir()] == ["1"]


def test_a_number_that_is_given_out_again_has_the_new_model_s_weights(
    registry: Registry, settings: Settings, folder: Path, variant: str
) -> None:
    copy = settings.models / variant / "1"  # as a registry that was lost has left it
    shutil.copytree(folder, copy)
    (copy / "model.safetensors").write_bytes(b"an older model's")
    assert registry.register(variant, folder, evidence={}).version == 1
    weights = (registry.fetch(variant, 1) / "model.safetensors").read_bytes()
    assert weights == (folder / "model.safetensors").read_bytes()


def test_what_was_registered_stays_when_its_folder_goes(
    registry: Registry, folder: Path, variant: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(folder, tmp_path / "model")
    registry.register(variant, copy, evidence={})
    shutil.rmtree(copy)
    assert (registry.fetch(variant, 1) / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()


@pytest.fixture
def moved(settings: Settings, registry: Registry, folder: Path, variant: str, tmp_path: Path) -> Settings:
    """The home with a version of the variant, moved, and without the local copies. Another stands in its old place."""
    registry.register(variant, folder, evidence={"rows": 7})
    home = tmp_path / "moved"
    shutil.copytree(settings.home, home)
    shutil.rmtree(home / "models", ignore_errors=True)
    return Settings(home, f"sqlite:///{home / 'ledger.db'}", f"sqlite:///{home / 'mlflow.db'}")


def files_in(home: Path) -> set[Path]:
    return {path.relative_to(home) for path in (home / "artifacts").rglob("*")}


def test_a_home_that_was_moved_reads_and_writes_what_is_its_own(
    settings: Settings, moved: Settings, folder: Path, variant: str
) -> None:
    old = files_in(settings.home)
    shutil.rmtree(settings.artifacts / variant)  # what the registry says of the place holds no longer
    registry = Registry(moved)
    assert registry.fetch(variant, 1) == moved.models / variant / "1"
    assert registry.evidence(variant, 1) == {"rows": 7}
    before = files_in(moved.home)
    for number in (2, 3):
        assert registry.register(variant, folder, evidence={"rows": number}).version == number
        assert registry.evidence(variant, number) == {"rows": number}
        assert (registry.fetch(variant, number) / CARD).read_bytes() == (folder / CARD).read_bytes()
    assert [version.version for version in registry.versions(variant)] == [1, 2, 3]
    assert files_in(settings.home) == {path for path in old if path.parts[1] != variant}
    assert len(files_in(moved.home)) > len(before)


def test_a_model_that_is_lost_is_told_with_where_it_was_looked_for(
    settings: Settings, moved: Settings, variant: str
) -> None:
    for home in (settings.home, moved.home):
        shutil.rmtree(home / "artifacts" / variant)
    told = rf"the model of {variant}@1 is lost: it is neither at {moved.artifacts}/.* nor where the registry .* says; "
    with pytest.raises(RegistryError, match=told):
        Registry(moved).fetch(variant, 1)
    with pytest.raises(RegistryError, match=rf"the evidence.json of {variant}@1 is lost"):
        Registry(moved).evidence(variant, 1)


def broken(file: Path) -> None:
    file.write_bytes(b"no database" * 1000)


def of_another_release(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'deadbeef'")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (broken, r"the registry sqlite:///.*mlflow\.db fails: DatabaseError: file is not a database; restore it"),
        (of_another_release, r"the registry sqlite:///.*mlflow\.db is of another release of MLflow \(.*\): back it up"),
    ],
)
def test_a_registry_that_cannot_be_used_is_told_as_that(
    moved: Settings, folder: Path, variant: str, spoil: Callable[[Path], None], told: str
) -> None:
    spoil(moved.home / "mlflow.db")
    registry = Registry(moved)
    for ask in (
        lambda: registry.champion(variant),
        lambda: registry.versions(variant),
        lambda: registry.fetch(variant, 1),
        lambda: registry.register(variant, folder, evidence={}),
        lambda: registry.move_alias(variant, "champion", 1, expected=None),
    ):
        with pytest.raises(RegistryError, match=told):
            ask()
