"""Writes docs/configuration.md from the models that read the files: `make docs`.

A field is what its model says: type, bounds and default from pydantic's JSON schema, the rest from the docstring below
the field. A field without one is an error here, so that nothing an operator may write stays unexplained.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from moderation.labels import LABELS
from moderation.policy import PolicyFile, Rule
from moderation.settings import REPOSITORY, Settings
from moderation.topology import TopologyFile

PAGE = REPOSITORY / "docs" / "configuration.md"
COMMAND = "make docs"

TOP = f"""
# Configuration

Every field that an operator may set. This page is made from the docstrings of the models that read the files; after a
change of those, `{COMMAND}` makes it anew.

An unknown field, a key that stands twice and a value out of bounds are refused, with the field's path: `seawall config
check --topology FILE` says so without starting anything. What is left out has its default. The bounds of `gateway` and
`media` hold for each replica by itself.

- [Topology](#topology): what runs, who is routed to which variant, and every bound. `deployments/local.yaml`,
  `light.yaml` and `cluster.yaml` are examples; `seawall up --topology FILE` takes another.
- [Policy](#policy): what is done about a score. `deployments/policies/default.yaml` and `precision-first.yaml` ship.
- [Labels](#labels): the taxonomy, whose urgency holds where a policy says nothing.
- [Environment](#environment): where state lives.
"""
TOPOLOGY = """
## Topology

One YAML file. Paths in it are relative to it.
"""
POLICY = """
## Policy

One YAML file, which the topology names. A threshold is never written down: it follows from `objective` and `prevalence`
on the operating curve of the model that scored ([architecture.md](architecture.md#thresholds)).
"""
RULES = """
### `labels.NAME`

What is done about one label. `regions.REGION.NAME` takes the same fields, and changes those that it has.
"""
TAXONOMY = """
## Labels

What Seawall looks for (`moderation/labels.py`). `severity`, `mode` and `deadline_h` hold where a policy's rule leaves
them out; what is not removable without a person is only ever queued, and a policy that would remove it is refused.
"""
ENVIRONMENT = """
## Environment

Where Seawall keeps its state (`moderation/settings.py`). Every process of one Seawall is started with the same values.
"""


def page() -> str:
    """All of docs/configuration.md."""
    parts = [TOP, TOPOLOGY, *sections(TopologyFile), POLICY, *sections(PolicyFile)]
    # What a rule may have is documented at `Rule`; which of it a file must have, the taxonomy decides.
    taken = {"severity": "the label's", "mode": "the label's", "deadline_h": "the label's"}
    parts += [RULES, *sections(Rule, taken), TAXONOMY, taxonomy(), ENVIRONMENT, environment()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def sections(model: type[BaseModel], defaults: Mapping[str, str] | None = None) -> Iterator[str]:
    """A model's table of fields, then each of its sections with a heading."""
    schema = model.model_json_schema()
    kinds: dict[str, Any] = schema.get("$defs", {})
    yield _table(schema, kinds, defaults or {}, "")
    yield from _below(schema, kinds, "")


def _below(schema: Mapping[str, Any], kinds: Mapping[str, Any], under: str) -> Iterator[str]:
    for name, field in schema["properties"].items():
        found = _section(field)
        if found is None:
            continue
        section, place = kinds[found[0]], f"{under}{name}{found[1]}"
        if "description" not in section:  # the changes of a policy's rule, which `Rule` documents
            continue
        yield f"### `{place}`\n\n{_line(section['description'])}\n\n{_table(section, kinds, {}, f'{place}.')}"
        yield from _below(section, kinds, f"{place}.")


def _section(field: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which model a field holds, and how its place is written: once, in a list, or under names."""
    for inner, written in ((field, ""), (field.get("items"), "[]"), (field.get("additionalProperties"), ".NAME")):
        if isinstance(inner, dict) and "$ref" in inner:
            return inner["$ref"].removeprefix("#/$defs/"), written
    return None


def _table(schema: Mapping[str, Any], kinds: Mapping[str, Any], defaults: Mapping[str, str], under: str) -> str:
    rows = []
    for name, field in schema["properties"].items():
        section = _section(field)
        empty = {} if field.get("type") == "object" else None  # made by a factory, which the schema does not tell
        given = "" if section else _value(field.get("default", empty))
        default = "required" if name in schema.get("required", ()) else given
        meaning = field.get("description")
        if meaning is None and section is not None:
            meaning = kinds[section[0]]["description"]
        if meaning is None:
            raise ValueError(f"{schema['title']}.{name} has no docstring below it")
        kind = f"[{_type(field)}](#{_anchor(under + name + section[1])})" if section else _type(field)
        rows.append((f"`{name}`", kind, defaults.get(name, default), ", ".join(_bounds(field)), _line(meaning)))
    return _rows(("field", "type", "default", "bounds", "what it is"), rows)


def _anchor(place: str) -> str:
    """Of a heading, as GitHub makes it."""
    return "".join(letter for letter in place.lower() if letter.isalnum() or letter in "_-")


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _type(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return "section"
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"])
    if "enum" in field:
        *others, last = (f"`{value}`" for value in field["enum"])
        return f"{', '.join(others)} or {last}"
    match field["type"]:
        case "array":
            return f"list: {_type(field['items'])}"
        case "object":
            inner = field.get("additionalProperties") or next(iter(field["patternProperties"].values()))
            return f"by name: {_type(inner)}"
        case "null":
            return "none"
        case plain:
            return str(plain)


def _bounds(field: Mapping[str, Any]) -> Iterator[str]:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    if {"minimum", "maximum"} <= field.keys():
        yield f"{_value(field['minimum'])} to {_value(field['maximum'])}"
        signs = {}
    yield from (f"{sign} {_value(field[key])}" for key, sign in signs.items() if key in field)
    sizes = {"minLength": "at least {} character", "maxLength": "at most {} character"}
    sizes |= {"minItems": "at least {}", "minProperties": "at least {}"}
    for key, size in sizes.items():
        if key in field:
            yield size.format(field[key]) + ("s" if "character" in size and field[key] != 1 else "")
    if "pattern" in field:
        yield f"`{field['pattern']}`"
    for choice in field.get("anyOf", ()):
        yield from _bounds(choice)
    for inner in (field.get("items"), field.get("additionalProperties")):
        if isinstance(inner, dict):
            yield from (f"each {bound}" for bound in _bounds(inner))


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _line(text: str) -> str:
    return " ".join(text.split())


def taxonomy() -> str:
    rows = []
    for label in LABELS:
        hours = f"{label.deadline / timedelta(hours=1):g}"
        kinds = ", ".join(kind for kind in ("text", "image", "video") if kind in label.modalities)
        alone = "yes" if label.removable else "no"
        rows.append((f"`{label.name}`", label.severity, label.mode, hours, kinds, alone))
    return _rows(("label", "severity", "mode", "deadline_h", "found in", "removable without a person"), rows)


def environment() -> str:
    """The variables of `Settings`, whose docstrings begin with their names."""
    body = ast.parse(textwrap.dedent(inspect.getsource(Settings))).body[0]
    assert isinstance(body, ast.ClassDef)
    rows = []
    for statement in body.body[1:]:  # after the class's own docstring
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            name, _, meaning = str(statement.value.value).partition(":")
            rows.append((f"`{name}`", _line(meaning)))
    return _rows(("variable", "what it is"), rows)


def write(path: Path = PAGE) -> None:
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
