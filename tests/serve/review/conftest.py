"""A ledger on both databases, and a policy with a region of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from moderation.policy import Policy
from moderation.settings import DEPLOYMENTS


@pytest.fixture
def url(either_url: str) -> str:
    return either_url


@pytest.fixture
def urgent(tmp_path: Path) -> Policy:
    """Of abuse, severity and deadline are changed, and changed again in Germany."""
    raw = yaml.safe_load((DEPLOYMENTS / "policies" / "default.yaml").read_text(encoding="utf-8"))
    raw["labels"]["abuse"] |= {"severity": "high", "deadline_h": 2}
    raw["regions"]["DE"]["abuse"] = {"severity": "low", "deadline_h": 48}
    path = tmp_path / "urgent.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return Policy.load(path)
