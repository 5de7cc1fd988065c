"""Where Seawall keeps its state: one folder: three databases, a lake, media; an environment variable moves each."""

from __future__ import annotations

import contextlib
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
    """SEAWALL_LEDGER_URL: `sqlite:///PATH` (default in the home folder) or `postgresql://USER@HOST/DATABASE`."""
    mlflow_uri: str
    """SEAWALL_MLFLOW_URI: MLflow's tracking and registry URI (default SQLite in the home folder)."""
    features_url: str = ""
    """SEAWALL_FEATURES_URL: `sqlite:///PATH` (default in the home folder), `redis://HOST:PORT/0` or `unix://PATH`."""

    lake_url: str = ""
    """SEAWALL_LAKE_URL: where Parquet derived from the ledger goes: a folder (default `lake` in the home folder) or
    `s3://BUCKET/PREFIX`."""

    media_url: str = ""
    """SEAWALL_MEDIA_URL: where images and videos are kept: a folder (default `media` in the home folder) or
    `s3://BUCKET/PREFIX`."""

    def __post_init__(self) -> None:
        if not self.features_url:
            object.__setattr__(self, "features_url", f"sqlite:///{self.home / 'features.db'}")
        for name in ("lake", "media"):
            field = f"{name}_url"
            url = getattr(self, field)
            if not url:
                object.__setattr__(self, field, str(self.home / name))
            elif "://" not in url:
                object.__setattr__(self, field, str(Path(url).expanduser().resolve()))

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the environment; relative paths are taken from the working folder."""
        home = Path(os.environ.get("SEAWALL_HOME") or ".seawall").expanduser().resolve()
        return cls(
            home=home,
            ledger_url=os.environ.get("SEAWALL_LEDGER_URL") or f"sqlite:///{home / 'ledger.db'}",
            mlflow_uri=os.environ.get("SEAWALL_MLFLOW_URI") or f"sqlite:///{home / 'mlflow.db'}",
            features_url=os.environ.get("SEAWALL_FEATURES_URL") or "",
            lake_url=os.environ.get("SEAWALL_LAKE_URL") or "",
            media_url=os.environ.get("SEAWALL_MEDIA_URL") or "",
        )

    @property
    def models(self) -> Path:
        """Local copies of registered model versions, as `VARIANT/VERSION/`."""
        return self.home / "models"

    @property
    def bases(self) -> Path:
        """Pretrained encoders that came inside packages, unpacked."""
        return self.home / "bases"

    @property
    def artifacts(self) -> Path:
        """What MLflow stores for runs and versions."""
        return self.home / "artifacts"

    @property
    def run(self) -> Path:
        """Process ids, ports and logs of the running service."""
        return self.home / "run"

    def keep_private(self) -> None:
        """Make the home and its run folder, for this user alone; of an old one, take away what others may do.

        Nobody else enters the home, so what lies deeper in it needs no change. A ledger or a store elsewhere is as it
        was made: by Seawall's commands, for this user alone.
        """
        for folder in (self.home, self.run):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _tighten(folder, 0o700)
            for file in folder.iterdir():
                if file.is_file() and not file.is_symlink():
                    _tighten(file, 0o600)

    def environment(self) -> dict[str, str]:
        """The variables that give another process these same places."""
        return {
            "SEAWALL_HOME": str(self.home),
            "SEAWALL_LEDGER_URL": self.ledger_url,
            "SEAWALL_MLFLOW_URI": self.mlflow_uri,
            "SEAWALL_FEATURES_URL": self.features_url,
            "SEAWALL_LAKE_URL": self.lake_url,
            "SEAWALL_MEDIA_URL": self.media_url,
        }


def _tighten(path: Path, most: int) -> None:
    mode = path.stat().st_mode & 0o777
    if mode & ~most:
        with contextlib.suppress(PermissionError):  # somebody else's, who may have given it to us on purpose
            path.chmod(mode & most)
