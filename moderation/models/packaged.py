"""Files of weights that come inside Python packages: no model hub is needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from moderation.errors import ModelError


def packaged(package: str, file: str, *, carries: str) -> Path:
    """Where an installed package holds a file; the package is not imported.

    Args:
        package: as it is imported.
        file: below its folder.
        carries: what is missing without it, for the error.

    Raises:
        ModelError: the package, or the file, is not installed.
    """
    spec = importlib.util.find_spec(package)
    for place in [] if spec is None else spec.submodule_search_locations or []:
        if (Path(place) / file).exists():
            return Path(place) / file
    raise ModelError(f"the package {package!r} with {file} is not installed; it carries {carries}")
