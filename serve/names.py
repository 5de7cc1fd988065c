"""What the Serve applications are called: one for the gateway, one for each variant, one for each challenger.

An application of its own lets a challenger come, scale, crash and go without touching a champion.
"""

from __future__ import annotations

from serve.experiments.split import Arm

GATEWAY = "gateway"


def application_of(variant: str, arm: Arm) -> str:
    """The Serve application that holds a variant's arm."""
    return variant if arm == "champion" else f"{variant}--challenger"
