"""MLflow: which version of a variant is champion and which is challenger, and why.

A variant is a registered model of the same name; its versions carry the aliases `champion` and `challenger` and the
evidence they were judged by. An alias is a blind upsert in MLflow, so whoever moves one holds the ledger's lock
`champion:VARIANT` and says which version is expected to stand there.

MLflow writes down where artifacts are, as they were when the registry was made. A home that holds its registry holds
its artifacts, too, wherever it was moved to: so they are looked for there first, and new ones never go elsewhere.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from moderation.errors import ConflictError, RegistryError
from moderation.models.card import CARD, Card
from moderation.settings import Settings
from moderation.storage import dialect

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Alias = Literal["champion", "challenger"]

EVIDENCE = "evidence.json"
_MODEL = "model"
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version.

    Attributes:
        variant: registered model.
        version: 1, 2, ...
        aliases: that point to it.
        tags: as set.
        run_id: of the MLflow run with its model folder and evidence.
    """

    variant: str
    version: int
    aliases: tuple[str, ...]
    tags: dict[str, str]
    run_id: str


def _registry_errors(
    method: Callable[Concatenate[Registry, Parameters], Result],
) -> Callable[Concatenate[Registry, Parameters], Result]:
    """A method whose errors of MLflow and its database name the registry, and say what to do."""

    @wraps(method)
    def telling(self: Registry, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        from mlflow.exceptions import MlflowException

        try:
            return method(self, *args, **kwargs)
        except SQLAlchemyError as error:
            raise RegistryError(
                f"{self.place} fails: {dialect.error_message(error, make_url(self.uri))}; restore it from a backup, or"
                " move it away to begin anew with the models that ship"
            ) from error
        except MlflowException as error:
            said = " ".join(str(error.message).split())
            if "database schema" in said:
                raise RegistryError(
                    f"{self.place} is of another release of MLflow ({said.split('.')[0]}): back it up, then run"
                    " `mlflow db upgrade` on it; a newer one is served by the release that made it"
                ) from error
            raise RegistryError(f"{self.place} refuses: {said}") from error

    return telling


class Registry:
    """The model registry and the local copies of what it holds.

    Args:
        settings: where MLflow and the local copies are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connected: MlflowClient | None = None
        self.uri = settings.mlflow_uri

    @property
    def place(self) -> str:
        """The registry in an error, without passwords."""
        try:
            return f"the registry {dialect.redacted_url(make_url(self.uri))}"
        except (ArgumentError, ValueError):  # ValueError: of a port that is none
            return f"the registry {self.uri}"

    @property
    def _client(self) -> MlflowClient:
        # MLflow takes seconds to import: replicas that find a local copy never pay for it.
        if self._connected is None:
            from mlflow.tracking import MlflowClient

            logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes
            self._settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connected = MlflowClient(self.uri, self.uri)
        return self._connected

    @_registry_errors
    def register(
        self,
        variant: str,
        folder: Path,
        *,
        evidence: Mapping[str, object],
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Version:
        """Store a model folder and its evidence as the variant's next version. No alias moves."""
        client = self._client
        run = client.create_run(self._experiment_id(variant), run_name=variant)
        run_id = run.info.run_id
        client.log_artifacts(run_id, str(folder), _MODEL)
        client.log_dict(run_id, dict(evidence), EVIDENCE)
        for name, value in (metrics or {}).items():
            client.log_metric(run_id, name, value)
        if not client.search_registered_models(f"name = '{variant}'"):
            client.create_registered_model(variant)
        created = client.create_model_version(
            variant, source=f"{run.info.artifact_uri}/{_MODEL}", run_id=run_id, tags=dict(tags or {})
        )
        # A registry that was lost or restored gives out numbers again, of which an older model's copy may be left.
        shutil.rmtree(self._copy(variant, int(created.version)), ignore_errors=True)
        client.set_terminated(run_id)
        return self.version(variant, int(created.version))

    @_registry_errors
    def version(self, variant: str, version: int) -> Version:
        """A version by number.

        Raises:
            RegistryError: there is none.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_model_version(variant, str(version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RegistryError(f"variant {variant!r} has no version {version}: {error.message}") from error
        aliases = (str(alias) for alias in found.aliases)
        return Version(variant, version, tuple(sorted(aliases)), dict(found.tags), str(found.run_id))

    @_registry_errors
    def versions(self, variant: str) -> list[Version]:
        """All versions of a variant, the oldest first."""
        numbers = sorted(int(item.version) for item in self._client.search_model_versions(f"name = '{variant}'"))
        return [self.version(variant, number) for number in numbers]

    @_registry_errors
    def alias(self, variant: str, alias: Alias) -> int | None:
        """The version that an alias points to, if any."""
        from mlflow.exceptions import MlflowException

        try:
            return int(self._client.get_model_version_by_alias(variant, alias).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def champion(self, variant: str) -> int:
        """The champion's version.

        Raises:
            RegistryError: the variant has none.
        """
        version = self.alias(variant, "champion")
        if version is None:
            raise RegistryError(
                f"variant {variant!r} has no champion; `seawall models ship` registers the one that ships"
            )
        return version

    @_registry_errors
    def move_alias(self, variant: str, alias: Alias, version: int | None, *, expected: int | None) -> None:
        """Point an alias to a version, or take it away (None). Hold the ledger's lock `champion:VARIANT` meanwhile.

        Raises:
            ConflictError: it does not point where it is expected to.
        """
        found = self.alias(variant, alias)
        if found != expected:
            raise ConflictError(
                f"{alias} of {variant!r} is version {found}, expected was {expected}; look again, then decide"
            )
        if version is None:
            if found is not None:
                self._client.delete_registered_model_alias(variant, alias)
        else:
            self._client.set_registered_model_alias(variant, alias, str(version))

    def evidence(self, variant: str, version: int) -> dict[str, object]:
        """What a version was judged by when it was registered.

        Raises:
            RegistryError: it is lost.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = self._artifact(variant, version, EVIDENCE, Path(folder))
            loaded: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
            return loaded

    def fetch(self, variant: str, version: int) -> Path:
        """The model folder of a version: the local copy, or one made from the registry.

        With a local copy the registry need not answer. The copy appears by a rename, so it is never half a model.

        Raises:
            RegistryError: there is no such version, or its model is lost.
        """
        target = self._copy(variant, version)
        if (target / CARD).exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            found = self._artifact(variant, version, _MODEL, Path(folder))
            try:
                found.rename(target)
            except OSError:
                if not (target / CARD).exists():  # another process may have been faster
                    raise
        return target

    def card(self, variant: str, version: int) -> Card:
        """The card of a version."""
        return Card.from_json((self.fetch(variant, version) / CARD).read_text(encoding="utf-8"))

    @_registry_errors
    def _artifact(self, variant: str, version: int, name: str, folder: Path) -> Path:
        """A copy, in `folder`, of what was stored with a version."""
        from mlflow.exceptions import MlflowException

        run_id = self.version(variant, version).run_id
        here = self._settings.artifacts / variant / run_id / "artifacts" / name
        if here.is_dir():
            return Path(shutil.copytree(here, folder / name))
        if here.is_file():
            return Path(shutil.copy(here, folder))
        try:
            return Path(self._client.download_artifacts(run_id, name, str(folder)))
        except (MlflowException, OSError) as error:
            raise RegistryError(
                f"the {name} of {variant}@{version} is lost: it is neither at {here} nor where {self.place} says;"
                f" restore {self._settings.artifacts} or {self._settings.models} from a backup, or move the registry"
                " away to begin anew with the models that ship"
            ) from error

    def _copy(self, variant: str, version: int) -> Path:
        return self._settings.models / variant / str(version)

    def _experiment_id(self, variant: str) -> str:
        here = (self._settings.artifacts / variant).as_uri()
        found = self._client.get_experiment_by_name(variant)
        if found is not None:
            if found.artifact_location == here or not self._is_in_home():
                return str(found.experiment_id)
            # Of a home that was elsewhere: its runs stay, and new ones go where the home is now.
            self._client.rename_experiment(found.experiment_id, f"{variant} ({found.experiment_id}, moved)")
        return str(self._client.create_experiment(variant, artifact_location=here))

    def _is_in_home(self) -> bool:
        """Whether the registry is a file of the home, and moves with it."""
        try:
            url = make_url(self.uri)
        except (ArgumentError, ValueError):
            return False
        in_a_file = url.get_backend_name() == "sqlite" and url.database
        return bool(in_a_file) and Path(str(url.database)).resolve().is_relative_to(self._settings.home.resolve())
