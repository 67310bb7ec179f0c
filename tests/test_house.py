"""How the code is laid out: which room may import which, and how large its parts may be."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import eqspike

ROOT = Path(__file__).parent.parent
ROOMS = ("eqspike_seq", "neuromorphic", "analysis", "eqspike")  # each may import itself and those before it
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
LARGEST_FILE = 350  # lines
MOST_PARAMETERS = 6


def imported(name: str) -> Iterator[str]:
    """Modules of this house that a module imports anywhere, for types too."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module in FILES:
                yield node.module
            yield from (whole for alias in node.names if (whole := f"{node.module}.{alias.name}") in FILES)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_rooms_import_only_what_is_below_them(name: str) -> None:
    allowed = ROOMS[: ROOMS.index(name.split(".")[0]) + 1]
    assert not [other for other in imported(name) if other.split(".")[0] not in allowed]


def test_nothing_is_imported_by_a_string() -> None:
    for name, tree in TREES.items():
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not used & {"import_module", "__import__"}, name


def test_no_modules_import_each_other_in_a_circle() -> None:
    edges = {name: {other for other in imported(name) if other != name} for name in FILES}
    while free := [name for name, others in edges.items() if not others & set(edges)]:
        for name in free:
            del edges[name]
    assert not edges


def test_no_module_name_comes_twice() -> None:
    """But for commands, whose files are named as they are."""
    names = [name for name in FILES if not name.startswith("eqspike.commands.") and "__" not in name.split(".")[-1]]
    last = [name.split(".")[-1] for name in names]
    assert not [name for name, end in zip(names, last, strict=True) if last.count(end) > 1]


@pytest.mark.parametrize("name", FILES)
def test_files_are_short(name: str) -> None:
    assert len(FILES[name].read_text().splitlines()) <= LARGEST_FILE


def functions(tree: ast.AST, inside: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    """(qualified name, function) of a module and its classes."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield f"{inside}.{node.name}", node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{inside}.{node.name}")


def test_functions_have_few_parameters() -> None:
    many = set()
    for name, tree in TREES.items():
        for whole, node in functions(tree, name):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            count = len([argument for argument in arguments if argument.arg not in ("self", "cls")])
            if count > MOST_PARAMETERS and node.name != "__init__":
                many.add(whole)
    assert not many


def test_every_public_function_says_what_it_does() -> None:
    silent = [
        whole
        for name, tree in TREES.items()
        for whole, node in functions(tree, name)
        if not any(part.startswith("_") for part in whole.split(".")) and not ast.get_docstring(node)
    ]
    assert not silent


def test_the_front_door_is_light() -> None:
    code = "import sys, eqspike; sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_public_api_is_there_by_name() -> None:
    assert dir(eqspike) == sorted(eqspike.__all__) and all(getattr(eqspike, name) for name in eqspike.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = eqspike.nothing


def test_tests_lie_in_the_room_of_what_they_test() -> None:
    """Those of what has no room (documentation, packaging, all of it) lie beside this one."""
    assert {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"__pycache__"} == {*ROOMS, "stress"}
    for room in ROOMS:
        for path in (ROOT / "tests" / room).glob("test_*.py"):
            assert re.search(rf"\b{room}\b", path.read_text()), path
