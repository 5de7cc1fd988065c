"""What a Perspective request says: checked, in the order and with the errors of Perspective."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from moderation.posts import LANGUAGE_TAG, shortest_code
from moderation.preprocess.language import UNDETERMINED, detect_language
from serve.compat.google import PerspectiveError
from serve.compat.labels import ATTRIBUTES, scored_names
from serve.compat.perspective_wire import SCORE_TYPES, TEXT_TYPES, AnalyzeCommentRequest, Context, TextEntry

MAX_LANGUAGES = 8
"""Languages that a request may name."""

_TAG = re.compile(LANGUAGE_TAG)


@dataclass(frozen=True, slots=True)
class Asked:
    """An attribute that is asked for, and scored here in some language.

    Attributes:
        name: as asked.
        label: that it stands for.
        threshold: scores below it are not returned; None: all are.
    """

    name: str
    label: str
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Languages:
    """What language a comment is in.

    Attributes:
        requested: as the request says, as ISO 639 codes, each once.
        detected: from the text; None: undetermined.
        chosen: in which the comment is scored; None: nobody knows.
        likely: where nobody knows: in which it may be.
    """

    requested: tuple[str, ...]
    detected: str | None
    chosen: str | None
    likely: tuple[str, ...] = ()


def check_comment(comment: TextEntry | None, context: Context | None, max_characters: int) -> str:
    """The comment's text.

    Raises:
        PerspectiveError: it is empty, too long or no plain text, or the context is of two kinds.
    """
    text = (comment.text if comment else None) or ""
    if not text:
        raise PerspectiveError("Comment must be non-empty.", "COMMENT_EMPTY")
    if len(text) > max_characters:
        message = f"Comment text too long: {len(text)} characters, the bound is {max_characters}."
        raise PerspectiveError(message, "COMMENT_TOO_LONG")
    entries = [comment]
    if context is not None:
        both = context.article_and_parent_comment
        if both is not None and context.entries:
            message = "Context can have either entries or article_and_parent_comment, but both fields were populated."
            raise PerspectiveError(message)
        entries += [both.article, both.parent_comment] if both else context.entries or []
    for entry in entries:
        kind = (entry.type if entry else None) or TEXT_TYPES[0]
        if kind not in TEXT_TYPES:
            raise PerspectiveError(f"Unknown text type: {kind[:64]}")
        if kind == "HTML":
            raise PerspectiveError("Currently, only 'PLAIN_TEXT' comments are supported")
    return text


def asked_of(body: AnalyzeCommentRequest, labels: Collection[str], *, omit: bool) -> tuple[list[Asked], list[str]]:
    """The attributes that are asked for and scored, and the names of Perspective's others, which are left out.

    Args:
        body: of the request.
        labels: that some model scores.
        omit: False: an attribute that no model scores is an error, unless the request would have it dropped.

    Raises:
        PerspectiveError: there are none, one is unknown, or scored by no model, or a score type is not to be had.
    """
    if not body.requested_attributes:
        raise PerspectiveError("Missing requested_attributes", "NO_REQUESTED_ATTRIBUTES")
    scored = scored_names(ATTRIBUTES, ATTRIBUTES, labels)
    asked: list[Asked] = []
    omitted: list[str] = []
    for name, parameters in body.requested_attributes.items():
        if name not in scored and not (name in ATTRIBUTES and (omit or body.drop_unsupported_attributes)):
            raise unknown_attribute(name, scored)
        check_score_type(parameters.score_type, name)
        if name in scored:
            asked.append(Asked(name, scored[name], parameters.score_threshold))
        else:
            omitted.append(name)
    return asked, omitted


def unknown_attribute(name: str, scored: Collection[str]) -> PerspectiveError:
    """No model gives this attribute a number, so there is none."""
    return PerspectiveError(f"Unknown requested attribute: {name[:64]}. Known here: {', '.join(scored)}")


def check_score_type(kind: str | None, name: str) -> None:
    """A probability is all that there is.

    Raises:
        PerspectiveError: another type is asked for, or said.
    """
    if kind not in (None, "SCORE_TYPE_UNSPECIFIED", "PROBABILITY"):
        shown = kind if kind in SCORE_TYPES else repr(kind[:64])
        raise PerspectiveError(f"Requested score type {shown} is not supported by attribute {name}")


def languages_of(told: Sequence[str] | None, text: str) -> Languages:
    """Told and detected language. Of several that are told, the detected one is chosen if it is among them.

    Raises:
        PerspectiveError: a code is none, or there are too many.
    """
    told = told or []
    if len(told) > MAX_LANGUAGES:
        raise PerspectiveError(f"{len(told)} languages, the bound is {MAX_LANGUAGES}")
    codes: dict[str, None] = {}
    for code in told:
        if _TAG.fullmatch(code) is None:
            raise PerspectiveError(f"Invalid language code: {code[:64]!r}")
        codes[shortest_code(code)] = None
    requested = tuple(codes)
    found = detect_language(text)
    detected = None if found.code == UNDETERMINED else found.code
    chosen = detected if detected in requested or not requested else requested[0]
    return Languages(requested, detected, chosen, found.likely if chosen is None else ())
