"""The house of CONTRIBUTING.md: imports point downwards only; the command line starts without heavy ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import worldvalue

PACKAGE = Path(worldvalue.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "diffusers", "transformers", "accelerate", "robosuite", "mujoco", "matplotlib", "openvino", "ray"}

LEVELS = {
    **dict.fromkeys(["__init__", "types", "flow_matching"], 0),
    **dict.fromkeys(["data", "backbones"], 1),
    **dict.fromkeys(["models"], 2),
    **dict.fromkeys(["training", "scoring", "benchmark", "analysis", "improvement", "simulation"], 3),
    **dict.fromkeys(["web"], 4),
    **dict.fromkeys(["recipes", "runs", "trials", "variants", "ablations", "family", "planner", "cli", "__main__"], 5),
}
# Rooms of one level do not know each other, except these.
NEIGHBOURS = {
    ("flow_matching", "types"),
    ("cli", "recipes"),
    ("cli", "runs"),
    ("cli", "trials"),
    ("cli", "variants"),
    ("cli", "ablations"),
    ("cli", "family"),
    ("cli", "planner"),
    ("planner", "recipes"),
    ("planner", "runs"),
    ("runs", "recipes"),
    ("variants", "recipes"),
    ("variants", "runs"),
    ("ablations", "variants"),
    ("ablations", "trials"),
    ("family", "variants"),
    ("family", "trials"),
    ("family", "recipes"),
    ("__main__", "cli"),
    ("benchmark", "scoring"),
}
# These know models only through the protocols of types.py.
BLIND_TO_MODELS = {"benchmark", "improvement", "simulation", "web"}


def dotted(path: Path) -> str:
    """``worldvalue.data.video`` of ``worldvalue/data/video.py``, with ``__init__`` for a package."""
    return ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts))


def room(module: str) -> str:
    """The part of the house a module belongs to: ``data`` of ``worldvalue.data.video``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imported(tree: ast.AST, module: str) -> Iterator[str]:
    """Absolute dotted names of everything imported below a node of ``module``, relative imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names if is_module(f"{origin}.{alias.name}"))


def is_module(name: str) -> bool:
    """Whether a dotted name is one of our modules or packages (and not a name inside one)."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name.startswith("worldvalue.") and (path.is_dir() or path.with_suffix(".py").is_file())


def imported_when_loaded(path: Path) -> set[str]:
    """What importing a module imports at once: neither inside its functions nor for type checkers only."""
    return {
        name
        for statement in ast.parse(path.read_text()).body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)
        and not (isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test))
        for name in imported(statement, dotted(path))
    }


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == PACKAGE.name}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_downwards_only(path: Path) -> None:
    here = room(dotted(path))
    assert here in LEVELS, f"{here} has no level: give it one above and in CONTRIBUTING.md"
    names = set(imported(ast.parse(path.read_text()), dotted(path)))
    if path == PACKAGE / "__init__.py":  # the front door: hands out names of every room, but only when asked
        names = imported_when_loaded(path)
    for name in ours(names):
        there = room(name)
        below = LEVELS[there] < LEVELS[here]
        assert below or there == here or (here, there) in NEIGHBOURS, f"{dotted(path)} must not import {name}"
        assert not (here in BLIND_TO_MODELS and there == "models"), f"{dotted(path)} must not know {name}"


def test_model_files_never_import_each_other() -> None:
    papers = {"wvm", "viva", "mv_wam", "wav", "frame_classifier"}
    for path in (PACKAGE / "models").glob("*.py"):
        if path.stem in papers:
            others = {f"{PACKAGE.name}.models.{name}" for name in papers - {path.stem}}
            assert not others & set(imported(ast.parse(path.read_text()), dotted(path))), path.name


def test_command_line_loads_nothing_heavy_at_its_top() -> None:
    waiting, seen = [PACKAGE / "cli" / "__init__.py"], set()
    while waiting:
        path = waiting.pop()
        names = imported_when_loaded(path)
        heavy = {name.split(".")[0] for name in names} & HEAVY
        assert not heavy, f"{dotted(path)}, loaded by the command line, imports {heavy}"
        for name in ours(names) - seen:
            seen.add(name)
            file = PACKAGE.parent.joinpath(*name.split("."))
            waiting += [
                candidate for candidate in (file.with_suffix(".py"), file / "__init__.py") if candidate.is_file()
            ]


def test_help_starts_without_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from worldvalue.cli import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    assert not HEAVY & set(done.stderr.split())


def bodies(path: Path) -> Iterator[list[str]]:
    """The lines of each function of a module that say something, without its head and docstring."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            first = node.body[ast.get_docstring(node) is not None :]
            lines = text.splitlines()[first[0].lineno - 1 : node.end_lineno] if first else []
            yield [line.strip() for line in lines if len(line.strip()) > len("else:")]


def test_no_logic_stands_in_two_model_files() -> None:
    """Three lines in a row that two models share belong into a part that both use."""
    seen: dict[tuple[str, ...], str] = {}
    for path in sorted((PACKAGE / "models").glob("*.py")):
        for body in bodies(path):
            for start in range(len(body) - 2):
                lines = tuple(body[start : start + 3])
                assert seen.setdefault(lines, path.name) == path.name, f"{path.name} and {seen[lines]}: {lines}"
