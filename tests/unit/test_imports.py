"""No two modules of the product import each other, directly or through others.

Counted are all imports of a file, wherever they stand in it: also those for type checkers, and those in functions, which only hide
a circle. `from package import name` counts as an import of `package.name` if that is a module, and of the package otherwise. That
a package is imported before its modules is not counted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = {"ouroboros": "ouroboros", "irmd": "irmd", "ipcpd": "ipcpd", "ouroboros_tools": "tools"}
"""Import package -> folder."""

Graph = Mapping[str, set[str]]


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the product."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in (CHECKOUT / folder).rglob("*.py"):
            parts = (package, *path.relative_to(CHECKOUT / folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, text: str, *, is_package: bool) -> Iterator[tuple[str, str]]:
    """(module, name) of each import; the name is empty in `import module`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = node.level - is_package
            base = module.split(".")[: -above or None] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((source, alias.name) for alias in node.names)


def dependencies(found: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module -> modules of the product that it imports."""
    graph = {}
    for module, path in found.items():
        pairs = imports(module, path.read_text(), is_package=path.name == "__init__.py")
        targets = {inner if (inner := f"{source}.{name}") in found else source for source, name in pairs}
        graph[module] = targets & set(found) - {module}
    return graph


def reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        for target in graph[todo.pop()] - seen:
            seen.add(target)
            todo.append(target)
    return seen


def circles(graph: Graph) -> set[frozenset[str]]:
    """The sets of modules in which each imports each, directly or through others."""
    reach = {module: reachable(graph, module) for module in graph}
    return {
        frozenset(other for other in reach[module] if module in reach[other])
        for module in graph
        if module in reach[module]
    }


GRAPH = dependencies(modules())


def test_every_package_is_read() -> None:
    assert {module.partition(".")[0] for module in GRAPH} == set(PACKAGES)
    assert "ouroboros.errors" in GRAPH["irmd.registry"]


def test_there_is_no_circle() -> None:
    assert not circles(GRAPH), "\n".join(" ".join(sorted(circle)) for circle in circles(GRAPH))


CODECS = ("ipcpd.wire.", "irmd.oap.algorithms", "irmd.oap.extension", "irmd.oap.header")
"""The modules of daemons that a tool which reads packets imports: octets, without state."""


def test_a_tool_that_reads_packets_imports_codecs_and_no_daemon() -> None:
    for module, targets in GRAPH.items():
        if module.startswith("ouroboros_tools."):
            daemons = {target for target in targets if target.partition(".")[0] in ("irmd", "ipcpd")}
            assert all(target.startswith(CODECS) for target in daemons), (module, daemons)
    inside = {target for module in GRAPH if module.startswith("ipcpd.wire.") for target in GRAPH[module]}
    assert all(target.startswith(("ipcpd.wire", "ouroboros.")) for target in inside), inside


def test_daemons_do_not_import_each_other_or_tools() -> None:
    allowed = {
        "ouroboros": {"ouroboros"},
        "irmd": {"irmd", "ouroboros"},
        "ipcpd": {"ipcpd", "ouroboros"},
    }
    for module, targets in GRAPH.items():
        package = module.partition(".")[0]
        used = {target.partition(".")[0] for target in targets}
        assert used <= allowed.get(package, used), module
        if package == "ouroboros_tools" and not module.startswith("ouroboros_tools.ocap"):
            assert used <= {"ouroboros_tools", "ouroboros"}, module


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"e"}, "e": {"f"}, "f": {"d", "a"}}
    assert circles(graph) == {frozenset("bc"), frozenset("def")}


@pytest.mark.parametrize(
    ("text", "is_package", "expected"),
    [
        ("import a.b", False, [("a.b", "")]),
        ("from . import x", False, [("p.q", "x")]),
        ("from .y import x", False, [("p.q.y", "x")]),
        ("from ..y import x", False, [("p.y", "x")]),
        ("from . import x", True, [("p.q.m", "x")]),
        ("from .. import x", True, [("p.q", "x")]),
        ("def f():\n    from p import z", False, [("p", "z")]),
        ("if TYPE_CHECKING:\n    from p import z", False, [("p", "z")]),
    ],
)
def test_imports_are_resolved(text: str, is_package: bool, expected: list[tuple[str, str]]) -> None:
    assert list(imports("p.q.m", text, is_package=is_package)) == expected
