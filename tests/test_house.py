"""The house rules: small files, docstrings, arrows that point one way, a light front door, no machine's names."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("zhiling", "templates", "builders", "trainer", "eval_tasks", "cards")
SOURCES = [p for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]
MAY_IMPORT = {
    "zhiling": {"zhiling"},
    "templates": {"zhiling", "templates", "cards"},
    "builders": {"zhiling", "templates", "builders", "cards"},
    "trainer": {"zhiling", "templates", "trainer", "cards"},
    "eval_tasks": {"zhiling", "templates", "trainer", "eval_tasks", "cards"},
    "cards": {"zhiling", "cards"},
    "cli": set(ROOMS) | {"cli"},
}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: the tracked files cannot be listed")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_file_passes_350_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


def public_things(tree: ast.Module) -> Iterator[ast.AST]:
    yield tree
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")
                )


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = [getattr(n, "name", "the module") for n in public_things(tree) if not ast.get_docstring(n)]  # type: ignore[arg-type]
    assert bare == []


def room_of(module: str) -> str:
    parts = module.split(".")
    inner = parts[1] if len(parts) > 1 else ""
    return inner if inner in {*ROOMS, "cli"} and inner != "zhiling" else "zhiling"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    place = path.relative_to(ROOT).parts
    room = "cli" if place[:2] == ("zhiling", "cli") or place == ("zhiling", "__main__.py") else place[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        module = node.module if isinstance(node, ast.ImportFrom) else None
        if module and module.split(".")[0] == "zhiling":
            assert room_of(module) in MAY_IMPORT[room], f"line {node.lineno}: {room} imports {module}"


def test_the_front_door_loads_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "datasets", "lm_eval", "ray", "pyarrow", "duckdb", "matplotlib", "sklearn"]
    heavy += ["pydantic", "jinja2", "nlpaug", "optuna", "peft"]
    code = f"import sys, zhiling.cli; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_no_file_names_a_machine_or_a_registry() -> None:
    words = ["/" + "work" + "/", "/" + "root" + "/", "pypi" + r"\.org/simple", "files" + r"\.pythonhosted"]
    words += ["index" + "-url", "trusted" + "-host"]
    pattern = re.compile("|".join(words))
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {m.group()}" for m in pattern.finditer(text)]
    assert found == []
