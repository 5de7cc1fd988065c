"""docs/configuration.md says what the models say."""

import pytest
from pydantic import BaseModel, ConfigDict, Field

from moderation.policy import Rule
from moderation.topology import TopologyFile
from tests.docs import configuration


class Explained(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Inner(Explained):
    """What is inside."""

    names: tuple[str, ...] = ()
    """Names of things; `a|b` is one."""
    limit: int | None = Field(default=None, ge=1, le=9)
    """At most so many."""


class Outer(Explained):
    """What is outside."""

    share: float = Field(default=2.0, gt=0, le=1)
    """A share
    of all."""
    inner: Inner = Inner()
    each: dict[str, Inner] = Field(min_length=1)
    """By name."""


class Unexplained(Explained):
    """A field without a word."""

    number: int = 1


def test_the_committed_page_is_what_the_models_say() -> None:
    stale = f"docs/configuration.md is stale: `{configuration.COMMAND}` renews it"
    assert configuration.PAGE.read_text(encoding="utf-8") == configuration.page(), stale


def test_every_field_of_a_topology_and_of_a_rule_is_on_the_page() -> None:
    page = configuration.page()
    assert not [name for name in (*TopologyFile.model_fields, *Rule.model_fields) if f"| `{name}` |" not in page]
    assert "| `max_body_bytes` | integer | `1000000` | ≥ `1024` | Of one request" in page
    assert "| `read` | [section](#mediaread) |" in page


def test_a_field_is_told_with_type_default_bounds_and_meaning() -> None:
    outer, inner, each = configuration.sections(Outer)
    assert outer.splitlines()[2:] == [
        "| `share` | number | `2` | > `0`, ≤ `1` | A share of all. |",
        "| `inner` | [section](#inner) |  |  | What is inside. |",
        "| `each` | [by name: section](#eachname) | required | at least 1 | By name. |",
    ]
    assert inner.splitlines() == [
        "### `inner`",
        "",
        "What is inside.",
        "",
        "| field | type | default | bounds | what it is |",
        "| --- | --- | --- | --- | --- |",
        r"| `names` | list: string | `[]` |  | Names of things; `a\|b` is one. |",
        "| `limit` | integer or none | none | `1` to `9` | At most so many. |",
    ]
    assert each.startswith("### `each.NAME`")


def test_a_field_without_a_docstring_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^Unexplained\.number has no docstring below it$"):
        list(configuration.sections(Unexplained))
