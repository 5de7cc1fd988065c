"""Which addresses may be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.media import Refused
from serve.media.addresses import HttpsTarget, S3Target, host_name, is_public, read_https, read_s3

HOSTS = frozenset({"media.example", "xn--bcher-kva.example", "10.0.0.1"})
PORTS = frozenset({443, 8443})

PUBLIC = """
    1.1.1.1 8.8.8.8 93.184.216.34 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 172.15.255.255 172.32.0.0
    192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 168.63.129.15
    9.255.255.255 11.0.0.0
    2606:4700:4700::1111 2a00:1450:4001:80b::200e 2001:4860:4860::8888 2400:cb00::1 2001:200::1
    64:ff9b::808:808 64:ff9b::5db8:d822
"""
PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.0 10.0.0.1 10.255.255.255 100.64.0.0 100.100.100.200 100.127.255.255 127.0.0.1
    127.255.255.255
    168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1
    192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1
    255.255.255.255
    :: ::1 ::2 ::10.0.0.1 ::8.8.8.8 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::ffff:8.8.8.8 ::ffff:0:8.8.8.8
    64:ff9b::a00:1 64:ff9b::a9fe:a9fe 64:ff9b::7f00:1 64:ff9b:1::1 64:ff9b:1::808:808 100::1
    2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:10::1 2001:20::1 2001:db8::1 2002:a00:1:: 2002:a9fe:a9fe::1
    2002:808:808::1 3fff::1 5f00::1 4000::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 2606:4700::1%eth0 febf::1
    fec0::1 ff02::1 ff0e::1 2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:a00:1
    localhost 2130706433 0x7f000001 127.1 010.0.0.1 1.1.1.1/32 [::1]
"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", ["", *PRIVATE.split()])
def test_any_other_is_not(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_that_carries_another_is_never_more_public_than_it(address: object) -> None:
    carried = str(address)
    assert not is_public(f"::ffff:{carried}")
    assert not is_public(f"::{carried}")
    assert is_public(f"64:ff9b::{carried}") == is_public(carried)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://media.example", HttpsTarget("media.example", 443, "/")),
        ("https://media.example/a.jpg", HttpsTarget("media.example", 443, "/a.jpg")),
        ("HTTPS://Media.EXAMPLE./a?b=c#d", HttpsTarget("media.example", 443, "/a?b=c")),
        ("https://media.example:8443/a", HttpsTarget("media.example", 8443, "/a")),
        ("https://media.example:/a", HttpsTarget("media.example", 443, "/a")),
        ("https://bücher.example/ü%20x", HttpsTarget("xn--bcher-kva.example", 443, "/%C3%BC%20x")),
        ("https://BÜCHER。example/", HttpsTarget("xn--bcher-kva.example", 443, "/")),
        ("https://media.example?a=<b>", HttpsTarget("media.example", 443, "/?a=%3Cb%3E")),
        ("https://media.example/../../x", HttpsTarget("media.example", 443, "/../../x")),
    ],
)
def test_a_listed_host_may_be_read(uri: str, expected: HttpsTarget) -> None:
    assert read_https(uri, HOSTS, PORTS) == expected


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("https://other.example/", "the host 'other.example', which is not listed"),
        ("https://media.example.evil.example/", "not listed"),
        ("https://evil.example#media.example", "not listed"),
        ("https://evil.example?media.example", "not listed"),
        ("https://169.254.169.254/latest/meta-data", "not listed"),
        ("https://2130706433/", "not listed"),
        ("https://[::1]/", "not listed"),
        ("https://[::1%25eth0]/", "not listed"),
        ("https://media%2eexample/", "not listed"),
        ("https:///media.example/", "the host '', which is not listed"),
        ("https://media.example..", "not listed"),
        ("https://user@media.example/", "user information"),
        ("https://media.example:secret@media.example/", "user information"),
        ("https://media.example@evil.example/", "user information"),
        ("https://media.example\\@evil.example/", "backslash"),
        ("https://media.example:22/", "the port 22, which is not listed"),
        ("https://media.example:0/", "the port 0"),
        ("https://media.example:99999/", "is no URL"),
        ("https://media.example:4x3/", "is no URL"),
        ("https://[::1/", "is no URL"),
        ("https://media.example/a b", "a blank"),
        ("https://media.example/a\r\nHost: evil.example", "a control character"),
        ("https://me\tdia.example/", "a control character"),
    ],
)
def test_any_other_may_not(uri: str, why: str) -> None:
    refused = read_https(uri, HOSTS, PORTS)
    assert isinstance(refused, Refused)
    assert refused.code == "not_allowed"
    assert why in refused.detail


@given(st.text(max_size=60))
def test_whatever_follows_the_scheme_is_read_or_refused(rest: str) -> None:
    target = read_https(f"https://{rest}", HOSTS, PORTS)
    assert isinstance(target, Refused) or (target.host in HOSTS and target.port in PORTS and target.path.isascii())


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", "-a.example", "a" * 64, "a." * 127 + "ab", "a b", "ü\u200d.", "::1", "a%b"]
)
def test_what_is_no_name_is_none(name: str) -> None:
    assert host_name(name) is None


@pytest.mark.parametrize("key", ["a.jpg", "a/b/c.jpg", "a%20b?c#d", "ü/猫.png", "a b", ".hidden", "a..b", "k" * 1024])
def test_a_key_is_taken_as_it_is_written(key: str) -> None:
    assert read_s3(f"s3://uploads/{key}", {"uploads"}) == S3Target("uploads", key)
    assert read_s3(f"s3://uploads/{key}", {"*"}) == S3Target("uploads", key)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("s3://other/a", "the bucket 'other', which is not listed"),
        ("s3://", "not listed"),
        ("s3://UPLOADS/a", "not listed"),
        ("s3://uploads:80/a", "not listed"),
        ("s3://uploads", "a key of 0 bytes"),
        ("s3://uploads/", "a key of 0 bytes"),
        ("s3://uploads/" + "ü" * 600, "a key of 1200 bytes; the bound is 1 to 1024"),
        ("s3://uploads/../other/a", "a segment '.' or '..'"),
        ("s3://uploads/a/./b", "a segment '.' or '..'"),
        ("s3://uploads/a\nb", "cannot be shown"),
    ],
)
def test_any_other_bucket_or_key_is_not(uri: str, why: str) -> None:
    refused = read_s3(uri, {"uploads"})
    assert isinstance(refused, Refused)
    assert refused.code == "not_allowed"
    assert why in refused.detail
