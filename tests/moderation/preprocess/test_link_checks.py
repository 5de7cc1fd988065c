"""Links however they are written, their one form, and what is said of them. All names are made up or well known."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import ConfigError
from moderation.posts import LinkDecision
from moderation.preprocess.links import Blocklist, CheckedLink, KnownDomains, check_links, find_links
from moderation.preprocess.links.find import MOST_LINKS
from moderation.preprocess.links.hosts import _read_host, read_host
from moderation.preprocess.links.twins import one_edit_apart, skeleton
from moderation.settings import DEPLOYMENTS
from moderation.topology import Topology
from tests.moderation.properties import any_text, few, many, tricky_text
from tests.moderation.waiting import wait_until

TOPOLOGY = Topology.load(DEPLOYMENTS / "local.yaml")
RULES = TOPOLOGY.link_rules
LISTED = Blocklist(frozenset({"malware.example", "listed.my", "198.51.100.7"}))
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def checked(text: str) -> list[CheckedLink]:
    return check_links(text, LISTED, RULES)


def the_verdict(text: str) -> tuple[str, tuple[str, ...]]:
    (link,) = checked(text)
    return link.verdict, link.reasons


@pytest.mark.parametrize(
    ("text", "url", "canonical"),
    [
        # with a scheme, or www.
        ("see https://example.com/a?b=c#d.", "https://example.com/a?b=c#d", "https://example.com/a?b=c"),
        ("HTTP://WWW.Example.COM", "HTTP://WWW.Example.COM", "http://www.example.com/"),
        ("ftp://files.example.com/x", "ftp://files.example.com/x", "ftp://files.example.com/x"),
        ("www.example.com, they say", "www.example.com", "http://www.example.com/"),
        (r"{'u':'https:\/\/example.com\/x'}", r"https:\/\/example.com\/x", "https://example.com/x"),
        # bare
        ("example.com/path", "example.com/path", "http://example.com/path"),
        ("go to example.com.", "example.com", "http://example.com/"),
        ("Is it example.org?", "example.org", "http://example.org/"),
        ("EXAMPLE.COM!", "EXAMPLE.COM", "http://example.com/"),
        ("t.me/somebody", "t.me/somebody", "http://t.me/somebody"),
        ("example.co.in", "example.co.in", "http://example.co.in/"),
        ("my-example.is", "my-example.is", "http://my-example.is/"),
        ("example.net:8080/x", "example.net:8080/x", "http://example.net:8080/x"),
        ("somebody.github.io", "somebody.github.io", "http://somebody.github.io/"),
        ("//cdn.example.com/x.js", "cdn.example.com/x.js", "http://cdn.example.com/x.js"),
        ("well...example.com", "example.com", "http://example.com/"),
        # defanged
        ("hxxp://example[.]com/x", "hxxp://example[.]com/x", "http://example.com/x"),
        ("hXXps[:]//example(.)com", "hXXps[:]//example(.)com", "https://example.com/"),
        ("hxxp[://]example{.}com", "hxxp[://]example{.}com", "http://example.com/"),
        ("h**ps://example.com", "h**ps://example.com", "https://example.com/"),
        ("http[s]://example[.]com[/]x", "http[s]://example[.]com[/]x", "https://example.com/x"),
        ("example[.]com", "example[.]com", "http://example.com/"),
        ("example[.]name", "example[.]name", "http://example.name/"),
        ("a[.]b[.]example[.]co[.]uk", "a[.]b[.]example[.]co[.]uk", "http://a.b.example.co.uk/"),
        ("example(dot)com", "example(dot)com", "http://example.com/"),
        ("example [dot] com today", "example [dot] com", "http://example.com/"),
        ("example DOT com today", "example DOT com", "http://example.com/"),
        ("www dot example dot net", "www dot example dot net", "http://www.example.net/"),
        ("exemplo(ponto)com", "exemplo(ponto)com", "http://exemplo.com/"),
        (r"example\.com", r"example\.com", "http://example.com/"),
        # in other scripts
        ("пример.рф", "пример.рф", "http://xn--e1afmkfd.xn--p1ai/"),
        ("https://пример.рф/путь", "https://пример.рф/путь", "https://xn--e1afmkfd.xn--p1ai/%D0%BF%D1%83%D1%82%D1%8C"),
        ("xn--e1afmkfd.xn--p1ai", "xn--e1afmkfd.xn--p1ai", "http://xn--e1afmkfd.xn--p1ai/"),
        ("https://faß.de", "https://faß.de", "https://xn--fa-hia.de/"),  # IDNA 2003 would read fass.de
        ("https://i❤.ws", "https://i❤.ws", "https://xn--i-7iq.ws/"),
        ("https://例え.jp/道", "https://例え.jp/道", "https://xn--r8jz45g.jp/%E9%81%93"),
        ("看https://example.com，很好", "https://example.com", "https://example.com/"),
        ("看https://example.com看看", "https://example.com", "https://example.com/"),
        ("去example.com看看", "example.com", "http://example.com/"),
        ("见（https://example.com/x）。", "https://example.com/x", "https://example.com/x"),
        # hidden
        (
            "ｈｔｔｐｓ：／／ｅｘａｍｐｌｅ．ｃｏｍ／ｘ",
            "ｈｔｔｐｓ：／／ｅｘａｍｐｌｅ．ｃｏｍ／ｘ",
            "https://example.com/x",
        ),
        ("https://ex\u200bam\u00adple.com", "https://ex\u200bam\u00adple.com", "https://example.com/"),
        ("exam\u2060ple.com", "exam\u2060ple.com", "http://example.com/"),
        ("https://example。com/x", "https://example。com/x", "https://example.com/x"),
        ("https://𝐞𝐱𝐚𝐦𝐩𝐥𝐞.com", "https://𝐞𝐱𝐚𝐦𝐩𝐥𝐞.com", "https://example.com/"),
        ("https://ⓔxample.com", "https://ⓔxample.com", "https://example.com/"),
        (
            "https://example&#46;com/?a=1&amp;b=2",
            "https://example&#46;com/?a=1&amp;b=2",
            "https://example.com/?a=1&b=2",
        ),
        ("http://%65xample.com/", "http://%65xample.com/", "http://example.com/"),
        ("https://example.com\\x", "https://example.com\\x", "https://example.com/x"),
        # what stands beside it
        (
            "https://en.wikipedia.org/wiki/A_(b)",
            "https://en.wikipedia.org/wiki/A_(b)",
            "https://en.wikipedia.org/wiki/A_(b)",
        ),
        (
            "(https://en.wikipedia.org/wiki/A_(b))",
            "https://en.wikipedia.org/wiki/A_(b)",
            "https://en.wikipedia.org/wiki/A_(b)",
        ),
        ("**https://example.com/x**", "https://example.com/x", "https://example.com/x"),
        ("'https://example.com/x'", "https://example.com/x", "https://example.com/x"),
        ("“https://example.com/x”", "https://example.com/x", "https://example.com/x"),
        ("<https://example.com/x>", "https://example.com/x", "https://example.com/x"),
        ("`https://example.com/x`", "https://example.com/x", "https://example.com/x"),
        ("https://example.com/x…", "https://example.com/x", "https://example.com/x"),
        ("https://example.com/x&#8230;", "https://example.com/x", "https://example.com/x"),
        ("https://example.com...", "https://example.com", "https://example.com/"),
        ("[click](<https://example.com/x> 'title')", "https://example.com/x", "https://example.com/x"),
        (
            "[a](https://en.wikipedia.org/wiki/A_(b))",
            "https://en.wikipedia.org/wiki/A_(b)",
            "https://en.wikipedia.org/wiki/A_(b)",
        ),
        # one form
        ("http://example.com:80/", "http://example.com:80/", "http://example.com/"),
        ("https://example.com:0443", "https://example.com:0443", "https://example.com/"),
        ("https://example.com:8443/", "https://example.com:8443/", "https://example.com:8443/"),
        ("https://example.com/a/./b/../c/..", "https://example.com/a/./b/../c/", "https://example.com/a/c/"),
        ("https://example.com/../../x", "https://example.com/../../x", "https://example.com/x"),
        (
            "https://example.com/%7ea%2fb%c3%a9é",
            "https://example.com/%7ea%2fb%c3%a9é",
            "https://example.com/~a%2Fb%C3%A9%C3%A9",
        ),
        ("https://example.com/100%", "https://example.com/100%", "https://example.com/100%25"),
        (
            "example.com?utm_source=x&b=2&fbclid=y&a=1&gclid=z#d",
            "example.com?utm_source=x&b=2&fbclid=y&a=1&gclid=z#d",
            "http://example.com/?b=2&a=1",
        ),
        ("https://example.com/x?UTM_Medium=x", "https://example.com/x?UTM_Medium=x", "https://example.com/x"),
        ("https://example.com/x?utm=1", "https://example.com/x?utm=1", "https://example.com/x?utm=1"),
        ("https://user:secret@example.com/x", "https://user:secret@example.com/x", "https://example.com/x"),
        (r"https://example.com/a\_b", r"https://example.com/a\_b", "https://example.com/a_b"),
    ],
)
def test_a_link_is_found_as_written_and_brought_to_one_form(text: str, url: str, canonical: str) -> None:
    expected = url.rstrip(".") if text.endswith("/..") else url
    assert [(link.url, link.canonical) for link in find_links(text)] == [(expected, canonical)]


@pytest.mark.parametrize(
    "text",
    [
        "U.S.A.", "e.g. this", "i.e. that", "Ph.D.", "a.m./p.m.", "3.14", "1,000.50", "v1.2.3", "24.11.2026", "and/or",
        "node.js", "ASP.NET", "foo.py", "main.rs", "README.md", "setup.sh", "a/b/main.py", "src/example.com",
        "my-tool.py",
        "self.name", "os.path.join(x)", "logger.info('x')", "user.id", "app.run", "1.2.3.4", "10.0.0.0/8",
        "192.168.0.1",
        "Good idea.In fact", "love it.You know", "wait...what", "the end.", "amor.Com você", "was denn.Es ist so",
        "me@example.com", "first.last@mail.example.co.uk", "@user.name", "www.name@mail.example.com", r"C:\example.com",
        "the dot com bubble",
        "I do dot net development", "a yellow (dot) in the sky", "https://localhost:8000/x", "http://", "https://./",
        "www.",
        "http://t", "https://t…", "http://1.2.3.4.5/", "http://256.1.1.1/", "http://12/", "http://[::g]/", "什么.什么",
        "中文。好",
    ],
)  # fmt: skip
def test_what_only_resembles_a_link_is_none(text: str) -> None:
    assert find_links(text) == []


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ("https://news.bbc.co.uk/x", "bbc.co.uk"),
        ("https://www.google.com.br", "google.com.br"),
        ("https://a.b.somebody.github.io", "somebody.github.io"),
        ("https://github.io", "github.io"),
        ("https://a.b.example", "a.b.example"),
        ("https://магазин.пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("http://192.0.2.7/", "192.0.2.7"),
        ("http://[2001:DB8::0:1]/", "2001:db8::1"),
    ],
)
def test_the_registered_domain_is_that_of_the_public_suffix_list(written: str, domain: str) -> None:
    assert [link.domain for link in find_links(written)] == [domain]


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("3221226000", "192.0.2.16"),
        ("0xC0000210", "192.0.2.16"),
        ("0300.0.2.16", "192.0.2.16"),
        ("192.0.528", "192.0.2.16"),
        ("192.0.2.16.", "192.0.2.16"),
        ("[2001:db8:0:0:0:0:0:1]", "2001:db8::1"),
        ("EXAMPLE.com.", "example.com"),
        ("a_b.example.com", "a_b.example.com"),
        ("example", None),
        ("a..example.com", None),
        ("192.0.2.256", None),
        ("1.2.3.4.5", None),
        ("0x.0x1.2.3.4", None),
        ("[::1", None),
        (f"{'a' * 64}.com", None),
        (f"{'a.' * 126}com", None),
        (f"{'б' * 60}.com", None),
        ("a b.com", None),
        ("\ud800.com", None),
        ("", None),
        ("%", None),
        ("a" * 100_000, None),
    ],
)
def test_a_host_is_read_as_a_browser_reads_it(written: str, host: str | None) -> None:
    read = read_host(written)
    assert (read.name if read else None) == host


def test_a_name_that_is_listed_is_a_link_whatever_its_suffix() -> None:
    text = "is listed.my good? and malware.example? or other.my?"
    assert [link.host for link in find_links(text)] == []
    assert [link.host for link in find_links(text, LISTED)] == ["listed.my", "malware.example"]


def test_links_that_are_glued_together_are_two() -> None:
    text = "https://a.example.com/xhttps://b.example.com https://c.example.comhttps://d.example.com/"
    assert [link.host for link in find_links(text)] == [f"{letter}.example.com" for letter in "abcd"]
    (one,) = find_links("https://web.archive.org/web/2026/https://example.com/")
    assert one.domain == "archive.org"


def test_links_come_in_the_order_of_the_text_and_each_once() -> None:
    text = "b.example.com https://a.example.com c[.]example[.]com b.example.com"
    assert [link.url for link in find_links(text)] == ["b.example.com", "https://a.example.com", "c[.]example[.]com"]


def test_a_markdown_link_shows_what_its_text_names_only_where_that_is_another_domain() -> None:
    text = "[bank.com](https://evil.example/) [www.a.com](https://a.com) [my bank](https://b.com) [c.com](d.com)"
    assert [(link.host, link.text_host) for link in find_links(text)] == [
        ("evil.example", "bank.com"),
        ("a.com", None),
        ("b.com", None),
        ("d.com", "c.com"),
    ]
    assert [link.host for link in find_links("[example.com](nowhere) and [a.com] (b.com)")] == [
        "example.com",
        "a.com",
        "b.com",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # names that pass for others
        ("http://paypa1.com", "paypa1.com looks like paypal.com"),
        ("http://g00gle.com/x", "g00gle.com looks like google.com"),
        ("http://login.rnicrosoft.com", "rnicrosoft.com looks like microsoft.com"),
        ("http://vvikipedia.org", "vvikipedia.org looks like wikipedia.org"),
        ("http://face-book.com", "face-book.com looks like facebook.com"),
        ("http://lcloud.com", "lcloud.com looks like icloud.com"),
        ("http://páypal.com", "páypal.com looks like paypal.com"),
        ("http://gıthub.com", "gıthub.com looks like github.com"),
        ("gooogle.com", "gooogle.com looks like google.com"),
        ("www.facebok.com", "facebok.com looks like facebook.com"),
        ("https://twiter.com", "twiter.com looks like twitter.com"),
        ("https://amzaon.de/x", "amzaon.de looks like amazon.com"),
        ("https://microsoft1.top", "microsoft1.top looks like microsoft.com"),
        ("https://paypall.github.io", "paypall.github.io looks like paypal.com"),
        # brands in front of another domain
        (
            "http://paypal.com.evil.example/login",
            "paypal.com.evil.example contains paypal.com, but belongs to evil.example",
        ),
        ("http://www-paypal-com.evil.ru", "www-paypal-com.evil.ru contains paypal.com, but belongs to evil.ru"),
        ("http://apple.com-account.live", "apple.com-account.live contains apple.com, but belongs to com-account.live"),
        ("http://vk.com.login.tk", "vk.com.login.tk contains vk.com, but belongs to login.tk"),
        ("http://paypa1.com.login.tk", "paypa1.com.login.tk contains paypal.com, but belongs to login.tk"),
        # scripts
        ("https://хор.com", "хор in Cyrillic letters looks like xop"),
        ("https://shoр.example.com", "shoр mixes Cyrillic and Latin letters"),
        ("https://пример-shop.рф", "пример-shop mixes Cyrillic and Latin letters"),
        ("http://xn--google-.com", "xn--google- is no valid punycode"),
        ("http://xn--zzzzzzzzzz9999.com", "xn--zzzzzzzzzz9999 is no valid punycode"),
        # other tricks
        ("http://google.com@evil.example/", "it begins like a link to google.com, but leads to evil.example"),
        ("www.paypal.com@evil.example/x", "it begins like a link to www.paypal.com, but leads to evil.example"),
        ("http://google.com:80@evil.example/", "it begins like a link to google.com, but leads to evil.example"),
        ("https://user:secret@host.example/", "a user name stands before the host host.example"),
        ("http://192.0.2.7/x", "the host is the bare address 192.0.2.7"),
        ("192.0.2.7/login.php", "the host is the bare address 192.0.2.7"),
        ("192[.]0[.]2[.]7", "the host is the bare address 192.0.2.7"),
        ("http://[2001:db8::1]:8080/", "the host is the bare address 2001:db8::1"),
        ("http://3221226000/", "the host is the bare address 192.0.2.16, written in another way"),
        ("http://0xC0.0.2.0x10/", "the host is the bare address 192.0.2.16, written in another way"),
        ("[paypal.com](https://evil.example/x)", "its text names paypal.com, but it leads to evil.example"),
        ("[https://a.com/x](https://b.com/x)", "its text names a.com, but it leads to b.com"),
        ("https://a.example.com/setup.exe", "it downloads a program: setup.exe"),
        ("https://a.example.com/x/App.APK?v=2", "it downloads a program: App.APK"),
        ("https://a.example.com/saver.scr#x", "it downloads a program: saver.scr"),
        ("https://a.example.com/bill.pdf.exe", "it downloads a program that passes for a .pdf file: bill.pdf.exe"),
        (
            "https://a.example.com/photo.jpg%20.scr",
            "it downloads a program that passes for a .jpg file: photo.jpg .scr",
        ),
        ("https://evil.example/wiki/setup.exe", "it downloads a program: setup.exe"),
    ],
)
def test_a_sketchy_link_is_suspicious_and_the_reason_has_the_value(text: str, reason: str) -> None:
    assert the_verdict(text) == ("suspicious", (reason,))


def test_several_suspicions_are_all_told() -> None:
    assert the_verdict("https://xn--80ak6aa92e.com/") == (
        "suspicious",
        ("аррӏе in Cyrillic letters looks like apple", "аррӏе.com looks like apple.com"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "https://en.wikipedia.org/wiki/Phishing", "https://en.wikipedia.org/wiki/Setup.exe", "https://github.com/a/b",
        "https://github.com/a/b/blob/main/run.bat", "https://www.amazon.de/dp/B000", "bbc.co.uk", "google.com.br",
        "https://пример.рф", "пример.рф", "https://сор.рф", "https://привет.com", "https://münchen.de",
        "https://xn--mnchen-3ya.de", "https://ελλάδα.gr", "https://例え.jp", "https://例えexample.jp", "https://中国.cn",
        "https://한국.kr", "https://i❤.ws", "https://apple.stackexchange.com", "https://facebook.github.io/x",
        "https://finance.yahoo.com", "https://www.finance.com", "https://cloud.com", "https://switch.com",
        "https://paypay.ne.jp",
        "https://correos.es", "https://wikimedia.org", "https://gitlab.com", "https://telecom.example.com",
        "https://payday.com",
        "https://en-m-wikipedia-org.translate.goog/x", "https://www-bbc-co-uk.cdn.ampproject.org/c", "https://abc.com",
        "https://my.account.google.com/x", "https://paypal.com", "https://www.paypal.me/x",
        "https://a.example.com/x.pdf",
        "https://a.example.com/exe/index.html", "https://a.example.com/x.tar.gz", "https://a.example.com/?f=a.exe",
        "https://medium.com/@somebody/post", "https://a.example.com/x@y", "[example.com](https://www.example.com/x)",
        "[read this](https://a.example.com)", "[main.py](https://github.com/a/b)", "https://vk.com/somebody",
        "https://bit.ly", "https://spiegel.de/a.html", "https://www.gov.uk/x", "https://cl.example.com",
        "https://rn.example.com",
    ],
)  # fmt: skip
def test_an_honest_link_is_unlisted(text: str) -> None:
    assert the_verdict(text) == ("unlisted", ())


@pytest.mark.parametrize(
    ("text", "verdict", "reason"),
    [
        ("https://bit.ly/abc", "shortener", "bit.ly shortens links: where it leads is unknown"),
        ("is.gd/abc", "shortener", "is.gd shortens links: where it leads is unknown"),
        ("https://clck.ru/abc", "shortener", "clck.ru shortens links: where it leads is unknown"),
        ("https://dwz.cn/abc", "shortener", "dwz.cn shortens links: where it leads is unknown"),
        ("https://abc.page.link/x", "shortener", "page.link shortens links: where it leads is unknown"),
        ("https://www.youtube.com/watch?v=1", "external_video", "youtube.com shows videos, which are not analysed"),
        ("https://m.youtube.com/shorts/1", "external_video", "youtube.com shows videos, which are not analysed"),
        ("youtu.be/abc", "external_video", "youtu.be shows videos, which are not analysed"),
        ("https://player.vimeo.com/1", "external_video", "vimeo.com shows videos, which are not analysed"),
        ("https://vm.tiktok.com/x", "external_video", "tiktok.com shows videos, which are not analysed"),
        ("https://www.twitch.tv/x", "external_video", "twitch.tv shows videos, which are not analysed"),
        ("https://rutube.ru/video/1", "external_video", "rutube.ru shows videos, which are not analysed"),
        ("https://www.bilibili.com/video/1", "external_video", "bilibili.com shows videos, which are not analysed"),
        ("https://v.youku.com/x", "external_video", "youku.com shows videos, which are not analysed"),
        ("https://vk.com/video-1_2", "external_video", "vk.com shows videos, which are not analysed"),
        ("https://m.vk.com/video-1_2", "external_video", "vk.com shows videos, which are not analysed"),
        ("https://dai.ly/x", "external_video", "dai.ly shows videos, which are not analysed"),
        ("[youtube.com/x](https://youtu.be/x)", "external_video", "youtu.be shows videos, which are not analysed"),
        ("https://malware.example/x", "blocked", "malware.example is on the blocklist"),
        ("files[.]malware[.]example", "blocked", "malware.example is on the blocklist"),
        ("http://198.51.100.7", "blocked", "198.51.100.7 is on the blocklist"),
        (
            "https://www.google.com/url?q=https%3A%2F%2Ffiles.malware.example%2Fx&sa=D",
            "blocked",
            "it passes on to files.malware.example, and malware.example is on the blocklist",
        ),
        (
            "https://web.archive.org/web/2026/http://malware.example/",
            "blocked",
            "it passes on to malware.example, and malware.example is on the blocklist",
        ),
    ],
)
def test_a_link_is_told_for_what_it_is(text: str, verdict: str, reason: str) -> None:
    found, reasons = the_verdict(text)
    assert (found, reasons[0]) == (verdict, reason)


def test_the_gravest_verdict_holds_and_its_reasons_come_first() -> None:
    assert the_verdict("https://user@malware.example/x.exe") == (
        "blocked",
        (
            "malware.example is on the blocklist",
            "a user name stands before the host malware.example",
            "it downloads a program: x.exe",
        ),
    )
    assert the_verdict("https://user@bit.ly/x")[0] == "suspicious"
    assert the_verdict("https://youtube.com/x.exe")[0] == "suspicious"


def test_links_that_were_found_before_are_checked_alike() -> None:
    text = "https://malware.example https://paypa1.com listed.my"
    assert check_links(find_links(text, LISTED), LISTED, RULES) == checked(text)


def test_at_most_twenty_links_are_examined_and_the_rest_is_there_to_count() -> None:
    text = " ".join(f"https://site-{number}.example.com" for number in range(27))
    assert len(find_links(text)) == 27
    assert [link.domain for link in checked(text)] == ["example.com"] * 20


def test_a_long_value_is_cut_in_a_reason_and_not_in_the_url() -> None:
    text = f"https://a.example.com/{'x' * 500}.exe"
    (link,) = checked(text)
    assert link.url == text
    assert len(link.reasons[0]) < 120


# --- known domains


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ("google", "gogle", True), ("google", "gooogle", True), ("google", "goggle", True), ("google", "googel", True),
        ("google", "google", False), ("google", "gogel", False), ("google", "ggoole", False), ("ab", "ba", True),
        ("", "a", True), ("a", "bc", False), ("abc", "cba", False), ("google", "googles", True), ("google", "ogle",
        False),
    ],
)  # fmt: skip
def test_names_are_one_edit_apart_or_not(first: str, second: str, apart: bool) -> None:
    assert one_edit_apart(first, second) is apart
    assert one_edit_apart(second, first) is apart


def test_what_looks_alike_has_one_skeleton() -> None:
    assert len({skeleton(name) for name in ("paypal", "раураl", "paypai", "pay-pal", "pаypa1", "ρaypal")}) == 1
    assert len({skeleton(name) for name in ("modern", "modem", "rnodern", "m0dem")}) == 1
    assert skeleton("google") != skeleton("gogle")


def test_exact_names_are_imitated_by_looks_alone_and_known_ones_never_imitate(tmp_path: Path) -> None:
    path = tmp_path / "known.txt"
    path.write_text("# brands\nfinancia.com\nbinance.com exact  # finance\n", encoding="utf-8")
    known = KnownDomains.load(path)
    assert known.imitated_by("finance") is None
    assert known.imitated_by("blnance") == "binance.com"
    assert known.imitated_by("financa") == "financia.com"
    assert known.imitated_by("binance") is None
    assert known.covers("www.binance.com")
    assert not known.covers("binance.com.evil.example")


def test_an_ordinary_name_is_no_imitation_for_being_short() -> None:
    known = KnownDomains(near=["ebay.com", "bbc.com", "paypal.com"])
    assert known.imitated_by("abc") is None
    assert known.imitated_by("bay") is None
    assert known.imitated_by("6bc") is None
    assert known.imitated_by("eboy") is None
    assert known.imitated_by("ьbc") == "bbc.com"  # what is not ASCII was written so on purpose


# --- the blocklist


def rewrite(path: Path, content: str | bytes) -> None:
    """Another content, and surely another time: file systems count coarsely."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    written = path.with_suffix(".new")  # in one step: a list that is written in place may be read when it is half there
    written.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(written, ns=(before + 1_000_000_000, before + 1_000_000_000))
    written.replace(path)


def test_a_list_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.example\n", encoding="utf-8")
    blocklist = Blocklist.load(path, check_every=0)
    assert blocklist.reload_if_changed() is False
    rewrite(path, "b.example\nbücher.example\n")
    assert blocklist.reload_if_changed() is True
    assert blocklist.domains == {"b.example", "xn--bcher-kva.example"}
    assert blocklist.reload_if_changed() is False


def test_the_file_is_looked_at_no_more_than_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.example\n", encoding="utf-8")
    blocklist = Blocklist.load(path)
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert blocklist.reload_if_changed() is False
    rewrite(path, "b.example\n")
    clock[0] = 100.9
    assert blocklist.reload_if_changed() is False
    clock[0] = 101.0
    assert blocklist.reload_if_changed() is True


@pytest.mark.parametrize("content", [b"\xff\xfe\x00bad", None], ids=["no text", "gone"])
def test_a_list_that_cannot_be_read_is_logged_once_and_the_old_one_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.example\n", encoding="utf-8")
    blocklist = Blocklist.load(path, check_every=0)
    if content is None:
        path.unlink()
    else:
        rewrite(path, content)
    with caplog.at_level(logging.ERROR):
        assert [blocklist.reload_if_changed() for _ in range(3)] == [False] * 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "its 1 old domains hold" in caplog.text
    assert blocklist.matches("a.example") == "a.example"
    rewrite(path, "b.example\n")
    assert blocklist.reload_if_changed() is True


def test_lines_that_are_no_domain_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\ufeffa.example\n0.0.0.0 b.example\nlocalhost\n2001:DB8::1\n0xC0000210\n", encoding="utf-8")
    blocklist = Blocklist.load(path)
    assert blocklist.domains == {"a.example", "2001:db8::1", "192.0.2.16"}
    assert "2 lines are no domain and left out, the first is 2: '0.0.0.0 b.example'" in caplog.text
    assert blocklist.matches("2001:db8::1") == "2001:db8::1"


def test_a_list_without_a_file_never_changes() -> None:
    assert Blocklist(frozenset({"a.example"}), check_every=0).reload_if_changed() is False


def test_a_list_that_is_watched_is_read_again_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.example\n", encoding="utf-8")
    blocklist = Blocklist.load(path, check_every=0.01)
    blocklist.watch()
    blocklist.watch()
    watchers = [thread for thread in threading.enumerate() if thread.name == "watch-list.txt"]
    assert len(watchers) == 1
    for content, domain in (("b.example\n", "b.example"), (b"\xff\xfe", "b.example"), ("c.example\n", "c.example")):
        rewrite(path, content)
        wait_until(lambda expected={domain}: blocklist.domains == expected)  # type: ignore[misc]  # mypy infers no lambda with a default
    blocklist.unwatch()
    assert not watchers[0].is_alive()
    rewrite(path, "d.example\n")
    time.sleep(0.05)
    assert blocklist.domains == {"c.example"}
    assert blocklist.reload_if_changed() is True


def test_a_list_without_a_file_is_not_watched() -> None:
    blocklist = Blocklist(frozenset({"a.example"}))
    before = threading.active_count()
    blocklist.watch()
    assert threading.active_count() == before
    blocklist.unwatch()


def test_a_list_is_read_by_many_threads_while_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("always.example\nold.example\n", encoding="utf-8")
    blocklist = Blocklist.load(path, check_every=0)
    stop = threading.Event()
    missed: list[str] = []

    def read() -> None:
        while not stop.is_set():
            blocklist.reload_if_changed()
            if blocklist.matches("x.always.example") is None:
                missed.append("always.example")

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        other = tmp_path / "new.txt"
        lines = "".join(f"n{number}-{line}.example\n" for line in range(500))
        other.write_text(f"always.example\n{lines}", encoding="utf-8")
        os.utime(other, (number, number))
        other.replace(path)
    stop.set()
    for thread in threads:
        thread.join()
    blocklist.reload_if_changed()
    assert missed == []
    assert len(blocklist.domains) == 501
    assert blocklist.matches("n19-7.example") is not None


def test_a_long_list_covers_each_of_its_domains_in_clear_and_defanged(tmp_path: Path) -> None:
    suffixes = ("com", "ru", "co.uk", "com.br", "xyz", "my", "рф", "example")
    domains = [f"n{number}-x.{suffixes[number % len(suffixes)]}" for number in range(25_000)]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(domains), encoding="utf-8")
    blocklist = Blocklist.load(path)
    assert len(blocklist.domains) == 25_000
    for domain in domains[::250]:
        for text in (f"see {domain} now", f"see www.{domain}/x now", f"see {domain.replace('.', '[.]')} now"):
            assert [link.verdict for link in check_links(text, blocklist, RULES)] == ["blocked"], text


# --- what it means for the post


def a_link(verdict: Any, domain: str = "a.example", *reasons: str) -> LinkDecision:
    return LinkDecision(url=f"https://{domain}/", domain=domain, verdict=verdict, reasons=list(reasons))


@pytest.mark.parametrize(
    ("link", "reasons"),
    [
        (a_link("blocked"), ["link to a.example is blocked"]),
        (a_link("suspicious", "a.example", "one", "two"), ["link to a.example is suspicious: one"]),
        (a_link("shortener", "bit.ly"), ["link to bit.ly hides where it leads"]),
        (a_link("external_video"), []),
        (a_link("unlisted"), []),
    ],
)
def test_a_sketchy_link_sends_the_post_to_review_with_a_reason(link: LinkDecision, reasons: list[str]) -> None:
    verdict = TOPOLOGY.policy.decide({}, region="US", links=[link, link], now=NOW)
    assert verdict.review.reasons == reasons
    assert verdict.decision == ("review" if reasons else "allow")
    assert verdict.review.deadline == (NOW + timedelta(hours=24) if reasons else None)


def test_shorteners_may_be_let_through() -> None:
    links = [a_link("shortener", "bit.ly")]
    verdict = TOPOLOGY.policy.decide({}, region="US", links=links, now=NOW, review_shorteners=False)
    assert verdict.decision == "allow"


def test_a_flood_of_links_sends_the_post_to_review_and_says_how_many() -> None:
    links = [a_link("unlisted")] * 20
    verdict = TOPOLOGY.policy.decide({}, region="US", links=links, now=NOW, unexamined_links=7)
    assert verdict.decision == "review"
    assert verdict.review.reasons == ["27 links are a flood, only 20 were examined"]


# --- the topology's section


def topology_with(folder: Path, links: dict[str, Any]) -> Topology:
    raw = yaml.safe_load((DEPLOYMENTS / "local.yaml").read_text(encoding="utf-8"))
    raw |= {"policy": str(DEPLOYMENTS / "policies/default.yaml"), "blocklist": str(DEPLOYMENTS / "blocklist.txt")}
    path = folder / "topology.yaml"
    path.write_text(yaml.safe_dump(raw | {"links": links}), encoding="utf-8")
    return Topology.load(path)


def test_a_topology_may_bring_lists_and_bounds_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "known.txt").write_text("seawall.org\n", encoding="utf-8")
    (tmp_path / "short.txt").write_text("sea.example\n", encoding="utf-8")
    (tmp_path / "videos.txt").write_text("tube.example/Watch\n", encoding="utf-8")
    topology = topology_with(
        tmp_path,
        {
            "well_known": "known.txt",
            "shorteners": "short.txt",
            "video_hosts": "videos.txt",
            "executables": ["run"],
            "review_shorteners": False,
            "max_links": 6,
        },
    )
    text = (
        "http://seawal1.com http://sea.example/x http://bit.ly/x http://tube.example/watch?v=1 http://tube.example/ "
        "http://a.example.com/x.run http://a.example.com/x.exe"
    )
    assert [link.verdict for link in check_links(text, LISTED, topology.link_rules)] == [
        "suspicious",
        "shortener",
        "unlisted",
        "external_video",
        "unlisted",
        "suspicious",
    ]
    assert topology.links.review_shorteners is False


@pytest.mark.parametrize(
    ("links", "where"),
    [
        ({"max_links": 0}, "links.max_links"),
        ({"review_shorteners": "perhaps"}, "links.review_shorteners"),
        ({"short": "x"}, "links.short"),
        ({"shorteners": "gone.txt"}, "links.shorteners"),
        ({"well_known": "gone.txt"}, "links.well_known"),
        ({"video_hosts": "."}, "links.video_hosts"),
    ],
)
def test_a_wrong_field_of_the_section_is_named(tmp_path: Path, links: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        topology_with(tmp_path, links)
    assert caught.value.path == f"topology.yaml: {where}"


def test_the_lists_that_ship_contradict_neither_each_other_nor_themselves() -> None:
    lists = {
        name: [line.split("#")[0].strip() for line in (DEPLOYMENTS / "links" / f"{name}.txt").read_text().splitlines()]
        for name in ("well-known", "shorteners", "video-hosts")
    }
    for name, lines in lists.items():
        entries = [line for line in lines if line]
        assert len(entries) == len(set(entries)), name
        for entry in entries:
            host = read_host(entry.split()[0].partition("/")[0])
            assert host is not None, entry
            assert RULES.known.covers(host.name) or RULES.known.imitated_by(host.label) is None, entry
    assert not RULES.shorteners & set(RULES.videos)


# --- whatever is thrown at it

LENGTH = 40_000
HOSTILE = {
    "one word": "a", "labels": "a.", "dots": ".", "hyphens": "a-", "schemes": "http://", "defanged schemes": "h**p://",
    "half schemes": "http:", "userinfo": "http://x@", "www": "www.", "www and commas": "www.a,",
    "www and userinfo": "www.a@",
    "glued": "https://a.com/x", "redirects": "https://a.com/?u=", "brackets": "a[.]", "words in brackets": "a(dot)",
    "spoken dots": "a dot ", "open brackets": "[ ", "markdown": "[a](", "markdown links": "[a.co](http://b.co) ",
    "half markdown": "[a", "invisible": "\u200b", "invisible dots": "a\u200b.\u200b",
    "fullwidth": "ｈｔｔｐ：／／ａ．ｃｏ　",
    "entities": "&amp;", "half entities": "&#1", "Chinese": "中.", "names in Chinese": "中a.co", "marks": "a\u0301",
    "IPv6": "http://[::1]", "numbers": "1.", "surrogates": "http://\ud800.com ", "escapes": "a\\.",
    "addresses": "a@a.co ",
    "executables": ".exe", "brands": "paypal.com.", "slashes": "https:////", "underscores": "a_.",
}  # fmt: skip
TAILS = {
    "userinfo without end": ("http://", "u@"), "host without end": ("http://", "a"), "labels without end": ("http://",
    "a."),
    "IDN without end": ("http://", "б"), "percent signs": ("http://a.co/", "%"), "escaped letters": ("http://", "%41"),
    "dot segments": ("http://a.co/", "a/../"), "escaped dots": ("http://a.co/", "%2e%2e/"), "queries": ("http://a.co/?",
    "a=1&"),
    "tracking": ("http://a.co/?", "utm_a=1&"), "carried links": ("http://a.co/?", "u=http://b.co&"),
    "brackets to close": ("http://a.co/", ")"), "brackets to open": ("http://a.co/", "("),
    "full stops": ("http://a.co/", "."),
    "colons": ("http://[", ":"), "hexadecimal": ("http://0x", "f"), "decimal": ("http://", "1"),
    "punycode": ("http://xn--", "a"),
    "long markdown text": ("[", "a"), "long IDN labels": ("http://", "б."),
}  # fmt: skip
DIFFERENT = {
    "different names": "{0:x}.co ", "different links": "http://{0:x}.co/{0}?a={0} ",
    "different IDN": "http://б{0:x}.рф ",
    "different brands": "paypa{0}.com ", "different addresses": "http://1.{0}/ ",
}  # fmt: skip
HOSTILE_TEXTS = {
    **{name: piece * (LENGTH // len(piece)) for name, piece in HOSTILE.items()},
    **{name: head + piece * ((LENGTH - len(head)) // len(piece)) for name, (head, piece) in TAILS.items()},
    **{name: "".join(map(form.format, range(LENGTH // 7)))[:LENGTH] for name, form in DIFFERENT.items()},
}


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_no_text_takes_more_than_time_in_proportion_to_its_length(name: str) -> None:
    text = HOSTILE_TEXTS[name]
    begun = time.thread_time()
    found = find_links(text, LISTED)
    links = check_links(found, LISTED, RULES)
    spent = time.thread_time() - begun
    assert all(link.url in text for link in found)
    assert len(links) == min(len(found), 20)
    assert len(found) <= 2 * MOST_LINKS
    # No measurement: what is linear takes hundredths of a second, what is quadratic takes many seconds.
    assert spent < 5.0


@many
@given(
    st.one_of(any_text, tricky_text).map(lambda text: f"http://{text} www.{text} {text}.com hxxp://a[.]{text}/{text}")
)
def test_no_text_breaks_the_search_or_the_checks(text: str) -> None:
    found = find_links(text, LISTED)
    assert found == find_links(text, LISTED)
    for link in found:
        assert link.url in text
        assert link.host.isascii()
        assert link.host == link.host.lower()
        assert link.host.endswith(link.domain)
        assert link.canonical.isascii()
        assert [again.host for again in find_links(f"<{link.canonical}>")][:1] == [link.host]
    for checked_link in check_links(found, LISTED, RULES):
        assert bool(checked_link.reasons) == (checked_link.verdict != "unlisted")


@few
@given(st.text(st.sampled_from("aé/.?#%=&+\\ ü2eE"), max_size=20))
def test_the_canonical_form_is_its_own_canonical_form(tail: str) -> None:
    for link in find_links(f"https://example.com/{tail}"):
        once = link.canonical
        assert [again.canonical for again in find_links(f"<{once}>")] == [once.rstrip(".?")]


def test_no_link_is_ever_opened_and_no_list_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    _read_host.cache_clear()
    assert [link.domain for link in checked("https://never-seen.example.co.uk/x bit.ly/x")] == [
        "example.co.uk",
        "bit.ly",
    ]
