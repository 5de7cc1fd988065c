"""What is quoted, and what is an author's own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.posts.quotation import own_words

INSULT = "you are a stupid idiot"
REBUKE = "Please be kind."


@pytest.mark.parametrize(
    "quoted",
    [
        f"> {INSULT}\n\n{REBUKE}",
        f">{INSULT}\r\n\r\n{REBUKE}",
        f"&gt; {INSULT}\n\n{REBUKE}",
        f"&#62;{INSULT}\n\n{REBUKE}",
        f"  > {INSULT}\n\n{REBUKE}",
        f"> > {INSULT}\n>> and so on\n> no\n\n{REBUKE}",
        f"> you are\n> a stupid\nidiot\n\n{REBUKE}",  # lazily
        f"> {INSULT}\n>\n{REBUKE}",  # an empty line of a quotation ends its paragraph
        f"{REBUKE}\n> {INSULT}",
        f"＞ {INSULT}\n\n{REBUKE}",
        f"[quote]{INSULT}[/quote]{REBUKE}",
        f'[QUOTE="Ann, post: 7"]\n[quote]hi there[/quote]{INSULT}\n[/QUOTE]\n{REBUKE}',
        f"<blockquote>{INSULT}\n\n{INSULT}</blockquote>{REBUKE}",
        f"&lt;blockquote class=x&gt;{INSULT}&lt;/blockquote&gt;{REBUKE}",
        f"<q>{INSULT}</q> {REBUKE}",
        f"@ann wrote:\n{INSULT}\nand more\n\n{REBUKE}",
        f"@ann_b-c said: {INSULT}\n{REBUKE}",
        f"u/ann wrote:\n> {INSULT}\n\n{REBUKE}",
        f"On Mon, Nov 3, 2025 at 10:12 AM Ann Lee <ann@example.org> wrote:\n> {INSULT}\n\n{REBUKE}",
        f"Am 3. November 2025 um 10:12 schrieb:\n{INSULT}\n\n{REBUKE}",
        f"Анна написала: {INSULT}\n{REBUKE}",
        f"张三写道：{INSULT}\n{REBUKE}",
        f"“{INSULT}” {REBUKE}",
        f'"{INSULT}" {REBUKE}',
        f"&quot;{INSULT}&quot; {REBUKE}",
        f"„{INSULT}“ {REBUKE}",
        f"«{INSULT}» {REBUKE}",
        f"»{INSULT}« {REBUKE}",
        f"「你是白痴」{REBUKE}",
        f"‘{INSULT}’ {REBUKE}",
    ],
)
def test_what_is_quoted_is_left_out(quoted: str) -> None:
    assert own_words(quoted) == REBUKE


@pytest.mark.parametrize(
    "text",
    [
        "",
        INSULT,
        f">!{INSULT}!<",  # a spoiler
        "5 > 3, and that -> this",
        f"[quote]{INSULT}",  # without an end
        f"{INSULT}[/quote]",
        f"<blockquote>{INSULT}",
        'you are an "idiot"',  # one word in quotation marks is said all the same
        'a 12" and a 13" screen',
        "don't, it's 'fine'",
        f"I wrote: {INSULT}",
        f"Note: {INSULT}",
        f'" {INSULT}',
        f'"{INSULT}\n\nand no end',
        "Ann said://example.org",
    ],
)
def test_what_is_no_quotation_is_an_author_s_own(text: str) -> None:
    assert own_words(text) is None


@pytest.mark.parametrize(
    "text",
    [f"> {INSULT}", "> you\n> are\n> an\n> idiot", f"[quote]{INSULT}[/quote]", f'"{INSULT}"', f"> {INSULT}\nlol"],
)
def test_of_nothing_but_quotation_nothing_is_left(text: str) -> None:
    assert own_words(text) == ""


def test_what_is_said_between_quotations_stays() -> None:
    text = f"> {INSULT}\n\nNo.\n\n> {INSULT}\n\n- Never\n- again\n\n[quote]x[/quote] “{INSULT}” he said, and left."
    assert own_words(text) == "No.\n\n\n- Never\n- again\n\n\n\n   he said, and left."
    assert own_words(f"> {INSULT}\n- {REBUKE}") == f"- {REBUKE}"  # a list ends the paragraph


@pytest.mark.parametrize(
    "text",
    ["> " * 20_000, '"' * 40_000, "“a " * 13_000, "[quote]" * 5_000, "[quote][/quote]" * 2_000, "On a:00 " * 5_000],
)
def test_no_text_is_too_odd(text: str) -> None:
    own_words(text)


@given(st.text(alphabet='>“”"«»[]/quote<b &gt;:\n a', max_size=60))
def test_own_words_are_words_of_the_text(text: str) -> None:
    own = own_words(text)
    if own is not None:
        assert set(re.findall("[a-z]+", own)) <= set(re.findall("[a-z]+", text))
