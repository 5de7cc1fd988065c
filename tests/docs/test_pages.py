"""What pages, docstrings and comments name is there: files, folders, names in code, headings, commands and targets."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import typer

import seawall
from moderation.settings import REPOSITORY
from moderation.topology import TopologyFile
from tests.docs.pages import blocks

PAGES = [*sorted((REPOSITORY / "docs").glob("*.md")), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
ROOMS = ("moderation", "serve", "train", "drift", "simulate", "tests")
_SPAN = re.compile(r"`([^`\n]+)`")
_CODE = re.compile(r"`([^`\n]+)`|^ {4}(\S.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^()\s#]*)(?:#([^()\s]*))?\)")
_FILE = re.compile(r"[\w./-]+\.(?:py|yaml|md|json|jsonl)")
_FOLDER = re.compile(r"[\w.-]+(?:/[\w.-]+)*/")
_NAME = re.compile(rf"(?:{'|'.join(ROOMS)})(?:\.\w+)+")


@cache
def files_here() -> tuple[str, ...]:
    tops = [top for top in REPOSITORY.iterdir() if not top.name.startswith(".")]
    found = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))]
    return tuple(path.relative_to(REPOSITORY).as_posix() for path in found if path.is_file())


def folders_here() -> set[str]:
    return {f"{parent}/" for file in files_here() for parent in Path(file).parents if "__pycache__" not in parent.parts}


def words_of(page: Path) -> list[str]:
    return _SPAN.findall(page.read_text(encoding="utf-8"))


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module defines at its top."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = REPOSITORY.joinpath(*parts[:end])
        if path.is_dir() and end == len(parts):
            return True
        if path.with_suffix(".py").is_file():
            return end == len(parts) or parts[end] in defined_in(path.with_suffix(".py"))
    return parts[0] in TopologyFile.model_fields  # `drift` is a room, and a section of a topology


@cache
def defined_in(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
        found.add(getattr(node, "name", ""))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_folders_and_names_in_code_are_there(page: Path) -> None:
    files = files_here()
    folders = folders_here()
    tops = {folder.split("/")[0] for folder in folders}
    for word in words_of(page):
        if _FILE.fullmatch(word) and not word.startswith("/"):
            assert any(f"/{file}".endswith(f"/{word}") for file in files), f"{page.name}: no file is {word}"
        elif _FOLDER.fullmatch(word) and word.split("/")[0] in tops:
            assert word in folders, f"{page.name}: no folder is {word}"
        elif _NAME.fullmatch(word) and not word.startswith("moderation.example"):
            assert is_defined(word), f"{page.name}: nothing is called {word}"


def test_the_picture_of_the_folders_is_what_is_there() -> None:
    picture = next(block for block in blocks("docs/architecture.md") if block.startswith("seawall.py"))
    above: list[tuple[int, str]] = []
    drawn = set()
    for indent, name in re.findall(r"^( *)([a-z_]+(?:/|\.py)) ", picture, re.MULTILINE):
        above = [(depth, folder) for depth, folder in above if depth < len(indent)]
        path = "".join([*(folder for depth, folder in above if depth <= len(indent)), name])
        if not name.endswith(".py"):
            above.append((len(indent), name))
        drawn.add(path)
    assert not [path for path in sorted(drawn) if not (REPOSITORY / path).exists()]
    inner = {folder for folder in folders_here() if re.fullmatch(r"(?:serve|moderation)/[a-z_]+/", folder)}
    assert inner | {f"{room}/" for room in ROOMS} <= drawn


def test_what_docstrings_and_comments_name_by_its_whole_path_is_there() -> None:
    files = files_here()
    tops = {file.split("/")[0] for file in files if "/" in file}
    wrong = []
    for source in (file for file in files if file.endswith((".py", ".yaml"))):
        for word in words_of(REPOSITORY / source):
            if _FILE.fullmatch(word) and word.split("/")[0] in tops:
                wrong += [f"{source}: no file is {word}"] if word not in files else []
            elif _NAME.fullmatch(word) and not word.startswith("moderation.example"):
                wrong += [f"{source}: nothing is called {word}"] if not is_defined(word) else []
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_page_and_its_heading(page: Path) -> None:
    text = re.sub(r"`[^`\n]+`", "", page.read_text(encoding="utf-8"))
    for target, anchor in _LINK.findall(text):
        if "://" in target:
            continue
        place = page.parent / target if target else page
        assert place.exists(), f"{page.name}: {target} is not there"
        assert not anchor or anchor in anchors_of(place), f"{page.name}: {target} has no heading #{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_targets_are_there(page: Path) -> None:
    commands = typer.main.get_command(seawall.app).commands  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for code in ("".join(found) for found in _CODE.findall(page.read_text(encoding="utf-8"))):
        for first, second in re.findall(r"\bseawall ([a-z]+)(?: ([a-z|]+))?", code):
            assert first in commands, f"{page.name}: no command is seawall {first}"
            inner = getattr(commands[first], "commands", {})
            for name in second.split("|") if inner and second else ():
                assert name in inner, f"{page.name}: no command is seawall {first} {name}"
        if found := re.match(r"make ([a-z]+)", code):
            assert found[1] in targets, f"{page.name}: no target is {found[1]}"
