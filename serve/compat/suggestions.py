"""What a suggested score is in the ledger: a post and a label of it, with ids that follow from what they say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from moderation.posts import LabelIn, PostIn
from serve.compat.comments import check_score_type, unknown_attribute
from serve.compat.google import PerspectiveError
from serve.compat.labels import ATTRIBUTES
from serve.compat.perspective_wire import MAX_COMMUNITY_CHARACTERS, AttributeScores, Score
from serve.compat.spans import utf16_length

COMMUNITY = "perspective"
"""Of a comment whose request names none."""
REGION = "ZZ"
"""Unknown, in CLDR's words: Perspective's requests name no region."""


def suggested_labels(suggested: Mapping[str, AttributeScores] | None, text: str) -> dict[str, bool]:
    """Suggested scores -> labels: true above 0.5, false below.

    Raises:
        PerspectiveError: there are none; one is of an attribute without a label, of no probability, of parts of the
            text alone, or 0.5, which says neither; or two attributes of one label say different things.
    """
    if not suggested:
        raise PerspectiveError("attribute_scores must not be empty")
    labels: dict[str, bool] = {}
    for name, scores in suggested.items():
        label = ATTRIBUTES.get(name)
        if label is None:
            raise unknown_attribute(name, [known for known, found in ATTRIBUTES.items() if found])
        for index, span in enumerate(scores.span_scores or []):
            where = f"{name}.spanScores[{index}]"
            if span.begin is None or span.end is None or not 0 <= span.begin < span.end <= utf16_length(text):
                message = (
                    f"{where}: [{span.begin}, {span.end}) is no part of the text's {utf16_length(text)} UTF-16 units"
                )
                raise PerspectiveError(message)
            _probability(span.score, name, where)
        if scores.summary_score is None:
            raise PerspectiveError(f"{name}: a label is of the whole comment, so a summaryScore is needed")
        value = _probability(scores.summary_score, name, f"{name}.summaryScore")
        if value == 0.5:
            raise PerspectiveError(f"{name}: 0.5 says neither that it is so nor that it is not; no label follows")
        if labels.setdefault(label, value > 0.5) != (value > 0.5):
            raise PerspectiveError(f"{name} contradicts another attribute: both are the label {label!r} here")
    return labels


def _probability(score: Score | None, name: str, where: str) -> float:
    if score is None or score.value is None:
        raise PerspectiveError(f"{where}: no score is set")
    check_score_type(score.type, name)
    if not 0 <= score.value <= 1:
        raise PerspectiveError(f"{where}: the score is {score.value}, a probability lies in [0, 1]")
    return score.value


def post_of(text: str, languages: Sequence[str], community: str | None, at: datetime) -> tuple[str, PostIn]:
    """A comment as a post, and its id: the same comment in the same community is the same post.

    Args:
        text: of the comment.
        languages: ISO 639 codes, as told; a post takes a single one, of none or several it is detected.
        community: as told; None: `COMMUNITY`.
        at: when it was created, as far as anybody knows.

    Raises:
        PerspectiveError: the community is too long.
    """
    if community and len(community) > MAX_COMMUNITY_CHARACTERS:
        raise PerspectiveError(f"community_id has {len(community)} characters, the bound is {MAX_COMMUNITY_CHARACTERS}")
    where = community or COMMUNITY
    language = languages[0] if len(languages) == 1 else None
    post_id = f"perspective-{_digest([text, where, language])}"
    # Who wrote it is not known: an author of its own keeps it apart from the others, and out of their record.
    return post_id, PostIn(
        author_id=post_id, community=where, region=REGION, language=language, created_at=at, text=text
    )


def label_of(post_id: str, labels: Mapping[str, bool], said_by: Sequence[str | None], at: datetime) -> LabelIn:
    """The labels of a suggestion. Its id follows from the post, what is said, and the tokens of who says it."""
    said = sorted(labels.items())
    return LabelIn(
        id=f"perspective-{_digest([post_id, said, list(said_by)])}",
        post_id=post_id,
        labels=dict(said),
        source="platform",
        labelled_at=at,
    )


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said, ensure_ascii=False).encode()).hexdigest()
