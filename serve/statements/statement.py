"""Statements of reasons, as the EU's DSA Transparency Database takes them: what a removal is, said to the public.

A statement has the attributes of `POST /api/v1/statement` in the database's schema since 1 July 2025, documented at
https://transparency.dsa.ec.europa.eu/page/api-documentation; a line of an export is a request's body as it is. It says
nothing that leads to a person: no text, no name, no identifier of author or post. Its `puid` is the number of the
action, by which the platform finds the post in its ledger.

Seawall applies the platform's own rules. Whether content breaks the law is nothing that it can know, so the ground is
always the terms, never illegality. Everything here is a function of its arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Literal

import jsonschema

from moderation.labels import BY_NAME, SEVERITY_WEIGHT, Modality
from moderation.policy import Rule, urgency_of
from moderation.sections import Statements
from moderation.settings import DEPLOYMENTS

SCHEMAS = DEPLOYMENTS / "schemas"
STATEMENT, RETRACTION = "statement-of-reasons.json", "statement-retraction.json"

Statement = dict[str, Any]

EARLIEST = date(2000, 1, 1)
"""Before that the database takes no `content_date`: a clock that says so is wrong."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal, with what the ledger knows of it.

    Attributes:
        action_id: of the removal.
        actor: who removed: `model`, or a person in a `review` or an `appeal`.
        labels: the reasons, as in the taxonomy; empty where a link or a rule of its own was.
        acted_at: when.
        created_at: when the post was written or last edited.
        region: of the post.
        language: of the post, ISO 639; None: unknown.
        detected: whether the models or the policy had queued or removed it by themselves.
        reported: whether somebody had reported it before.
        modalities: what the post consists of.
    """

    action_id: int
    actor: Literal["model", "review", "appeal", "fuse"]
    labels: tuple[str, ...]
    acted_at: datetime
    created_at: datetime
    region: str
    language: str | None
    detected: bool
    reported: bool
    modalities: tuple[Modality, ...] = ("text",)


@dataclass(frozen=True, slots=True)
class Retraction:
    """A removal that was undone.

    Attributes:
        action_id: of the removal, whose statement is retracted.
        removed_at: when it was removed.
        restored_by: who undid it.
        restored_at: when.
    """

    action_id: int
    removed_at: datetime
    restored_by: str
    restored_at: datetime


@dataclass(frozen=True, slots=True)
class _Category:
    category: str
    keyword: str | None
    rule: str


_SPEECH = "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH"
_OTHER = "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
_CATEGORIES = {
    "abuse": _Category(
        "STATEMENT_CATEGORY_CYBER_VIOLENCE", "KEYWORD_CYBER_BULLYING_INTIMIDATION", "insults and harassment"
    ),
    "hate": _Category(_SPEECH, "KEYWORD_HATE_SPEECH", "hatred against people for what they are"),
    "violence": _Category("STATEMENT_CATEGORY_VIOLENCE", None, "violence"),
    "nudity": _Category(_OTHER, "KEYWORD_NUDITY", "nudity"),
    "misinformation": _Category(
        "STATEMENT_CATEGORY_NEGATIVE_EFFECTS_ON_CIVIC_DISCOURSE_OR_ELECTIONS",
        "KEYWORD_MISINFORMATION_DISINFORMATION",
        "false claims",
    ),
}
_NO_LABEL = _Category(_OTHER, None, "content")


def puid_of(action_id: int, platform: Statements) -> str:
    """The platform's own identifier of a statement: letters, digits, `-` and `_`; never used twice."""
    return f"{platform.puid_prefix}-{action_id}"


def statement(removal: Removal, platform: Statements, rules: Mapping[str, Rule]) -> Statement:
    """The statement of reasons of a removal.

    Args:
        removal: of which.
        platform: what is the same in each.
        rules: the policy's, of the removal's region: the gravest label comes first.
    """
    known = [name for name in BY_NAME if name in removal.labels]
    known.sort(key=lambda name: -SEVERITY_WEIGHT[urgency_of(name, rules).severity])
    found = [_CATEGORIES[name] for name in known] or [_NO_LABEL]
    categories = list(dict.fromkeys(item.category for item in found))
    keywords = [item.keyword for item in found if item.keyword is not None]
    broken = " and on ".join(item.rule for item in found)
    said: Statement = {
        "decision_visibility": [platform.visibility],
        "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
        "incompatible_content_ground": platform.ground,
        "incompatible_content_explanation": f"The post was found to break the platform's rules on {broken}.",
        "content_type": [f"CONTENT_TYPE_{modality.upper()}" for modality in removal.modalities],
        "category": categories[0],
        "content_date": min(max(_day(removal.created_at), EARLIEST), _day(removal.acted_at)).isoformat(),
        "application_date": _day(removal.acted_at).isoformat(),
        "decision_facts": _facts(removal),
        "source_type": _source(removal),
        "automated_detection": "Yes" if _detected(removal) else "No",
        "automated_decision": _decided(removal),
        "territorial_scope": sorted(platform.territorial_scope),
        "puid": puid_of(removal.action_id, platform),
    }
    if platform.ground_url is not None:
        said["decision_ground_reference_url"] = platform.ground_url
    if categories[1:]:
        said["category_addition"] = categories[1:]
    if keywords:
        said["category_specification"] = keywords
    language = (removal.language or "").upper()
    if len(language) == 2:
        said["content_language"] = language
    return said


def retraction(undone: Retraction, platform: Statements) -> Statement:
    """What is said of a removal that was undone. A form of our own: the database has none for it."""
    return {
        "puid": puid_of(undone.action_id, platform),
        "application_date": _day(undone.removed_at).isoformat(),
        "retraction_date": _day(undone.restored_at).isoformat(),
        "retracted_by": "AUTOMATED" if undone.restored_by in ("model", "fuse") else undone.restored_by.upper(),
    }


def checked_line(said: Statement, schema: str) -> str:
    """A line of an export, with its newline, that its schema allows.

    Args:
        said: of `statement` or `retraction`.
        schema: `STATEMENT` or `RETRACTION`.

    Raises:
        ValueError: the schema does not allow it; says where and why.
    """
    error = next(iter(_validator(schema).iter_errors(said)), None)
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "the whole"
        raise ValueError(f"statement {said.get('puid')!r} does not fit {schema}: {where}: {error.message}")
    return json.dumps(said, ensure_ascii=False) + "\n"


@lru_cache(maxsize=8)
def _validator(schema: str) -> Any:
    raw = json.loads((SCHEMAS / schema).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(raw)
    return jsonschema.Draft202012Validator(raw, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _automatic(removal: Removal) -> bool:
    return removal.actor in ("model", "fuse")


def _detected(removal: Removal) -> bool:
    return _automatic(removal) or removal.detected


def _source(removal: Removal) -> str:
    # A report by a reader is no notice in the form of Article 16, which names the law that is broken.
    return "SOURCE_TYPE_OTHER_NOTIFICATION" if removal.reported and not _detected(removal) else "SOURCE_VOLUNTARY"


def _decided(removal: Removal) -> str:
    if _automatic(removal):
        return "AUTOMATED_DECISION_FULLY"
    return "AUTOMATED_DECISION_PARTIALLY" if _detected(removal) else "AUTOMATED_DECISION_NOT_AUTOMATED"


def _facts(removal: Removal) -> str:
    if _automatic(removal):
        return (
            "Automated means assessed the post beyond the threshold at which the platform's rules have it removed."
            " No person took part in the decision."
        )
    if _detected(removal):
        how = "Automated means selected the post for review."
    elif removal.reported:
        how = "The post was reported by users of the service."
    else:
        how = "The post was selected for review at random or by the platform's staff."
    return f"{how} A person reviewed it and decided that it breaks the platform's rules."
