"""Where Seawall keeps its state: one folder, two databases, each movable by an environment variable."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DEPLOYMENTS = REPOSITORY / "deployments"


@dataclass(frozen=True, slots=True)
class Settings:
    """Places. Every process of one Seawall is started with the same ones."""

    home: Path
    """SEAWALL_HOME: the folder that holds all local state (default `.seawall` in the working folder)."""
    ledger_url: str
    """SEAWALL_LEDGER_URL: an SQLAlchemy URL (default SQLite in the home folder)."""
    mlflow_uri: str
    """SEAWALL_MLFLOW_URI: MLflow's tracking and registry URI (default SQLite in the home folder)."""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment; relative paths are taken from the working folder."""
        home = Path(os.environ.get("SEAWALL_HOME") or ".seawall").expanduser().resolve()
        return cls(
            home=home,
            ledger_url=os.environ.get("SEAWALL_LEDGER_URL") or f"sqlite:///{home / 'ledger.db'}",
            mlflow_uri=os.environ.get("SEAWALL_MLFLOW_URI") or f"sqlite:///{home / 'mlflow.db'}",
        )

    @property
    def lake(self) -> Path:
        """Parquet, derived from the ledger."""
        return self.home / "lake"

    @property
    def models(self) -> Path:
        """Local copies of registered model versions, as `VARIANT/VERSION/`."""
        return self.home / "models"

    @property
    def artifacts(self) -> Path:
        """What MLflow stores for runs and versions."""
        return self.home / "artifacts"

    @property
    def run(self) -> Path:
        """Process ids, ports and logs of the running service."""
        return self.home / "run"

    def environment(self) -> dict[str, str]:
        """The variables that give another process these same places."""
        return {
            "SEAWALL_HOME": str(self.home),
            "SEAWALL_LEDGER_URL": self.ledger_url,
            "SEAWALL_MLFLOW_URI": self.mlflow_uri,
        }
