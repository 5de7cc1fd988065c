"""Links, their domains, and the list of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.preprocess.links import Blocklist, find_links
from tests.moderation.properties import any_text, few, tricky_text

BAD = Blocklist(frozenset({"malware.example"}))


@pytest.mark.parametrize(
    ("text", "url", "host"),
    [
        ("https://example.org/a?b#c", "https://example.org/a?b#c", "example.org"),
        ("HTTPS://Example.ORG/A", "HTTPS://Example.ORG/A", "example.org"),
        ("www.example.org", "www.example.org", "www.example.org"),
        ("http://example.org:8080/", "http://example.org:8080/", "example.org"),
        ("https://good.example@evil.example/", "https://good.example@evil.example/", "evil.example"),
        ("https://example.org./x", "https://example.org./x", "example.org"),
        ("https://192.0.2.7/x", "https://192.0.2.7/x", "192.0.2.7"),
        ("https://bücher.example/x", "https://bücher.example/x", "xn--bcher-kva.example"),
        ("https://пример.example", "https://пример.example", "xn--e1afmkfd.example"),
        ("https://ex\u00adample.org", "https://ex\u00adample.org", "example.org"),
        ("(see https://example.org/x).", "https://example.org/x", "example.org"),
        ("https://example.org/x!?", "https://example.org/x", "example.org"),
        ('<a href="https://example.org/x">', "https://example.org/x", "example.org"),
    ],
)
def test_a_link_is_found_with_its_host(text: str, url: str, host: str) -> None:
    assert [(link.url, link.host) for link in find_links(text)] == [(url, host)]


@pytest.mark.parametrize(
    "text",
    ["", "https://", "https://localhost/x", "http://[bad/", "https://.../", "www."],
)
def test_what_only_looks_like_a_link_is_left_out(text: str) -> None:
    assert find_links(text) == []


def test_links_come_in_order_and_each_once() -> None:
    text = "https://b.example/ https://a.example/ www.c.example https://b.example/ https://b.example/2"
    assert [link.url for link in find_links(text)] == [
        "https://b.example/",
        "https://a.example/",
        "www.c.example",
        "https://b.example/2",
    ]


@pytest.mark.parametrize(
    ("domain", "match"),
    [
        ("malware.example", "malware.example"),
        ("files.malware.example", "malware.example"),
        ("a.b.c.malware.example", "malware.example"),
        ("notmalware.example", None),
        ("malware.example.org", None),
        ("example", None),
        ("", None),
    ],
)
def test_a_listed_domain_covers_its_subdomains_only(domain: str, match: str | None) -> None:
    assert BAD.matches(domain) == match


def test_the_nearest_listed_domain_is_named() -> None:
    blocklist = Blocklist(frozenset({"malware.example", "files.malware.example"}))
    assert blocklist.matches("x.files.malware.example") == "files.malware.example"


def test_a_list_is_read_without_comments_case_and_space(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# bad\n\n  Malware.Example  # since May\nphish.example\r\n#off.example\n", encoding="utf-8")
    assert Blocklist.load(path).domains == {"malware.example", "phish.example"}


def test_a_listed_domain_in_another_script_is_matched(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("bücher.example\n", encoding="utf-8")
    (link,) = find_links("https://shop.bücher.example/x")
    assert Blocklist.load(path).matches(link.host) == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "text",
    [
        "https://malware.example",
        "https://user:secret@files.malware.example:99999/x",
        "https://mal\u200bware.example/",
        "https://files。malware.example/",
        "www.malware.example/go?to=https://example.org",
        "www.malware.example//x",
        "看 https://malware.example。",
        "看https://malware.example，很好",
        "真的吗 https://malware.example？",
        "https://malware。example/x",
        "https://malware.example.\u200b",
        "https://malware.example\\x",
    ],
)
def test_a_listed_domain_is_found_however_it_is_written(text: str) -> None:
    assert [BAD.matches(link.host) for link in find_links(text)] == ["malware.example"]


@few
@given(st.one_of(any_text, tricky_text).map(lambda text: f"https://{text} www.{text}"))
def test_no_text_at_all_breaks_the_search(text: str) -> None:
    for link in find_links(text):
        assert link.url in text
        assert "." in link.host or ":" in link.host
        assert link.host == link.host.lower()
        assert link.host.isascii()
        assert BAD.matches(link.host) is None


def test_many_marks_without_a_user_take_no_time() -> None:
    # Many times as long, if what may be a user were looked for at each of them.
    assert len(find_links("www.a," * 200_000)) == 0
    assert [link.userinfo for link in find_links("www.ann@example.org/x " + "www.a," * 1000)] == ["www.ann"]
