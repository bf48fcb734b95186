"""Mutations: small defects, one at a time, that tests should detect.

A mutation changes one node of a module's syntax tree, also in tables and enums outside of functions. Its name consists of its function and
its text before and after, so that it keeps its name when lines move. Annotations, log lines
and texts of errors are not mutated.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
SWAPS = {"min": "max", "max": "min", "any": "all", "all": "any"}
QUIET = frozenset({"debug", "info", "warning", "error", "exception", "log", "print"})


@dataclass(frozen=True, slots=True)
class Mutation:
    """`name` is unique in its module; `line` is for people."""

    line: int
    name: str
    tree: ast.Module


def mutations(source: str) -> Iterator[Mutation]:
    """Every mutation of a module."""
    tree = ast.parse(source)
    members = _members(tree)
    names: Counter[str] = Counter()
    for place, (scope, node) in enumerate(_nodes(tree)):
        for what, change in _changes(node, members):
            mutated = copy.deepcopy(tree)
            target = _nth(mutated, place)
            change(target)
            name = f"{scope}: {what or f'{_text(node)} -> {_text(target)}'}"
            names[name] += 1
            again = f" (no. {names[name]})" if names[name] > 1 else ""
            line = getattr(node, "lineno", 0)
            yield Mutation(line, name + again, ast.fix_missing_locations(mutated))


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


# ---------------------------------------------------------------- which nodes


def _nodes(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Nodes that may be mutated, always in the same order, each with the name of its function or class."""
    yield from _walk(tree, "module")


def _nth(tree: ast.Module, place: int) -> ast.AST:
    return next(islice(_nodes(tree), place, None))[1]


def _walk(node: ast.AST, scope: str) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        scope = node.name if scope == "module" else f"{scope}.{node.name}"
    yield scope, node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_left_alone(child):
                yield from _walk(child, scope)


def _is_left_alone(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Assert():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Expr(value=ast.Constant()):  # a docstring
            return True
        case ast.keyword(arg="init" | "repr"):  # of a dataclass field
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=attr))) if attr in QUIET:
            return True
        case ast.Assign(targets=[ast.Name(id="__slots__" | "__all__" | "log")]):
            return True
    return False


def _members(tree: ast.Module) -> dict[str, list[str]]:
    """Members of enums that a module speaks of, by the enum."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=enum), attr=member) if (
                enum[:1].isupper() and member.isupper()
            ):
                known = found.setdefault(enum, [])
                if member not in known:
                    known.append(member)
    return found


# ---------------------------------------------------------------- what is done to them

Change = Callable[[Any], None]
"""Does it to a node, the one that it was made for or its copy."""


def _changes(node: ast.AST, members: dict[str, list[str]]) -> Iterator[tuple[str, Change]]:
    """The mutations of a node, with a name where its text before and after is not one."""
    match node:
        case ast.Compare(ops=ops):
            for place, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield "", partial(_put, "ops", place, other())
        case ast.BoolOp(op=op):
            yield "", partial(_set, "op", ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.BinOp(op=op, left=left) if type(op) in OPERATORS and not _is_text(left):
            yield "", partial(_set, "op", OPERATORS[type(op)]())
        case ast.AugAssign(op=op, value=value) if type(op) in OPERATORS and not _is_text(value):
            yield "", partial(_set, "op", OPERATORS[type(op)]())
        case ast.Constant(value=bool() as value):
            yield "", partial(_set, "value", not value)
        case ast.Constant(value=int() | float() as number):
            yield "", partial(_set, "value", number + 1)
        case ast.Attribute(value=ast.Name(id=enum), attr=member) if len(members.get(enum, ())) > 1:
            known = members[enum]
            if member in known:
                yield "", partial(_set, "attr", known[(known.index(member) + 1) % len(known)])
        case ast.Name(id=name) if name in SWAPS:
            yield "", partial(_set, "id", SWAPS[name])
        case ast.Dict(keys=[_, _, *_] as keys, values=values):
            for place, (key, value) in enumerate(zip(keys, values, strict=True)):
                if key is not None:
                    yield f"without {_text(key)}: {_text(value)}", partial(_drop, ("keys", "values"), place)
        case ast.Set(elts=[_, _, *_] as elements):
            for place, element in enumerate(elements):
                yield f"without {_text(element)}", partial(_drop, ("elts",), place)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "", partial(_set, "value", ast.Constant(None))
        case ast.comprehension(ifs=[_, *_] as conditions):
            yield f"all, not only if {_text(conditions[0])}", partial(_set, "ifs", [])
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            if not isinstance(test, ast.Compare | ast.Constant):
                yield f"if not ({_text(test)})", _negate
    for field in ("body", "orelse", "finalbody"):
        statements = getattr(node, field, None)
        if isinstance(statements, list):
            for place, statement in enumerate(statements):
                if _can_go(statement):
                    yield f"removed {_text(statement)}", partial(_put, field, place, ast.Pass())


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.JoinedStr)
        or isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
    )


def _can_go(statement: ast.AST) -> bool:
    """Whether a module without this statement is a module still, and another one."""
    match statement:
        case ast.Expr(value=ast.Call() | ast.Await() | ast.YieldFrom() | ast.Yield()):
            return not _is_left_alone(statement)
        case ast.AugAssign() | ast.Delete() | ast.Continue() | ast.Break() | ast.Raise():
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]):
            return True
    return False


def _set(field: str, value: object, node: Any) -> None:
    setattr(node, field, value)


def _put(field: str, place: int, value: object, node: Any) -> None:
    getattr(node, field)[place] = value


def _drop(fields: tuple[str, ...], place: int, node: Any) -> None:
    for field in fields:
        del getattr(node, field)[place]


def _negate(node: Any) -> None:
    node.test = ast.UnaryOp(ast.Not(), node.test)
