"""The taxonomy: what Seawall looks for and, where no policy says otherwise, how bad it is and how soon it is acted on.

To add a kind of harm, add a row here and a rule for it in each policy; a label that no model scores yet is reported as
`not_scored`, never as 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

Severity = Literal["low", "medium", "high"]
Mode = Literal["proactive", "reactive"]
Modality = Literal["text", "image", "video"]
Service = Literal["text", "image", "video", "misinformation"]
"""What a part of a post is asked of. Misinformation is one of its own: it reads text, and who wrote it."""


@dataclass(frozen=True, slots=True)
class Label:
    """One kind of harm."""

    name: str
    """As on the wire."""
    severity: Severity
    """How much harm one impression does."""
    mode: Mode
    """`proactive`: acted on before the post is seen. `reactive`: acted on within `deadline`."""
    deadline: timedelta
    """The longest time from the decision to a person's verdict, where one is asked for."""
    modalities: frozenset[Modality]
    """Which inputs can carry it."""
    removable: bool = True
    """Whether a policy may remove for it without a person; what is a matter of judgement is only ever queued."""
    of_the_whole: bool = False
    """Whether it is said by a text as a whole, as a claim with its context is, and not by a few words of it."""


_DAY = timedelta(hours=24)
_HOUR = timedelta(hours=1)

LABELS: tuple[Label, ...] = (
    Label("abuse", "medium", "reactive", _DAY, frozenset({"text", "image", "video"})),
    Label("hate", "high", "proactive", _HOUR, frozenset({"text", "image", "video"})),
    Label("violence", "high", "proactive", _HOUR, frozenset({"text", "image", "video"})),
    Label("nudity", "high", "proactive", _HOUR, frozenset({"image", "video"})),
    Label(
        "misinformation",
        "medium",
        "reactive",
        _DAY,
        frozenset({"text", "image", "video"}),
        removable=False,
        of_the_whole=True,
    ),
)

SEVERITY_WEIGHT: dict[Severity, float] = {"low": 1.0, "medium": 3.0, "high": 10.0}
"""Harm of one impression, relative to one of low severity; orders the review queue."""

BY_NAME: dict[str, Label] = {label.name: label for label in LABELS}
