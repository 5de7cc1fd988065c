"""The YAML that operators write: read strictly, and checked with the field's path in the error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar  # Any: of what PyYAML reads, nothing is known

import yaml
from pydantic import BaseModel, ValidationError

from moderation.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path) -> tuple[Any, str]:
    """A YAML file's content, of whatever PyYAML made of it, and text.

    Raises:
        ConfigError: it cannot be read or parsed, or a mapping has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None, text
        _check_keys(root, path.name)
        return loader.construct_document(root), text
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date such as 2026-13-24
        raise ConfigError(path.name, f"cannot be read: {error}") from error


def validated(model: type[Model], raw: object, path: Path, under: str = "") -> Model:
    """Check parsed YAML against a model; `under` is where in the file it stands.

    Raises:
        ConfigError: names the first wrong field's path.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        steps = [str(step) for step in first["loc"] if step != "[key]"]  # pydantic's, after a key that is wrong itself
        where = ".".join(filter(None, [under, *steps])) or "(whole file)"
        raise ConfigError(f"{path.name}: {where}", f"{first['msg']} (found {first['input']!r})") from error


def _check_keys(root: yaml.Node, file: str) -> None:
    """Refuse a key that one mapping has twice: PyYAML would keep the last and say nothing.

    Asked of what is written, before `<<` is merged: a key may replace one that was merged.
    """
    nodes: list[tuple[str, yaml.Node]] = [("", root)]
    known: set[int] = set()
    for under, node in nodes:  # which grows meanwhile
        if id(node) in known:  # an alias
            continue
        known.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += [(f"{under}{index}.", item) for index, item in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            lines: dict[tuple[str, str], int] = {}
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):  # refused by `construct_document`
                    continue
                line = key.start_mark.line + 1
                if (key.tag, key.value) in lines:
                    first = lines[key.tag, key.value]
                    raise ConfigError(f"{file}: {under}{key.value}", f"stands twice, on lines {first} and {line}")
                lines[key.tag, key.value] = line
                nodes.append((f"{under}{key.value}.", value))
