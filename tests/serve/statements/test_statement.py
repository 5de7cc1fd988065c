"""A removal as a statement of reasons, within the bounds of the database that takes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import combinations
from typing import Any, get_args

import jsonschema
import pytest

from moderation.labels import BY_NAME
from moderation.policy import Policy, Rule
from moderation.sections import EEA, Statements
from moderation.settings import DEPLOYMENTS
from serve.statements.statement import (
    RETRACTION,
    SCHEMAS,
    STATEMENT,
    Removal,
    Retraction,
    checked_line,
    puid_of,
    retraction,
    statement,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLATFORM = Statements()
RULES = Policy.load(DEPLOYMENTS / "policies" / "default.yaml").rules("DE")
REMOVAL = Removal(
    action_id=7,
    actor="model",
    labels=("abuse",),
    acted_at=NOON,
    created_at=NOON - timedelta(days=1),
    region="DE",
    language="de",
    detected=True,
    reported=False,
)
SET_BY_US = {
    "decision_visibility",
    "decision_ground",
    "decision_ground_reference_url",
    "incompatible_content_ground",
    "incompatible_content_explanation",
    "content_type",
    "category",
    "category_addition",
    "category_specification",
    "content_language",
    "content_date",
    "application_date",
    "decision_facts",
    "source_type",
    "automated_detection",
    "automated_decision",
    "territorial_scope",
    "puid",
}


def said(platform: Statements = PLATFORM, rules: Mapping[str, Rule] = RULES, **changes: Any) -> dict[str, Any]:
    """A statement that fits its schema."""
    made = statement(replace(REMOVAL, **changes), platform, rules)
    assert json.loads(checked_line(made, STATEMENT)) == made
    return made


def test_a_removal_by_a_model() -> None:
    assert said() == {
        "decision_visibility": ["DECISION_VISIBILITY_CONTENT_REMOVED"],
        "decision_ground": "DECISION_GROUND_INCOMPATIBLE_CONTENT",
        "incompatible_content_ground": "Terms of service: rules on content",
        "incompatible_content_explanation": (
            "The post was found to break the platform's rules on insults and harassment."
        ),
        "content_type": ["CONTENT_TYPE_TEXT"],
        "category": "STATEMENT_CATEGORY_CYBER_VIOLENCE",
        "category_specification": ["KEYWORD_CYBER_BULLYING_INTIMIDATION"],
        "content_language": "DE",
        "content_date": "2026-11-23",
        "application_date": "2026-11-24",
        "decision_facts": (
            "Automated means assessed the post beyond the threshold at which the platform's rules have it removed."
            " No person took part in the decision."
        ),
        "source_type": "SOURCE_VOLUNTARY",
        "automated_detection": "Yes",
        "automated_decision": "AUTOMATED_DECISION_FULLY",
        "territorial_scope": list(EEA),
        "puid": "seawall-7",
    }


@pytest.mark.parametrize(
    ("actor", "detected", "reported", "expected"),
    [
        ("model", False, True, ("Yes", "AUTOMATED_DECISION_FULLY", "SOURCE_VOLUNTARY")),
        ("review", True, False, ("Yes", "AUTOMATED_DECISION_PARTIALLY", "SOURCE_VOLUNTARY")),
        ("review", True, True, ("Yes", "AUTOMATED_DECISION_PARTIALLY", "SOURCE_VOLUNTARY")),
        ("review", False, True, ("No", "AUTOMATED_DECISION_NOT_AUTOMATED", "SOURCE_TYPE_OTHER_NOTIFICATION")),
        ("review", False, False, ("No", "AUTOMATED_DECISION_NOT_AUTOMATED", "SOURCE_VOLUNTARY")),
        ("appeal", False, False, ("No", "AUTOMATED_DECISION_NOT_AUTOMATED", "SOURCE_VOLUNTARY")),
    ],
)
def test_who_found_it_and_who_decided(actor: str, detected: bool, reported: bool, expected: tuple[str, ...]) -> None:
    found = said(actor=actor, detected=detected, reported=reported)
    assert (found["automated_detection"], found["automated_decision"], found["source_type"]) == expected
    assert ("A person reviewed it" in found["decision_facts"]) == (actor != "model")
    assert ("reported by users" in found["decision_facts"]) == (expected[2] == "SOURCE_TYPE_OTHER_NOTIFICATION")


def test_of_several_labels_the_gravest_is_the_category_and_the_others_are_added() -> None:
    found = said(labels=("misinformation", "abuse", "hate"))
    assert found["category"] == "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH"
    assert found["category_addition"] == [
        "STATEMENT_CATEGORY_CYBER_VIOLENCE",
        "STATEMENT_CATEGORY_NEGATIVE_EFFECTS_ON_CIVIC_DISCOURSE_OR_ELECTIONS",
    ]
    assert found["category_specification"][0] == "KEYWORD_HATE_SPEECH"
    assert len(found["category_specification"]) == 3


def test_which_label_is_the_gravest_the_policy_says() -> None:
    calmer = {**RULES, "hate": RULES["hate"].model_copy(update={"severity": "low"})}
    found = said(rules=calmer, labels=("misinformation", "hate", "abuse"))
    assert found["category"] == "STATEMENT_CATEGORY_CYBER_VIOLENCE"
    assert found["category_addition"][-1] == "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH"
    without = {name: rule for name, rule in RULES.items() if name != "hate"}
    assert said(rules=without, labels=("hate", "abuse"))["category"] == "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH"


@pytest.mark.parametrize("labels", [(), ("something new",)])
def test_what_no_category_fits_breaks_the_terms(labels: tuple[str, ...]) -> None:
    found = said(labels=labels)
    assert found["category"] == "STATEMENT_CATEGORY_OTHER_VIOLATION_TC"
    assert not {"category_addition", "category_specification"} & set(found)


def test_every_set_of_labels_makes_a_statement_that_fits() -> None:
    for size in range(len(BY_NAME) + 1):
        for labels in combinations(BY_NAME, size):
            found = said(labels=labels)
            assert found["category"] not in found.get("category_addition", [])
            assert set(found) <= SET_BY_US


@pytest.mark.parametrize(("language", "expected"), [("en", "EN"), ("und", None), (None, None), ("", None)])
def test_a_language_is_told_only_where_it_is_known(language: str | None, expected: str | None) -> None:
    assert said(language=language).get("content_language") == expected


def test_days_are_those_of_utc() -> None:
    late = datetime(2026, 11, 24, 23, 30, tzinfo=timezone(-timedelta(hours=5)))
    found = said(acted_at=late, created_at=late)
    assert (found["application_date"], found["content_date"]) == ("2026-11-25", "2026-11-25")


def test_a_clock_that_says_last_century_is_not_believed() -> None:
    assert said(created_at=datetime(1970, 1, 1, tzinfo=UTC))["content_date"] == "2000-01-01"


def test_what_a_post_consists_of_is_told() -> None:
    assert said(modalities=("text", "image"))["content_type"] == ["CONTENT_TYPE_TEXT", "CONTENT_TYPE_IMAGE"]


def test_what_the_platform_says_of_itself_is_taken_over() -> None:
    platform = Statements(
        puid_prefix="eu_1",
        visibility="DECISION_VISIBILITY_CONTENT_DISABLED",
        ground="Rules, section 3",
        ground_url="https://platform.example/rules",  # no secret
        territorial_scope=("DE", "AT"),
    )
    found = said(platform)
    assert found["puid"] == puid_of(7, platform) == "eu_1-7"
    assert found["decision_visibility"] == ["DECISION_VISIBILITY_CONTENT_DISABLED"]
    assert found["incompatible_content_ground"] == "Rules, section 3"
    assert found["decision_ground_reference_url"] == "https://platform.example/rules"
    assert found["territorial_scope"] == ["AT", "DE"]


def test_a_removal_has_nowhere_to_put_what_leads_to_a_person() -> None:
    assert not {"post_id", "author_id", "text", "community", "reporter_id"} & set(Removal.__dataclass_fields__)


@pytest.mark.parametrize("actor", ["model", "fuse", "review", "appeal"])
def test_a_retraction_names_the_statement_and_the_days(actor: str) -> None:
    made = retraction(Retraction(7, NOON, actor, NOON + timedelta(days=3)), PLATFORM)
    assert json.loads(checked_line(made, RETRACTION)) == {
        "puid": "seawall-7",
        "application_date": "2026-11-24",
        "retraction_date": "2026-11-27",
        "retracted_by": {"review": "REVIEW", "appeal": "APPEAL"}.get(actor, "AUTOMATED"),
    }


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"puid": "a b"}, "puid"),
        ({"category": "STATEMENT_CATEGORY_PORNOGRAPHY_OR_SEXUALIZED_CONTENT"}, "category"),  # of the schema before 2025
        ({"automated_decision": "Yes"}, "automated_decision"),
        ({"content_date": "24.11.2026"}, "content_date"),
        ({"content_date": "2026-02-30"}, "content_date"),
        ({"application_date": "2019-12-31"}, "application_date"),
        ({"territorial_scope": ["US"]}, "territorial_scope/0"),
        ({"territorial_scope": []}, "territorial_scope"),
        ({"decision_facts": "x" * 5001}, "decision_facts"),
        ({"incompatible_content_explanation": ""}, "incompatible_content_explanation"),
        ({"content_type": ["CONTENT_TYPE_TEXT", "CONTENT_TYPE_TEXT"]}, "content_type"),
        ({"author_id": "u-1"}, "the whole"),
    ],
)
def test_what_the_schema_does_not_allow_is_not_exported(changes: dict[str, Any], where: str) -> None:
    made = statement(REMOVAL, PLATFORM, RULES) | changes
    with pytest.raises(ValueError, match=rf"does not fit statement-of-reasons.json: {where}: "):
        checked_line(made, STATEMENT)


@pytest.mark.parametrize("missing", sorted(SET_BY_US))
def test_only_what_the_database_does_not_ask_for_may_be_missing(missing: str) -> None:
    made = statement(REMOVAL, PLATFORM, RULES)
    made.pop(missing, None)
    optional = {"decision_ground_reference_url", "category_addition", "category_specification", "content_language"}
    if missing in optional:
        checked_line(made, STATEMENT)
    else:
        with pytest.raises(ValueError, match=missing):
            checked_line(made, STATEMENT)


@pytest.mark.parametrize("name", [STATEMENT, RETRACTION])
def test_the_schemas_are_schemas_and_closed(name: str) -> None:
    schema = json.loads((SCHEMAS / name).read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) <= set(schema["properties"])


def test_the_schema_knows_what_can_be_configured() -> None:
    schema = json.loads((SCHEMAS / STATEMENT).read_text(encoding="utf-8"))
    assert set(schema["properties"]) == SET_BY_US
    visible = get_args(Statements.model_fields["visibility"].annotation)
    assert schema["properties"]["decision_visibility"]["items"]["enum"] == list(visible)
    assert schema["properties"]["territorial_scope"]["items"]["enum"] == list(EEA)
