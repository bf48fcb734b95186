"""Arguments of the public API: checked before a call acts; an error names the argument and the values that it takes.

A library module of every process. `checked` uses the annotations of a function, for calls made once per flow or less often;
code that runs once per packet checks by hand, and only the conditions that C would not find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import wraps
from math import ceil, inf, isfinite
from operator import index
from typing import Any, NoReturn, ParamSpec, TypeVar

from .errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")
E = TypeVar("E", bound=IntEnum)

MOST_SECONDS = 10**9
"""A deadline that is further away does not fit everywhere in 64 bits of nanoseconds."""

UINT32_MAX = 2**32 - 1


def shown(value: object) -> str:
    """A value for a line of text, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}... ({type(value).__name__})"


def wrong_type(name: str, takes: str, value: object) -> NoReturn:
    """Raise the TypeError."""
    raise TypeError(f"{name} takes {takes}, not {shown(value)}") from None


def wrong_value(name: str, takes: str, value: object) -> NoReturn:
    """Raise the ValueError."""
    raise ArgumentError(f"{name} takes {takes}, not {shown(value)}") from None


def integer(
    name: str, value: object, minimum: float = 0, maximum: float = UINT32_MAX, takes: str = ""
) -> int:
    """An integer of any type, but no bool."""
    takes = takes or ("an integer" if maximum == inf else f"an integer from {minimum} to {maximum}")
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        wrong_type(name, takes, value)
    try:
        number = index(value)
    except TypeError:  # an array has the method, and refuses
        wrong_type(name, takes, value)
    if not minimum <= number <= maximum:
        wrong_value(name, takes, value)
    return number


def number(name: str, value: object, takes: str = "a finite number") -> float:
    """A number of any type, but no bool, no text, no infinity and no NaN."""
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__"):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            wrong_type(name, takes, value)
    try:
        found = float(value)  # type: ignore[arg-type]
    except TypeError:
        wrong_type(name, takes, value)
    except (OverflowError, ValueError):
        wrong_value(name, takes, value)
    if not isfinite(found):
        wrong_value(name, takes, value)
    return found


def seconds(name: str, value: object, minimum: float | None = 0) -> int | None:
    """A time-out, in nanoseconds; None is none."""
    if value is None:
        return None
    if type(value) is int or type(value) is float:
        if (-MOST_SECONDS if minimum is None else minimum) <= value <= MOST_SECONDS:
            return ceil(max(value, -1.0) * 1e9)  # a positive time never becomes 0
    bounds = f"from {minimum:g} to {MOST_SECONDS:g}" if minimum is not None else f"to {MOST_SECONDS:g}"
    takes = f"seconds {bounds}, or None for no limit"
    found = number(name, value, takes)
    if found > MOST_SECONDS or (minimum is not None and found < minimum):
        wrong_value(name, takes, value)
    return ceil(max(found, -1.0) * 1e9)  # a positive time never becomes 0


def text(name: str, value: object) -> str:
    """A text that can be sent."""
    if not isinstance(value, str):
        wrong_type(name, "a str", value)
    if not _encodes(value):
        wrong_value(name, "a str of Unicode characters", value)
    return value


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts(name: str, value: object) -> tuple[str, ...]:
    """Several texts, from anything that can be iterated, but not one str, which would be its letters."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        wrong_type(name, "several str, as in a list", value)
    return tuple(text(f"{name}[{at}]", one) for at, one in enumerate(value))


def member(name: str, value: object, kind: type[E]) -> E:
    """A member of an enumeration, or its number."""
    takes = f"a member of {kind.__name__}"
    number = integer(name, value, -inf, inf, takes)
    try:
        return kind(number)
    except ValueError:
        wrong_value(name, takes, value)


def flags(name: str, value: object, known: int, kind: str) -> int:
    """Bits of a set of flags."""
    takes = f"a set of {kind}"
    found = integer(name, value, 0, UINT32_MAX, takes)
    if found & ~known:
        wrong_value(name, takes, value)
    return found


def instance(name: str, value: object, kind: type[R]) -> R:
    """An object of a class."""
    if not isinstance(value, kind):
        wrong_type(name, f"a {kind.__name__}", value)
    return value


def function(name: str, value: Any) -> Any:
    """Something that can be called."""
    if not callable(value):
        wrong_type(name, "a function", value)
    return value


def not_octets(name: str, value: object, *, writable: bool = False) -> NoReturn:
    """Raise the error of a buffer that C has refused."""
    takes = "a writable bytes-like object" if writable else "a bytes-like object"
    if isinstance(value, str):
        wrong_type(name, f"{takes} (text.encode() makes one)", value)
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        wrong_type(name, takes, value)
    except (BufferError, ValueError):
        wrong_value(name, takes, value)
    if not view.c_contiguous:
        wrong_value(name, "contiguous octets (bytes(...) makes them)", value)
    if writable and view.readonly:
        wrong_type(name, takes, value)
    wrong_value(name, takes, value)


# ---------------------------------------------------------------- by annotation

Check = Callable[[str, Any], Any]

_RANGES = {"pid": (0, 2**31 - 1)}


def _integer(name: str, value: object) -> int:
    return integer(name, value, *_RANGES.get(name, (0, UINT32_MAX)))


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, (bool, int)):
        wrong_type(name, "a bool", value)
    return bool(value)


def _timeout(name: str, value: object) -> Any:
    seconds(name, value, None)
    return value


def _anything(name: str, value: object) -> object:
    return value


def _one_of(module: str, name: str) -> Check:
    """An object of a class, or a member of an enumeration, of a module that is imported when it is used."""

    def check(argument: str, value: object) -> object:
        from importlib import import_module

        kind = getattr(import_module(module, __package__), name)
        if issubclass(kind, IntEnum):
            return member(argument, value, kind)
        return instance(argument, value, kind)

    return check


def _config(name: str, value: object) -> object:
    return value if callable(value) else CHECKS["IpcpConfig"](name, value)


CHECKS: dict[str, Check] = {
    "str": text,
    "int": _integer,
    "bool": _truth,
    "float": number,
    "Any": _anything,
    "object": _anything,
    "Sequence[str]": texts,
    "Iterable[str]": texts,
    "Flow": _one_of(".flow", "Flow"),
    "QoSSpec": _one_of(".qos", "QoSSpec"),
    "IpcpType": _one_of(".ipcp_types", "IpcpType"),
    "LoadBalancePolicy": _one_of(".ipcp_types", "LoadBalancePolicy"),
    "IpcpConfig": _one_of(".ipcp_config", "IpcpConfig"),
    "IpcpConfig | Callable[[IpcpType], IpcpConfig]": _config,
    "Callable[[IpcpInfo], object]": function,
    "NameInfo": _one_of(".name_info", "NameInfo"),
    "NameSecPaths": _one_of(".name_info", "NameSecPaths"),
    "Requirement": _one_of(".name_info", "Requirement"),
}
"""The check of an annotation, without a trailing `| None`; a module adds those of its own types. A time-out is the float that may be None."""


def _check_of(annotation: str) -> tuple[Check, bool]:
    """Raises KeyError for an annotation that is not known here."""
    base, _, last = annotation.rpartition(" | ")
    if last != "None":
        return CHECKS[annotation], False
    return (_timeout if base == "float" else CHECKS[base]), True


def checked(call: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a function by its annotations, before it runs. Raises TypeError and ValueError."""
    code = call.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames[: code.co_argcount]
    every = code.co_varnames[:count]
    checks = {name: _check_of(call.__annotations__[name]) for name in every if name != "self"}

    def right(name: str, value: Any) -> Any:
        check = checks.get(name)
        if check is None or (value is None and check[1]):
            return value
        return check[0](name, value)

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        found = [right(name, value) for name, value in zip(names, args, strict=False)]
        rest = {name: right(name, value) for name, value in kwargs.items()}
        return call(*found, *args[len(found) :], **rest)  # type: ignore[arg-type]

    return run
